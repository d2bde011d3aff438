//! Whether every operation is exercised by a test: what the tests noted against what the documents list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::openapi::operations;

/// Statuses by operation, from notes of tests: lines `{"operation": "get_me", "status": 200}`.
#[must_use]
pub fn noted(lines: &str) -> BTreeMap<String, BTreeSet<u64>> {
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for note in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let (Some(operation), Some(status)) = (note["operation"].as_str(), note["status"].as_u64()) {
            found.entry(operation.to_owned()).or_default().insert(status);
        }
    }
    found
}

/// What is wrong: operations that nobody exercised, and entries of the list of exceptions that are not needed or give no reason.
/// An exception is a line `operation_id reason`; lines that begin with `#` explain.
#[must_use]
pub fn problems(documents: &[&Value], noted: &BTreeMap<String, BTreeSet<u64>>, exceptions: &str) -> Vec<String> {
    let known: BTreeSet<&str> = documents.iter().flat_map(|document| operations(document)).map(|operation| operation.id()).collect();
    let lines = exceptions.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let excepted: BTreeMap<&str, &str> = lines.map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    let mut found = Vec::new();
    for id in &known {
        let used = noted.get(*id).is_some_and(|statuses| statuses.iter().any(|status| *status < 400));
        match (used, excepted.get(id)) {
            (false, None) => found.push(format!("{id}: no test has called it with success")),
            (true, Some(_)) => found.push(format!("{id}: is exercised; take it out of openapi/unexercised.txt")),
            (false, Some(reason)) if reason.trim().is_empty() => found.push(format!("{id}: openapi/unexercised.txt gives no reason")),
            _ => {}
        }
    }
    let gone = excepted.keys().filter(|id| !known.contains(**id));
    found.extend(gone.map(|id| format!("{id}: is in openapi/unexercised.txt and in no document")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_calls_is_named_and_so_are_stale_exceptions() {
        let operation = |id: &str| json!({ "operationId": id });
        let document = json!({ "paths": { "/x": { "get": operation("get_x"), "put": operation("put_x"), "post": operation("post_x"), "delete": operation("delete_x") } } });
        let notes = noted("{\"operation\":\"get_x\",\"status\":200}\nbroken\n{\"operation\":\"put_x\",\"status\":404}\n");
        let found = problems(&[&document], &notes, "# why\nget_x it needs a server\npost_x\ndelete_x it needs a second hub\nold_x gone\n");
        let wanted = ["get_x: is exercised", "post_x: openapi/unexercised.txt gives no reason", "put_x: no test", "old_x: is in"];
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{found}");
        }
    }
}

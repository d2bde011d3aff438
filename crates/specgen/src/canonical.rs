//! One text for one value.

use serde_json::{Map, Value};

/// The JSON text of a document: keys sorted, two spaces, one final newline.
#[must_use]
pub fn canonical(value: &Value) -> String {
    // Writing a value that was read or built cannot fail.
    let mut text = serde_json::to_string_pretty(&sorted(value)).unwrap_or_default();
    text.push('\n');
    text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut all: Vec<_> = members.iter().collect();
            all.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(all.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_at_every_depth_and_lists_are_not() {
        let value = serde_json::json!({ "b": [{ "d": 1, "c": 2 }, 0], "a": "é" });
        let text = "{\n  \"a\": \"é\",\n  \"b\": [\n    {\n      \"c\": 2,\n      \"d\": 1\n    },\n    0\n  ]\n}\n";
        assert_eq!(canonical(&value), text);
    }
}

//! Whether a changed protocol definition keeps its numbers: the part of Protocol Buffers that this repository uses, read as text.

use std::collections::BTreeMap;

use crate::schema::Breach;

/// What a number of a message, an enum or a service's method means.
type Meanings = BTreeMap<(String, String), String>;

/// The meanings of a `.proto` text: by (message, number) the label, type and name of a field; by (enum, number) the name; by
/// (service, method) its types; by (message, `reserved`) the reserved ranges.
fn meanings(text: &str) -> Meanings {
    let mut found = Meanings::new();
    let mut open: Vec<(String, String)> = Vec::new();
    let without_comments: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut statement = String::new();
    for c in without_comments.chars() {
        match c {
            '{' => {
                let mut words = statement.split_whitespace();
                let kind = words.next().unwrap_or_default().to_owned();
                let name = words.next().unwrap_or_default().to_owned();
                open.push((kind, name));
                statement.clear();
            }
            '}' => {
                open.pop();
                statement.clear();
            }
            ';' => {
                take(&open, statement.trim(), &mut found);
                statement.clear();
            }
            c => statement.push(c),
        }
    }
    found
}

fn take(open: &[(String, String)], statement: &str, found: &mut Meanings) {
    // The members of a `oneof` have numbers of the message around it.
    let owner: Vec<&str> = open.iter().filter(|(kind, _)| kind != "oneof").map(|(_, name)| name.as_str()).collect();
    let owner = owner.join(".");
    let Some((kind, name)) = open.last() else { return };
    if let Some(ranges) = statement.strip_prefix("reserved ") {
        found.entry((owner, "reserved".into())).or_default().push_str(&format!("{ranges},"));
        return;
    }
    if kind == "service" {
        if let Some((method, types)) = statement.strip_prefix("rpc ").and_then(|rest| rest.split_once('(')) {
            let types = types.split_whitespace().collect::<Vec<_>>().join(" ");
            found.insert((owner, method.trim().into()), format!("({types}"));
        }
        return;
    }
    let Some((left, right)) = statement.split_once('=') else { return };
    let number = right.split('[').next().unwrap_or_default().trim().to_owned();
    let mut meaning = left.split_whitespace().collect::<Vec<_>>().join(" ");
    if kind == "oneof" {
        meaning = format!("oneof {name} {meaning}");
    }
    found.insert((owner, number), meaning);
}

fn reserved(all: &Meanings, owner: &str, number: &str) -> bool {
    let Some(ranges) = all.get(&(owner.to_owned(), "reserved".to_owned())) else { return false };
    let Ok(number) = number.parse::<u64>() else { return false };
    ranges.split(',').any(|range| {
        let mut ends = range.split(" to ").map(|end| end.trim().parse::<u64>());
        match (ends.next(), ends.next()) {
            (Some(Ok(one)), None) => one == number,
            (Some(Ok(from)), Some(to)) => from <= number && to.map_or(true, |to| number <= to),
            _ => false,
        }
    })
}

/// What a definition breaks of the promises of an older one.
#[must_use]
pub fn compatible(old: &str, new: &str) -> Vec<Breach> {
    let (before, now) = (meanings(old), meanings(new));
    let breach = |owner: &str, number: &str, rule, what: String| Breach { place: format!("{owner} {number}"), rule, what };
    let mut found = Vec::new();
    for ((owner, number), meaning) in before.iter().filter(|((_, number), _)| number != "reserved") {
        match now.get(&(owner.clone(), number.clone())) {
            Some(same) if same == meaning => {}
            Some(other) => found.push(breach(owner, number, "number-reused", format!("it was `{meaning}` and is `{other}`"))),
            None if reserved(&now, owner, number) => {}
            None => found.push(breach(owner, number, "number-removed", format!("`{meaning}` is gone and its number is not reserved"))),
        }
    }
    for (owner, number) in now.keys().filter(|(owner, number)| reserved(&before, owner, number)) {
        found.push(breach(owner, number, "number-reused", "the number was reserved".into()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "syntax = \"proto3\";\n// A comment { ; }\nmessage A { string a = 1; repeated B b = 2; oneof c { int32 d = 3; C e = 4; } reserved 7, 9 to 11; }\n\
        enum E { NONE = 0; ONE = 1; } service S { rpc Do(stream A) returns (B); }";

    #[test]
    fn exactly_the_breaking_changes_are_refused() {
        let rules = |from: &str, to: &str| {
            assert!(OLD.contains(from), "{from}");
            compatible(OLD, &OLD.replace(from, to)).into_iter().map(|one| one.rule).collect::<Vec<_>>()
        };
        assert!(compatible(OLD, OLD).is_empty());
        for (from, to) in [
            ("string a = 1;", "string a = 1; string z = 5;"),
            ("// A comment", "// Another comment"),
            ("ONE = 1;", "ONE = 1; TWO = 2;"),
            ("C e = 4; }", "C e = 4; string f = 6; }"),
            ("rpc Do", "rpc Ask(A) returns (B); rpc Do"),
            ("string a = 1; ", "reserved 1; "),
        ] {
            assert_eq!(rules(from, to), [""; 0], "{from} -> {to}");
        }
        for (from, to, rule) in [
            ("string a = 1;", "", "number-removed"),
            ("string a = 1;", "bytes a = 1;", "number-reused"),
            ("string a = 1;", "string b = 1;", "number-reused"),
            ("repeated B b", "B b", "number-reused"),
            ("int32 d = 3;", "int32 d = 5;", "number-removed"),
            ("int32 d = 3; C e = 4; }", "C e = 4; } int32 d = 3;", "number-reused"),
            ("ONE = 1", "TWO = 1", "number-reused"),
            ("rpc Do(stream A)", "rpc Do(A)", "number-reused"),
            ("rpc Do(stream A) returns (B);", "", "number-removed"),
            ("reserved 7, 9 to 11;", "string f = 10;", "number-reused"),
        ] {
            assert_eq!(rules(from, to), [rule], "{from} -> {to}");
        }
    }
}

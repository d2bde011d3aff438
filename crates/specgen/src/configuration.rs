//! The configuration: its schema, and an example with every setting, its meaning and its default.

use aiox_config::Settings;
use schemars::generate::SchemaSettings;
use serde_json::Value;

pub(crate) fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Settings>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "AIOX configuration".into());
    }
    schema
}

/// The example file: every section, each setting commented out with its default, each with the words of its documentation.
#[must_use]
pub fn example() -> String {
    let schema = schema();
    let mut text = String::from(
        "# Every setting of a hub and of a worker with its default. Copy what you want to change.\n\
         # Made by `cargo run -p xtask -- spec` from crates/config; docs/configuration.md says where settings come from.\n",
    );
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    for (name, member) in members(&schema) {
        section(&mut text, &schema, name, member, &defaults[name]);
    }
    text
}

fn members(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, member)| (name.as_str(), member))
}

/// The schema itself, or the one that it refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/"));
    target.map_or(schema, |name| &root["$defs"][name])
}

fn section(text: &mut String, root: &Value, path: &str, member: &Value, defaults: &Value) {
    let schema = resolved(root, member);
    text.push('\n');
    comment(text, member["description"].as_str().or(schema["description"].as_str()).unwrap_or_default());
    text.push_str(&format!("[{path}]\n"));
    let mut tables = Vec::new();
    for (name, member) in members(schema) {
        let inner = resolved(root, member);
        if inner["properties"].is_object() {
            tables.push((name, member));
            continue;
        }
        comment(text, member["description"].as_str().unwrap_or_default());
        if let Some(values) = choices(inner) {
            comment(text, &format!("One of {}.", values.join(", ")));
        }
        let map = inner["type"] == "object";
        match &defaults[name] {
            Value::Object(_) if map => {
                let of = resolved(root, &inner["additionalProperties"]);
                text.push_str(&format!("#[{path}.{name}{}]\n", if of["properties"].is_object() { ".<name>" } else { "" }));
                for (name, member) in members(of) {
                    comment(text, member["description"].as_str().unwrap_or_default());
                    text.push_str(&setting(name, resolved(root, member), &member["default"]));
                }
            }
            value => text.push_str(&setting(name, inner, value)),
        }
    }
    for (name, member) in tables {
        section(text, root, &format!("{path}.{name}"), member, &defaults[name]);
    }
}

fn setting(name: &str, schema: &Value, default: &Value) -> String {
    match default {
        Value::Null => format!("#{name} = {}\n", if numeric(schema) { "0" } else { "\"\"" }),
        value => format!("#{name} = {value}\n"),
    }
}

fn numeric(schema: &Value) -> bool {
    let kinds: Vec<&Value> = schema["type"].as_array().map_or_else(|| vec![&schema["type"]], |kinds| kinds.iter().collect());
    kinds.iter().all(|kind| ["integer", "number", "null"].iter().any(|number| *kind == number))
}

fn choices(schema: &Value) -> Option<Vec<String>> {
    let list = schema["enum"].as_array().cloned().or_else(|| {
        let all: Vec<Value> = schema["oneOf"].as_array()?.iter().map(|one: &Value| one["const"].clone()).collect();
        Some(all)
    })?;
    let texts: Vec<String> = list.iter().filter_map(Value::as_str).map(|text| format!("`{text}`")).collect();
    (!texts.is_empty()).then_some(texts)
}

fn comment(text: &mut String, words: &str) {
    for line in words.split('\n').filter(|line| !line.is_empty()) {
        text.push_str(&format!("# {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_as_it_is_changes_nothing_and_without_its_marks_it_is_the_defaults() {
        let text = example();
        let whole: toml::Table = text.parse().unwrap();
        let empty = |table: &toml::Table| {
            fn nothing(value: &toml::Value) -> bool {
                value.as_table().is_some_and(|table| table.values().all(nothing))
            }
            table.values().all(nothing)
        };
        assert!(empty(&whole), "the example sets something");
        // A setting is marked with `#` and nothing between; a comment has a space.
        let lines = text.lines().filter(|line| !line.starts_with("# ") && !line.ends_with("= \"\""));
        let lines = lines.scan(false, |inside, line| {
            *inside = (*inside && !line.contains('[')) || line.contains('<');
            Some((!*inside).then_some(line))
        });
        let set: String = lines.flatten().map(|line| line.trim_start_matches('#').to_owned() + "\n").collect();
        let set: Value = serde_json::to_value(set.parse::<toml::Table>().unwrap()).unwrap();
        let mut defaults = serde_json::to_value(Settings::default()).unwrap();
        prune(&mut defaults);
        for (section, members) in defaults.as_object().unwrap() {
            for (name, value) in members.as_object().unwrap() {
                // Tables with names of the operator's own are shown by their members.
                let table = value.is_object() && set[section][name].is_null();
                assert!(table || &set[section][name] == value, "{section}.{name}");
            }
        }
    }

    fn prune(value: &mut Value) {
        if let Value::Object(members) = value {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(prune);
            members.retain(|_, value| value.as_object().is_none_or(|inner| !inner.is_empty()));
        }
    }
}

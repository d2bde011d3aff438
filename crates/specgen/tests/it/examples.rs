//! Examples in the documents validate against the schema that they stand beside.

use aiox_specgen::{federation, node};
use serde_json::{Value, json};

#[test]
fn every_example_validates_against_its_schema() {
    for (name, document) in [("openapi/node.json", node()), ("openapi/federation.json", federation())] {
        let mut found = Vec::new();
        examples(&document, "#", &mut found);
        let problems: Vec<String> =
            found.iter().filter_map(|(place, schema, example)| problem(&document, place, schema, example)).collect();
        assert!(problems.is_empty(), "rule: examples are true ({name}).\n{}", problems.join("\n"));
    }
}

#[test]
fn a_wrong_example_is_found() {
    let document = json!({ "components": { "schemas": { "A": { "type": "string" } } }, "x": { "schema": { "$ref": "#/components/schemas/A" }, "example": 5 } });
    let mut found = Vec::new();
    examples(&document, "#", &mut found);
    assert!(problem(&document, &found[0].0, &found[0].1, &found[0].2).is_some());
}

/// Every example with its schema: of media types, parameters and headers beside `schema`, and of schemas in themselves.
fn examples(value: &Value, place: &str, found: &mut Vec<(String, Value, Value)>) {
    match value {
        Value::Object(members) => {
            let schema = members.get("schema").unwrap_or(value);
            if let Some(example) = members.get("example") {
                found.push((place.to_owned(), schema.clone(), example.clone()));
            }
            match members.get("examples") {
                Some(Value::Array(all)) => found.extend(all.iter().map(|one| (place.to_owned(), schema.clone(), one.clone()))),
                Some(Value::Object(all)) => {
                    found.extend(all.values().filter_map(|one| Some((place.to_owned(), schema.clone(), one.get("value")?.clone()))));
                }
                _ => {}
            }
            for (name, inner) in members.iter().filter(|(name, _)| *name != "example" && *name != "examples" && *name != "default") {
                examples(inner, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(index, inner)| examples(inner, &format!("{place}/{index}"), found)),
        _ => {}
    }
}

fn problem(document: &Value, place: &str, schema: &Value, example: &Value) -> Option<String> {
    let mut whole = schema.as_object()?.clone();
    whole.insert("components".into(), document["components"].clone());
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&Value::Object(whole));
    let validator = match validator {
        Ok(validator) => validator,
        Err(error) => return Some(format!("{place}: {error}")),
    };
    validator.validate(example).err().map(|error| format!("{place}: {example} is refused: {error}"))
}

//! The documents are valid OpenAPI 3.1 and JSON Schema 2020-12, and whole.

use aiox_specgen::{federation, lint, node, schemas, tree};
use serde_json::{Value, json};

fn official() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../../vendor/openapi-3.1.schema.json")).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

#[test]
fn the_documents_are_valid_openapi_3_1() {
    let official = official();
    for (name, document) in [("openapi/node.json", node()), ("openapi/federation.json", federation())] {
        let problems: Vec<String> = official.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "rule: {name} is valid by the official schema of OpenAPI 3.1.\n{}", problems.join("\n"));
    }
    let mut broken = node();
    broken["paths"]["/health/live"]["get"]["responses"]["200"].as_object_mut().unwrap().remove("description");
    assert!(!official.is_valid(&broken), "a check that cannot fail");
}

#[test]
fn every_schema_is_valid_json_schema() {
    for (name, schema) in schemas() {
        assert!(jsonschema::meta::validate(&schema).is_ok(), "rule: schemas/v1/{name}.schema.json is valid JSON Schema 2020-12");
        jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("schemas/v1/{name}.schema.json: {error}"));
    }
    assert!(jsonschema::meta::validate(&json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": 5 })).is_err());
}

#[test]
fn the_documents_are_whole_and_can_be_read() {
    let codes = lint::codes(&tree::read("spec/errors.md").unwrap());
    assert!(codes.len() > 40);
    for (name, document) in [("openapi/node.json", node()), ("openapi/federation.json", federation())] {
        let problems = lint::problems(&document, &codes);
        assert!(
            problems.is_empty(),
            "rule: what docs/adding-an-endpoint.md asks of every operation ({name}).\n{}\nCorrect the operation beside its handler, then `make spec`.",
            problems.join("\n")
        );
    }
}

#[test]
fn no_two_types_share_a_name() {
    // The generator numbers the second one of a name; an operation that names it means the first one.
    for (file, document) in [("openapi/node.json", node()), ("openapi/federation.json", federation())] {
        let names = document["components"]["schemas"].as_object().unwrap();
        let numbered = |name: &&String| {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            stem.len() < name.len() && names.contains_key(stem)
        };
        let twice: Vec<&String> = names.keys().filter(numbered).collect();
        assert!(twice.is_empty(), "rule: one name, one type ({file}): {twice:?}. Name one of them with #[schemars(rename = …)].");
    }
}

#[test]
fn the_example_configuration_is_valid_by_the_schema_of_the_configuration() {
    let schema = tree::json("schemas/config.schema.json").unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let example: toml::Table = aiox_specgen::example().parse().unwrap();
    assert!(validator.is_valid(&serde_json::to_value(example).unwrap()));
    assert!(!validator.is_valid(&json!({ "http": { "prot": 1 } })), "unknown keys are refused");
    assert!(!validator.is_valid(&json!({ "http": { "port": "x" } })));
}

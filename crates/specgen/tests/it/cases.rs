//! The examples of `schemas/examples`: those that hold validate and are read and written without loss; those that do not break exactly
//! the rule that they name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use aiox_model::{account, agent, body, federation, objects::Objects, run, v1};
use aiox_specgen::{schemas, tree};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

const DIRECTORY: &str = "schemas/examples";

/// Reads a value as the hub's own type, and writes it again.
type Read = fn(&Value) -> Result<Value, String>;

fn read<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value, String> {
    let read = T::deserialize(Objects(value)).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// What is read from a document that is not written by the hub.
fn take<T: DeserializeOwned>(value: &Value) -> Result<Value, String> {
    T::deserialize(Objects(value)).map(|_| value.clone()).map_err(|error| error.to_string())
}

fn readers() -> BTreeMap<&'static str, Read> {
    BTreeMap::from([
        ("Login", take::<account::Login> as Read),
        ("Register", take::<account::Register>),
        ("NewApiKey", read::<account::NewApiKey>),
        ("AgentCreate", take::<agent::AgentCreate>),
        ("NewGrant", read::<agent::NewGrant>),
        ("ChatRequest", take::<run::ChatRequest>),
        ("V1RunCreate", read::<v1::run::RunCreate>),
        ("TenantCreate", read::<v1::tenants::TenantCreate>),
        ("OpenAiChatRequest", take::<v1::openai::ChatRequest>),
        ("PolicyCheck", take::<v1::gateway::PolicyCheck>),
        ("RunEvent", read::<run::RunEvent>),
        ("RunDelta", read::<run::RunDelta>),
        ("V1EventEnvelope", read::<v1::event::EventEnvelope>),
        ("ErrorBody", read::<body::ErrorBody>),
        ("V1ErrorBody", read::<v1::error::ErrorBody>),
        ("Envelope", read::<federation::Envelope>),
        ("EnvelopeBatch", read::<federation::EnvelopeBatch>),
        ("TrustDocument", read::<federation::TrustDocument>),
    ])
}

/// Every example: the document's name, the file's path, its content.
fn examples() -> Vec<(String, String, Value)> {
    let directories = fs::read_dir(tree::root().join(DIRECTORY)).unwrap().map(|entry| entry.unwrap());
    let names = directories.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
    let of = |name: String| {
        let files = tree::files(&format!("{DIRECTORY}/{name}")).unwrap();
        files.into_iter().map(move |path| (name.clone(), path.clone(), tree::json(&path).unwrap()))
    };
    names.flat_map(of).collect()
}

/// What refuses a value: the keywords and where.
fn refused(schema: &Value, value: &Value) -> BTreeSet<(String, String)> {
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(schema).unwrap();
    let said = |error: jsonschema::ValidationError<'_>| {
        let keyword = error.schema_path().to_string().rsplit('/').next().unwrap().to_owned();
        (keyword, error.instance_path().to_string())
    };
    validator.iter_errors(value).map(said).collect()
}

#[test]
fn every_example_holds_or_breaks_the_rule_that_it_names() {
    let (schemas, readers, examples) = (schemas(), readers(), examples());
    let kind = |kind: &str| examples.iter().filter(|(_, path, _)| path.contains(&format!("/{kind}-"))).count();
    assert!(kind("bad") >= 40 && kind("ok") >= 15 && kind("bad") + kind("ok") == examples.len(), "{} and {}", kind("bad"), kind("ok"));
    let mut problems = Vec::new();
    for (name, path, example) in &examples {
        let (Some(schema), Some(reader)) = (schemas.get(name), readers.get(name.as_str())) else {
            problems.push(format!("{path}: {name} is no published document, or the test has no reader for it"));
            continue;
        };
        let (value, text) = (&example["value"], |member: &str| example[member].as_str().unwrap_or_default());
        let (refused, read) = (refused(schema, value), reader(value));
        if path.contains("/ok-") {
            if text("shows").is_empty() || !refused.is_empty() {
                problems.push(format!("{path}: refused by {refused:?}, or it does not say what it shows"));
            }
            match read {
                Ok(written) if &written == value => {}
                other => problems.push(format!("{path}: read and written it is {other:?}")),
            }
        } else {
            let wanted = (text("keyword").to_owned(), text("at").to_owned());
            if text("breaks").is_empty() || refused != BTreeSet::from([wanted.clone()]) {
                problems.push(format!("{path}: it names {wanted:?}, and what refuses it is {refused:?}"));
            }
            if read.is_ok() == text("taken").is_empty() {
                problems.push(format!("{path}: the hub's own reader says {read:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "rule: {DIRECTORY} says what it says.\n{}", problems.join("\n"));
}

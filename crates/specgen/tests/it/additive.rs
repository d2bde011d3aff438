//! Nothing that a baseline promises is taken away.

use std::collections::BTreeMap;

use aiox_specgen::{
    federation, lint, node, openapi, proto,
    schema::{self, Breach, Direction},
    tree, version,
};
use serde_json::Value;

const HINT: &str =
    "Take the change back, or add beside what is there. A baseline moves only at a release: cargo run -p xtask -- spec bless";

fn refuse(file: &str, breaches: &[Breach]) {
    let lines: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert!(lines.is_empty(), "rule: {file} only grows within a major version.\n{}\n{HINT}", lines.join("\n"));
}

#[test]
fn the_openapi_documents_only_grow() {
    refuse("openapi/node.json", &openapi::compatible(&tree::json("openapi/baseline/node.json").unwrap(), &node()));
    refuse("openapi/federation.json", &openapi::compatible(&tree::json("openapi/baseline/federation.json").unwrap(), &federation()));
}

#[test]
fn the_documents_have_the_version_of_the_next_release() {
    for (file, now) in [("node.json", node()), ("federation.json", federation())] {
        let problem = version::problem(&tree::json(&format!("openapi/baseline/{file}")).unwrap(), &now);
        assert_eq!(
            problem,
            None,
            "rule: the version of openapi/{file} is that of the next release. Raise VERSION in {}, then `make spec`.",
            if file == "node.json" { "crates/http/src/openapi.rs" } else { "crates/specgen/src/generate.rs" }
        );
    }
}

/// Who writes each published document. What no operation names directly (claims, payloads, frames) is held in both directions, unless
/// only one side can write it.
fn directions() -> BTreeMap<String, Direction> {
    let mut all = openapi::directions(&node());
    for (name, direction) in openapi::directions(&federation()) {
        all.entry(name)
            .and_modify(|known| {
                if *known != direction {
                    *known = Direction::Both
                }
            })
            .or_insert(direction);
    }
    all
}

#[test]
fn the_single_schemas_only_grow() {
    let (now, directions) = (aiox_specgen::schemas(), directions());
    let baselines = tree::files(tree::SCHEMAS.1).unwrap();
    assert!(!baselines.is_empty());
    for path in baselines {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".schema.json");
        let old = tree::json(&path).unwrap();
        let Some(new) = now.get(name) else { panic!("rule: published schemas stay. schemas/v1/{name}.schema.json is gone.\n{HINT}") };
        let direction = directions.get(name).copied().unwrap_or(Direction::Both);
        refuse(&format!("schemas/v1/{name}.schema.json"), &schema::compatible(name, (&old, &old), (new, new), direction));
    }
}

#[test]
fn the_configuration_takes_what_it_took() {
    let (old, new) = (tree::json("schemas/baseline/config.schema.json").unwrap(), tree::json("schemas/config.schema.json").unwrap());
    refuse("schemas/config.schema.json", &schema::compatible("configuration", (&old, &old), (&new, &new), Direction::Request));
}

#[test]
fn error_codes_are_never_renamed() {
    let now = lint::codes(&tree::read("spec/errors.md").unwrap());
    let before: Value = tree::read("schemas/baseline/error-codes.txt").unwrap().lines().map(str::to_owned).collect();
    let gone: Vec<&str> = before.as_array().unwrap().iter().filter_map(Value::as_str).filter(|code| !now.contains(*code)).collect();
    assert!(gone.is_empty(), "rule: error codes are never renamed (spec/errors.md). Gone: {}.\n{HINT}", gone.join(", "));
}

#[test]
fn numbers_of_the_worker_protocol_keep_their_meaning() {
    let (old, new) = (tree::read("schemas/baseline/worker.proto").unwrap(), tree::read("proto/worker/v1/worker.proto").unwrap());
    refuse("proto/worker/v1/worker.proto", &proto::compatible(&old, &new));
}

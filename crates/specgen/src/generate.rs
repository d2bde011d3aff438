//! The documents themselves.

use std::{borrow::Cow, collections::BTreeMap};

use aiox_http::openapi;
use aiox_model::{body, conformance, documents, federation, run};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityScheme},
};

use crate::{canonical, configuration, requirements};

/// Version of `openapi/federation.json`, apart from the program's: that of the next release (`version`).
const VERSION: &str = "0.3.0";

/// The OpenAPI document of the product listener.
#[must_use]
pub fn node() -> Value {
    let mut api = aiox_http::operations();
    api.merge(aiox_federation::admin::operations());
    api.merge(aiox_federation::publish::operations());
    openapi::finish(&api)
}

/// The OpenAPI document of the peer listener, with the one path of the public listener that peers read.
#[must_use]
pub fn federation() -> Value {
    let mut api = peer_base();
    api.merge(aiox_federation::door::operations());
    api.merge(aiox_federation::publish::operations());
    openapi::complete(&api, |generator| {
        documents::register_federation(generator);
        generator.subschema_for::<conformance::ConformanceResult>();
        generator.subschema_for::<federation::TrustDocument>();
        generator.subschema_for::<run::RunEvent>();
        generator.subschema_for::<run::RunDelta>();
        generator.subschema_for::<body::ErrorBody>();
    })
}

fn peer_base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("AIOX federation")
        .version(VERSION)
        .description(Some(include_str!("federation.md")))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let mut components = utoipa::openapi::Components::new();
    let mut token = Http::new(HttpAuthScheme::Bearer);
    token.bearer_format = Some("JWT".into());
    token.description = Some("A request token (`TokenClaims`), on a connection with mutual TLS.".into());
    components.add_security_scheme("request_token", SecurityScheme::Http(token));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Every published document as a schema that stands alone, by its name.
#[must_use]
pub fn schemas() -> BTreeMap<String, Value> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    register(&mut generator);
    let definitions = generator.definitions();
    names().into_iter().filter_map(|name| Some((name.to_string(), alone(definitions, &name)?))).collect()
}

fn register(generator: &mut SchemaGenerator) {
    documents::register(generator);
    documents::register_federation(generator);
}

fn names() -> Vec<Cow<'static, str>> {
    let mut all = documents::names();
    all.extend(documents::federation_names());
    all
}

/// A definition with those that it needs.
fn alone(definitions: &Map<String, Value>, name: &str) -> Option<Value> {
    let mut root = definitions.get(name)?.clone();
    let mut needed = BTreeMap::new();
    let mut open = refs(&root);
    while let Some(next) = open.pop() {
        if let Some(definition) = definitions.get(&next)
            && !needed.contains_key(&next)
        {
            open.extend(refs(definition));
            needed.insert(next, definition.clone());
        }
    }
    let object = root.as_object_mut()?;
    object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    object.insert("title".into(), json!(name));
    if !needed.is_empty() {
        object.insert("$defs".into(), json!(needed));
    }
    Some(root)
}

/// Names of the definitions that a schema refers to.
fn refs(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(target)) => target.strip_prefix("#/$defs/").map(str::to_owned).into_iter().collect(),
                _ => refs(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(refs).collect(),
        _ => Vec::new(),
    }
}

/// Every generated file of the repository: those of the hub, and the requirements of the specification as data.
#[must_use]
pub fn generated() -> BTreeMap<String, String> {
    let mut files = documents();
    files.insert("spec/requirements.json".to_owned(), canonical(&requirements()));
    files
}

/// The documents of the hub: each path in the repository and its text.
#[must_use]
pub fn documents() -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([
        ("openapi/node.json".to_owned(), canonical(&node())),
        ("openapi/federation.json".to_owned(), canonical(&federation())),
        ("schemas/config.schema.json".to_owned(), canonical(&configuration::schema())),
        ("aiox.example.toml".to_owned(), configuration::example()),
    ]);
    files.extend(schemas().into_iter().map(|(name, schema)| (format!("schemas/v1/{name}.schema.json"), canonical(&schema))));
    files
}

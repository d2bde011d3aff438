//! The OpenAPI document of the product listener, made of the routes themselves.

use aiox_model::documents;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

use crate::verbs;

/// Version of the document, apart from the program's: that of the next release. `aiox-specgen` says what it has to be.
const VERSION: &str = "0.3.0";

/// What every document begins with.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("AIOX hub")
        .version(VERSION)
        .description(Some(include_str!("openapi.md")))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let mut components = utoipa::openapi::Components::new();
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The document of the product listener as JSON: paths as clients know them, schemas as schemars derives them.
#[must_use]
pub fn finish(api: &OpenApi) -> Value {
    complete(api, documents::register)
}

/// The same for another listener, whose documents `register` names.
pub fn complete(api: &OpenApi, register: impl FnOnce(&mut SchemaGenerator)) -> Value {
    let mut document = serde_json::to_value(api).unwrap_or_default();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        let shown: Map<String, Value> = std::mem::take(paths).into_iter().map(|(path, item)| (verbs::public(&path), item)).collect();
        *paths = shown;
    }
    let mut generator =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    register(&mut generator);
    document["components"]["schemas"] = json!(generator.definitions());
    document
}

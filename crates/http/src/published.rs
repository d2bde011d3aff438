//! The documents that describe this hub, and a page to read them with.
//!
//! They are made once, by whoever knows all of them (`aiox-specgen`), and sent as they are: no work per request but a look into a map.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use aiox_model::body::ErrorBody;

use crate::{
    documented::{Any, NotFound},
    error::{Failure, Result},
    read::Place,
};

/// Makes every document: its path, for instance `openapi/node.json`, and its text.
pub type Make = fn() -> Vec<(String, String)>;

struct File {
    media: &'static str,
    etag: HeaderValue,
    body: Bytes,
}

type Files = Arc<LazyLock<HashMap<String, File>, Box<dyn FnOnce() -> HashMap<String, File> + Send>>>;

impl File {
    fn new(media: &'static str, text: String) -> Self {
        let digest = aiox_crypto::sha256(text.as_bytes());
        let etag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Hex is always a legal header.
        let etag = HeaderValue::try_from(format!("\"{etag}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { media, etag, body: text.into() }
    }

    fn send(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let own = self.etag.to_str().unwrap_or_default();
        let same = known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == own || one == "*");
        // A program of another version has other documents under the same names.
        let about = [(header::ETAG, self.etag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
        if same {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        (about, [(header::CONTENT_TYPE, self.media)], self.body.clone()).into_response()
    }
}

/// The routes. The documents are made when the first one is asked for.
pub fn routes(make: Make) -> Router {
    let files: Files = Arc::new(LazyLock::new(Box::new(move || {
        let media = |path: &str| if path.starts_with("schemas/") { "application/schema+json" } else { "application/json" };
        make().into_iter().map(|(path, text)| (path.clone(), File::new(media(&path), text))).collect()
    })));
    documented().with_state(files).split_for_parts().0
}

/// The document of these routes.
pub(crate) fn operations() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<Files> {
    OpenApiRouter::new()
        .routes(routes!(node))
        .routes(routes!(federation))
        .routes(routes!(schema))
        .routes(routes!(configuration))
        .routes(routes!(page))
}

fn find(files: &Files, path: &str, headers: &HeaderMap) -> Result<Response> {
    files.get(path).map(|file| file.send(headers)).ok_or(Failure::NoRoute)
}

/// Read this document
///
/// The OpenAPI 3.1 document of the product listener, as it is committed in the hub's repository. Needs no credential.
#[utoipa::path(
    get,
    path = "/openapi/node.json",
    tag = "documents",
    operation_id = "get_openapi",
    security(()),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the copy that the reader has.")),
    responses(
        (status = 200, description = "The document.", body = serde_json::Value, headers(("ETag" = String, description = "Names this text."))),
        (status = 304, description = "The reader's copy is the same."),
        Any
    )
)]
async fn node(State(files): State<Files>, headers: HeaderMap) -> Result<Response> {
    find(&files, "openapi/node.json", &headers)
}

/// Read the document of the peer listener
///
/// OpenAPI 3.1: what hubs ask of one another. Needs no credential.
#[utoipa::path(
    get,
    path = "/openapi/federation.json",
    tag = "documents",
    operation_id = "get_federation_openapi",
    security(()),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the copy that the reader has.")),
    responses(
        (status = 200, description = "The document.", body = serde_json::Value, headers(("ETag" = String, description = "Names this text."))),
        (status = 304, description = "The reader's copy is the same."),
        Any
    )
)]
async fn federation(State(files): State<Files>, headers: HeaderMap) -> Result<Response> {
    find(&files, "openapi/federation.json", &headers)
}

/// Read the schema of a document
///
/// JSON Schema 2020-12 that stands alone, for each type that this hub publishes: those of the OpenAPI documents, and what travels inside
/// envelopes and tokens. Needs no credential.
#[utoipa::path(
    get,
    path = "/schemas/v1/{file}",
    tag = "documents",
    operation_id = "get_schema",
    security(()),
    params(
        ("file" = String, Path, description = "`<name>.schema.json`, for instance `Run.schema.json`.", example = "Run.schema.json"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the copy that the reader has.")
    ),
    responses(
        (status = 200, description = "The schema.", body = serde_json::Value, content_type = "application/schema+json", headers(("ETag" = String, description = "Names this text."))),
        (status = 304, description = "The reader's copy is the same."),
        (status = 400, description = "The path cannot be read (`invalid_request`).", body = ErrorBody),
        Any,
        NotFound
    )
)]
async fn schema(State(files): State<Files>, Place(name): Place<String>, headers: HeaderMap) -> Result<Response> {
    find(&files, &format!("schemas/v1/{name}"), &headers)
}

/// Read the schema of the configuration
///
/// JSON Schema 2020-12 of the hub's TOML file, for editors. Needs no credential.
#[utoipa::path(
    get,
    path = "/schemas/config.schema.json",
    tag = "documents",
    operation_id = "get_config_schema",
    security(()),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the copy that the reader has.")),
    responses(
        (status = 200, description = "The schema.", body = serde_json::Value, content_type = "application/schema+json", headers(("ETag" = String, description = "Names this text."))),
        (status = 304, description = "The reader's copy is the same."),
        Any
    )
)]
async fn configuration(State(files): State<Files>, headers: HeaderMap) -> Result<Response> {
    find(&files, "schemas/config.schema.json", &headers)
}

const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

/// The page with its policy: its own style and script by their digests, documents of this hub, and nothing from anywhere else.
static PAGE: LazyLock<(File, HeaderValue)> = LazyLock::new(|| {
    let text = include_str!("docs/page.html").replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    (File::new("text/html; charset=utf-8", text), HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'")))
});

/// SHA-256 in base64 (RFC 4648 section 4), as content security policies want it.
fn digest(text: &str) -> String {
    aiox_crypto::jws::sha256(text.as_bytes()).replace('-', "+").replace('_', "/") + "="
}

/// Read the documents in a browser
///
/// One page with everything in it, for hubs without a way to the internet. Needs no credential.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "documents",
    operation_id = "get_docs_page",
    security(()),
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of the copy that the reader has.")),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html", headers(("ETag" = String, description = "Names this text."))),
        (status = 304, description = "The reader's copy is the same."),
        Any
    )
)]
async fn page(headers: HeaderMap) -> Response {
    let (page, policy) = &*PAGE;
    let mut response = page.send(&headers);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_of_the_standard() {
        assert_eq!(digest(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(aiox_crypto::jws::sha256(b"").len(), 43);
    }

    #[test]
    fn the_page_asks_nobody_else_and_its_policy_fits() {
        let (page, policy) = &*PAGE;
        let text = std::str::from_utf8(&page.body).unwrap();
        for outside in ["http://", "https://", "src=", "@import", "<link"] {
            assert!(!text.contains(outside), "{outside}");
        }
        assert!(!STYLE.contains("url("));
        let between = |open: &str, close: &str| text.split_once(open).unwrap().1.split_once(close).unwrap().0;
        let policy = policy.to_str().unwrap();
        assert!(policy.contains(&digest(between("<script>", "</script>"))) && policy.contains(&digest(between("<style>", "</style>"))));
        assert!(!text.contains(" style=\"") && !text.contains(" onclick"), "the policy refuses these");
        assert!(text.len() < 64 * 1024);
    }
}

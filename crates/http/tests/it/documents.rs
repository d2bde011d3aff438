//! The documents that describe the hub, as it serves them.

use reqwest::Method;

use crate::hub::{Answer, Hub};

#[tokio::test]
async fn the_served_documents_are_the_generated_ones() {
    let hub = Hub::start().await;
    let files = aiox_specgen::documents();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
        let response = hub.call(Method::GET, &format!("/{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let media = if path.starts_with("schemas/") { "application/schema+json" } else { "application/json" };
        assert_eq!(response.headers()["content-type"], media);
        assert_eq!(&response.text().await.unwrap(), text, "{path}");
    }
    let gone = Answer::of(hub.call(Method::GET, "/schemas/v1/Nothing.schema.json").send().await.unwrap()).await;
    assert_eq!((gone.status, gone.code()), (404, "not_found"));
}

#[tokio::test]
async fn a_reader_with_the_same_copy_gets_none() {
    let hub = Hub::start().await;
    for path in ["/openapi/node.json", "/openapi/federation.json", "/schemas/v1/Run.schema.json", "/schemas/config.schema.json", "/docs"] {
        let first = hub.call(Method::GET, path).send().await.unwrap();
        let etag = first.headers()["etag"].clone();
        assert!(first.headers()["cache-control"].to_str().unwrap().contains("max-age"));
        let again = hub.call(Method::GET, path).header("If-None-Match", &etag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.headers()["etag"].clone()), (304, etag), "{path}");
        assert!(again.bytes().await.unwrap().is_empty());
        let other = hub.call(Method::GET, path).header("If-None-Match", "\"other\"").send().await.unwrap();
        assert_eq!(other.status(), 200);
    }
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_no_other() {
    let hub = Hub::start().await;
    let page = hub.call(Method::GET, "/docs").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("script-src 'sha256-") && policy.contains("connect-src 'self'"));
    assert!(page.text().await.unwrap().contains("<title>AIOX API</title>"));
    let other = hub.call(Method::GET, "/health/live").send().await.unwrap();
    assert_eq!(other.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
}

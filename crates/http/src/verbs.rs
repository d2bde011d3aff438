//! Custom verbs of `/v1`: `POST /v1/runs/{run_id}:cancel`.
//!
//! The router knows whole segments only, so the verb becomes a segment of its own before it looks: `/v1/runs/{run_id}/~cancel` is how
//! such a route is written in the code. The documents show what a client sends ([`public`]).

use axum::{extract::Request, middleware::Next, response::Response};
use http::Uri;

/// Verbs that follow an id. Those that follow a fixed word (`models:invoke`) are plain routes.
const AFTER_AN_ID: [&str; 4] = ["cancel", "disable", "enable", "rotate"];

/// Makes the verb of a `/v1` path a segment.
pub(crate) async fn split(mut request: Request, next: Next) -> Response {
    if let Some(uri) = inner(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

fn inner(uri: &Uri) -> Option<Uri> {
    let path = uri.path().trim_end_matches('/');
    let (before, verb) = path.strip_prefix("/v1/").and_then(|_| path.rsplit_once(':'))?;
    if !AFTER_AN_ID.contains(&verb) {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{before}/~{verb}{query}").parse().ok();
    Uri::from_parts(parts).ok()
}

/// The path as clients know it.
pub(crate) fn public(path: &str) -> String {
    path.replace("/~", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_verb_becomes_a_segment_and_comes_back() {
        for (given, wanted) in [
            ("/v1/runs/run_1:cancel", Some("/v1/runs/run_1/~cancel")),
            ("/v1/runs/run_1:cancel/?x=1", Some("/v1/runs/run_1/~cancel?x=1")),
            ("/v1/admin/tenants/t/tokens/k:rotate", Some("/v1/admin/tenants/t/tokens/k/~rotate")),
            ("/v1/models:invoke", None),
            ("/v1/runs/run_1:explode", None),
            ("/api/v1/agents/a:cancel", None),
        ] {
            assert_eq!(inner(&given.parse().unwrap()).map(|uri| uri.to_string()).as_deref(), wanted, "{given}");
        }
        assert_eq!(public("/v1/runs/{run_id}/~cancel"), "/v1/runs/{run_id}:cancel");
    }
}

//! What this hub publishes about itself, served to whoever asks: its trust document and its conformance result. Nothing of it is secret.

use std::sync::{Arc, Mutex, PoisonError};

use aiox_core::ports::Clock;
use aiox_crypto::jws::JwsError;
use aiox_model::{Ts, body::ErrorBody, conformance::ConformanceResult, federation::TrustDocument};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    local::LocalNode,
    ports::PeerStore,
    trust::{self, MAX_LIFE_SECONDS, Publication},
};

/// A document is made again after a day, so that readers always get one with most of its life left.
const RENEW_AFTER_SECONDS: i64 = 24 * 3600;

/// Makes and keeps this hub's trust document.
pub struct Publisher {
    local: Arc<LocalNode>,
    endpoint: String,
    roots: Vec<CertificateDer<'static>>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<(Ts, Value)>>,
}

impl Publisher {
    /// `endpoint`: base URL of the peer listener, `https://host:port`. `roots`: the domain's own authorities.
    #[must_use]
    pub fn new(local: Arc<LocalNode>, endpoint: String, roots: Vec<CertificateDer<'static>>, clock: Arc<dyn Clock>) -> Self {
        Self { local, endpoint, roots, clock, current: Mutex::default() }
    }

    /// The document. Its sequence is the second in which it was made: it rises over restarts, and replicas that start within one second
    /// publish the same.
    ///
    /// # Errors
    /// When the key library fails.
    pub fn document(&self) -> Result<Value, JwsError> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, document)) = current.as_ref()
            && now < made.plus_seconds(RENEW_AFTER_SECONDS)
        {
            return Ok(document.clone());
        }
        let made = Ts::from_seconds(now.seconds());
        let publication = Publication {
            endpoint: self.endpoint.clone(),
            roots: self.roots.clone(),
            sequence: u64::try_from(made.seconds()).unwrap_or_default(),
            not_after: made.plus_seconds(MAX_LIFE_SECONDS),
        };
        let document = trust::publish(&self.local, &publication)?;
        *current = Some((made, document.clone()));
        Ok(document)
    }

    fn domain(&self) -> &str {
        self.local.domain()
    }

    /// What the operator of another hub confirms about this one.
    ///
    /// # Errors
    /// When the key library fails.
    pub fn fingerprint(&self) -> Result<String, JwsError> {
        trust::fingerprint(&self.document()?).map_err(|_| JwsError::Document)
    }
}

/// What the public routes need.
#[derive(Clone)]
pub struct Published {
    /// The trust document.
    pub publisher: Arc<Publisher>,
    /// Who keeps the conformance result.
    pub store: Arc<dyn PeerStore>,
}

/// `GET /.well-known/aiox-federation.json` and `GET /.well-known/aiox-conformance.json`, for the public listener.
pub fn routes(published: Published) -> Router {
    documented().with_state(published).split_for_parts().0
}

/// The document of these routes.
pub fn operations() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<Published> {
    OpenApiRouter::new().routes(routes!(serve)).routes(routes!(conformance))
}

/// Read the trust document of this hub
///
/// What another hub needs to know before it can be a peer: nodes, roots, keys. Signed; refreshed by peers as often as `refresh_hint` says. Needs no credential. Only where
/// federation is on.
#[utoipa::path(
    get,
    path = "/.well-known/aiox-federation.json",
    tag = "federation",
    operation_id = "get_trust_document",
    security(()),
    responses(
        (status = 200, description = "The document. `Cache-Control: max-age=60`.", body = TrustDocument),
        (status = 429, description = "Too many requests (`rate_limited`).", body = ErrorBody),
        (status = 500, description = "A defect of the hub (`internal_error`).", body = ErrorBody),
        (status = 503, description = "The document cannot be signed now; no body. Or the request took too long (`request_timeout`).")
    )
)]
async fn serve(State(published): State<Published>) -> Response {
    match published.publisher.document() {
        Ok(document) => json(document.to_string()),
        Err(error) => {
            tracing::error!(%error, "trust document could not be made");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// Read the conformance result of this hub
///
/// What the conformance suite found of this hub, requirement by requirement, when, and of which build: signed by an envelope key of the trust document. An operator publishes it
/// with `aiox conformance --publish`. Needs no credential. Only where federation is on.
#[utoipa::path(
    get,
    path = "/.well-known/aiox-conformance.json",
    tag = "federation",
    operation_id = "get_conformance_result",
    security(()),
    responses(
        (status = 200, description = "The result. `Cache-Control: max-age=60`.", body = ConformanceResult),
        (status = 404, description = "This hub publishes none; no body."),
        (status = 429, description = "Too many requests (`rate_limited`).", body = ErrorBody),
        (status = 500, description = "A defect of the hub (`internal_error`).", body = ErrorBody),
        (status = 503, description = "The store does not answer; no body. Or the request took too long (`request_timeout`).")
    )
)]
async fn conformance(State(published): State<Published>) -> Response {
    match published.store.conformance(published.publisher.domain()).await {
        Ok(Some(document)) => json(document),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(error = error.chain(), "conformance result could not be read");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn json(document: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=60")], document).into_response()
}

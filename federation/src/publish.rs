//! This hub's own trust document, served to whoever asks. It holds nothing secret.

use std::sync::{Arc, Mutex, PoisonError};

use aiox_core::ports::Clock;
use aiox_crypto::jws::JwsError;
use aiox_model::{Ts, body::ErrorBody, federation::TrustDocument};
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

    /// What the operator of another hub confirms about this one.
    ///
    /// # Errors
    /// When the key library fails.
    pub fn fingerprint(&self) -> Result<String, JwsError> {
        trust::fingerprint(&self.document()?).map_err(|_| JwsError::Document)
    }
}

/// `GET /.well-known/aiox-federation.json`, for the public listener.
pub fn routes(publisher: Arc<Publisher>) -> Router {
    documented().with_state(publisher).split_for_parts().0
}

/// The document of these routes.
pub fn operations() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<Arc<Publisher>> {
    OpenApiRouter::new().routes(routes!(serve))
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
async fn serve(State(publisher): State<Arc<Publisher>>) -> Response {
    match publisher.document() {
        Ok(document) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=60")], document.to_string()).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "trust document could not be made");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

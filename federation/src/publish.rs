//! This hub's own trust document, served to whoever asks. It holds nothing secret.

use std::sync::{Arc, Mutex, PoisonError};

use aiox_core::ports::Clock;
use aiox_crypto::jws::JwsError;
use aiox_model::Ts;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

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
    Router::new().route(trust::PATH, get(serve)).with_state(publisher)
}

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

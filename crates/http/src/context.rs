//! What every request passes: correlation id, client address, security headers, the one error body, metrics.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use aiox_app::accounts::Origin;
use aiox_model::TraceId;
use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, header};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{HttpState, address, error::Failure, names::Names, shape::Shape, shown::Shown};

/// Time for a request that does not stream or wait for an answer.
const QUICK: Duration = Duration::from_secs(15);

const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// Facts of a request, for the handlers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) trace: TraceId,
    pub(crate) address: Option<IpAddr>,
}
impl Facts {
    pub(crate) const fn origin(self) -> Origin {
        Origin { address: self.address, trace: self.trace }
    }
}

pub(crate) async fn context(State(app): State<Arc<HttpState>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let address = address::client(peer, request.headers(), &app.options.trusted_proxies);
    let names = Names::of(Shape::of(request.uri().path()), request.headers(), Uuid::new_v4);
    let trace = names.trace;

    let method = method_label(request.method());
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let facts = Facts { trace, address };
    request.extensions_mut().insert(facts);
    // For the routes that another door brings.
    request.extensions_mut().insert(facts.origin());
    request.extensions_mut().insert(names.clone());
    let large = declared_length(&request).is_some_and(|length| length > app.options.max_body as u64);
    let span = tracing::info_span!("http", %trace, correlation_id = %names.correlation, method, path);
    let mut response = match large {
        true => Failure::App(too_large(app.options.max_body)).into_response(),
        false => next.run(request).instrument(span).await,
    };

    if let Some(shown) = response.extensions_mut().remove::<Shown>() {
        let kept = std::mem::take(response.headers_mut());
        response = shown.response(names.shape, &names.correlation);
        for (name, value) in &kept {
            // CORS, `Allow` and the tenant; what describes the empty body goes.
            if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    for (name, value) in SECURITY {
        // A page that runs its own script has a policy of its own.
        if name != header::CONTENT_SECURITY_POLICY || !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    names.write(response.headers_mut());
    metrics::counter!("aiox_http_requests_total", "method" => method, "path" => path.clone(), "status" => response.status().as_str().to_owned())
        .increment(1);
    metrics::histogram!("aiox_http_request_duration_seconds", "method" => method, "path" => path).record(began.elapsed());
    response
}

/// Ends a request that takes too long.
pub(crate) async fn quick(request: Request, next: Next) -> Response {
    tokio::time::timeout(QUICK, next.run(request)).await.unwrap_or_else(|_| Failure::Slow.into_response())
}

/// Counts an attempt to sign in.
pub(crate) async fn limit(State(app): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Facts>().and_then(|facts| facts.address);
    let key = format!("ratelimit:auth:{}", address::limit_key(address));
    match app.limiter.check(&key, 20, Duration::from_secs(60)).await {
        Ok(()) => next.run(request).await,
        Err(_) => Failure::TooMany.into_response(),
    }
}

pub(crate) fn too_large(limit: usize) -> aiox_core::Error {
    aiox_core::Error::TooLarge { what: "body", limit: limit as u64 }
}

fn declared_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Unknown methods share one label: clients must not be able to make new time series.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

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

use crate::{HttpState, address, error::Failure, shape::Shape, shown::Shown};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What `/v1` calls it; where both are given, this one counts.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
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

/// What joins an answer to log lines: the caller's own id where it gave one.
#[derive(Debug, Clone)]
pub(crate) struct Correlation(pub(crate) String);

pub(crate) async fn context(State(app): State<Arc<HttpState>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let address = address::client(peer, request.headers(), &app.options.trusted_proxies);
    let surface = Shape::of(request.uri().path());
    let headers = request.headers();
    let named = headers.get(&CORRELATION_ID).filter(|_| surface != Shape::Api).or_else(|| headers.get(&REQUEST_ID));
    let given = named.filter(|value| is_request_id(value)).cloned();
    // A UUID of the client is the correlation id too, so that both sides' logs meet.
    let own = given.as_ref().and_then(|value| Uuid::try_parse_ascii(value.as_bytes()).ok());
    let trace = TraceId(own.unwrap_or_else(Uuid::new_v4));
    let id = given.or_else(|| HeaderValue::try_from(trace.uuid().to_string()).ok());

    let method = method_label(request.method());
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(Facts { trace, address });
    let shown_id = id.as_ref().and_then(|id| id.to_str().ok()).map_or_else(|| trace.to_string(), str::to_owned);
    request.extensions_mut().insert(Correlation(shown_id));
    let large = declared_length(&request).is_some_and(|length| length > app.options.max_body as u64);
    let span = tracing::info_span!("http", %trace, method, path);
    let mut response = match large {
        true => Failure::App(too_large(app.options.max_body)).into_response(),
        false => next.run(request).instrument(span).await,
    };

    if let Some(shown) = response.extensions_mut().remove::<Shown>() {
        let kept = std::mem::take(response.headers_mut());
        response = shown.response(trace, surface, id.as_ref().and_then(|id| id.to_str().ok()));
        for (name, value) in &kept {
            // CORS and `Allow`; what describes the empty body goes.
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
    if let Some(id) = id {
        if surface != Shape::Api {
            response.headers_mut().insert(CORRELATION_ID, id.clone());
        }
        response.headers_mut().insert(REQUEST_ID, id);
    }
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

/// Short and printable, so that it can go into a header and a log line as it is.
fn is_request_id(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
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

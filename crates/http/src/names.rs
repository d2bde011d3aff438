//! The names of a request: request id, correlation id and trace, the caller's own where it gives usable ones.

use std::sync::Arc;

use aiox_core::agentos;
use aiox_model::{RequestId, TraceId, v1::event::Trace};
use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use uuid::Uuid;

use crate::{
    error::{Failure, Result},
    shape::Shape,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");

/// The names of one request: the caller's own where it gives usable ones.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) shape: Shape,
    /// Joins answers, log lines and audit records.
    pub(crate) correlation: Arc<str>,
    pub(crate) request: HeaderValue,
    pub(crate) trace: TraceId,
    /// The span that the request is in its trace; absent on `/api/v1`, whose published answers have none.
    pub(crate) span: Option<Trace>,
}

impl Names {
    /// `fresh` makes what is missing.
    pub(crate) fn of(shape: Shape, headers: &HeaderMap, fresh: impl Fn() -> Uuid) -> Self {
        let usable = |name: &HeaderName| headers.get(name).filter(|value| is_id(value)).cloned();
        let (request, correlation) = (usable(&REQUEST_ID), usable(&CORRELATION_ID));
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
        // A UUID of the client is the trace too, so that both sides' logs meet.
        let own = |value: &HeaderValue| text(value).parse::<TraceId>().ok();
        if shape == Shape::Api {
            let trace = request.as_ref().and_then(own).unwrap_or_else(|| TraceId(fresh()));
            let request = request.or_else(|| HeaderValue::try_from(trace.uuid().to_string()).ok());
            let request = request.unwrap_or_else(|| HeaderValue::from_static("unknown"));
            return Self { shape, correlation: trace.to_string().into(), request, trace, span: None };
        }
        let given = headers.get(&TRACEPARENT).and_then(|value| agentos::parse_traceparent(value.to_str().ok()?));
        let named = correlation.as_ref().or(request.as_ref());
        let trace = given.or_else(|| named.and_then(own)).unwrap_or_else(|| TraceId(fresh()));
        let correlation = named.map_or_else(|| TraceId(fresh()).to_string(), text);
        let made = || HeaderValue::try_from(RequestId(fresh()).to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let span = Some(agentos::trace(trace, fresh()));
        Self { shape, correlation: correlation.into(), request: request.unwrap_or_else(made), trace, span }
    }

    /// What every answer carries.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request.clone());
        if self.shape == Shape::Api {
            return;
        }
        if let Ok(correlation) = HeaderValue::try_from(&*self.correlation) {
            headers.insert(CORRELATION_ID, correlation);
        }
        if let Some(value) = self.span.as_ref().and_then(|span| HeaderValue::try_from(&span.traceparent).ok()) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Names {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| aiox_core::Error::internal("a request without its names").into())
    }
}

/// Short and printable, so that it can go into a header and a log line as it is.
fn is_id(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(shape: Shape, given: &[(&'static str, &str)]) -> Names {
        let headers = given.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        Names::of(shape, &headers, || Uuid::from_u128(7))
    }

    #[test]
    fn the_callers_names_are_kept_where_they_are_usable() {
        let both = names(Shape::V1, &[("x-correlation-id", "c-1"), ("x-request-id", "r-1")]);
        assert_eq!((&*both.correlation, both.request.to_str().unwrap()), ("c-1", "r-1"));
        let request = names(Shape::V1, &[("x-request-id", "r-1")]);
        assert_eq!(&*request.correlation, "r-1");
        let none = names(Shape::V1, &[]);
        assert!(none.correlation.starts_with("corr_") && none.request.to_str().unwrap().starts_with("req_"));
        let bad = names(Shape::V1, &[("x-correlation-id", "a b"), ("x-request-id", &"x".repeat(129))]);
        assert!(bad.correlation.starts_with("corr_") && bad.request.to_str().unwrap().starts_with("req_"));
        let id = "0190f5fe-7c00-7000-8000-000000000001";
        assert_eq!(names(Shape::Api, &[("x-request-id", id)]).trace.uuid().to_string(), id);
        let traced = names(Shape::V1, &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]);
        assert!(traced.span.unwrap().traceparent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    }
}

//! From a credential to a caller.

use std::sync::Arc;

use aiox_core::{Caller, Door};
use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header, request::Parts};

use crate::{
    HttpState,
    context::Facts,
    error::{Failure, Result},
};

/// The authenticated caller.
pub(crate) struct Signed(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Signed {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Only routes behind the gate have one.
        parts.extensions.get::<Arc<Caller>>().map(|caller| Self(Caller::clone(caller))).ok_or(Failure::NoCredential)
    }
}

impl<S: Sync> FromRequestParts<S> for Facts {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| aiox_core::Error::internal("a request without its facts").into())
    }
}

/// Lets authenticated requests through.
pub(crate) async fn gate(State(app): State<Arc<HttpState>>, facts: Facts, mut request: Request, next: Next) -> Response {
    match caller(&app, facts, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(Arc::new(caller));
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// The caller of a request.
pub(crate) async fn caller(app: &HttpState, facts: Facts, headers: &HeaderMap) -> Result<Caller> {
    let credential = credential(headers).ok_or(Failure::NoCredential)?;
    Ok(app.accounts.authenticate(credential, facts.origin(), Door::Rest).await?)
}

/// A bearer token (RFC 6750 section 2.1; the scheme in any case), or an API key in its own header.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token);
    }
    let key = headers.get("x-api-key")?.to_str().ok()?.trim();
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_either_header() {
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            credential(&headers).map(str::to_owned)
        };
        for legal in ["Bearer abc", "bearer abc", "BEARER   abc", " Bearer abc "] {
            assert_eq!(read("authorization", legal).as_deref(), Some("abc"), "{legal}");
        }
        for bad in ["", "abc", "Basic abc", "Bearer", "Bearer ", "Bearer a b"] {
            assert_eq!(read("authorization", bad), None, "{bad}");
        }
        assert_eq!(read("x-api-key", "aiox_key_1").as_deref(), Some("aiox_key_1"));
        assert_eq!(read("x-api-key", ""), None);
    }
}

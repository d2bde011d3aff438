//! What the operations of the OpenAPI document have in common: answers that every route of a kind can give.
//!
//! An operation names its own answers and adds these sets: `responses((status = 200, …), Gated, NotFound)`.

use std::collections::BTreeMap;

use aiox_model::{body, v1};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type},
};

type Answers = BTreeMap<String, RefOr<Response>>;

fn answer<T: ToSchema>(text: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).build();
    ResponseBuilder::new().description(text).content("application/json", content)
}

fn wait() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .description(Some("Seconds to wait before the same request can succeed."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
        .build()
}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident<$body:ty> { $($status:literal $(($retry:ident))? => $text:literal,)* })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;
        impl IntoResponses for $name {
            fn responses() -> Answers {
                let mut all = Answers::new();
                $(
                    let made = answer::<$body>($text);
                    $(let $retry = made.header("Retry-After", wait()); let made = $retry;)?
                    all.insert($status.to_string(), made.build().into());
                )*
                all
            }
        }
    )*};
}

answers! {
    /// Every route of `/api/v1`, with or without a credential.
    Any<body::ErrorBody> {
        429 (retry) => "Too many requests (`rate_limited`), or the allowance is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`); try again.",
    }
    /// A route that needs a credential.
    Gated<body::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Known, but not allowed: the scope or the ownership is missing (`forbidden`).",
        429 (retry) => "Too many requests (`rate_limited`), or the allowance is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`); try again.",
    }
    /// A route with a body, a query or an id that can be wrong.
    Invalid<body::ErrorBody> {
        400 => "The request is wrong (`invalid_request`); the text names the member, parameter or id.",
    }
    /// A route with a body.
    Sized<body::ErrorBody> {
        413 => "The body, or a text in it, is larger than its bound (`too_large`).",
    }
    /// A route that names something.
    NotFound<body::ErrorBody> {
        404 => "It does not exist, or the caller may not know that it does (`not_found`).",
    }
    /// A route that changes something.
    Conflicting<body::ErrorBody> {
        409 => "It collides with what is there (`conflict`, `version_mismatch`, `invalid_state_transition`, `idempotency_conflict`).",
    }
    /// Every route of `/v1` that needs a credential.
    V1Gated<v1::error::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Not allowed (`forbidden`), unknown tenant (`tenant_unknown`), or against the tenant's policy (`policy_blocked`).",
        429 (retry) => "Too many requests (`rate_limited`), or a limit is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `timeout`); try again.",
    }
    /// A route of `/v1` with a body, a query or an id that can be wrong.
    V1Invalid<v1::error::ErrorBody> {
        400 => "The request is wrong (`invalid_request`, `invalid_json`, `tenant_mismatch`); `details.issues` names the members.",
    }
    /// A route of `/v1` with a body.
    V1Sized<v1::error::ErrorBody> {
        413 => "The body is larger than its bound (`invalid_request`).",
    }
    /// A route of `/v1` that names something.
    V1NotFound<v1::error::ErrorBody> {
        404 => "It does not exist, or belongs to another tenant (`not_found`).",
    }
    /// A route of `/v1` that changes something.
    V1Conflicting<v1::error::ErrorBody> {
        409 => "It collides with what is there (`conflict`, `invalid_state_transition`).",
    }
    /// Every OpenAI-compatible route.
    OpenAiGated<v1::openai::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Not allowed (`forbidden`), unknown tenant (`tenant_unknown`), or against the content policy or the entitlements (`policy_blocked`).",
        429 (retry) => "Too many requests (`rate_limited`), or a limit is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the header `X-Correlation-Id`.",
        503 (retry) => "No model can answer now (`dependency_unavailable`), or none did in time (`timeout`); try again.",
    }
    /// An OpenAI-compatible route with a body or an id that can be wrong.
    OpenAiInvalid<v1::openai::ErrorBody> {
        400 => "The request is wrong (`invalid_request`, `invalid_json`, `tenant_mismatch`); `param` names the parameter.",
    }
    /// An OpenAI-compatible route with a body.
    OpenAiSized<v1::openai::ErrorBody> {
        413 => "The body is larger than its bound (`invalid_request`).",
    }
    /// An OpenAI-compatible route that names a model, an agent or a response.
    OpenAiNotFound<v1::openai::ErrorBody> {
        404 => "No such model or agent (`model_not_found`), no such response (`not_found`).",
    }
    /// An OpenAI-compatible route that calls a model or an agent.
    OpenAiConflicting<v1::openai::ErrorBody> {
        409 => "The run was canceled, or the idempotency key was used for another request (`conflict`).",
        502 => "The agent's run failed (`dependency_unavailable`).",
        504 => "The agent's run took longer than its time limit (`timeout`).",
    }
}

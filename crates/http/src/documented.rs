//! What the operations of the OpenAPI document have in common: answers that every route of a kind can give.
//!
//! An operation names its own answers and adds these sets: `responses((status = 200, …), Gated, NotFound)`.

use aiox_model::{answers, body, v1};

answers! {
    /// Every route of `/api/v1`, with or without a credential.
    pub(crate) Any: "application/json" <body::ErrorBody> {
        429 (retry) => "Too many requests (`rate_limited`), or the allowance is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`); try again.",
    }
    /// A route that needs a credential.
    pub(crate) Gated: "application/json" <body::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Known, but not allowed: the scope or the ownership is missing (`forbidden`).",
        429 (retry) => "Too many requests (`rate_limited`), or the allowance is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`); try again.",
    }
    /// A route with a body, a query or an id that can be wrong.
    pub(crate) Invalid: "application/json" <body::ErrorBody> {
        400 => "The request is wrong (`invalid_request`); the text names the member, parameter or id.",
    }
    /// A route with a body.
    pub(crate) Sized: "application/json" <body::ErrorBody> {
        413 => "The body, or a text in it, is larger than its bound (`too_large`).",
    }
    /// A route that names something.
    pub(crate) NotFound: "application/json" <body::ErrorBody> {
        404 => "It does not exist, or the caller may not know that it does (`not_found`).",
    }
    /// Every route of `/v1` that needs a credential.
    pub(crate) V1Gated: "application/json" <v1::error::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Not allowed (`forbidden`), unknown tenant (`tenant_unknown`), or against the tenant's policy (`policy_blocked`).",
        429 (retry) => "Too many requests (`rate_limited`), or a limit is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the `correlation_id`.",
        503 (retry) => "A part of the hub is not available (`dependency_unavailable`, `timeout`); try again.",
    }
    /// A route of `/v1` with a body, a query or an id that can be wrong.
    pub(crate) V1Invalid: "application/json" <v1::error::ErrorBody> {
        400 => "The request is wrong (`invalid_request`, `invalid_json`, `tenant_mismatch`); `details.issues` names the members.",
    }
    /// A route of `/v1` with a body.
    pub(crate) V1Sized: "application/json" <v1::error::ErrorBody> {
        413 => "The body is larger than its bound (`invalid_request`).",
    }
    /// A route of `/v1` that names something.
    pub(crate) V1NotFound: "application/json" <v1::error::ErrorBody> {
        404 => "It does not exist, or belongs to another tenant (`not_found`).",
    }
    /// A route of `/v1` that changes something.
    pub(crate) V1Conflicting: "application/json" <v1::error::ErrorBody> {
        409 => "It collides with what is there (`conflict`, `invalid_state_transition`).",
    }
    /// Every OpenAI-compatible route.
    pub(crate) OpenAiGated: "application/json" <v1::openai::ErrorBody> {
        401 => "No credential, or none that this hub knows (`unauthorized`).",
        403 => "Not allowed (`forbidden`), unknown tenant (`tenant_unknown`), or against the content policy or the entitlements (`policy_blocked`).",
        429 (retry) => "Too many requests (`rate_limited`), or a limit is used up (`quota_exceeded`).",
        500 => "A defect of the hub (`internal_error`). Its log has the cause under the header `X-Correlation-Id`.",
        503 (retry) => "No model can answer now (`dependency_unavailable`), or none did in time (`timeout`); try again.",
    }
    /// An OpenAI-compatible route with a body or an id that can be wrong.
    pub(crate) OpenAiInvalid: "application/json" <v1::openai::ErrorBody> {
        400 => "The request is wrong (`invalid_request`, `invalid_json`, `tenant_mismatch`); `param` names the parameter.",
    }
    /// An OpenAI-compatible route with a body.
    pub(crate) OpenAiSized: "application/json" <v1::openai::ErrorBody> {
        413 => "The body is larger than its bound (`invalid_request`).",
    }
    /// An OpenAI-compatible route that names a model, an agent or a response.
    pub(crate) OpenAiNotFound: "application/json" <v1::openai::ErrorBody> {
        404 => "No such model or agent (`model_not_found`), no such response (`not_found`).",
    }
    /// An OpenAI-compatible route that calls a model or an agent.
    pub(crate) OpenAiConflicting: "application/json" <v1::openai::ErrorBody> {
        409 => "The run was canceled, or the idempotency key was used for another request (`conflict`).",
        502 => "The agent's run failed (`dependency_unavailable`).",
        504 => "The agent's run took longer than its time limit (`timeout`).",
    }
}

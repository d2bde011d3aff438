//! Embeddings.

use aiox_app::gateway::{NewCall, call::Input};
use aiox_core::Error;
use aiox_model::v1::openai::{Embedding, EmbeddingList, EmbeddingRequest, Usage};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{ask, routed};
use crate::{
    auth::Signed,
    documented::{OpenAiConflicting, OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized},
    error::Result,
    read::Body,
    state::App,
    v1::gateway::{encoding, vector},
};

/// Create embeddings
///
/// One vector for each text, in order. Personal data in the texts is masked before a model sees it.
#[utoipa::path(
    post,
    path = "/openai/v1/embeddings",
    tag = "openai",
    operation_id = "openai_create_embeddings",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors.", body = EmbeddingList),
        OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized, OpenAiConflicting
    )
)]
pub(super) async fn create(state: State<App>, signed: Signed, body: Body<EmbeddingRequest>) -> Result<Response> {
    embed(state, signed, body).await
}

/// Create embeddings (alias)
///
/// The same as `POST /openai/v1/embeddings`.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "openai",
    operation_id = "create_embeddings",
    security(("bearer" = ["models:invoke"]), ("api_key" = ["models:invoke"])),
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors.", body = EmbeddingList),
        OpenAiGated, OpenAiInvalid, OpenAiNotFound, OpenAiSized, OpenAiConflicting
    )
)]
pub(super) async fn create_alias(state: State<App>, signed: Signed, body: Body<EmbeddingRequest>) -> Result<Response> {
    embed(state, signed, body).await
}

async fn embed(State(app): State<App>, Signed(caller): Signed, Body(request): Body<EmbeddingRequest>) -> Result<Response> {
    ask::only_known(&request.other, &[])?;
    let base64 = encoding(request.encoding_format.as_deref(), "encoding_format")?;
    let call = NewCall {
        request_id: app.gateway.request_id(),
        model_ref: request.model,
        input: Input::Embed { texts: texts(request.input)?, dimensions: request.dimensions },
        max_latency_ms: None,
        max_cost: None,
        min_context_tokens: None,
        stream: false,
        idempotency: None,
    };
    let finished = app.gateway.invoke(&caller, call).await?.finish().await?;
    let tokens = finished.answer.input_tokens;
    let made = (0_u32..).zip(finished.answer.vectors);
    let list = EmbeddingList {
        object: "list".into(),
        data: made.map(|(index, values)| Embedding { object: "embedding".into(), index, embedding: vector(values, base64) }).collect(),
        model: finished.route.model.clone(),
        usage: Usage { prompt_tokens: tokens, completion_tokens: None, total_tokens: tokens },
    };
    let mut response = Json(list).into_response();
    routed(&mut response, &finished.route, &finished.policy, finished.cost);
    Ok(response)
}

fn texts(input: Value) -> Result<Vec<String>> {
    let wrong = || Error::invalid("input", "must be a text or a list of texts; lists of tokens are not served");
    match input {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => {
            let texts = items.into_iter().map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(wrong().into()),
            });
            texts.collect()
        }
        _ => Err(wrong().into()),
    }
}

//! Conversations and their messages.

use aiox_model::{
    ConversationId,
    body::{ErrorBody, Page},
    run::{Conversation, HistoryMessage},
};
use axum::{Json, extract::State};

use super::{App, agent_ref};
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound},
    error::{Failure, Result},
    read::{Asked, Paging, Place},
};

type ConversationPage = Page<Conversation>;
type HistoryMessagePage = Page<HistoryMessage>;

/// List the caller's conversations
///
/// The one with the newest message first.
#[utoipa::path(
    get,
    path = "/api/v1/conversations",
    tag = "conversations",
    operation_id = "list_conversations",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(Paging),
    responses(
        (status = 200, description = "One page of conversations.", body = ConversationPage),
        Gated,
        Invalid
    )
)]
pub(super) async fn list(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<Conversation>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.conversations(&caller, None, cut.limit, cut.offset).await?))
}

/// List the caller's conversations with one agent
///
/// The one with the newest message first.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/conversations",
    tag = "conversations",
    operation_id = "list_agent_conversations",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("agent" = String, Path, description = "Any name of the agent: its UUID, its prefixed id (`agt_…`), its handle, or its address, also of an agent of a peer hub."), Paging),
    responses(
        (status = 200, description = "One page of conversations.", body = ConversationPage),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn with_agent(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Conversation>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.conversations(&caller, Some(&agent_ref(&agent)?), cut.limit, cut.offset).await?))
}

/// List the messages of a conversation
///
/// Oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/conversations/{conversation}/messages",
    tag = "conversations",
    operation_id = "list_messages",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("conversation" = String, Path, description = "The conversation: its UUID or its prefixed id (`cnv_…`)."), Paging),
    responses(
        (status = 200, description = "One page of messages.", body = HistoryMessagePage),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn messages(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(conversation): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<HistoryMessage>>> {
    let id: ConversationId = conversation.parse().map_err(|_| Failure::BadId("invalid conversation ID"))?;
    let cut = paging.cut();
    Ok(cut.page(app.runs.messages(&caller, id.uuid(), cut.limit, cut.offset).await?))
}

/// List the caller's messages with one agent
///
/// Of the standing conversation, wherever the agent lives; oldest first. What a peer hub has is asked of that hub; `total_count` is then what has been
/// seen so far.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/history",
    tag = "conversations",
    operation_id = "list_history",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("agent" = String, Path, description = "Any name of the agent: its UUID, its prefixed id (`agt_…`), its handle, or its address, also of an agent of a peer hub."), Paging),
    responses(
        (status = 200, description = "One page of messages.", body = HistoryMessagePage),
        Gated,
        Invalid,
        NotFound,
        (status = 503, description = "A part of the hub is not available (`dependency_unavailable`, `shutting_down`, `request_timeout`), or the peer hub is not (`peer_unreachable`, `peer_inactive`, `federation_off`).", body = ErrorBody, headers(("Retry-After" = u64, description = "Seconds to wait before the same request can succeed.")))
    )
)]
pub(super) async fn history(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<HistoryMessage>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.history(&caller, &agent_ref(&agent)?, cut.limit, cut.offset).await?))
}

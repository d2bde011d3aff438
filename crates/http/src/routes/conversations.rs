//! Conversations and their messages.

use aiox_model::{
    ConversationId,
    body::Page,
    run::{Conversation, HistoryMessage},
};
use axum::{Json, extract::State};

use super::{App, agent_ref};
use crate::{
    auth::Signed,
    error::{Failure, Result},
    read::{Asked, Paging, Place},
};

pub(super) async fn list(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Page<Conversation>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.conversations(&caller, None, cut.limit, cut.offset).await?))
}

pub(super) async fn with_agent(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Conversation>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.conversations(&caller, Some(&agent_ref(&agent)?), cut.limit, cut.offset).await?))
}

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

/// The caller's messages with one agent, wherever it lives.
pub(super) async fn history(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<HistoryMessage>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.history(&caller, &agent_ref(&agent)?, cut.limit, cut.offset).await?))
}

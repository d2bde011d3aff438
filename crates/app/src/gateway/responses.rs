//! Stored responses: what a later request continues.

use aiox_core::{Caller, Error, Result, Scope};
use aiox_store::responses::{self as rows, ResponseRow};
use serde_json::Value;
use uuid::Uuid;

use super::{MAX_MESSAGES, ModelGateway, call::Message};
use crate::audit;

/// How long a response is kept, if its principal does not make more than the store keeps for one.
pub const KEPT_SECONDS: i64 = 30 * 86_400;

const MISSING: Error = Error::NotFound("response");

/// A response to keep.
#[derive(Clone)]
pub struct NewResponse {
    /// Its id, `resp_…`.
    pub id: String,
    /// The response that it continues.
    pub previous: Option<String>,
    /// The agent's conversation that it belongs to; absent for a model.
    pub conversation: Option<Uuid>,
    /// What was asked and answered in this turn; empty for an agent.
    pub turn: Vec<Message>,
    /// The response as the client gets it.
    pub body: Value,
}

/// What came before a request.
#[derive(Clone, Default)]
pub struct Before {
    /// The agent's conversation; absent for a model.
    pub conversation: Option<Uuid>,
    /// What was said, oldest first; empty for an agent, which remembers by itself.
    pub messages: Vec<Message>,
}

impl ModelGateway {
    /// A new id for a response.
    #[must_use]
    pub fn response_id(&self) -> String {
        format!("resp_{}", self.inner.ids.uuid().simple())
    }

    /// Keeps a response.
    ///
    /// # Errors
    /// Database errors.
    pub async fn keep_response(&self, caller: &Caller, new: NewResponse) -> Result<()> {
        let row = ResponseRow {
            id: new.id,
            tenant: caller.tenant.uuid(),
            principal: caller.principal.key(),
            previous: new.previous,
            conversation: new.conversation,
            turn: serde_json::to_string(&new.turn).map_err(Error::internal)?,
            body: new.body.to_string(),
            created_at: self.inner.clock.now(),
        };
        let mut tx = self.inner.store.begin().await?;
        rows::insert(&mut tx, &row).await?;
        tx.commit().await
    }

    /// What was said up to a response and in it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it, or one that it continues, is not kept; [`Error::Invalid`] when the conversation is too long.
    pub async fn before(&self, caller: &Caller, id: &str) -> Result<Before> {
        caller.require(Scope::ModelsInvoke)?;
        let mut db = self.inner.store.read().await?;
        let mut turns: Vec<Vec<Message>> = Vec::new();
        let (mut conversation, mut count) = (None, 0);
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let row = rows::get(&mut db, caller.tenant.uuid(), &caller.principal.key(), &id).await?.ok_or(MISSING)?;
            if row.conversation.is_some() {
                conversation = row.conversation;
                break;
            }
            let turn: Vec<Message> = serde_json::from_str(&row.turn).map_err(|_| Error::Corrupt {
                table: "openai_responses",
                column: "turn",
                id: row.id.clone(),
            })?;
            count += turn.len();
            if count > MAX_MESSAGES {
                return Err(Error::invalid("previous_response_id", format!("the conversation has more than {MAX_MESSAGES} messages")));
            }
            turns.push(turn);
            next = row.previous;
        }
        turns.reverse();
        Ok(Before { conversation, messages: turns.into_iter().flatten().collect() })
    }

    /// A kept response.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown ones and for those of others alike.
    pub async fn response(&self, caller: &Caller, id: &str) -> Result<Value> {
        caller.require(Scope::ModelsInvoke)?;
        let mut db = self.inner.store.read().await?;
        let row = rows::get(&mut db, caller.tenant.uuid(), &caller.principal.key(), id).await?.ok_or(MISSING)?;
        serde_json::from_str(&row.body).map_err(|_| Error::Corrupt { table: "openai_responses", column: "body", id: row.id })
    }

    /// Deletes a kept response. What continues it can be read, and no longer be continued.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown ones and for those of others alike.
    pub async fn forget_response(&self, caller: &Caller, id: &str) -> Result<()> {
        caller.require(Scope::ModelsInvoke)?;
        let mut tx = self.inner.store.begin().await?;
        if !rows::delete(&mut tx, caller.tenant.uuid(), &caller.principal.key(), id).await? {
            return Err(MISSING);
        }
        let resource = Some(("response", id.to_owned()));
        let record = audit::record(&*self.inner.clock, &*self.inner.ids, caller, "responses.delete", resource);
        aiox_store::audit::insert(&mut tx, &record).await?;
        tx.commit().await
    }
}

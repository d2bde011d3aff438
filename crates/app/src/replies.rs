//! Answers that wait for the XMPP door, durable until the XMPP server has confirmed them.

use std::sync::Arc;

use aiox_core::Result;
use aiox_model::run::RunError;
use aiox_store::{Journal, Store, outbox, runs::RunRow};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

/// Where the answer of a run goes on XMPP. Kept with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// Bare address of whoever asked.
    pub to: String,
    /// Their full address, for errors.
    pub to_full: String,
    /// The agent's address as it was written to.
    pub from: String,
    /// Id of the stanza that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stanza_id: Option<String>,
    /// Its thread (RFC 6121 section 5.2.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Id of the first message of a streamed answer: the final one corrects it (XEP-0308).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streamed_id: Option<String>,
}

/// A reply to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Row of the outbox; confirm with it.
    #[serde(skip)]
    pub id: Uuid,
    /// The run that it answers: the stanza id is made of it, so that a repeated delivery is the same stanza.
    pub run: Uuid,
    /// Where it goes.
    pub to: ReplyTo,
    /// The answer, or the text that says why there is none.
    pub text: String,
    /// Stable code of the error, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The XMPP outbox.
#[derive(Clone)]
pub struct Replies {
    store: Store,
    journal: Journal,
    news: Arc<Notify>,
}

impl Replies {
    /// The outbox of a store.
    #[must_use]
    pub fn new(store: Store, journal: Journal) -> Self {
        Self { store, journal, news: Arc::default() }
    }

    /// Replies after `after` (nil for the first), oldest first; at most `limit`. They stay until they are confirmed.
    ///
    /// # Errors
    /// Database errors.
    pub async fn due(&self, after: Uuid, limit: u32) -> Result<Vec<Reply>> {
        let rows = outbox::due(&mut self.store.read().await?, after, limit).await?;
        Ok(rows
            .into_iter()
            .filter_map(|(id, payload)| match serde_json::from_str::<Reply>(&payload) {
                Ok(reply) => Some(Reply { id, ..reply }),
                Err(error) => {
                    tracing::error!(reply = %id, %error, "a stored reply cannot be read");
                    None
                }
            })
            .collect())
    }

    /// Forgets replies that the XMPP server has taken over.
    ///
    /// # Errors
    /// Database errors.
    pub async fn confirm(&self, ids: Vec<Uuid>) -> Result<()> {
        if ids.is_empty() { Ok(()) } else { self.journal.confirm(ids).await }
    }

    /// Waits until a reply has been added since the last call.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub(crate) fn added(&self) {
        self.news.notify_one();
    }
}

/// Outbox row (id, JSON) of the XMPP reply of a run that ends now; `None` if nobody waits for one there.
pub(crate) fn reply_for(row: &RunRow, id: Uuid, result: Result<&str, &RunError>) -> Option<(Uuid, String)> {
    let to: ReplyTo = serde_json::from_str(row.reply.as_deref()?).ok()?;
    let (text, error) = match result {
        Ok(text) => (text.to_owned(), None),
        Err(error) => (error_text(error), Some(error.code.clone())),
    };
    let reply = Reply { id, run: row.id, to, text, error };
    serde_json::to_string(&reply).ok().map(|payload| (id, payload))
}

/// The texts of the published contract for a chat window.
fn error_text(error: &RunError) -> String {
    match error.code.as_str() {
        "timeout" => "Sorry, the request timed out. Please try again.".into(),
        "canceled" => "The request was canceled.".into(),
        "internal_error" => "Internal error processing your message".into(),
        _ => format!("Error processing your message: {}", error.message),
    }
}

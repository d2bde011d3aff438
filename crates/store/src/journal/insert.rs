//! Rows that many operations of one batch add to the same table, written with one statement per table.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{
    Tx,
    audit::{self, AuditRow},
    many::{Many, exec_many},
    rows::signed,
};

pub(super) struct EventRow {
    pub run: Uuid,
    pub seq: u64,
    pub id: Uuid,
    pub kind: String,
    pub at: Ts,
    pub payload: String,
}

pub(super) struct MessageRow {
    pub id: Uuid,
    pub conversation: Uuid,
    pub run: Uuid,
    pub role: &'static str,
    pub content: String,
    pub at: Ts,
}

pub(super) struct ReplyRow {
    pub id: Uuid,
    pub payload: String,
    pub at: Ts,
}

#[derive(Default)]
pub(super) struct Rows {
    pub events: Vec<EventRow>,
    pub messages: Vec<MessageRow>,
    pub replies: Vec<ReplyRow>,
    pub audit: Vec<AuditRow>,
}

static EVENTS: Many = Many::new(
    "INSERT INTO run_events (run_id, seq, id, kind, at, payload) \
     SELECT column1, column2, column3, column4, column5, column6 FROM {rows} WHERE column1 IS NOT NULL",
    6,
);
static MESSAGES: Many = Many::new(
    "INSERT INTO messages (id, conversation_id, run_id, role, content, created_at) \
     SELECT column1, column2, column3, column4, column5, column6 FROM {rows} WHERE column1 IS NOT NULL",
    6,
);
static REPLIES: Many = Many::new(
    "INSERT INTO xmpp_outbox (id, payload, created_at) SELECT column1, column2, column3 FROM {rows} WHERE column1 IS NOT NULL \
     ON CONFLICT DO NOTHING",
    3,
);

impl Rows {
    /// Writes everything that the batch has gathered.
    pub(super) async fn write(self, tx: &mut Tx) -> Result<()> {
        exec_many!(tx, EVENTS, self.events, |row| [
            row.run,
            signed(row.seq),
            row.id,
            row.kind.as_str(),
            row.at.micros(),
            row.payload.as_str()
        ]);
        exec_many!(tx, MESSAGES, self.messages, |row| [row.id, row.conversation, row.run, row.role, row.content.as_str(), row.at.micros()]);
        exec_many!(tx, REPLIES, self.replies, |row| [row.id, row.payload.as_str(), row.at.micros()]);
        // Last, because the chains that it adds to are held until the commit.
        audit::insert_all(tx, &self.audit).await
    }
}

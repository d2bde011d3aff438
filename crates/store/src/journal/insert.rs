//! Rows that many operations of one batch add to the same table, written with one statement per table.
//!
//! Statements are cut into powers of two, so that a handful of texts serves every batch size and stays prepared.

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

use crate::{AsDb, Db, Tx, audit::AuditRow, error::map, rows::signed};

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

macro_rules! insert_many {
    ($tx:expr, $rows:expr, $sql:literal, $suffix:literal, |$b:ident, $row:ident| $bind:expr) => {{
        let mut rest = &$rows[..];
        while !rest.is_empty() {
            let take = (1usize << rest.len().ilog2()).min(64);
            let (now, later) = rest.split_at(take);
            rest = later;
            crate::db::counted();
            match $tx.as_db() {
                Db::Pg(c) => {
                    let mut text = sqlx::QueryBuilder::<sqlx::Postgres>::new($sql);
                    text.push_values(now, |mut $b, $row| {
                        $bind;
                    });
                    text.push($suffix);
                    text.build().execute(&mut *c).await.map(drop)
                }
                Db::Lite(c) => {
                    let mut text = sqlx::QueryBuilder::<sqlx::Sqlite>::new($sql);
                    text.push_values(now, |mut $b, $row| {
                        $bind;
                    });
                    text.push($suffix);
                    text.build().execute(&mut *c).await.map(drop)
                }
            }
            .map_err(map)?;
        }
    }};
}

impl Rows {
    /// Writes everything that the batch has gathered.
    pub(super) async fn write(self, tx: &mut Tx) -> Result<()> {
        insert_many!(tx, self.events, "INSERT INTO run_events (run_id, seq, id, kind, at, payload) ", "", |b, row| b
            .push_bind(row.run)
            .push_bind(signed(row.seq))
            .push_bind(row.id)
            .push_bind(row.kind.as_str())
            .push_bind(row.at.micros())
            .push_bind(row.payload.as_str()));
        insert_many!(tx, self.messages, "INSERT INTO messages (id, conversation_id, run_id, role, content, created_at) ", "", |b, row| b
            .push_bind(row.id)
            .push_bind(row.conversation)
            .push_bind(row.run)
            .push_bind(row.role)
            .push_bind(row.content.as_str())
            .push_bind(row.at.micros()));
        insert_many!(tx, self.replies, "INSERT INTO xmpp_outbox (id, payload, created_at) ", " ON CONFLICT DO NOTHING", |b, row| b
            .push_bind(row.id)
            .push_bind(row.payload.as_str())
            .push_bind(row.at.micros()));
        insert_many!(
            tx,
            self.audit,
            "INSERT INTO audit (id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at) ",
            "",
            |b, row| b
                .push_bind(row.id)
                .push_bind(row.tenant)
                .push_bind(row.owner)
                .push_bind(row.actor.as_str())
                .push_bind(row.action.as_str())
                .push_bind(row.outcome.as_str())
                .push_bind(row.severity.as_str())
                .push_bind(row.resource_type.as_deref())
                .push_bind(row.resource_id.as_deref())
                .push_bind(row.detail.as_deref())
                .push_bind(row.address.as_deref())
                .push_bind(row.trace.as_str())
                .push_bind(row.at.micros())
        );
        Ok(())
    }
}

//! The audit log: one record per change, denial and sign-in.

mod chain;
mod sinks;

use aiox_core::Result;
use aiox_model::Ts;
use uuid::Uuid;

pub use self::{
    chain::{Fault, Link, Verified, chained, verify},
    sinks::{behind, following, reached},
};
use crate::{
    AsDb, Tx,
    db::{row, rows},
    many::{Many, exec_many},
    rows::{signed, unsigned},
};

/// One record. Ids and times come from the use case.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// The record's id.
    pub id: Uuid,
    /// The tenant concerned.
    pub tenant: Uuid,
    /// The account that sees the record, if any.
    pub owner: Option<Uuid>,
    /// Key of the verified principal.
    pub actor: String,
    /// What was done, for instance `agent.created`.
    pub action: String,
    /// `allowed` or `denied`.
    pub outcome: String,
    /// `info`, `warn` or `error`.
    pub severity: String,
    /// Kind of the object.
    pub resource_type: Option<String>,
    /// Its id.
    pub resource_id: Option<String>,
    /// For people; no secret, no prompt.
    pub detail: Option<String>,
    /// Network address of the client.
    pub address: Option<String>,
    /// Correlation id.
    pub trace: String,
    /// When it happened.
    pub at: Ts,
}

/// Adds a record to a transaction, and to the chain of its tenant. Do it last: others who record something of the tenant wait from here
/// until the commit.
///
/// # Errors
/// [`Error::Unavailable`](aiox_core::Error::Unavailable) while changes are held ([`Store::hold_changes`](crate::Store::hold_changes));
/// database errors.
pub async fn insert(tx: &mut Tx, record: &AuditRow) -> Result<()> {
    tx.hold().check()?;
    note(tx, record).await
}

/// As [`insert`], for what is recorded beside a change or instead of one, a denial for instance: it is kept while changes are held.
///
/// # Errors
/// Database errors.
pub async fn note(tx: &mut Tx, record: &AuditRow) -> Result<()> {
    insert_all(tx, std::slice::from_ref(record)).await
}

static AUDIT: Many = Many::new(
    "INSERT INTO audit (id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at, \
     seq, prev_hash, hash) \
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12, column13, \
     column14, column15, column16 FROM {rows} WHERE column1 IS NOT NULL",
    16,
);

/// Adds records in their order, with one statement for each table.
pub(crate) async fn insert_all(tx: &mut Tx, records: &[AuditRow]) -> Result<()> {
    let links = chain::extend(tx, records).await?;
    let rows: Vec<(&AuditRow, Link)> = records.iter().zip(links).collect();
    exec_many!(tx, AUDIT, rows, |row| [
        row.0.id,
        row.0.tenant,
        row.0.owner,
        row.0.actor.as_str(),
        row.0.action.as_str(),
        row.0.outcome.as_str(),
        row.0.severity.as_str(),
        row.0.resource_type.as_deref(),
        row.0.resource_id.as_deref(),
        row.0.detail.as_deref(),
        row.0.address.as_deref(),
        row.0.trace.as_str(),
        row.0.at.micros(),
        signed(row.1.seq),
        row.1.prev.as_slice(),
        row.1.hash.as_slice(),
    ]);
    Ok(())
}

/// Which records; absent members do not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this account.
    pub owner: Option<Uuid>,
    /// About this object.
    pub resource: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this severity.
    pub severity: Option<String>,
    /// Not before.
    pub from: Option<Ts>,
    /// Before.
    pub to: Option<Ts>,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    tenant_id: Uuid,
    owner_id: Option<Uuid>,
    actor: String,
    action: String,
    outcome: String,
    severity: String,
    resource_type: Option<String>,
    resource_id: Option<String>,
    detail: Option<String>,
    address: Option<String>,
    trace: String,
    at: i64,
    seq: Option<i64>,
    prev_hash: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
}
impl Stored {
    fn parts(self) -> (AuditRow, Option<Link>) {
        let row = self;
        let link = match (row.seq, row.prev_hash, row.hash) {
            (Some(seq), Some(prev), Some(hash)) => match (prev.try_into(), hash.try_into()) {
                (Ok(prev), Ok(hash)) => Some(Link { seq: unsigned(seq), prev, hash }),
                _ => None,
            },
            _ => None,
        };
        let row = AuditRow {
            id: row.id,
            tenant: row.tenant_id,
            owner: row.owner_id,
            actor: row.actor,
            action: row.action,
            outcome: row.outcome,
            severity: row.severity,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            detail: row.detail,
            address: row.address,
            trace: row.trace,
            at: Ts::from_micros(row.at),
        };
        (row, link)
    }
}

/// One page, newest first, with the count over all pages.
///
/// # Errors
/// Database errors.
pub async fn list(db: &mut impl AsDb, filter: &Filter, limit: u32, offset: u64) -> Result<(Vec<AuditRow>, u64)> {
    let from = filter.from.map_or(i64::MIN, Ts::micros);
    let to = filter.to.map_or(i64::MAX, Ts::micros);
    let found = rows!(
        db,
        Stored,
        "SELECT id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at, \
         seq, prev_hash, hash FROM audit \
         WHERE (CAST($1 AS TEXT) IS NULL OR owner_id = $2) AND (CAST($3 AS TEXT) IS NULL OR resource_id = $3) \
         AND (CAST($4 AS TEXT) IS NULL OR action = $4) AND (CAST($5 AS TEXT) IS NULL OR severity = $5) AND at >= $6 AND at < $7 \
         ORDER BY at DESC, id DESC LIMIT $8 OFFSET $9",
        filter.owner.map(|_| "1"),
        filter.owner,
        filter.resource.as_deref(),
        filter.action.as_deref(),
        filter.severity.as_deref(),
        from,
        to,
        i64::from(limit),
        crate::rows::signed(offset),
    )?;
    let count = row!(
        db,
        (i64,),
        "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE (CAST($1 AS TEXT) IS NULL OR owner_id = $2) \
         AND (CAST($3 AS TEXT) IS NULL OR resource_id = $3) AND (CAST($4 AS TEXT) IS NULL OR action = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR severity = $5) AND at >= $6 AND at < $7",
        filter.owner.map(|_| "1"),
        filter.owner,
        filter.resource.as_deref(),
        filter.action.as_deref(),
        filter.severity.as_deref(),
        from,
        to,
    )?;
    Ok((found.into_iter().map(|row| row.parts().0).collect(), unsigned(count.map_or(0, |count| count.0))))
}

/// Which records an administrator looks for; absent members do not narrow.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Of this tenant.
    pub tenant: Option<Uuid>,
    /// Of this actor.
    pub actor: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Not before.
    pub from: Option<Ts>,
    /// Before.
    pub to: Option<Ts>,
    /// Made before this record.
    pub before: Option<Uuid>,
}

macro_rules! found {
    ($db:expr, $tenant:literal, $first:expr, $search:expr, $limit:expr) => {
        rows!(
            $db,
            Stored,
            concat!(
                "SELECT id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at, \
                 seq, prev_hash, hash FROM audit WHERE ",
                $tenant,
                " AND id < $2 AND (CAST($3 AS TEXT) IS NULL OR actor = $3) AND (CAST($4 AS TEXT) IS NULL OR action = $4) \
                 AND (CAST($5 AS TEXT) IS NULL OR outcome = $5) AND at >= $6 AND at < $7 ORDER BY id DESC LIMIT $8"
            ),
            $first,
            $search.before.unwrap_or(Uuid::max()),
            $search.actor.as_deref(),
            $search.action.as_deref(),
            $search.outcome.as_deref(),
            $search.from.map_or(i64::MIN, Ts::micros),
            $search.to.map_or(i64::MAX, Ts::micros),
            i64::from($limit),
        )
    };
}

/// Records in the order in which they were made, newest first, of one tenant or of all. Ids rise with time, so they are the order,
/// and the place of a page. Each comes with its place in the chain of its tenant, if it is in one.
///
/// # Errors
/// Database errors.
pub async fn search(db: &mut impl AsDb, search: &Search, limit: u32) -> Result<Vec<(AuditRow, Option<Link>)>> {
    let found = match search.tenant {
        Some(tenant) => found!(db, "tenant_id = $1", tenant, search, limit)?,
        // Two texts, because no database uses an index for a condition that may be absent.
        None => found!(db, "CAST($1 AS TEXT) IS NULL", None::<&str>, search, limit)?,
    };
    Ok(found.into_iter().map(Stored::parts).collect())
}

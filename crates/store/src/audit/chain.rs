//! The chain of audit records. Each record of a tenant has a number, the hash of the record before it, and a hash over both and itself, so
//! that a record that was changed or taken out is found. There is no key in it: whoever may write to the database can make a new chain,
//! and is found by a head that somebody noted elsewhere.

use std::collections::BTreeMap;

use aiox_core::{Error, Result};
use aiox_crypto::sha256;
use aiox_model::TenantId;
use serde::Serialize;
use uuid::Uuid;

use super::{AuditRow, Stored};
use crate::{
    AsDb, Tx,
    db::{row, rows},
    error::corrupt,
    many::{Many, exec_many, rows_many},
    rows::{signed, unsigned},
};

/// What the first record of a chain has before it.
const NOTHING: [u8; 32] = [0; 32];
/// Records that are read at once.
const PAGE: i64 = 1000;

/// Place of a record in the chain of its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1.
    pub seq: u64,
    /// Hash of the record before; zeros for the first.
    pub prev: [u8; 32],
    /// SHA-256 of the record's canonical JSON (RFC 8785) with `seq` and `prev`.
    pub hash: [u8; 32],
}

/// A record as it is hashed. The members stand in the order of their names, which with `serde_json` is the canonical form.
#[derive(Serialize)]
struct Hashed<'a> {
    action: &'a str,
    actor: &'a str,
    address: Option<&'a str>,
    at: i64,
    detail: Option<&'a str>,
    id: Uuid,
    outcome: &'a str,
    owner_id: Option<Uuid>,
    prev_hash: String,
    resource_id: Option<&'a str>,
    resource_type: Option<&'a str>,
    seq: u64,
    severity: &'a str,
    tenant_id: Uuid,
    trace: &'a str,
}

fn canonical(record: &AuditRow, seq: u64, prev: &[u8]) -> Result<Vec<u8>> {
    let hashed = Hashed {
        action: &record.action,
        actor: &record.actor,
        address: record.address.as_deref(),
        at: record.at.micros(),
        detail: record.detail.as_deref(),
        id: record.id,
        outcome: &record.outcome,
        owner_id: record.owner,
        prev_hash: hex::encode(prev),
        resource_id: record.resource_id.as_deref(),
        resource_type: record.resource_type.as_deref(),
        seq,
        severity: &record.severity,
        tenant_id: record.tenant,
        trace: &record.trace,
    };
    serde_json::to_vec(&hashed).map_err(Error::internal)
}

/// Takes the next numbers of each chain and gives what stood last in it. The rows stay locked until the commit.
static TAKE: Many = Many::new(
    "INSERT INTO audit_heads (tenant_id, seq, hash) SELECT column1, column2, column3 FROM {rows} WHERE column1 IS NOT NULL \
     ON CONFLICT (tenant_id) DO UPDATE SET seq = audit_heads.seq + excluded.seq RETURNING tenant_id, seq, hash",
    3,
);
static PUT: Many =
    Many::new("UPDATE audit_heads SET hash = v.column2 FROM {rows} WHERE audit_heads.tenant_id = v.column1 AND v.column1 IS NOT NULL", 2);

/// Adds records to the chains of their tenants, in their order; the place of each.
pub(super) async fn extend(tx: &mut Tx, records: &[AuditRow]) -> Result<Vec<Link>> {
    // In the order of the tenants, so that no two writers wait for each other.
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for record in records {
        *counts.entry(record.tenant).or_default() += 1;
    }
    let counts: Vec<(Uuid, i64, &[u8])> = counts.into_iter().map(|(tenant, count)| (tenant, count, &NOTHING[..])).collect();
    let heads = rows_many!(tx, (Uuid, i64, Vec<u8>), TAKE, counts, |chain| [chain.0, chain.1, chain.2]);
    let damaged = |tenant: Uuid| corrupt("audit_heads", "hash", tenant);
    let mut last: BTreeMap<Uuid, (u64, [u8; 32])> = BTreeMap::new();
    for (tenant, seq, hash) in heads {
        last.insert(tenant, (unsigned(seq), hash.try_into().map_err(|_| damaged(tenant))?));
    }
    for (tenant, count, _) in &counts {
        if let Some((seq, _)) = last.get_mut(tenant) {
            *seq = seq.saturating_sub(unsigned(*count));
        }
    }
    let mut links = Vec::with_capacity(records.len());
    for record in records {
        let head = last.get_mut(&record.tenant).ok_or_else(|| Error::internal("a chain of audit records has no head"))?;
        let seq = head.0 + 1;
        let hash = sha256(&canonical(record, seq, &head.1)?);
        links.push(Link { seq, prev: head.1, hash });
        *head = (seq, hash);
    }
    let last: Vec<(Uuid, [u8; 32])> = last.into_iter().map(|(tenant, (_, hash))| (tenant, hash)).collect();
    exec_many!(tx, PUT, last, |head| [head.0, head.1.as_slice()]);
    Ok(links)
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no record of this number.
    Missing(u64),
    /// The record of this number is not the one that was written.
    Changed(u64),
    /// The record of this number was written after another one than the one that stands before it.
    Unlinked(u64),
    /// The chain ends otherwise than its head says: its last records were changed or taken away, or the head was.
    Head,
}

/// What a look at a chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Records that were checked and are as they were written.
    pub records: u64,
    /// Records from before there were chains. Nothing is known of them.
    pub unchained: u64,
    /// Hash of the last record that was checked, in lower-case hex; noted elsewhere, it shows later that the chain up to here is the same.
    pub head: String,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// Tenants that have audit records.
///
/// # Errors
/// Database errors.
pub async fn chained(db: &mut impl AsDb) -> Result<Vec<TenantId>> {
    let found = rows!(db, (Uuid,), "SELECT tenant_id FROM audit UNION SELECT tenant_id FROM audit_heads ORDER BY 1")?;
    Ok(found.into_iter().map(|row| row.0.into()).collect())
}

/// Checks the chain of a tenant, record by record, up to where it ends now. Records that are added meanwhile are not looked at.
///
/// # Errors
/// Database errors.
pub async fn verify(db: &mut impl AsDb, tenant: TenantId) -> Result<Verified> {
    let tenant = tenant.uuid();
    let unchained = row!(db, (i64,), "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE tenant_id = $1 AND seq IS NULL", tenant)?;
    let head = row!(db, (i64, Vec<u8>), "SELECT seq, hash FROM audit_heads WHERE tenant_id = $1", tenant)?;
    let unchained = unchained.map_or(0, |count| unsigned(count.0));
    let (mut records, mut before) = (0, NOTHING);
    let found = |records, before: [u8; 32], fault| Ok(Verified { records, unchained, head: hex::encode(before), fault });
    let last = head.as_ref().map_or(i64::MAX, |head| head.0);
    loop {
        let page = rows!(
            db,
            Stored,
            "SELECT id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at, \
             seq, prev_hash, hash FROM audit WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4",
            tenant,
            signed(records),
            last,
            PAGE,
        )?;
        if page.is_empty() {
            let fault = match head {
                Some((seq, _)) if unsigned(seq) > records => Some(Fault::Missing(records + 1)),
                Some((_, hash)) if hash != before => Some(Fault::Head),
                None if records > 0 => Some(Fault::Head),
                _ => None,
            };
            return found(records, before, fault);
        }
        for stored in page {
            let wanted = records + 1;
            let (record, link) = stored.parts();
            let fault = match link {
                Some(link) if link.seq != wanted => Fault::Missing(wanted),
                Some(link) if link.prev != before => Fault::Unlinked(wanted),
                Some(link) if link.hash == sha256(&canonical(&record, link.seq, &link.prev)?) => {
                    (records, before) = (wanted, link.hash);
                    continue;
                }
                _ => Fault::Changed(wanted),
            };
            return found(records, before, Some(fault));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use aiox_model::Ts;

    use super::*;

    #[test]
    fn what_is_hashed_is_canonical_json() {
        let record = AuditRow {
            id: Uuid::from_u128(1),
            tenant: Uuid::from_u128(2),
            owner: None,
            actor: "user:\u{e9}\u{2028}".into(),
            action: "runs.create".into(),
            outcome: "allowed".into(),
            severity: "info".into(),
            resource_type: Some("run".into()),
            resource_id: Some("\"\\\u{1}\n\u{7f}".into()),
            detail: None,
            address: None,
            trace: "corr_1".into(),
            at: Ts::from_micros(1_700_000_000_000_000),
        };
        let written = canonical(&record, 7, &NOTHING).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written, aiox_crypto::jws::canonical(&value).unwrap());
        assert!(String::from_utf8(written).unwrap().contains("\"seq\":7"));
    }
}

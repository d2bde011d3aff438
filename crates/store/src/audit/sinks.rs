//! How far the audit sinks have come: places besides the database that get every record of every chain.

use aiox_core::Result;
use uuid::Uuid;

use super::{AuditRow, Link, Stored};
use crate::{
    AsDb, Tx,
    db::{exec, rows},
    rows::{signed, unsigned},
};

/// Tenants with records that a sink does not have yet, and the last record of each that it has; 0 = none.
///
/// # Errors
/// Database errors.
pub async fn behind(db: &mut impl AsDb, sink: &str) -> Result<Vec<(Uuid, u64)>> {
    let found = rows!(
        db,
        (Uuid, i64),
        "SELECT h.tenant_id, CAST(COALESCE(s.seq, 0) AS BIGINT) FROM audit_heads h \
         LEFT JOIN audit_sinks s ON s.tenant_id = h.tenant_id AND s.sink = $1 \
         WHERE h.seq > COALESCE(s.seq, 0) ORDER BY h.tenant_id",
        sink,
    )?;
    Ok(found.into_iter().map(|(tenant, seq)| (tenant, unsigned(seq))).collect())
}

/// The records of a tenant's chain after a number, in their order.
///
/// # Errors
/// Database errors.
pub async fn following(db: &mut impl AsDb, tenant: Uuid, after: u64, limit: u32) -> Result<Vec<(AuditRow, Link)>> {
    let found = rows!(
        db,
        Stored,
        "SELECT id, tenant_id, owner_id, actor, action, outcome, severity, resource_type, resource_id, detail, address, trace, at, \
         seq, prev_hash, hash FROM audit WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        tenant,
        signed(after),
        i64::from(limit),
    )?;
    Ok(found
        .into_iter()
        .filter_map(|row| {
            let (row, link) = row.parts();
            link.map(|link| (row, link))
        })
        .collect())
}

/// Notes the last record of a tenant that a sink has for certain.
///
/// # Errors
/// Database errors.
pub async fn reached(tx: &mut Tx, sink: &str, tenant: Uuid, seq: u64) -> Result<()> {
    exec!(
        tx,
        "INSERT INTO audit_sinks (sink, tenant_id, seq) VALUES ($1, $2, $3) \
         ON CONFLICT (sink, tenant_id) DO UPDATE SET seq = excluded.seq",
        sink,
        tenant,
        signed(seq),
    )?;
    Ok(())
}

//! `aiox audit`: is the audit log as it was written? At the machine of a hub, on its database, whether or not the hub runs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use aiox_app::audit_record;
use aiox_config::Settings;
use aiox_core::tenant;
use aiox_model::{TenantId, v1::tenants::AuditRecord};
use aiox_store::{
    Reader, Store,
    audit::{self, Fault, Verified},
    tenants,
};
use anyhow::{Context as _, Result, bail};

use crate::{cli::Audit, hub, say, settings};

/// `aiox audit`.
///
/// # Errors
/// When the database cannot be read, or a chain is not whole.
pub async fn audit(command: Audit) -> Result<()> {
    match command {
        Audit::Verify { configured, file } => verify(&settings::of(&configured)?, file.as_deref()).await,
    }
}

async fn verify(settings: &Settings, file: Option<&Path>) -> Result<()> {
    let store = hub::open_store(settings).await?;
    let broken = async {
        let mut db = store.read().await?;
        let mut broken = 0;
        for tenant in audit::chained(&mut db).await? {
            let (name, found) = (name(&mut db, tenant).await?, audit::verify(&mut db, tenant).await?);
            broken += usize::from(found.fault.is_some());
            tell(&name, &found);
        }
        Ok::<_, aiox_core::Error>(broken)
    };
    let broken = broken.await.map_err(|error| anyhow::anyhow!(error.chain())).context("the audit log cannot be read");
    let lines = match file {
        Some(file) => lines(&store, file).await.with_context(|| file.display().to_string()),
        None => Ok(()),
    };
    store.close().await;
    match broken? {
        0 => {
            say::done("every audit record is as it was written");
            lines
        }
        broken => bail!("the audit log of {broken} tenant(s) is not as it was written"),
    }
}

/// Checks that each line of a sink's file is the record of the database, and that no record between two lines of a tenant is missing. A
/// line may come again: a hub that died wrote it twice.
async fn lines(store: &Store, file: &Path) -> Result<()> {
    let told = |error: aiox_core::Error| anyhow::anyhow!(error.chain());
    let mut db = store.read().await.map_err(told)?;
    let mut tenants = BTreeMap::new();
    for tenant in audit::chained(&mut db).await.map_err(told)? {
        tenants.insert(name(&mut db, tenant).await.map_err(told)?, (tenant, None::<u64>));
    }
    let mut checked = 0_u64;
    for line in BufReader::new(File::open(file)?).lines() {
        let number = checked + 1;
        let record: AuditRecord = serde_json::from_str(&line?).map_err(|_| anyhow::anyhow!("line {number} is no audit record"))?;
        let seq = record.seq.with_context(|| format!("line {number} has no number"))?;
        let (tenant, last) =
            tenants.get_mut(&record.tenant_id).with_context(|| format!("line {number}: there is no tenant {}", record.tenant_id))?;
        if let Some(last) = *last
            && seq > last + 1
        {
            bail!("line {number}: record {} of {} is missing before it", last + 1, record.tenant_id);
        }
        *last = (*last).max(Some(seq));
        let kept = audit::following(&mut db, tenant.uuid(), seq.saturating_sub(1), 1).await.map_err(told)?;
        let kept = kept.into_iter().next().map(|(row, link)| audit_record(row, Some(link), record.tenant_id.clone()));
        if kept.as_ref() != Some(&record) {
            bail!("line {number} is not record {seq} of {}", record.tenant_id);
        }
        checked = number;
    }
    say::done(&format!("each of the {checked} lines of {} is a record of the database", file.display()));
    Ok(())
}

fn tell(tenant: &str, found: &Verified) {
    let Verified { records, unchained, head, fault } = found;
    if *unchained > 0 {
        say::line(&format!("{tenant}: {unchained} records are older than the chain; nothing is known of them"));
    }
    match fault {
        None => say::line(&format!("{tenant}: {records} records, head {head}")),
        Some(Fault::Missing(seq)) => say::warn(&format!("{tenant}: record {seq} is missing")),
        Some(Fault::Changed(seq)) => say::warn(&format!("{tenant}: record {seq} was changed")),
        Some(Fault::Unlinked(seq)) => say::warn(&format!("{tenant}: record {seq} does not follow the one before it")),
        Some(Fault::Head) => say::warn(&format!("{tenant}: after record {records} the chain does not end as its head says")),
    }
}

async fn name(db: &mut Reader, id: TenantId) -> aiox_core::Result<String> {
    let row = tenants::by_id(db, id.uuid()).await?;
    Ok(row.map_or_else(|| id.to_string(), |row| tenant::text(&row.name, row.id)))
}

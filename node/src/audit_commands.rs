//! `aiox audit`: is the audit log as it was written? At the machine of a hub, on its database, whether or not the hub runs.

use aiox_config::Settings;
use aiox_core::tenant;
use aiox_model::TenantId;
use aiox_store::{
    Reader,
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
        Audit::Verify(configured) => verify(&settings::of(&configured)?).await,
    }
}

async fn verify(settings: &Settings) -> Result<()> {
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
    store.close().await;
    match broken? {
        0 => {
            say::done("every audit record is as it was written");
            Ok(())
        }
        broken => bail!("the audit log of {broken} tenant(s) is not as it was written"),
    }
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

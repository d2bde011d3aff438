//! Records of who was denied. That one cannot be written does not change the answer.

use std::net::IpAddr;

use aiox_core::{Caller, Error, Result};
use aiox_crypto::sha256;
use aiox_store::audit::AuditRow;

use super::{Accounts, Origin, hex_of};
use crate::audit;

/// A request that a door denied.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// Who asked, if the credential said so.
    pub caller: Option<&'a Caller>,
    /// Network address of the client.
    pub address: Option<IpAddr>,
    /// The request's correlation id.
    pub correlation: &'a str,
    /// Method and path.
    pub request: &'a str,
    /// As the client is told.
    pub why: &'a str,
}

impl Accounts {
    /// Records a request that a door denied. Without a valid credential the record is the hub's own tenant's, and names nobody.
    pub async fn record_denial(&self, denial: Denial<'_>) {
        let resource = ("request", denial.request.chars().take(300).collect::<String>());
        let row = match denial.caller {
            Some(caller) => audit::denial(audit::record(&*self.clock, &*self.ids, caller, "auth.denied", Some(resource)), denial.why),
            None => AuditRow {
                resource_type: Some(resource.0.into()),
                resource_id: Some(resource.1),
                detail: Some(denial.why.into()),
                ..self.unverified("", denial.address, denial.correlation.to_owned())
            },
        };
        audit::write(&self.store, &row).await;
    }

    /// The caller, if the credentials of the tenant work; else the denial is recorded.
    pub(super) async fn admitted(&self, caller: Caller) -> Result<Caller> {
        match self.options.tenants.admit(caller.tenant).await {
            Ok(_) => Ok(caller),
            Err(error) => {
                self.note_refused(&caller, &error).await;
                Err(error)
            }
        }
    }

    /// Records that a tenant's credentials do not work.
    pub(super) async fn note_refused(&self, caller: &Caller, error: &Error) {
        if matches!(error, Error::Forbidden { .. }) {
            let resource = Some(("tenant", caller.tenant.to_string()));
            let row = audit::record(&*self.clock, &*self.ids, caller, "auth.denied", resource);
            audit::write(&self.store, &audit::denial(row, &error.to_string())).await;
        }
    }

    /// Records a failed sign-in.
    pub(super) async fn note_denied(&self, login: &str, origin: Origin) {
        // Whoever tried is not verified: only a digest of what was claimed is kept.
        let claimed = &hex_of(sha256(login.as_bytes()))[..16];
        audit::write(&self.store, &self.unverified(claimed, origin.address, origin.trace.to_string())).await;
    }

    fn unverified(&self, claimed: &str, address: Option<IpAddr>, trace: String) -> AuditRow {
        AuditRow {
            id: self.ids.uuid(),
            tenant: self.options.default_tenant.uuid(),
            owner: None,
            actor: format!("unverified:{claimed}"),
            action: "auth.denied".into(),
            outcome: "denied".into(),
            severity: "warn".into(),
            resource_type: None,
            resource_id: None,
            detail: None,
            address: address.map(|address| address.to_string()),
            trace,
            at: self.clock.now(),
        }
    }
}

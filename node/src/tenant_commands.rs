//! `aiox tenant`: tenants and their service tokens, through the hub's API.

use aiox_model::v1::tenants::{Quotas, RunQuotas, TenantCreate, Token as Issued, TokenCreate};
use anyhow::{Result, ensure};

use crate::{
    cli::{Tenant, Token},
    commands::{client, print},
    say,
};

/// `aiox tenant`.
///
/// # Errors
/// When the hub refuses or cannot be reached.
pub async fn tenant(command: Tenant) -> Result<()> {
    match command {
        Tenant::List(remote) => {
            let all = client(&remote, true).await?.tenants().await?;
            if remote.json {
                return print(&all);
            }
            for tenant in all {
                say::line(&format!("{:<40} {:<10} {:<12} {}", tenant.tenant_id, tenant.status, tenant.plan_tier, tenant.name));
            }
            Ok(())
        }
        Tenant::Create { id, name, plan_tier, max_concurrent_runs, run_create_qps, remote } => {
            let runs = RunQuotas { max_concurrent_runs, run_create_qps, run_create_burst: None };
            let quotas = (runs != RunQuotas::default()).then(|| Quotas { runs: Some(runs), ..Quotas::default() });
            let new = TenantCreate { tenant_id: id, name, plan_tier, quotas, ..TenantCreate::default() };
            let made = client(&remote, true).await?.create_tenant(&new).await?;
            if remote.json {
                return print(&made);
            }
            say::done(&format!("{} is an active tenant", made.tenant_id));
            say::line(&format!("A credential for it: aiox tenant token issue {}", made.tenant_id));
            Ok(())
        }
        Tenant::Show { id, remote } => print(&client(&remote, true).await?.tenant(&id).await?),
        Tenant::Enable { id, remote } => {
            let tenant = client(&remote, true).await?.set_tenant_enabled(&id, true).await?;
            say::done(&format!("{} is {}", tenant.tenant_id, tenant.status));
            Ok(())
        }
        Tenant::Disable { id, remote } => {
            let tenant = client(&remote, true).await?.set_tenant_enabled(&id, false).await?;
            say::done(&format!("{} is {}", tenant.tenant_id, tenant.status));
            Ok(())
        }
        Tenant::Delete { id, yes_really, remote } => {
            ensure!(yes_really, "nothing was deleted: a deleted tenant does not come back; add --yes-really");
            client(&remote, true).await?.delete_tenant(&id).await?;
            say::done(&format!("{id} is deleted"));
            Ok(())
        }
        Tenant::Token(command) => token(command).await,
    }
}

async fn token(command: Token) -> Result<()> {
    match command {
        Token::List { tenant, remote } => {
            let all = client(&remote, true).await?.tokens(&tenant).await?;
            if remote.json {
                return print(&all);
            }
            for token in all {
                say::line(&format!("{} {:<16} {:<20} {}", token.token_id, token.role, token.name, token.scopes.join(" ")));
            }
            Ok(())
        }
        Token::Issue { tenant, name, role, scopes, remote } => {
            let scopes = (!scopes.is_empty()).then_some(scopes);
            let new = TokenCreate { name, role, scopes, ..TokenCreate::default() };
            shown(&client(&remote, true).await?.issue_token(&tenant, &new).await?, remote.json)
        }
        Token::Rotate { tenant, token, remote } => shown(&client(&remote, true).await?.rotate_token(&tenant, &token).await?, remote.json),
        Token::Revoke { tenant, token, remote } => {
            client(&remote, true).await?.revoke_token(&tenant, &token).await?;
            say::done(&format!("{token} is revoked"));
            Ok(())
        }
    }
}

/// The secret alone on standard output, so that it can go into a file; what it is goes to standard error.
fn shown(token: &Issued, json: bool) -> Result<()> {
    if json {
        return print(token);
    }
    say::aside();
    say::line(&format!("{} of {} for {}; its secret is not shown again:", token.token_id, token.tenant_id, token.principal_id));
    say::result(token.secret.as_deref().unwrap_or_default());
    Ok(())
}

//! Audit records: the caller's own, and those about an own agent.

use aiox_core::Error;
use aiox_model::{Ts, account::AuditLog, body::Page};
use aiox_store::audit::{AuditRow, Filter};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;

use super::{App, agent_id};
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound},
    error::Result,
    read::{Asked, Paging, Place},
};

/// Which records. What is absent or empty narrows nothing.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Narrow {
    /// Only this event, for instance `run.accepted`.
    event_type: Option<String>,
    /// Only this severity: `info`, `warn` or `error`.
    severity: Option<String>,
    /// Not before this time (RFC 3339).
    from: Option<String>,
    /// Before this time (RFC 3339).
    to: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    paging: Paging,
}

type AuditLogPage = Page<AuditLog>;

impl Narrow {
    fn filter(&self) -> Result<Filter> {
        let text = |given: &Option<String>| given.clone().filter(|text| !text.is_empty());
        Ok(Filter {
            action: text(&self.event_type),
            severity: text(&self.severity),
            from: time("from", self.from.as_deref())?,
            to: time("to", self.to.as_deref())?,
            ..Filter::default()
        })
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Ts>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| Error::invalid(name, "must be an RFC 3339 time").into()),
    }
}

/// List the caller's audit records
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/api/v1/governance/audit",
    tag = "audit",
    operation_id = "list_audit",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(Narrow, Paging),
    responses(
        (status = 200, description = "One page of records.", body = AuditLogPage),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn own(State(app): State<App>, Signed(caller): Signed, Asked(narrow): Asked<Narrow>) -> Result<Json<Page<AuditLog>>> {
    let cut = narrow.paging.cut();
    let (rows, count) = app.agents.audit(&caller, None, narrow.filter()?, cut.limit, cut.offset).await?;
    Ok(cut.page((rows.into_iter().map(view).collect(), count)))
}

/// List the audit records about an own agent
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/audit",
    tag = "audit",
    operation_id = "list_agent_audit",
    security(("bearer" = ["agents:read"]), ("api_key" = ["agents:read"])),
    params(("agent" = String, Path, description = "The agent: its UUID or its prefixed id (`agt_…`)."), Narrow, Paging),
    responses(
        (status = 200, description = "One page of records.", body = AuditLogPage),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn of_agent(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(narrow): Asked<Narrow>,
) -> Result<Json<Page<AuditLog>>> {
    let cut = narrow.paging.cut();
    let (rows, count) = app.agents.audit(&caller, Some(agent_id(&agent)?), narrow.filter()?, cut.limit, cut.offset).await?;
    Ok(cut.page((rows.into_iter().map(view).collect(), count)))
}

fn view(row: AuditRow) -> AuditLog {
    AuditLog {
        id: row.id,
        owner_user_id: row.owner,
        event_type: row.action,
        severity: row.severity,
        resource_type: row.resource_type,
        resource_id: row.resource_id,
        details: row.detail.map(|text| json!({ "message": text })),
        ip_address: row.address,
        created_at: row.at,
    }
}

//! Runs of the caller.

use aiox_model::{
    body::{Data, ErrorBody, List, Page},
    run::Run,
};
use axum::{Json, extract::State};

use super::{App, agent_ref, run_id};
use crate::{
    auth::Signed,
    documented::{Gated, Invalid, NotFound},
    error::Result,
    read::{Asked, Paging, Place, data, list},
};

type RunData = Data<Run>;
type RunList = List<Run>;
type RunPage = Page<Run>;

/// List the caller's latest runs
///
/// Newest first, `page_size` of them.
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    tag = "runs",
    operation_id = "list_runs",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(Paging),
    responses(
        (status = 200, description = "The runs.", body = RunList),
        Gated,
        Invalid
    )
)]
pub(super) async fn latest(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<List<Run>>> {
    Ok(list(app.runs.latest(&caller, paging.cut().limit).await?))
}

/// Read a run
///
/// Its input, where it is, and how it ended.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}",
    tag = "runs",
    operation_id = "get_run",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("run" = String, Path, description = "The run: its UUID or its prefixed id (`run_…`).")),
    responses(
        (status = 200, description = "The run.", body = RunData),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn show(State(app): State<App>, Signed(caller): Signed, Place(run): Place<String>) -> Result<Json<Data<Run>>> {
    Ok(data(app.runs.get(&caller, run_id(&run)?).await?))
}

/// Cancel a run
///
/// Also of a run that a peer hub executes. A run that has ended cannot be canceled.
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/cancel",
    tag = "runs",
    operation_id = "cancel_run",
    security(("bearer" = ["runs:cancel"]), ("api_key" = ["runs:cancel"])),
    params(("run" = String, Path, description = "The run: its UUID or its prefixed id (`run_…`).")),
    responses(
        (status = 200, description = "The run after the request; with a peer or a busy worker it may end a moment later.", body = RunData),
        Gated,
        Invalid,
        NotFound,
        (status = 409, description = "The run has ended (`invalid_state_transition`).", body = ErrorBody)
    )
)]
pub(super) async fn cancel(State(app): State<App>, Signed(caller): Signed, Place(run): Place<String>) -> Result<Json<Data<Run>>> {
    Ok(data(app.runs.cancel(&caller, run_id(&run)?).await?))
}

/// List the runs of an agent
///
/// Newest first, only those that the caller asked for.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{agent}/executions",
    tag = "runs",
    operation_id = "list_agent_runs",
    security(("bearer" = ["runs:read"]), ("api_key" = ["runs:read"])),
    params(("agent" = String, Path, description = "Any name of the agent: its UUID, its prefixed id (`agt_…`), its handle, or its address, also of an agent of a peer hub."), Paging),
    responses(
        (status = 200, description = "One page of runs.", body = RunPage),
        Gated,
        Invalid,
        NotFound
    )
)]
pub(super) async fn with_agent(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Run>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.with_agent(&caller, &agent_ref(&agent)?, cut.limit, cut.offset).await?))
}

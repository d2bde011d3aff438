//! Runs of the caller.

use aiox_model::{
    body::{Data, Page},
    run::Run,
};
use axum::{Json, extract::State};

use super::{App, agent_ref, run_id};
use crate::{
    auth::Signed,
    error::Result,
    read::{Asked, Paging, Place, data},
};

pub(super) async fn latest(State(app): State<App>, Signed(caller): Signed, Asked(paging): Asked<Paging>) -> Result<Json<Data<Vec<Run>>>> {
    Ok(data(app.runs.latest(&caller, paging.cut().limit).await?))
}

pub(super) async fn show(State(app): State<App>, Signed(caller): Signed, Place(run): Place<String>) -> Result<Json<Data<Run>>> {
    Ok(data(app.runs.get(&caller, run_id(&run)?).await?))
}

pub(super) async fn cancel(State(app): State<App>, Signed(caller): Signed, Place(run): Place<String>) -> Result<Json<Data<Run>>> {
    Ok(data(app.runs.cancel(&caller, run_id(&run)?).await?))
}

pub(super) async fn with_agent(
    State(app): State<App>,
    Signed(caller): Signed,
    Place(agent): Place<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Run>>> {
    let cut = paging.cut();
    Ok(cut.page(app.runs.with_agent(&caller, &agent_ref(&agent)?, cut.limit, cut.offset).await?))
}

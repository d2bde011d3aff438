//! Cases of `spec/federation.md`.

use crate::{
    case::{Outcome, Stop, cases},
    scene::Scene,
};

cases! {}

/// ERR-013: errors of the peer listener.
pub(super) async fn problems(_scene: Scene) -> Outcome {
    Err(Stop::NotRun("no identity of a peer was given".into()))
}

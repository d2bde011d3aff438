//! Following: feeds the events of runs that peers execute into the local log, from the last stored one on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aiox_core::ports::Ids;
use aiox_model::run::{RunDelta, RunEvent};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff,
    delivery::{chain, per_active_peer},
    link::{LinkError, Links, status_error},
    ports::{Followed, RemoteRuns},
    sse,
    token::Operation,
};

/// Streams to one peer at a time. Further runs wait until one has ended.
const STREAMS: usize = 200;
/// A stream that is silent for longer than this, heartbeats included, is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Longest time without looking for runs to follow: a safety net should a wake-up be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What following needs.
pub struct Follow {
    /// The links to the peers.
    pub links: Arc<Links>,
    /// The local log of remote runs.
    pub runs: Arc<dyn RemoteRuns>,
    /// Randomness for waiting times.
    pub ids: Arc<dyn Ids>,
}

/// Why a stream ended before its run did.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Log(#[from] aiox_core::Error),
    #[error("the stream was silent for too long")]
    Silent,
    #[error("the stream ended before the run")]
    Short,
    #[error("the stream is not what it should be")]
    Format,
}

impl Follow {
    /// Follows every unfinished run of every active peer until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        per_active_peer(Arc::clone(&self.links), stop, |domain, stop| {
            let follow = Arc::clone(&self);
            async move { follow.serve(&domain, stop).await }
        })
        .await;
    }

    async fn serve(self: &Arc<Self>, domain: &str, stop: CancellationToken) {
        let mut open = HashMap::new();
        let mut tasks = JoinSet::new();
        loop {
            match self.runs.unfinished(domain, u32::try_from(STREAMS).unwrap_or(u32::MAX)).await {
                Ok(runs) => {
                    for followed in runs {
                        if open.len() < STREAMS && !open.contains_key(&followed.run) {
                            let (follow, domain) = (Arc::clone(self), domain.to_owned());
                            let task = tasks.spawn(async move { follow.follow(&domain, followed).await });
                            open.insert(followed.run, task.id());
                        }
                    }
                }
                Err(error) => tracing::warn!(peer = domain, error = %error.chain(), "runs to follow cannot be read"),
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.runs.added(domain) => {}
                Some(ended) = tasks.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    open.retain(|_, task| *task != id);
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
        tasks.shutdown().await;
    }

    /// Follows one run to its end, over as many streams as it takes.
    async fn follow(&self, domain: &str, mut followed: Followed) {
        let mut heard = self.links.roster().heard(domain);
        let mut failures = 0_u32;
        loop {
            let before = followed.after;
            let cut = match self.stream(domain, &mut followed).await {
                Ok(()) => return,
                Err(cut) => cut,
            };
            match &cut {
                Cut::Link(error) => self.links.noted(domain, error),
                Cut::Silent => self.links.roster().want_hello(domain),
                _ => {}
            }
            // A stream that brought something was a good one.
            failures = if followed.after > before { 1 } else { failures.saturating_add(1) };
            tracing::info!(peer = domain, run = %followed.run, after = followed.after, error = %chain(&cut), "event stream is resumed");
            let wait = backoff::wait(failures, self.ids.as_ref());
            sleep(backoff::floor()).await;
            tokio::select! { Ok(()) = heard.changed() => {}, () = sleep(wait.saturating_sub(backoff::floor())) => {} }
        }
    }

    async fn stream(&self, domain: &str, followed: &mut Followed) -> Result<(), Cut> {
        let path = format!("/fed/v1/runs/{}/events?after={}&so_far=true", followed.run, followed.after);
        let response = self.links.send(domain, Method::GET, &path, Operation::Stream, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => self.read(domain, response.into_body(), followed).await,
            // The peer says that nothing is missing here, and the run has not ended here: the two logs differ.
            StatusCode::NO_CONTENT => Err(Cut::Short),
            _ => Err(status_error(&response).into()),
        }
    }

    async fn read(&self, domain: &str, mut body: Incoming, followed: &mut Followed) -> Result<(), Cut> {
        let mut parser = sse::Parser::default();
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => return Err(Cut::Silent),
                Ok(None) => return Err(Cut::Short),
                Ok(Some(frame)) => frame.map_err(|error| LinkError::Unreachable(error.into()))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            for message in parser.feed(&data).map_err(|_| Cut::Format)? {
                if self.take(domain, &message, followed).await? {
                    return Ok(());
                }
            }
        }
    }

    async fn take(&self, domain: &str, message: &sse::Message, followed: &mut Followed) -> Result<bool, Cut> {
        if message.event == crate::door::DELTA {
            let delta: RunDelta = serde_json::from_str(&message.data).map_err(|_| Cut::Format)?;
            if delta.run_id != followed.run.uuid() {
                return Err(Cut::Format);
            }
            self.runs.delta(domain, delta).await;
            return Ok(false);
        }
        if message.event != crate::door::EVENT {
            return Ok(false);
        }
        let event: RunEvent = serde_json::from_str(&message.data).map_err(|_| Cut::Format)?;
        // The peer numbers without gaps. Anything else is a defect there, and storing it would spread it.
        if event.run_id != followed.run.uuid() || event.sequence != followed.after + 1 {
            return Err(Cut::Format);
        }
        let ended = self.runs.event(domain, event).await?;
        followed.after += 1;
        Ok(ended)
    }
}

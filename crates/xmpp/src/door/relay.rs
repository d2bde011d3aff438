//! Takes replies from the durable outbox to the server: at least once, always with the same stanza ids.
//!
//! Reading, writing and confirming overlap: a reply never waits for the confirmation of the one before it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use aiox_core::Result;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Door;
use crate::{
    confirm::Unconfirmed,
    hub::{Hub, Reply},
    link::{Outbound, SendError},
    stanza,
};

/// Replies that are written before a ping asks for their confirmation.
const BATCH: u32 = 128;
/// Replies that may be written and not yet removed from the outbox. At the bound the relay waits for confirmations.
const MAX_WRITTEN: usize = 1024;
/// The whole outbox is looked through this often: ids are in order of time, but replies may become visible out of order, and
/// another replica tells nobody here about its own.
const RESCAN: Duration = Duration::from_secs(1);
/// A server that does not confirm for this long has lost the link, whatever the socket says.
const CONFIRM_WAIT: Duration = Duration::from_secs(20);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Works for one connection, until `ended`.
pub(super) async fn run<H: Hub>(
    door: Arc<Door<H>>,
    outbound: Outbound,
    pongs: mpsc::Receiver<String>,
    broken: CancellationToken,
    ended: CancellationToken,
) {
    let relay = Relay {
        door,
        outbound,
        unconfirmed: Unconfirmed::new(),
        written: HashSet::new(),
        cursor: Uuid::nil(),
        confirming: FuturesUnordered::new(),
    };
    ended.run_until_cancelled(relay.run(pongs, broken)).await;
}

/// Replies whose removal from the outbox was tried, and how it went.
type Confirmed = (Vec<Uuid>, Result<()>);

struct Relay<H> {
    door: Arc<Door<H>>,
    outbound: Outbound,
    unconfirmed: Unconfirmed<Uuid>,
    /// Written on this connection and still in the outbox.
    written: HashSet<Uuid>,
    /// Where reading goes on.
    cursor: Uuid,
    confirming: FuturesUnordered<BoxFuture<'static, Confirmed>>,
}

impl<H: Hub> Relay<H> {
    async fn run(mut self, mut pongs: mpsc::Receiver<String>, broken: CancellationToken) {
        let mut more = true;
        let mut rescan = Instant::now() + RESCAN;
        let mut deadline = None;
        loop {
            let room = self.written.len() < MAX_WRITTEN;
            let hub = Arc::clone(&self.door.hub);
            tokio::select! {
                biased;
                pong = pongs.recv() => {
                    let Some(pong) = pong else { return };
                    let confirmed = self.unconfirmed.answered(&pong);
                    if !confirmed.is_empty() {
                        metrics::counter!("aiox_xmpp_replies_confirmed_total").increment(confirmed.len() as u64);
                        self.confirm(confirmed, Duration::ZERO);
                    }
                    deadline = (!self.unconfirmed.is_empty()).then(|| Instant::now() + CONFIRM_WAIT);
                }
                Some((replies, result)) = self.confirming.next(), if !self.confirming.is_empty() => match result {
                    Ok(()) => replies.iter().for_each(|id| {
                        self.written.remove(id);
                    }),
                    Err(error) => {
                        tracing::error!(error = error.chain(), "confirmed replies cannot be removed from the outbox");
                        self.confirm(replies, STORE_PAUSE);
                    }
                },
                () = sleep_until(deadline.unwrap_or(rescan)), if deadline.is_some() => {
                    broken.cancel();
                    return;
                }
                () = sleep_until(rescan), if room => {
                    self.cursor = Uuid::nil();
                    rescan = Instant::now() + RESCAN;
                    more = true;
                }
                () = hub.replies_changed(), if room && !more => more = true,
                () = std::future::ready(()), if room && more => match self.forward().await {
                    Ok(Some(count)) => {
                        more = count == BATCH as usize;
                        if count > 0 {
                            deadline = deadline.or_else(|| Some(Instant::now() + CONFIRM_WAIT));
                        }
                    }
                    Ok(None) => {
                        more = false;
                        sleep(STORE_PAUSE).await;
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Reads a batch and writes it with its ping. How many were due; `None`: the store failed.
    async fn forward(&mut self) -> Result<Option<usize>, SendError> {
        // From the start, everything in flight comes again before anything new does.
        let again = if self.cursor.is_nil() { u32::try_from(self.written.len()).unwrap_or(BATCH) } else { 0 };
        let due = match self.door.hub.due(self.cursor, BATCH + again).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(error = error.chain(), "the replies that are due cannot be read");
                return Ok(None);
            }
        };
        let mut batch = Vec::with_capacity(due.len());
        for reply in due {
            self.cursor = self.cursor.max(reply.id);
            if self.written.contains(&reply.id) {
                continue;
            }
            if self.door.write(&self.outbound, &reply).await == Err(SendError::Down) {
                return Err(SendError::Down);
            }
            batch.push(reply.id);
        }
        let count = batch.len();
        if count > 0 {
            self.written.extend(batch.iter().copied());
            let ping = stanza::ping(&self.door.domain, &self.door.server, &self.unconfirmed.wrote(batch));
            self.outbound.send(&ping).await?;
        }
        Ok(Some(count))
    }

    /// Not removed means sent again on the next connection: with the same ids, so that nobody sees them twice who looks at ids.
    fn confirm(&self, replies: Vec<Uuid>, after: Duration) {
        let hub = Arc::clone(&self.door.hub);
        self.confirming.push(Box::pin(async move {
            // Even a sleep of no length waits for the timer's next tick.
            if !after.is_zero() {
                sleep(after).await;
            }
            let result = hub.confirm(replies.clone()).await;
            (replies, result)
        }));
    }
}

impl<H: Hub> Door<H> {
    async fn write(&self, outbound: &Outbound, reply: &Reply) -> Result<(), SendError> {
        let (announced, live) = match reply.run {
            Some(run) => self.live.complete(run).await,
            None => (true, None),
        };
        if !announced {
            outbound.send(&reply.envelope.state("composing")).await?;
        }
        let (sender, agent) = (reply.envelope.to.as_str(), reply.envelope.from.to_bare());
        self.guard(|guard| guard.answered(sender, agent.as_str(), &reply.body, Instant::now()));
        if let Some(run) = reply.run {
            self.answers.sent(run, self.connection(), Instant::now());
        }
        for stanza in reply.envelope.answer(&reply.stanza_id, &reply.body, live.as_deref()) {
            match outbound.send(&stanza).await {
                Ok(()) => {}
                Err(SendError::Down) => return Err(SendError::Down),
                // Cannot happen for text that was cut and cleaned; kept out of the way, because it would block all others.
                Err(SendError::Unserialisable) => tracing::error!(reply = %reply.id, "a reply cannot be written as XML"),
            }
        }
        Ok(())
    }
}

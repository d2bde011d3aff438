//! Takes replies from the durable outbox to the server: at least once, always with the same stanza ids.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::{Instant, timeout}};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Door;
use crate::{
    confirm::Unconfirmed,
    hub::{Hub, Reply},
    link::{Outbound, SendError},
    stanza,
};

/// Replies that are written before their confirmation is awaited.
const BATCH: u32 = 128;
/// The outbox is read this often even when nobody says that it changed.
const POLL: Duration = Duration::from_secs(5);
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
    ended.run_until_cancelled(relay(door, outbound, pongs, broken)).await;
}

async fn relay<H: Hub>(door: Arc<Door<H>>, outbound: Outbound, mut pongs: mpsc::Receiver<String>, broken: CancellationToken) {
    let mut unconfirmed = Unconfirmed::<Uuid>::new();
    loop {
        let due = match door.hub.due(BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(error = error.chain(), "the replies that are due cannot be read");
                tokio::time::sleep(STORE_PAUSE).await;
                continue;
            }
        };
        if due.is_empty() {
            let _ = timeout(POLL, door.hub.replies_changed()).await;
            continue;
        }
        let mut written = Vec::with_capacity(due.len());
        for reply in due {
            if door.write(&outbound, &reply).await == Err(SendError::Down) {
                return;
            }
            written.push(reply.id);
        }
        let ping = stanza::ping(&door.domain, &door.server, &unconfirmed.wrote(written));
        if outbound.send(&ping).await.is_err() {
            return;
        }
        while !unconfirmed.is_empty() {
            let Ok(pong) = timeout(CONFIRM_WAIT, pongs.recv()).await else {
                broken.cancel();
                return;
            };
            let Some(pong) = pong else { return };
            let confirmed = unconfirmed.answered(&pong);
            if confirmed.is_empty() {
                continue;
            }
            metrics::counter!("aiox_xmpp_replies_confirmed_total").increment(confirmed.len() as u64);
            // Not marked means sent again: the same ids, so that nobody sees them twice who looks at ids.
            if let Err(error) = door.hub.confirm(confirmed).await {
                tracing::error!(error = error.chain(), "confirmed replies cannot be marked");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
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

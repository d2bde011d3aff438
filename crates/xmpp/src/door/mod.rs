//! The door: takes stanzas from the link, calls the hub, answers.

mod access;
mod adhoc;
mod iq;
mod live;
mod messages;
mod presence;
mod relay;
mod repeat;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use xmpp_parsers::{
    jid::{BareJid, Jid},
    minidom::Element,
};

use crate::{
    clients::Clients,
    denials::Denials,
    fault::Fault,
    guard::{Brakes, Guard},
    hub::Hub,
    lanes::Lanes,
    link::{Inbound, Kind, Outbound, Session, Stanza},
    stanza,
};
use live::Live;
use repeat::Answers;

/// Bytes of stanzas that wait or are handled, roughly.
const BUDGET: u32 = 64 * 1024 * 1024;
/// How long stanzas in work may take to finish at shutdown, and how long the goodbyes may take.
const DRAIN: Duration = Duration::from_secs(2);
/// Runs that are followed live at once. A run beyond it is answered all the same, only without intermediate states.
const MAX_FOLLOWED: usize = 1024;

/// Requests of one device may overtake its messages; messages of one pair keep their order.
type Lane = (bool, BareJid, BareJid);

/// State of the door that outlives connections. None of it is needed for correctness: what must not be lost is in the hub's store.
pub(crate) struct Door<H> {
    hub: Arc<H>,
    /// Domain of the agents: the component's.
    domain: String,
    /// Domain of the server and its users.
    server: String,
    link: watch::Sender<Option<Outbound>>,
    lanes: Lanes<Lane, Box<Stanza>>,
    handling: TaskTracker,
    background: TaskTracker,
    guard: Mutex<Guard>,
    clients: Mutex<Clients>,
    denials: Mutex<Denials>,
    /// Denials that are looked at in the background.
    denying: Arc<tokio::sync::Semaphore>,
    live: Live,
    answers: Answers,
    /// Number of the connection, for telling one from another.
    connection: AtomicU64,
    followed: Arc<tokio::sync::Semaphore>,
    shutdown: CancellationToken,
}

impl<H: Hub> Door<H> {
    pub(crate) fn new(hub: H, domain: String, server: String, at_once: usize, brakes: Brakes, shutdown: CancellationToken) -> Arc<Self> {
        let handling = TaskTracker::new();
        Arc::new(Self {
            hub: Arc::new(hub),
            domain,
            server,
            link: watch::Sender::new(None),
            lanes: Lanes::new(at_once, BUDGET, handling.clone()),
            handling,
            background: TaskTracker::new(),
            guard: Mutex::new(Guard::new(brakes)),
            clients: Mutex::default(),
            denials: Mutex::default(),
            denying: Arc::new(tokio::sync::Semaphore::new(access::MAX_DENYING)),
            live: Live::default(),
            answers: Answers::default(),
            connection: AtomicU64::new(0),
            followed: Arc::new(tokio::sync::Semaphore::new(MAX_FOLLOWED)),
            shutdown,
        })
    }

    /// Serves one connection until it ends, or until everything is said after shutdown.
    pub(crate) async fn serve(self: Arc<Self>, session: Session) {
        let Session { mut inbound, outbound, pongs, broken } = session;
        self.connection.fetch_add(1, Ordering::Relaxed);
        self.link.send_replace(Some(outbound.clone()));
        let ended = CancellationToken::new();
        let stop_at_end = ended.clone().drop_guard();
        let relay = self.background.spawn(relay::run(Arc::clone(&self), outbound.clone(), pongs, broken, ended.clone()));
        self.background.spawn({
            let (door, outbound, ended) = (Arc::clone(&self), outbound.clone(), ended.clone());
            async move { ended.run_until_cancelled(door.present(&outbound)).await }
        });

        let closing = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break true,
                next = inbound.recv() => match next {
                    Some(next) => self.take(next, &outbound).await,
                    None => break false,
                },
            }
        };
        if closing {
            self.handling.close();
            if timeout(DRAIN, self.handling.wait()).await.is_err() {
                tracing::warn!("some stanzas were still being handled at shutdown; their runs, if accepted, are durable");
            }
            if timeout(DRAIN, self.announce(&outbound, Some("unavailable"))).await.is_err() {
                tracing::warn!("not every contact was told that the agents leave");
            }
        }
        self.link.send_replace(None);
        drop(stop_at_end);
        // Frees the outbox cursor before the next connection starts its own.
        let _ = relay.await;
    }

    async fn take(self: &Arc<Self>, inbound: Inbound, outbound: &Outbound) {
        match inbound {
            Inbound::Stanza(stanza) => {
                metrics::counter!("aiox_xmpp_stanzas_total", "kind" => stanza.kind.name()).increment(1);
                let lane = (stanza.kind == Kind::Iq, stanza.from.to_bare(), stanza.to.to_bare());
                let (door, cost) = (Arc::clone(self), stanza.cost);
                self.lanes.push(lane, stanza, cost, move |stanza| Arc::clone(&door).handle(stanza)).await;
            }
            Inbound::Refused(head, refusal) => {
                metrics::counter!("aiox_xmpp_refused_total", "reason" => refusal.label()).increment(1);
                tracing::debug!(from = head.from, reason = refusal.label(), "refused a stanza");
                if let (true, Some(from), Some(to)) = (head.answerable(&self.domain), &head.from, &head.to) {
                    let answer = stanza::error(head.kind.name(), from, to, head.id.as_deref(), &stanza::bad_request());
                    let _ = outbound.send(&answer).await;
                }
            }
            Inbound::Opened(_) | Inbound::StreamError(_) | Inbound::Other { .. } | Inbound::Closed => {}
        }
    }

    async fn handle(self: Arc<Self>, stanza: Box<Stanza>) {
        // The server routes only our domain to us; the check costs nothing and an answer from elsewhere would end the link.
        if stanza.to.domain().as_str() != self.domain {
            return;
        }
        match stanza.kind {
            Kind::Message => self.message(&stanza).await,
            Kind::Presence => self.presence(&stanza).await,
            Kind::Iq => self.iq(&stanza).await,
        }
    }

    /// Sends what is not worth keeping while the link is down. What must arrive goes through the durable outbox instead.
    async fn send(&self, element: &Element) {
        let outbound = self.link.borrow().clone();
        if let Some(outbound) = outbound
            && let Err(error) = outbound.send(element).await
        {
            tracing::debug!(%error, "a stanza was not sent");
        }
    }

    async fn refuse(&self, stanza: &Stanza, fault: &Fault) {
        let (from, to) = (stanza.from.as_str(), stanza.to.as_str());
        self.send(&stanza::error(stanza.kind.name(), from, to, stanza.id.as_deref(), fault)).await;
    }

    /// The two bare addresses as the hub knows addresses. `None`: no user or no agent is meant.
    fn parties(&self, from: &Jid, to: &Jid) -> Option<(aiox_model::BareJid, aiox_model::BareJid)> {
        Some((from.to_bare().as_str().parse().ok()?, to.to_bare().as_str().parse().ok()?))
    }

    fn connection(&self) -> u64 {
        self.connection.load(Ordering::Relaxed)
    }

    /// Closures, so that no lock is ever held across an await.
    fn guard<T>(&self, with: impl FnOnce(&mut Guard) -> T) -> T {
        with(&mut self.guard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn clients<T>(&self, with: impl FnOnce(&mut Clients) -> T) -> T {
        with(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

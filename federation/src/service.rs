//! Federation put together, in the two steps that the composition root needs: the outward side before the use cases exist, because
//! they sign envelopes with it, and the rest after them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aiox_app::federated::PeerWire;
use aiox_core::ports::{Clock, Ids, RateLimiter, ReplayGuard};
use axum::Router;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    conformance::Must,
    delivery::Delivery,
    door::{self, Door},
    durable::Durable,
    fetch::{FetchError, Fetcher},
    follow::Follow,
    link::Links,
    listener::{self, ListenerLimits},
    local::LocalNode,
    order::Order,
    peers::{PeerError, Peers},
    publish::{self, Published, Publisher},
    roster::Roster,
    wire::Wire,
};

/// How long a peer may leave an event unread.
const STALL: Duration = Duration::from_secs(30);

/// The outward side: this hub's identity, the active peers, the links to them.
#[derive(Clone)]
pub struct Outward {
    local: Arc<LocalNode>,
    roster: Arc<Roster>,
    links: Arc<Links>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Outward {
    /// No peer is active until [`Federation::start`] has read the records.
    #[must_use]
    pub fn new(local: LocalNode, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let (local, roster) = (Arc::new(local), Arc::new(Roster::default()));
        let links = Arc::new(Links::new(Arc::clone(&local), Arc::clone(&roster), Arc::clone(&clock), Arc::clone(&ids)));
        Self { local, roster, links, clock, ids }
    }

    /// What the use cases sign envelopes with.
    #[must_use]
    pub fn wire(&self) -> Arc<dyn PeerWire> {
        Arc::new(Wire { local: Arc::clone(&self.local), links: Arc::clone(&self.links) })
    }

    /// The active peers.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }
}

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct FederationOptions {
    /// Base URL under which peers reach the peer listener, `https://host:port`.
    pub endpoint: String,
    /// Authorities of the own trust domain, for the trust document.
    pub roots: Vec<CertificateDer<'static>>,
    /// Authorities to verify other hubs' public web servers with, alone; empty = the machine's own.
    pub web_roots: Vec<CertificateDer<'static>>,
    /// Tolerated clock difference, in seconds.
    pub skew: i64,
    /// Bounds of the peer listener.
    pub limits: ListenerLimits,
    /// What this hub's copy of the specification asks of a peer whose record wants a conformance result.
    pub musts: Vec<Must>,
}

/// Federation of one hub.
pub struct Federation {
    outward: Outward,
    durable: Arc<Durable>,
    order: Arc<Order>,
    peers: Arc<Peers>,
    publisher: Arc<Publisher>,
    guard: Arc<dyn ReplayGuard>,
    limiter: Arc<dyn RateLimiter>,
    options: FederationOptions,
}

impl Federation {
    /// Reads the peer records. Nothing listens or sends yet.
    ///
    /// # Errors
    /// When the store fails or the web roots are refused.
    pub async fn start(
        outward: Outward,
        durable: Durable,
        guard: Arc<dyn ReplayGuard>,
        limiter: Arc<dyn RateLimiter>,
        options: FederationOptions,
    ) -> Result<Self, PeerError> {
        let durable = Arc::new(durable);
        let fetcher = Fetcher::new(&options.web_roots).map_err(|error: FetchError| PeerError::Fetch(error))?;
        let peers = Arc::new(Peers::new(
            Arc::clone(&outward.local),
            Arc::clone(&outward.links),
            durable.clone(),
            fetcher,
            Arc::clone(&outward.clock),
            durable.clone(),
            options.musts.clone(),
        ));
        peers.load().await?;
        let publisher =
            Publisher::new(Arc::clone(&outward.local), options.endpoint.clone(), options.roots.clone(), Arc::clone(&outward.clock));
        let order = Arc::new(Order::new(durable.clone()));
        Ok(Self { outward, durable, order, peers, publisher: Arc::new(publisher), guard, limiter, options })
    }

    /// The peers, for the operator's commands.
    #[must_use]
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// This hub's own trust document and its fingerprint.
    #[must_use]
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Routes of the public listener: the trust document and the conformance result.
    pub fn public_routes(&self) -> Router {
        publish::routes(Published { publisher: Arc::clone(&self.publisher), store: self.durable.clone() })
    }

    /// Serves peers on `listener` until `stop`. Part of [`run`](Self::run); alone for a hub whose roles are split.
    ///
    /// # Errors
    /// When the local certificate is refused by the TLS library.
    pub async fn listen(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), rustls::Error> {
        let door = Door {
            local: Arc::clone(&self.outward.local),
            roster: Arc::clone(&self.outward.roster),
            inbox: self.durable.clone(),
            order: Arc::clone(&self.order),
            outbox: self.durable.clone(),
            agents: self.durable.clone(),
            feed: self.durable.clone(),
            guard: Arc::clone(&self.guard),
            limiter: Arc::clone(&self.limiter),
            clock: Arc::clone(&self.outward.clock),
            audit: self.durable.clone(),
            skew: self.options.skew,
            stall: STALL,
        };
        let address: Option<SocketAddr> = listener.local_addr().ok();
        tracing::info!(?address, node = %self.outward.local.id(), "peer listener is up");
        listener::serve(listener, &self.outward.local, Arc::clone(&self.outward.roster), door::routes(door), self.options.limits, stop)
            .await
    }

    /// Delivers, follows and keeps peers fresh until `stop`.
    pub async fn send(&self, stop: CancellationToken) {
        let delivery = Arc::new(Delivery {
            local: Arc::clone(&self.outward.local),
            links: Arc::clone(&self.outward.links),
            outbox: self.durable.clone(),
            order: Arc::clone(&self.order),
            clock: Arc::clone(&self.outward.clock),
            ids: Arc::clone(&self.outward.ids),
        });
        let follow =
            Arc::new(Follow { links: Arc::clone(&self.outward.links), runs: self.durable.clone(), ids: Arc::clone(&self.outward.ids) });
        tokio::join!(delivery.run(stop.clone()), follow.run(stop.clone()), Arc::clone(&self.peers).keep_fresh(stop));
    }

    /// All of it until `stop`.
    ///
    /// # Errors
    /// When the local certificate is refused by the TLS library.
    pub async fn run(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), rustls::Error> {
        let (listened, ()) = tokio::join!(self.listen(listener, stop.clone()), self.send(stop));
        listened
    }
}

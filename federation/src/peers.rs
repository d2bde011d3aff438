//! The life of a peer (federation sections 6 and 7): proposed, confirmed by fingerprint, active, suspended, removed. All at run time.

mod require;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use aiox_core::{Error, ports::Clock};
use aiox_model::{
    Ts,
    federation::{
        Capabilities, Directory, DirectoryEntry, Hello, PROFILE_V1, PeerOperations, PeerQuotas, PeerRecord, PeerState, TrustDocument,
    },
};
use bytes::Bytes;
use http::Method;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;

use self::require::{Looked, Shown};
use crate::{
    conformance::Must,
    fetch::{FetchError, Fetcher},
    link::{LinkError, Links},
    local::LocalNode,
    ports::{AuditTrail, PeerStore},
    roster::Roster,
    token::Operation,
    trust::{self, Accepted, TrustError},
};

/// How often documents are read again.
const REFRESH: Duration = Duration::from_secs(300);
/// How often directories are read again: a new agent of a peer can be called after this long.
const DIRECTORY: Duration = Duration::from_secs(30);
/// The same after a failure: the other hub may just not have confirmed us yet.
const AFTER_FAILURE: Duration = Duration::from_secs(3);
/// A peer whose last document is older than this does not come back without an operator.
const SUPPORTED_PARTITION_SECONDS: i64 = 30 * 24 * 3600;
/// `document_read_at` is written at most this often when nothing else changed.
const TOUCH_SECONDS: i64 = 3600;
/// How often at most it is written when a peer was last in contact.
const NOTE_SECONDS: i64 = 60;
/// Most agents of one peer that are kept.
const MAX_AGENTS: usize = 10_000;

/// Why a peer operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// There is no such peer.
    #[error("peer not found")]
    NotFound,
    /// It is this hub itself.
    #[error("a hub cannot be its own peer")]
    Self_,
    /// Not in this state.
    #[error("not possible while the peer is {0:?}")]
    State(PeerState),
    /// The confirmed fingerprint is not the document's.
    #[error("the fingerprint does not match the peer's trust document")]
    Fingerprint,
    /// Its document was refused.
    #[error("trust document: {0}")]
    Trust(TrustError),
    /// Its document could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The peer could not be called.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::NotFound => Self::NotFound("peer"),
            PeerError::Self_ => Self::invalid("domain", error.to_string()),
            PeerError::State(_) => Self::conflict("peer_state", error.to_string()),
            PeerError::Fingerprint => Self::invalid("fingerprint", error.to_string()),
            PeerError::Trust(_) => Self::conflict("peer_document_refused", error.to_string()),
            PeerError::Fetch(FetchError::Url) => Self::invalid("url", error.to_string()),
            PeerError::Fetch(_) | PeerError::Link(_) => Self::unavailable("peer_unreachable", error.to_string()),
            PeerError::Store(error) => error,
        }
    }
}

/// What a peer is allowed: the part of its record that an operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowances {
    /// Peer tenant to local tenant; `*` on the left means every tenant, on the right the tenant of the agent.
    pub tenants: BTreeMap<String, String>,
    /// Local agents by UUID or handle; `*` means all that are visible to the mesh.
    pub agents: Vec<String>,
    /// What it may do.
    pub operations: PeerOperations,
    /// How much.
    pub quotas: PeerQuotas,
}

impl Allowances {
    /// Everything that agents' own visibility and grants let through. For a peer that is trusted as a whole.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            tenants: BTreeMap::from([("*".to_owned(), "*".to_owned())]),
            agents: vec!["*".to_owned()],
            operations: PeerOperations { send: true, stream: true, cancel: true, directory: true },
            quotas: PeerQuotas::default(),
        }
    }
}

/// What a peer answered to [`Peers::probe`].
#[derive(Debug, Clone)]
pub struct Probe {
    /// Time of one request, with the handshake if there was no connection.
    pub round_trip: Duration,
    /// Its clock minus ours, in seconds. More than the allowance, and it refuses our tokens.
    pub clock_difference_seconds: i64,
    /// What it lets us do.
    pub capabilities: Capabilities,
}

/// The peers of this hub.
pub struct Peers {
    local: Arc<LocalNode>,
    links: Arc<Links>,
    store: Arc<dyn PeerStore>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditTrail>,
    musts: Vec<Must>,
    /// Changes are read-modify-write: one at a time.
    changing: Mutex<()>,
    /// When what was written last of each peer's contacts was.
    noted: Mutex<HashMap<String, Ts>>,
}

impl Peers {
    /// Nothing is loaded yet: call [`load`](Self::load). `musts`: what a conformance result has to show where a record asks for one.
    #[must_use]
    pub fn new(
        local: Arc<LocalNode>,
        links: Arc<Links>,
        store: Arc<dyn PeerStore>,
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
        audit: Arc<dyn AuditTrail>,
        musts: Vec<Must>,
    ) -> Self {
        Self { local, links, store, fetcher, clock, audit, musts, changing: Mutex::default(), noted: Mutex::default() }
    }

    fn roster(&self) -> &Arc<Roster> {
        self.links.roster()
    }

    /// Reads all records into the roster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(&self) -> Result<(), PeerError> {
        self.roster().install(self.store.all().await?, self.clock.now());
        Ok(())
    }

    /// Every record, by domain.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<PeerRecord>, PeerError> {
        Ok(self.store.all().await?)
    }

    /// One record.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show(&self, domain: &str) -> Result<PeerRecord, PeerError> {
        self.list().await?.into_iter().find(|record| record.domain == domain).ok_or(PeerError::NotFound)
    }

    /// Fetches the trust document of `domain` from `url` and keeps it as proposed. Nothing is allowed yet. The operator compares the
    /// fingerprint in the answer with the one that the other hub shows, then calls [`confirm`](Self::confirm). Proposing a proposed
    /// peer again replaces it.
    ///
    /// # Errors
    /// When the document cannot be read or must not be believed, or the peer is beyond that state.
    pub async fn propose(&self, domain: &str, url: &str) -> Result<PeerRecord, PeerError> {
        if domain == self.local.domain() {
            return Err(PeerError::Self_);
        }
        let now = self.clock.now();
        let bytes = self.fetcher.document(url).await?;
        let accepted = trust::read(&bytes, domain, None, now).map_err(PeerError::Trust)?;
        let _one = self.changing.lock().await;
        match self.show(domain).await {
            Ok(known) if known.state != PeerState::Proposed => return Err(PeerError::State(known.state)),
            Ok(_) | Err(PeerError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let record = PeerRecord {
            domain: domain.to_owned(),
            trust_url: url.to_owned(),
            fingerprint: trust::fingerprint(&accepted.raw).map_err(PeerError::Trust)?,
            state: PeerState::Proposed,
            document: accepted.raw,
            document_read_at: now,
            tenants: BTreeMap::new(),
            agents: Vec::new(),
            operations: PeerOperations::default(),
            quotas: PeerQuotas::default(),
            conformance: None,
            created_at: now,
            updated_at: now,
        };
        self.write(record, "peer.propose").await
    }

    /// Makes a proposed peer active with these allowances. `fingerprint` came to the operator by another way than the document.
    ///
    /// # Errors
    /// When it does not match, or the peer is not proposed.
    pub async fn confirm(&self, domain: &str, fingerprint: &str, allow: Allowances) -> Result<PeerRecord, PeerError> {
        let _one = self.changing.lock().await;
        let mut record = self.show(domain).await?;
        if !matches!(record.state, PeerState::Proposed | PeerState::Reviewed) {
            return Err(PeerError::State(record.state));
        }
        let typed: String = fingerprint.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
        if typed != record.fingerprint || trust::fingerprint(&record.document) != Ok(typed) {
            self.audit.record(domain, "peer.confirm", "denied", "fingerprint does not match").await;
            return Err(PeerError::Fingerprint);
        }
        record.state = PeerState::Active;
        self.write(with(record, allow), "peer.confirm").await
    }

    /// Changes what a peer is allowed.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn allow(&self, domain: &str, allow: Allowances) -> Result<PeerRecord, PeerError> {
        let _one = self.changing.lock().await;
        let record = self.show(domain).await?;
        self.write(with(record, allow), "peer.allow").await
    }

    /// Stops all traffic with a peer at once: its roots are dropped, its connections closed, its queue parked.
    ///
    /// # Errors
    /// When it is not active or stale.
    pub async fn suspend(&self, domain: &str) -> Result<PeerRecord, PeerError> {
        self.change_state(domain, &[PeerState::Active, PeerState::Stale], PeerState::Suspended, "peer.suspend").await
    }

    /// Makes a suspended peer active again: parked work goes on where it stopped.
    ///
    /// # Errors
    /// When it is not suspended.
    pub async fn resume(&self, domain: &str) -> Result<PeerRecord, PeerError> {
        let record = self.change_state(domain, &[PeerState::Suspended], PeerState::Active, "peer.resume").await?;
        if record.conformance.is_none() {
            return Ok(record);
        }
        // Whether it still has what its record asks for is not known: the answer should say where it stands now.
        if let Err(error) = self.refresh(domain).await {
            tracing::warn!(peer = domain, %error, "a resumed peer could not be looked at");
        }
        self.show(domain).await
    }

    /// Removes a peer and its roots.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn remove(&self, domain: &str) -> Result<(), PeerError> {
        let _one = self.changing.lock().await;
        if !self.store.remove(domain).await? {
            return Err(PeerError::NotFound);
        }
        self.audit.record(domain, "peer.remove", "allowed", "").await;
        self.load().await
    }

    async fn change_state(&self, domain: &str, from: &[PeerState], to: PeerState, action: &'static str) -> Result<PeerRecord, PeerError> {
        let _one = self.changing.lock().await;
        let mut record = self.show(domain).await?;
        if !from.contains(&record.state) {
            return Err(PeerError::State(record.state));
        }
        record.state = to;
        self.write(record, action).await
    }

    async fn write(&self, mut record: PeerRecord, action: &'static str) -> Result<PeerRecord, PeerError> {
        record.updated_at = self.clock.now();
        self.store.put(&record).await?;
        self.audit.record(&record.domain, action, "allowed", "").await;
        self.load().await?;
        Ok(record)
    }

    /// Reads a peer's trust document again (F8, F9): a newer one replaces the old, a contradiction suspends the peer.
    ///
    /// # Errors
    /// When it cannot be read or must not be believed.
    pub async fn refresh(&self, domain: &str) -> Result<(), PeerError> {
        let known = self.show(domain).await?;
        let fetched = self.fetcher.document(&known.trust_url).await;
        let shown = self.shown_result(&known).await;
        let _one = self.changing.lock().await;
        let mut record = self.show(domain).await?;
        if !matches!(record.state, PeerState::Active | PeerState::Stale) {
            return Ok(());
        }
        let now = self.clock.now();
        let update =
            fetched.map_err(PeerError::from).and_then(|bytes| trust::update(&bytes, &record.document, now).map_err(PeerError::Trust));
        match update {
            Ok(next) => self.refreshed(record, next, shown, now).await,
            Err(error) => {
                let suspicious = matches!(error, PeerError::Trust(TrustError::Contradiction | TrustError::Domain));
                let over = until(&record).is_none_or(|until| until <= now);
                if suspicious {
                    tracing::error!(peer = domain, %error, "peer is suspended");
                    self.audit.record(domain, "peer.refresh", "denied", &error.to_string()).await;
                    record.state = PeerState::Suspended;
                    self.write(record, "peer.suspend").await?;
                } else if over && record.state == PeerState::Active {
                    record.state = PeerState::Stale;
                    self.write(record, "peer.stale").await?;
                }
                Err(error)
            }
        }
    }

    async fn refreshed(&self, mut record: PeerRecord, next: Option<Accepted>, shown: Shown, now: Ts) -> Result<(), PeerError> {
        let old_enough_to_ask = now > record.document_read_at.plus_seconds(SUPPORTED_PARTITION_SECONDS);
        let touched = now > record.document_read_at.plus_seconds(TOUCH_SECONDS);
        let newer = next.is_some();
        if let Some(next) = next {
            record.fingerprint = trust::fingerprint(&next.raw).map_err(PeerError::Trust)?;
            record.document = next.raw;
        }
        let looked = self.look(&mut record, shown, now);
        if looked == Looked::Unmet {
            record.state = PeerState::Stale;
            return self.write(record, "peer.stale").await.map(drop);
        }
        if record.state == PeerState::Stale && old_enough_to_ask {
            record.state = PeerState::Proposed;
            self.write(record, "peer.propose").await?;
        } else if newer || touched || looked == Looked::News || record.state == PeerState::Stale {
            record.document_read_at = now;
            record.state = PeerState::Active;
            self.write(record, "peer.refresh").await?;
        }
        Ok(())
    }

    /// Asks a peer what it allows us: TLS, token and peer record in one round trip.
    ///
    /// # Errors
    /// When it cannot be called, or does not accept us.
    pub async fn probe(&self, domain: &str) -> Result<Probe, PeerError> {
        self.show(domain).await?;
        let began = Instant::now();
        let hello =
            Hello { node: self.local.id.clone(), time: self.clock.now(), profiles: vec![PROFILE_V1.to_owned()], marks: BTreeMap::new() };
        let body = serde_json::to_vec(&hello).map_err(Error::internal)?;
        let theirs: Hello = self.links.call(domain, Method::POST, "/fed/v1/hello", Operation::Hello, body.into()).await?;
        let round_trip = began.elapsed();
        let capabilities = self.links.call(domain, Method::GET, "/fed/v1/capabilities", Operation::Hello, Bytes::new()).await?;
        Ok(Probe { round_trip, clock_difference_seconds: theirs.time.seconds() - hello.time.seconds(), capabilities })
    }

    /// Reads the agents that a peer shows us and keeps them. Entries that claim another domain are dropped.
    ///
    /// # Errors
    /// When the peer cannot be called or the store fails.
    pub async fn read_directory(&self, domain: &str) -> Result<usize, PeerError> {
        let directory: Directory = self.links.call(domain, Method::GET, "/fed/v1/directory", Operation::Directory, Bytes::new()).await?;
        let own = |entry: &DirectoryEntry| {
            let at_domain = |jid: &str| jid.strip_suffix(domain).is_some_and(|head| head.ends_with("@agents."));
            entry.id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(domain)).is_some_and(|rest| rest.starts_with("/agent/"))
                && at_domain(&entry.jid)
                && entry.alias.as_deref().is_none_or(at_domain)
        };
        let agents: Vec<_> = directory.agents.into_iter().filter(own).take(MAX_AGENTS).collect();
        self.store.put_agents(domain, &agents).await?;
        Ok(agents.len())
    }

    /// Writes when each peer was last in contact: at most once a minute for each.
    ///
    /// # Errors
    /// When the store fails; it is written the next time then.
    pub async fn note_seen(&self) -> Result<(), PeerError> {
        let mut noted = self.noted.lock().await;
        for (domain, at) in self.roster().seen() {
            if noted.get(&domain).is_none_or(|before| before.plus_seconds(NOTE_SECONDS) <= at) {
                self.store.saw(&domain, at).await?;
                noted.insert(domain, at);
            }
        }
        Ok(())
    }

    /// Keeps documents and directories fresh until `stop`: and at once when the roster changes.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.roster().changes();
        let mut documents_at = Ts::from_micros(0);
        loop {
            changes.mark_unchanged();
            let mut wait = DIRECTORY;
            for peer in self.roster().all() {
                if let Err(error) = self.read_directory(&peer.record.domain).await {
                    tracing::info!(peer = %peer.record.domain, error = %crate::delivery::chain(&error), "directory could not be read");
                    wait = AFTER_FAILURE;
                }
            }
            if let Err(error) = self.note_seen().await {
                tracing::warn!(error = %crate::delivery::chain(&error), "when peers were seen could not be written");
            }
            let now = self.clock.now();
            if now >= documents_at {
                documents_at = now.plus_seconds(i64::try_from(REFRESH.as_secs()).unwrap_or(i64::MAX));
                self.refresh_all().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    async fn refresh_all(&self) {
        let records = match self.list().await {
            Ok(records) => records,
            Err(error) => return tracing::warn!(error = %crate::delivery::chain(&error), "peer records cannot be read"),
        };
        for record in records.iter().filter(|record| matches!(record.state, PeerState::Active | PeerState::Stale)) {
            if let Err(error) = self.refresh(&record.domain).await {
                tracing::warn!(peer = %record.domain, error = %crate::delivery::chain(&error), "trust document could not be refreshed");
            }
        }
    }
}

fn with(record: PeerRecord, allow: Allowances) -> PeerRecord {
    PeerRecord { tenants: allow.tenants, agents: allow.agents, operations: allow.operations, quotas: allow.quotas, ..record }
}

fn until(record: &PeerRecord) -> Option<Ts> {
    let document: TrustDocument = serde_json::from_value(record.document.clone()).ok()?;
    Some(trust::counts_until(&document, record.document_read_at))
}

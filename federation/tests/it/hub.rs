//! One hub of a test mesh, and a client that can misbehave.

use aiox_core::ports::Clock as _;
use aiox_crypto::system::SystemClock;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aiox_certs::{Authority, Leaf, create_signing_key};
use aiox_crypto::jws::{SigningKey, base64url, sha256};
use aiox_federation::{
    door::{self, Door},
    link::Links,
    listener::{self, ListenerLimits},
    local::{LocalError, LocalNode},
    order::Order,
    peers::Allowances,
    roster::Roster,
    trust::{self, Publication},
};
use aiox_model::{
    EnvelopeId, RunId,
    federation::{Delegation, EnvelopeHeader, NodeId, Party, PeerRecord, PeerState, RunCreate, envelope_type},
    v1::federation::Stack,
};
use aiox_testkit::responses::{Judge, Witness};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::doubles::{Audit, Limiter, MemoryFeed, MemoryGuard, MemoryInbox, MemoryOutbox, TestClock, TestIds, TwoAgents};

pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub fn pair(certificate_pem: &str, key_pem: &str) -> Pair {
    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap())
}

pub fn issue(authority: &Authority, leaf: &Leaf) -> Pair {
    let issued = authority.issue(leaf).unwrap();
    pair(&issued.certificate_pem, &issued.key_pem)
}

pub struct Hub {
    pub domain: String,
    pub node: NodeId,
    pub local: Arc<LocalNode>,
    pub authority: Authority,
    pub pair: Pair,
    pub token_key: SigningKey,
    keys: [PrivateKeyDer<'static>; 2],
    pub roster: Arc<Roster>,
    pub records: Mutex<Vec<PeerRecord>>,
    pub links: Arc<Links>,
    pub clock: Arc<TestClock>,
    pub guard: Arc<MemoryGuard>,
    pub limiter: Arc<Limiter>,
    pub audit: Arc<Audit>,
    pub inbox: Arc<MemoryInbox>,
    pub order: Arc<Order>,
    pub outbox: Arc<MemoryOutbox>,
    pub feed: Arc<MemoryFeed>,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    socket: Mutex<Option<TcpListener>>,
    witness: Witness,
}

pub static DOCUMENTED: LazyLock<Judge> = LazyLock::new(|| Judge::new(vec![aiox_specgen::federation(), aiox_specgen::node()]));

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hub {
    /// A hub that listens.
    pub async fn start(domain: &str) -> Self {
        let hub = Self::prepare(domain).await;
        hub.listen();
        hub
    }

    /// A hub whose port is bound and which does not serve yet: connections to it hang, as to a hub that is down.
    pub async fn prepare(domain: &str) -> Self {
        let authority = Authority::create(domain).unwrap();
        let pair = issue(&authority, &Leaf::federation(domain, "n1", "127.0.0.1").unwrap());
        let token = PrivateKeyDer::from_pem_slice(create_signing_key().unwrap().as_bytes()).unwrap();
        let envelope = PrivateKeyDer::from_pem_slice(create_signing_key().unwrap().as_bytes()).unwrap();
        let local = Arc::new(LocalNode::new(pair.0.clone(), pair.1.clone_key(), &token, &envelope).unwrap());
        let (roster, clock) = (Arc::new(Roster::default()), Arc::new(TestClock::default()));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inbox = Arc::<MemoryInbox>::default();
        Self {
            domain: domain.to_owned(),
            node: local.id().clone(),
            links: Arc::new(Links::new(local.clone(), roster.clone(), clock.clone(), Arc::new(TestIds))),
            local,
            authority,
            pair,
            token_key: SigningKey::from_pkcs8(token.secret_der()).unwrap(),
            keys: [token, envelope],
            roster,
            records: Mutex::default(),
            clock,
            guard: Arc::default(),
            limiter: Arc::default(),
            audit: Arc::default(),
            order: Arc::new(Order::new(inbox.clone())),
            inbox,
            outbox: Arc::default(),
            feed: Arc::default(),
            address: socket.local_addr().unwrap(),
            stop: CancellationToken::new(),
            socket: Mutex::new(Some(socket)),
            witness: Witness::new(&DOCUMENTED),
        }
    }

    pub fn listen(&self) {
        let door = Door {
            local: self.local.clone(),
            roster: self.roster.clone(),
            inbox: self.inbox.clone(),
            order: self.order.clone(),
            outbox: self.outbox.clone(),
            agents: Arc::new(TwoAgents(self.domain.clone())),
            feed: self.feed.clone(),
            guard: self.guard.clone(),
            limiter: self.limiter.clone(),
            clock: self.clock.clone(),
            audit: self.audit.clone(),
            skew: aiox_federation::token::DEFAULT_SKEW,
            stall: Duration::from_millis(300),
        };
        self.listen_with(self.witness.around(door::routes(door)));
    }

    /// Serves other routes than those of a hub, for peers that are to be misled.
    pub fn listen_with(&self, router: axum::Router) {
        let socket = self.socket.lock().unwrap().take().unwrap();
        let (local, roster, stop) = (self.local.clone(), self.roster.clone(), self.stop.clone());
        let limits = ListenerLimits { handshake: Duration::from_millis(500), per_peer: 4, ..ListenerLimits::default() };
        tokio::spawn(async move { listener::serve(socket, &local, roster, router, limits, stop).await.unwrap() });
    }

    /// This hub as it would be with another program.
    pub fn with_build(&self, digest: &str) -> LocalNode {
        let mut stack = Stack::untold(&self.domain);
        stack.peer.build.digest = Some(digest.to_owned());
        let [token, envelope] = &self.keys;
        LocalNode::new(self.pair.0.clone(), self.pair.1.clone_key(), token, envelope).unwrap().with_stack(&stack)
    }

    /// This hub as it would be with another certificate for its calls.
    pub fn with_client(&self, client: Pair) -> Result<LocalNode, LocalError> {
        let [token, envelope] = &self.keys;
        LocalNode::with_client(self.pair.0.clone(), self.pair.1.clone_key(), client, token, envelope)
    }

    pub fn document(&self) -> Value {
        let now = SystemClock.now();
        let endpoint = format!("https://{}", self.address);
        let roots = vec![CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap()];
        trust::publish(&self.local, &Publication { endpoint, roots, sequence: 1, not_after: now.plus_seconds(86_400) }).unwrap()
    }

    pub fn record(&self) -> PeerRecord {
        let now = SystemClock.now();
        let allow = Allowances::everything();
        let document = self.document();
        PeerRecord {
            domain: self.domain.clone(),
            trust_url: String::new(),
            fingerprint: trust::fingerprint(&document).unwrap(),
            state: PeerState::Active,
            document,
            document_read_at: now,
            tenants: allow.tenants,
            agents: vec!["writer".to_owned()],
            operations: allow.operations,
            quotas: allow.quotas,
            conformance: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Makes `other` an active peer of this hub, with changes to its record.
    pub fn trusts(&self, other: &Self, change: impl FnOnce(&mut PeerRecord)) {
        let mut record = other.record();
        change(&mut record);
        let mut records = self.records.lock().unwrap();
        records.retain(|known| known.domain != record.domain);
        records.push(record);
        self.roster.install(records.clone(), SystemClock.now());
    }

    /// A client of this hub that shows its true certificate.
    pub async fn raw(&self, to: &Self) -> Raw {
        Raw::connect(to.address, Some(&self.pair)).await.unwrap()
    }

    /// Claims of a valid token for a request to `to`.
    pub fn claims(&self, to: &Self, scope: &str) -> Value {
        let now = SystemClock.now().seconds();
        json!({
            "iss": self.node, "sub": self.node, "aud": to.node, "iat": now, "exp": now + 60, "scope": scope,
            "jti": base64url(Uuid::new_v4().as_bytes()), "cnf": { "x5t#S256": sha256(&self.pair.0[0]) },
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        format!("Bearer {}", self.token_key.sign(aiox_federation::token::TYPE, claims.to_string().as_bytes()).unwrap())
    }

    pub fn bearer(&self, to: &Self, scope: &str) -> String {
        self.sign(&self.claims(to, scope))
    }

    /// Header and payload of a run for an agent of `to`.
    pub fn run_create(&self, to: &Self, conv: &str, agent: &str) -> (EnvelopeHeader, String) {
        let now = SystemClock.now();
        let run = RunId(Uuid::now_v7());
        let payload = RunCreate { run_id: run, input: "hello".to_owned(), conversation_id: None, event_id: None, other: Map::new() };
        let header = EnvelopeHeader {
            id: EnvelopeId(Uuid::now_v7()),
            origin: Party { agent: None, node: self.node.clone() },
            dest: Party { agent: Some(format!("{agent}@agents.{}", to.domain)), node: to.node.clone() },
            tenant: Some("default".to_owned()),
            conv: conv.to_owned(),
            seq: 1,
            prev: None,
            kind: envelope_type::RUN_CREATE.to_owned(),
            idem: None,
            created: now,
            expires: now.plus_seconds(3600),
            deadline: None,
            hop: 0,
            path: vec![],
            budget: None,
            trace: None,
            content_type: "application/json".to_owned(),
            payload_hash: String::new(),
            auth: Delegation { sub: format!("alice@{}", self.domain), act: None, scope: "runs:create runs:cancel".to_owned() },
            other: Map::new(),
        };
        (header, serde_json::to_string(&payload).unwrap())
    }

    pub fn sealed(&self, header: EnvelopeHeader, payload: String) -> Value {
        aiox_federation::envelope::seal(&self.local, header, payload).unwrap().0
    }

    pub fn envelope(&self, to: &Self, conv: &str) -> Value {
        let (header, payload) = self.run_create(to, conv, "writer");
        self.sealed(header, payload)
    }
}

/// Two hubs that trust each other.
pub async fn two() -> (Hub, Hub) {
    let (a, b) = (Hub::start("hub-a.example").await, Hub::start("hub-b.example").await);
    a.trusts(&b, |_| {});
    b.trusts(&a, |_| {});
    (a, b)
}

#[derive(Debug)]
struct AnyServer;
impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub fn client_config(certificate: Option<&Pair>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match certificate {
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// An HTTP/2 client that sends what it is told.
pub struct Raw {
    pub sender: SendRequest<Full<Bytes>>,
    pub closed: tokio::task::JoinHandle<()>,
}

pub struct Answered {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}
impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Raw {
    pub async fn connect(address: SocketAddr, certificate: Option<&Pair>) -> Result<Self, AnyError> {
        Self::connect_with(address, client_config(certificate, &[&rustls::version::TLS13])).await
    }

    pub async fn connect_with(address: SocketAddr, config: ClientConfig) -> Result<Self, AnyError> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let closed = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, closed })
    }

    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Response<hyper::body::Incoming>, AnyError> {
        let mut request = Request::builder().method(method).uri(format!("https://peer.example{path}"));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body.into()))?).await?)
    }

    pub async fn send(&mut self, method: &str, path: &str, authorization: Option<&str>, body: Vec<u8>) -> Result<Answered, AnyError> {
        let response = self.open(method, path, authorization, body).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?;
        Ok(Answered { status, headers, body })
    }

    /// `GET /fed/v1/capabilities`: the smallest request.
    pub async fn ask(&mut self, authorization: Option<&str>) -> Answered {
        self.send("GET", "/fed/v1/capabilities", authorization, vec![]).await.unwrap()
    }

    pub async fn deliver(&mut self, from: &Hub, to: &Hub, envelopes: &[Value]) -> Vec<Value> {
        let body = json!({ "envelopes": envelopes }).to_string().into_bytes();
        let answer = self.send("POST", "/fed/v1/envelopes", Some(&from.bearer(to, "deliver")), body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["verdicts"].as_array().unwrap().clone()
    }
}

/// Tenants of a record, for changes in tests.
pub fn tenants(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(theirs, ours)| ((*theirs).to_owned(), (*ours).to_owned())).collect()
}

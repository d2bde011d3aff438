//! A hub of the suite's own, as far as a peer sees it: an authority, keys, a trust document, a client and a listener of
//! `aiox-federation/1`. Written from `spec/federation.md` and held against `spec/vectors`, beside the hub's own federation.
//!
//! Each case makes a peer with a domain of its own, so that no case uses up another's limits or sees another's envelopes. It is
//! proposed and confirmed at the target with the administrator's account, and removed at the end. Since the target reads its
//! trust document at a loopback URL (FED-005), there is none for a target on another machine.

pub(crate) mod door;
mod front;
pub(crate) mod ids;
pub(crate) mod jose;
pub(crate) mod link;
pub(crate) mod pki;

use std::sync::{Arc, PoisonError};

use reqwest::{Method, Url};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::{
    door::Door,
    front::Front,
    jose::{ENVELOPE, Key, TOKEN, TRUST, sha256},
    link::{Ask, Dial, Link},
    pki::{Authority, Leaf, Plan},
};
use crate::{
    case::{Outcome, Stop},
    exchange::Answer,
    scene::Scene,
    world::Account,
};

pub(crate) const DOCUMENT: &str = "/.well-known/aiox-federation.json";
pub(crate) const PEERS: &str = "/api/v1/admin/peers";
const H2: &[&[u8]] = &[b"h2"];

/// The target, as its trust document tells of it.
pub(crate) struct Hub {
    pub(crate) node: String,
    pub(crate) domain: String,
    pub(crate) endpoint: Url,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) token_keys: Vec<Value>,
    pub(crate) envelope_keys: Vec<Value>,
}

/// Reads the trust document of the target, where it has one.
pub(crate) async fn hub(scene: &Scene) -> Result<Hub, Stop> {
    let answer = scene.call(Method::GET, DOCUMENT).send().await?;
    if answer.status != 200 {
        return Err(Stop::NotRun(format!("the hub has no trust document: {} answered {}", answer.what, answer.status)));
    }
    let unusable = || Stop::Failed(format!("the trust document is unusable: {}", answer.json));
    let list = |name: &str| answer.at(name).as_array().cloned().unwrap_or_default();
    let der = |root: &Value| base64::Engine::decode(&base64::prelude::BASE64_STANDARD, root.as_str()?).ok().map(CertificateDer::from);
    Ok(Hub {
        node: answer.text("/nodes/0/id").to_owned(),
        domain: answer.text("/domain").to_owned(),
        endpoint: answer.text("/nodes/0/endpoint").parse().map_err(|_| unusable())?,
        roots: list("/roots").iter().map(der).collect::<Option<_>>().ok_or_else(unusable)?,
        token_keys: list("/token_keys"),
        envelope_keys: list("/envelope_keys"),
    })
}

/// A request token before it is signed: whatever it says can be changed.
pub(crate) struct Token {
    key: Arc<Key>,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}
impl Token {
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }
    pub(crate) fn without(mut self, name: &str) -> Self {
        for part in [&mut self.header, &mut self.claims] {
            if let Some(members) = part.as_object_mut() {
                members.shift_remove(name);
            }
        }
        self
    }
    pub(crate) fn by(mut self, key: &Arc<Key>) -> Self {
        self.key = key.clone();
        self
    }
    pub(crate) fn sign(&self) -> Result<String, Stop> {
        self.key.compact(&self.header, self.claims.to_string().as_bytes())
    }
}

/// A peer of the suite's own.
pub(crate) struct Peer {
    pub(crate) domain: String,
    pub(crate) node: String,
    pub(crate) authority: Authority,
    pub(crate) leaf: Leaf,
    pub(crate) token_key: Arc<Key>,
    pub(crate) envelope_key: Arc<Key>,
    pub(crate) door: Door,
    pub(crate) hub: Hub,
    pub(crate) admin: Account,
    front: Option<Front>,
    scene: Scene,
}

impl Peer {
    /// A peer that the target does not know yet, whose listener shows a certificate as it has to be.
    pub(crate) async fn start(scene: &Scene) -> Result<Self, Stop> {
        Self::with_server(scene, |_, node| Plan::of(node), None).await
    }

    /// As [`start`](Self::start), with another certificate at its listener.
    pub(crate) async fn with_server(scene: &Scene, plan: impl Fn(&str, &str) -> Plan, signer: Option<&Authority>) -> Result<Self, Stop> {
        let admin = scene.world.admin().await?;
        let target = &scene.world.options.target;
        let near = target.host_str().is_some_and(|host| {
            host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if !near {
            return Err(Stop::NotRun(
                "the target is on another machine, so it cannot read the trust document of the suite's own peer".into(),
            ));
        }
        let mut hub = hub(scene).await?;
        let domain = format!("p{}-{}.conformance.example", &Uuid::new_v4().simple().to_string()[..8], scene.world.mark);
        let node = format!("spiffe://{domain}/node/n1");
        let authority = Authority::new(&domain)?;
        let leaf = authority.leaf(&Plan::of(&node))?;
        let mut server = signer.unwrap_or(&authority).leaf(&plan(&domain, &node))?;
        if scene.world.tamper.doors.server.is_some_and(|taken| taken(&server.said, &domain)) {
            server = authority.leaf(&Plan::of(&node))?;
        }
        let (token_key, envelope_key) = (Arc::new(Key::generate()?), Arc::new(Key::generate()?));
        let door = Door::open(scene.world.clone(), &node, &server, envelope_key.clone(), &hub.roots).await?;
        let front = match scene.world.tamper.doors.front {
            None => None,
            Some(fault) => {
                let front = Front::open(fault, &hub, &leaf).await?;
                hub.endpoint = front.endpoint.clone();
                hub.roots.push(front.root.clone());
                Some(front)
            }
        };
        let peer = Self { domain, node, authority, leaf, token_key, envelope_key, door, hub, admin, front, scene: scene.clone() };
        peer.publish(peer.document()?);
        Ok(peer)
    }

    /// A peer that the target has confirmed.
    pub(crate) async fn active(scene: &Scene) -> Result<Self, Stop> {
        let peer = Self::start(scene).await?;
        peer.activate().await?;
        Ok(peer)
    }

    /// Proposes and confirms this peer.
    pub(crate) async fn activate(&self) -> Outcome {
        let prepared = |answer: Answer| match answer.status {
            200 | 201 => Ok(answer),
            status => {
                Err(Stop::Harness(format!("the suite's peer could not be made: {} answered {status} with {}", answer.what, answer.json)))
            }
        };
        let proposed = prepared(self.propose().await?)?;
        prepared(self.confirm(proposed.text("/data/fingerprint")).await?).map(drop)
    }

    /// The trust document as it has to be, unsigned.
    pub(crate) fn draft(&self) -> Value {
        let root = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &self.authority.certificate);
        json!({
            "domain": self.domain,
            "nodes": [{ "id": self.node, "endpoint": format!("https://127.0.0.1:{}", self.door.port) }],
            "roots": [root],
            "token_keys": [self.token_key.public],
            "envelope_keys": [self.envelope_key.public],
            "sequence": ids::seconds(),
            "refresh_hint": 300,
            "not_after": ids::at(86_400),
            "profiles": ["aiox-federation/1"],
        })
    }

    /// Signs a trust document.
    pub(crate) fn sign(&self, draft: Value) -> Result<Value, Stop> {
        self.envelope_key.seal(TRUST, draft, &["signature"])
    }

    pub(crate) fn document(&self) -> Result<Value, Stop> {
        self.sign(self.draft())
    }

    /// Serves this as the trust document.
    pub(crate) fn publish(&self, document: Value) {
        *self.door.state.document.lock().unwrap_or_else(PoisonError::into_inner) = document;
    }

    /// Where the target reads the trust document.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.door.document_port)
    }

    /// Proposes this peer at the target.
    pub(crate) async fn propose(&self) -> Result<Answer, Stop> {
        let world = &self.scene.world;
        world.remember(&world.options.target, &self.admin, &format!("{PEERS}/{}", self.domain));
        self.scene.post(&self.admin, PEERS, &json!({ "domain": self.domain, "url": self.url() })).await
    }

    pub(crate) async fn confirm(&self, fingerprint: &str) -> Result<Answer, Stop> {
        self.scene.post(&self.admin, &format!("{PEERS}/{}/confirm", self.domain), &json!({ "fingerprint": fingerprint })).await
    }

    /// `suspend` or `resume`.
    pub(crate) async fn act(&self, verb: &str) -> Result<Answer, Stop> {
        self.scene.post(&self.admin, &format!("{PEERS}/{}/{verb}", self.domain), &json!({})).await
    }

    /// The target's record of this peer.
    pub(crate) async fn record(&self) -> Result<Answer, Stop> {
        self.scene.get(&self.admin, &format!("{PEERS}/{}", self.domain)).await
    }

    /// How this peer connects.
    pub(crate) fn dial(&self) -> Dial<'_> {
        Dial {
            endpoint: &self.hub.endpoint,
            roots: &self.hub.roots,
            leaf: Some(&self.leaf),
            alpn: H2,
            old: false,
            front: self.front.as_ref(),
        }
    }

    /// Connects as it has to be.
    pub(crate) async fn link(&self) -> Result<Link, Stop> {
        let mut link = link::dial(&self.dial())
            .await
            .map_err(|error| Stop::Failed(format!("the peer listener {} refused an active peer: {error}", self.hub.endpoint)))?;
        link.feed = self.scene.world.tamper.doors.feed;
        Ok(link)
    }

    /// A request token as it has to be.
    pub(crate) fn token(&self, scope: &str) -> Token {
        let now = ids::seconds();
        let claims = json!({
            "iss": self.node, "sub": self.node, "aud": self.hub.node, "iat": now, "exp": now + 60, "scope": scope,
            "jti": jose::b64(&[Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat()),
            "cnf": { "x5t#S256": self.leaf.thumbprint() },
        });
        Token { key: self.token_key.clone(), header: self.token_key.header(TOKEN), claims }
    }

    /// `GET` on an open connection.
    pub(crate) async fn get(&self, link: &Link, path: &str, scope: &str) -> Result<Answer, Stop> {
        link.answer(&self.scene, Ask::get(path, &self.token(scope).sign()?)).await
    }

    /// `POST` on an open connection.
    pub(crate) async fn post(&self, link: &Link, path: &str, scope: &str, body: &Value) -> Result<Answer, Stop> {
        link.answer(&self.scene, Ask::post(path, &self.token(scope).sign()?, body)).await
    }

    /// Says hello, which tells the target that this peer is there.
    pub(crate) async fn hello(&self, link: &Link) -> Result<Answer, Stop> {
        let body = json!({ "node": self.node, "time": ids::now(), "profiles": ["aiox-federation/1"] });
        self.post(link, "/fed/v1/hello", "hello", &body).await
    }

    /// A user of this peer.
    pub(crate) fn user(&self) -> String {
        format!("carol@{}", self.domain)
    }

    /// The signed part of an envelope that makes a run, as it has to be.
    pub(crate) fn header(&self, agent: &str, conv: &str, seq: u64) -> Value {
        json!({
            "id": ids::fresh("env"),
            "origin": { "node": self.node },
            "dest": { "agent": agent, "node": self.hub.node },
            "conv": conv,
            "seq": seq,
            "type": "run.create",
            "created": ids::now(),
            "expires": ids::at(600),
            "hop": 0,
            "content_type": "application/json",
            "auth": { "sub": self.user(), "scope": "runs:create runs:cancel" },
        })
    }

    /// Signs an envelope over a header and this payload.
    pub(crate) fn seal(&self, header: Value, payload: &str) -> Result<Value, Stop> {
        self.seal_by(&self.envelope_key, header, payload)
    }

    /// As [`seal`](Self::seal), by any key.
    pub(crate) fn seal_by(&self, key: &Key, mut header: Value, payload: &str) -> Result<Value, Stop> {
        header["payload_hash"] = sha256(payload.as_bytes()).into();
        let mut envelope = key.seal(ENVELOPE, header, &[])?;
        envelope["payload"] = payload.into();
        Ok(envelope)
    }

    /// An envelope that makes a run, and the run's id.
    pub(crate) fn create(&self, agent: &str, conv: &str, seq: u64, input: &str) -> Result<(Value, String), Stop> {
        let run = ids::fresh("run");
        let payload = json!({ "run_id": run, "input": input }).to_string();
        Ok((self.seal(self.header(agent, conv, seq), &payload)?, run))
    }

    /// Hands envelopes over and gives as many verdicts.
    pub(crate) async fn deliver(&self, link: &Link, envelopes: &[Value]) -> Result<Vec<Value>, Stop> {
        let answer = self.post(link, "/fed/v1/envelopes", "deliver", &json!({ "envelopes": envelopes })).await?;
        answer.expect(200)?;
        let verdicts = answer.list("/verdicts")?;
        if verdicts.len() != envelopes.len() {
            return Err(Stop::Failed(format!(
                "{}: {} verdicts for {} envelopes: {}",
                answer.what,
                verdicts.len(),
                envelopes.len(),
                answer.json
            )));
        }
        Ok(verdicts.clone())
    }

    /// An agent of this peer that the target's accounts may call, by its address.
    pub(crate) fn agent(&self) -> String {
        format!("agent-{}@agents.{}", Uuid::new_v4(), self.domain)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Taken away as soon as its case is over, so that the target does not call ports that nobody listens at. What fails here is
        // taken away with everything else at the end.
        let scene = self.scene.clone();
        let (path, token) = (format!("{PEERS}/{}", self.domain), self.admin.access.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { scene.call(Method::DELETE, &path).bearer(&token).send().await });
        }
    }
}

/// The digest of an envelope: SHA-256 of what is signed.
pub(crate) fn digest(envelope: &Value) -> String {
    jose::without(envelope, &["payload", "signature"]).map(|bytes| sha256(&bytes)).unwrap_or_default()
}

/// A document with one member changed.
pub(crate) fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    if let Some(place) = document.pointer_mut(pointer) {
        *place = value;
    } else if let (Some(name), Some(members)) = (pointer.strip_prefix('/'), document.as_object_mut()) {
        members.insert(name.to_owned(), value);
    }
    document
}

/// A document without a member.
pub(crate) fn lacking(document: &Value, name: &str) -> Value {
    let members = document.as_object().cloned().unwrap_or_default();
    Value::Object(members.into_iter().filter(|(member, _)| member != name).collect::<Map<_, _>>())
}

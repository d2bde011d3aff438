//! The sections, each with its defaults and its own rules.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, Secret, secret::resolve};

/// How careful the hub is at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Missing secrets are made and kept in the data directory; clear text on loopback is allowed.
    #[default]
    Dev,
    /// As `dev`, for showing the hub to others.
    Demo,
    /// Every unsafe setting refuses the start.
    Prod,
}

/// The hub itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hub {
    /// The domain that this hub owns. Agents' addresses, certificates and the XMPP domain follow from it.
    pub domain: String,
    /// Name of this node inside its domain.
    pub node: String,
    /// Directory of the database, the made secrets and the certificates.
    pub data_dir: PathBuf,
    /// How careful the hub is.
    pub mode: Mode,
    /// Days for which a deleted agent can be restored.
    pub retention_days: u32,
}
impl Default for Hub {
    fn default() -> Self {
        Self { domain: "hub-a.example".into(), node: "main".into(), data_dir: "data".into(), mode: Mode::Dev, retention_days: 30 }
    }
}
impl Hub {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        let label = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if self.domain.len() > 240 || !self.domain.split('.').all(label) {
            problems.push(format!("hub.domain: {:?} is not a domain in lower case", self.domain));
        }
        if !label(&self.node) {
            problems.push("hub.node: must be one label of a-z 0-9 -".into());
        }
    }
}

/// REST, SSE and WebSocket.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Further ports for programs that expect one for each group of `/v1`. Every one of them serves everything.
    pub ports: Ports,
    /// PEM certificate chain; with it the listener speaks TLS only.
    pub tls_cert: Option<PathBuf>,
    /// PEM key of that certificate.
    pub tls_key: Option<PathBuf>,
    /// A proxy before this hub ends TLS.
    pub behind_tls_proxy: bool,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<String>,
    /// Origins of browsers that may call.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` needs no credential.
    pub open_metrics: bool,
    /// Whether `/v1` refuses bodies in another form than the documented one.
    pub strict_ingress: bool,
    /// Whether `/v1` believes `X-Tenant-Id` and `X-Principal-Id` where there is no credential. Absent = in the modes dev and demo.
    pub header_identity: Option<bool>,
    /// The tenant of `/v1` requests without a credential that name none.
    pub default_tenant: Option<String>,
}
impl Default for Http {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            ports: Ports::default(),
            tls_cert: None,
            tls_key: None,
            behind_tls_proxy: false,
            trusted_proxies: Vec::new(),
            cors_origins: vec!["http://localhost:3000".into()],
            open_metrics: false,
            strict_ingress: false,
            header_identity: None,
            default_tenant: None,
        }
    }
}

/// Further ports of the product listener. Absent = there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// Port of runs and agents; 8081 by custom.
    pub agent_orchestrator: Option<u16>,
    /// Port of models and policy; 8082 by custom. `/v1/health` there names the service `model-policy`.
    pub model_policy: Option<u16>,
    /// Port of federation for programs; 8083 by custom.
    pub federation: Option<u16>,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A file in the data directory.
    #[default]
    Sqlite,
    /// A Postgres server.
    Postgres,
}

/// Where the data is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Which database.
    pub engine: Engine,
    /// Host of Postgres, or the directory of its Unix socket when it begins with `/`.
    pub host: String,
    /// Port of Postgres.
    pub port: u16,
    /// User at Postgres.
    pub user: String,
    /// Password at Postgres.
    pub password: Option<Secret>,
    /// File with that password.
    pub password_file: Option<PathBuf>,
    /// Database at Postgres.
    pub name: String,
    /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub sslmode: String,
    /// Connections of each of the two pools.
    pub connections: u32,
}
impl Default for Database {
    fn default() -> Self {
        Self {
            engine: Engine::Sqlite,
            host: "localhost".into(),
            port: 5433,
            user: "aiox".into(),
            password: None,
            password_file: None,
            name: "aiox".into(),
            sslmode: "disable".into(),
            connections: 25,
        }
    }
}
impl Database {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if self.engine == Engine::Postgres && self.password.is_none() && self.password_file.is_none() {
            problems.push("database.password: DB_PASSWORD (database.password) is required with Postgres".into());
        }
        if self.connections == 0 {
            problems.push("database.connections: must be at least 1".into());
        }
    }
    /// The address of Postgres, password included: a secret.
    ///
    /// # Errors
    /// When the password file cannot be read.
    pub fn postgres_url(&self) -> Result<String, ConfigError> {
        let password = resolve("database.password", self.password.as_ref(), self.password_file.as_deref())?;
        let escape = |text: &str| {
            text.bytes().fold(String::new(), |mut out, byte| {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    out.push(char::from(byte))
                } else {
                    out.push_str(&format!("%{byte:02X}"))
                }
                out
            })
        };
        let password = password.map(|password| format!(":{}", escape(password.expose()))).unwrap_or_default();
        Ok(format!(
            "postgres://{}{password}@{}:{}/{}?sslmode={}",
            escape(&self.user),
            if self.host.starts_with('/') { escape(&self.host) } else { self.host.clone() },
            self.port,
            escape(&self.name),
            self.sslmode
        ))
    }
}

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignUp {
    /// Everybody.
    #[default]
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Nobody.
    Closed,
}

/// Sign-in and encryption at rest.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Who may register.
    pub sign_up: SignUp,
    /// Secret of access tokens, at least 32 characters.
    pub access_secret: Option<Secret>,
    /// File with it.
    pub access_secret_file: Option<PathBuf>,
    /// Secret of refresh tokens, at least 32 characters, another one.
    pub refresh_secret: Option<Secret>,
    /// File with it.
    pub refresh_secret_file: Option<PathBuf>,
    /// Master key of everything encrypted at rest: 64 hex digits.
    pub encryption_key: Option<Secret>,
    /// File with it.
    pub encryption_key_file: Option<PathBuf>,
    /// Seconds an access token lives.
    pub access_seconds: u32,
    /// Seconds a refresh token lives.
    pub refresh_seconds: u32,
    /// Whoever else may sign tokens for programs at `/v1`, under names of the operator's own.
    pub issuers: BTreeMap<String, Issuer>,
}

/// Whoever signs tokens for programs. Asymmetric signatures alone: RS256, RS384, RS512, ES256, ES384, ES512, EdDSA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Issuer {
    /// `iss` of its tokens.
    pub issuer: String,
    /// What `aud` of its tokens names; absent = `hub.domain`.
    pub audience: Option<String>,
    /// Its public keys, a JSON Web Key Set (RFC 7517). This or the file.
    pub jwks: Option<String>,
    /// File with them. Read at the start.
    pub jwks_file: Option<PathBuf>,
    /// Tenants that its tokens may name; `*` is every tenant. At least one.
    pub tenants: Vec<String>,
    /// The most that its tokens may give; aliases are taken. Absent = what a tenant's user may do at `/v1`.
    pub scopes: Option<Vec<String>>,
    /// Tolerated clock difference, at most 300.
    pub skew_seconds: u32,
    /// Most seconds until a token's `exp`, 60 to 2,592,000.
    pub longest_seconds: u32,
}
impl Default for Issuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: None,
            jwks: None,
            jwks_file: None,
            tenants: Vec::new(),
            scopes: None,
            skew_seconds: 30,
            longest_seconds: 86_400,
        }
    }
}
impl Issuer {
    fn check(&self, name: &str, problems: &mut Vec<String>) {
        let mut problem = |member: &str, text: &str| problems.push(format!("auth.issuers.{name}.{member}: {text}"));
        if self.issuer.is_empty() {
            problem("issuer", "is required");
        }
        if self.jwks.is_some() == self.jwks_file.is_some() {
            problem("jwks", "give jwks or jwks_file, and not both");
        }
        if self.tenants.is_empty() || self.tenants.iter().any(String::is_empty) {
            problem("tenants", "name the tenants that it speaks for");
        }
        if self.skew_seconds > 300 {
            problem("skew_seconds", "must be at most 300");
        }
        if !(60..=2_592_000).contains(&self.longest_seconds) {
            problem("longest_seconds", "must be from 60 to 2592000");
        }
    }
}
impl Default for Auth {
    fn default() -> Self {
        Self {
            sign_up: SignUp::Open,
            access_secret: None,
            access_secret_file: None,
            refresh_secret: None,
            refresh_secret_file: None,
            encryption_key: None,
            encryption_key_file: None,
            access_seconds: 900,
            refresh_seconds: 168 * 3600,
            issuers: BTreeMap::new(),
        }
    }
}
impl Auth {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if self.access_seconds == 0 || self.refresh_seconds == 0 {
            problems.push("auth.access_seconds: token lifetimes must be at least 1 s".into());
        }
        for (name, issuer) in &self.issuers {
            issuer.check(name, problems);
            if self.issuers.iter().any(|(other, one)| other < name && one.issuer == issuer.issuer) {
                problems.push(format!("auth.issuers.{name}.issuer: another entry has the same"));
            }
        }
        if let Some(key) = &self.encryption_key {
            let legal = key.expose().len() == 64 && key.expose().bytes().all(|b| b.is_ascii_hexdigit());
            if !legal {
                problems.push("auth.encryption_key: ENCRYPTION_KEY must be 64 hex characters (valid hex, 32 bytes)".into());
            }
        }
        for (key, secret) in [("auth.access_secret", &self.access_secret), ("auth.refresh_secret", &self.refresh_secret)] {
            if secret.as_ref().is_some_and(|secret| secret.expose().len() < 32) {
                problems.push(format!("{key}: must have at least 32 characters"));
            }
        }
        if let (Some(one), Some(two)) = (&self.access_secret, &self.refresh_secret)
            && one.expose() == two.expose()
        {
            problems.push("auth.refresh_secret: JWT_ACCESS_SECRET and JWT_REFRESH_SECRET must differ".into());
        }
    }
    /// The secret of access tokens.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn access_secret(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("auth.access_secret", self.access_secret.as_ref(), self.access_secret_file.as_deref())
    }
    /// The secret of refresh tokens.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn refresh_secret(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("auth.refresh_secret", self.refresh_secret.as_ref(), self.refresh_secret_file.as_deref())
    }
    /// The master key in hex.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn encryption_key(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("auth.encryption_key", self.encryption_key.as_ref(), self.encryption_key_file.as_deref())
    }
}

/// The XMPP door.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Xmpp {
    /// Whether the door is open. Without an XMPP server beside the hub it stays closed and readiness says so.
    pub enabled: bool,
    /// Host of the server's component port; loopback, because XEP-0114 is clear text.
    pub component_host: String,
    /// The server's component port.
    pub component_port: u16,
    /// Component name as older configurations give it; must be `agents.<hub.domain>`.
    pub component_name: Option<String>,
    /// Shared secret of the component.
    pub secret: Option<Secret>,
    /// File with it.
    pub secret_file: Option<PathBuf>,
    /// `host:port` of the account interface of Prosody's `mod_auth_aiox`. Absent = accounts are not pushed.
    pub accounts_address: Option<String>,
    /// Token of that interface.
    pub accounts_token: Option<Secret>,
    /// File with it.
    pub accounts_token_file: Option<PathBuf>,
    /// Loopback `address:port` where this hub answers its XMPP server's question whether a password or an access token is good
    /// (`deploy/README.md`). Absent = it does not, and only what was pushed can sign in.
    pub sign_in_address: Option<String>,
    /// Unix socket of ejabberd's `mod_http_api`, for ending the sessions of an account that was disabled or has a new password.
    pub ejabberd_socket: Option<PathBuf>,
    /// How much one sender may send to one agent.
    pub brakes: XmppBrakes,
}

/// Brakes of the XMPP door, for each pair of sender and agent. They limit how fast a loop turns; what it costs is limited by
/// `governance`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct XmppBrakes {
    /// Messages that may come at once.
    pub burst: u32,
    /// Messages a second in the long run.
    pub per_second: f64,
    /// Messages that may come at once from a program: another agent, a service, or who counts as one.
    pub program_burst: u32,
    /// Messages a minute from a program in the long run.
    pub program_per_minute: f64,
    /// After this many messages in a row, each within a second of the agent's answer, a sender counts as a program.
    pub instant_turns: u32,
}
impl Default for XmppBrakes {
    fn default() -> Self {
        Self { burst: 200, per_second: 20.0, program_burst: 10, program_per_minute: 6.0, instant_turns: 200 }
    }
}
impl Default for Xmpp {
    fn default() -> Self {
        Self {
            enabled: false,
            component_host: "127.0.0.1".into(),
            component_port: 5275,
            component_name: None,
            secret: None,
            secret_file: None,
            accounts_address: None,
            accounts_token: None,
            accounts_token_file: None,
            sign_in_address: None,
            ejabberd_socket: None,
            brakes: XmppBrakes::default(),
        }
    }
}
impl Xmpp {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        let token = self.accounts_token.is_some() || self.accounts_token_file.is_some();
        for (name, address) in [("xmpp.accounts_address", &self.accounts_address), ("xmpp.sign_in_address", &self.sign_in_address)] {
            let Some(address) = address else { continue };
            match address.parse::<std::net::SocketAddr>() {
                Ok(address) if !address.ip().is_loopback() => {
                    problems.push(format!("{name}: must be a loopback address: it is clear text"))
                }
                Ok(_) => {}
                Err(_) => problems.push(format!("{name}: must be address:port")),
            }
            if !token {
                problems.push(format!("{name}: needs xmpp.accounts_token"));
            }
        }
        let brakes = &self.brakes;
        for (name, count) in [("burst", brakes.burst), ("program_burst", brakes.program_burst), ("instant_turns", brakes.instant_turns)] {
            if count == 0 {
                problems.push(format!("xmpp.brakes.{name}: must be at least 1"));
            }
        }
        for (name, rate) in [("per_second", brakes.per_second), ("program_per_minute", brakes.program_per_minute)] {
            if !(rate.is_finite() && rate > 0.0) {
                problems.push(format!("xmpp.brakes.{name}: must be a number above 0"));
            }
        }
    }

    /// The shared secret.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn secret(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("xmpp.secret", self.secret.as_ref(), self.secret_file.as_deref())
    }
    /// The token of the account interface.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn accounts_token(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("xmpp.accounts_token", self.accounts_token.as_ref(), self.accounts_token_file.as_deref())
    }
}

/// The workers' door.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// Address to listen on, and host that `aiox worker` dials.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Key that workers without a certificate show, at least 32 characters.
    pub worker_key: Option<Secret>,
    /// File with it.
    pub worker_key_file: Option<PathBuf>,
    /// PEM certificate chain of the door; with it the door speaks TLS only.
    pub tls_cert: Option<PathBuf>,
    /// Its PEM key.
    pub tls_key: Option<PathBuf>,
    /// PEM authority of workers' certificates.
    pub worker_ca: Option<PathBuf>,
    /// Seconds for which a worker's token is good; the worker renews it after half of them.
    pub worker_token_seconds: u32,
}
impl Default for Grpc {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 50051,
            worker_key: None,
            worker_key_file: None,
            tls_cert: None,
            tls_key: None,
            worker_ca: None,
            worker_token_seconds: 300,
        }
    }
}
impl Grpc {
    pub(crate) fn check(&self, problems: &mut Vec<String>, mode: Mode) {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push("grpc.tls_cert: grpc.tls_cert and grpc.tls_key go together".into());
        }
        if mode == Mode::Prod && self.tls_cert.is_none() {
            problems.push("grpc.tls_cert: production needs TLS on the workers' door; set grpc.tls_cert and grpc.tls_key".into());
        }
        if self.worker_ca.is_some() && self.tls_cert.is_none() {
            problems.push("grpc.worker_ca: certificates of workers need TLS; set grpc.tls_cert and grpc.tls_key".into());
        }
        if !(30..=3600).contains(&self.worker_token_seconds) {
            problems.push("grpc.worker_token_seconds: must be from 30 to 3600".into());
        }
    }
    /// The workers' key.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn worker_key(&self) -> Result<Option<Secret>, ConfigError> {
        resolve("grpc.worker_key", self.worker_key.as_ref(), self.worker_key_file.as_deref())
    }
}

/// Peer hubs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Whether this hub has peers.
    pub enabled: bool,
    /// Address of the peer listener.
    pub host: String,
    /// Port of the peer listener.
    pub port: u16,
    /// How peers reach it: `https://host:port`. Absent = `https://<hub.domain>:<port>`.
    pub endpoint: Option<String>,
    /// Directory with the files that `aiox certs create` makes. Absent = `<hub.data_dir>/certs`.
    pub certs_dir: Option<PathBuf>,
    /// PEM certificate chain that this hub shows its peers, or the path of a file with it. Absent = `federation.pem` in `certs_dir`.
    pub certificate: Option<Secret>,
    /// Its PEM key, or the path of a file with it. Absent = `federation.key` in `certs_dir`.
    pub key: Option<Secret>,
    /// PEM certificate chain for calls to peers, or the path of a file with it. Absent = the one above.
    pub client_certificate: Option<Secret>,
    /// Its PEM key, or the path of a file with it.
    pub client_key: Option<Secret>,
    /// PEM authority of this hub's domain, which peers are told, or the path of a file with it. Absent = `domain-ca.pem` in `certs_dir`.
    pub ca_certificate: Option<Secret>,
    /// PEM public key of this hub's request tokens, or the path of a file with it; another one than that of `token.key` in `certs_dir`
    /// stops the start. Absent = it is not compared.
    pub token_public_key: Option<Secret>,
    /// PEM authorities that vouch for other hubs' web servers. Absent = the machine's own.
    pub web_roots: Option<PathBuf>,
    /// Tolerated clock difference in seconds.
    pub skew_seconds: u32,
    /// What programs name this hub by. Absent = what the peers file says, else `stk_<hub.domain>`.
    pub stack_id: Option<String>,
    /// What programs are told of its purpose, for instance `staging`. Absent = what the peers file says, else the mode.
    pub environment: Option<String>,
    /// Where it is, for instance `eu-central`. Absent = what the peers file says, else `local`.
    pub region: Option<String>,
    /// JSON file `{"local": PeerInfo, "peers": [PeerInfo]}` with the peers that programs are told of; read again at SIGHUP. It gives no
    /// trust. Absent = there is none.
    pub peers_file: Option<PathBuf>,
}
impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: false,
            host: "127.0.0.1".into(),
            port: 8443,
            endpoint: None,
            certs_dir: None,
            certificate: None,
            key: None,
            client_certificate: None,
            client_key: None,
            ca_certificate: None,
            token_public_key: None,
            web_roots: None,
            skew_seconds: 30,
            stack_id: None,
            environment: None,
            region: None,
            peers_file: None,
        }
    }
}
impl Federation {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if self.skew_seconds > 300 {
            problems.push("federation.skew_seconds: must be at most 300".into());
        }
        for (name, certificate, key) in [("", &self.certificate, &self.key), ("client_", &self.client_certificate, &self.client_key)] {
            if certificate.is_some() != key.is_some() {
                problems.push(format!("federation.{name}certificate: federation.{name}certificate and federation.{name}key go together"));
            }
        }
        if self.endpoint.as_ref().is_some_and(|endpoint| !endpoint.starts_with("https://")) {
            problems.push("federation.endpoint: must begin with https://".into());
        }
    }
}

/// Allowances and time limits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Governance {
    /// Tokens of an account in a calendar day (UTC).
    pub tokens_day: u64,
    /// Tokens of an account in a minute.
    pub tokens_minute: u64,
    /// Requests of an account in a calendar day (UTC).
    pub requests_day: u64,
    /// The same for each principal of another domain.
    pub remote_tokens_day: u64,
    /// The same for each principal of another domain.
    pub remote_tokens_minute: u64,
    /// The same for each principal of another domain.
    pub remote_requests_day: u64,
    /// Most milliseconds of one attempt of a run.
    pub task_timeout_ms: u64,
    /// Most time of one attempt that a request at `/v1` may ask for, in milliseconds; never less than `task_timeout_ms`.
    pub max_timeout_ms: u64,
    /// New runs in a second at `/v1`, of a tenant that sets no such limit itself.
    pub run_create_qps: f64,
    /// Runs that have not ended at `/v1`, of a tenant that sets no such limit itself.
    pub concurrent_runs: u64,
    /// Calls of models in a second at `/v1`, of a tenant.
    pub invoke_qps: f64,
}
impl Default for Governance {
    fn default() -> Self {
        Self {
            tokens_day: 100_000,
            tokens_minute: 10_000,
            requests_day: 1_000,
            remote_tokens_day: 100_000,
            remote_tokens_minute: 10_000,
            remote_requests_day: 1_000,
            task_timeout_ms: 120_000,
            max_timeout_ms: 180_000,
            run_create_qps: 10.0,
            concurrent_runs: 25,
            invoke_qps: 20.0,
        }
    }
}
impl Governance {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if self.task_timeout_ms == 0 || self.task_timeout_ms > 3_600_000 {
            problems.push("governance.task_timeout_ms: must be from 1 to 3600000".into());
        }
        if self.max_timeout_ms == 0 || self.max_timeout_ms > 3_600_000 {
            problems.push("governance.max_timeout_ms: must be from 1 to 3600000".into());
        }
        for (name, rate) in [("run_create_qps", self.run_create_qps), ("invoke_qps", self.invoke_qps)] {
            if !rate.is_finite() || rate <= 0.0 || rate > 1_000_000.0 {
                problems.push(format!("governance.{name}: must be more than 0 and at most 1000000"));
            }
        }
    }
}

/// Providers, as the hub knows them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Llm {
    /// Provider of agents that name none.
    pub default_provider: String,
    /// Further provider names that workers of this hub offer, besides openai, anthropic, ollama and echo.
    pub providers: Vec<String>,
}
impl Default for Llm {
    fn default() -> Self {
        Self { default_provider: "openai".into(), providers: Vec::new() }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter like `info,aiox_xmpp=debug`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}
impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// A provider of a worker.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// `openai`, `anthropic`, `ollama`, `openai_compatible` or `echo`. Absent = the provider's own name.
    pub kind: Option<String>,
    /// Where it is; absent = the vendor's own address.
    pub base_url: Option<String>,
    /// Its key.
    pub api_key: Option<Secret>,
    /// File with it.
    pub api_key_file: Option<PathBuf>,
    /// Model of agents that name none.
    pub model: Option<String>,
    /// The models that it serves; empty = every model.
    pub models: Vec<String>,
}
impl Provider {
    /// The provider's key.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn api_key(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        resolve(&format!("worker.providers.{name}.api_key"), self.api_key.as_ref(), self.api_key_file.as_deref())
    }
}

/// `aiox worker`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Its name; absent = made from the host name and the process id.
    pub id: Option<String>,
    /// Runs at the same time.
    pub max_concurrent: u32,
    /// Calls of models at the same time, beside the runs; 0 serves none.
    pub max_model_calls: u32,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u32,
    /// Seconds before the first attempt to connect again.
    pub reconnect_seconds: f64,
    /// PEM authority of the hub's certificate; with it the worker dials TLS.
    pub ca: Option<PathBuf>,
    /// PEM certificate of the worker.
    pub tls_cert: Option<PathBuf>,
    /// Its PEM key.
    pub tls_key: Option<PathBuf>,
    /// Its pool; absent = the default pool. A worker of a pool takes the runs alone of agents that name the pool.
    pub pool: Option<String>,
    /// Labels that runs can ask for.
    pub labels: BTreeMap<String, String>,
    /// Providers by name.
    pub providers: BTreeMap<String, Provider>,
}
impl Default for Worker {
    fn default() -> Self {
        Self {
            id: None,
            max_concurrent: 4,
            max_model_calls: 16,
            heartbeat_seconds: 30,
            reconnect_seconds: 5.0,
            ca: None,
            tls_cert: None,
            tls_key: None,
            pool: None,
            labels: BTreeMap::new(),
            providers: BTreeMap::new(),
        }
    }
}
impl Worker {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        if !(1..=1024).contains(&self.max_concurrent) {
            problems.push("worker.max_concurrent: must be from 1 to 1024".into());
        }
        if self.max_model_calls > 1024 {
            problems.push("worker.max_model_calls: must be from 0 to 1024".into());
        }
        if !(0.01..=3600.0).contains(&self.reconnect_seconds) {
            problems.push("worker.reconnect_seconds: must be from 0.01 to 3600".into());
        }
        let named = |text: &String| (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !self.pool.as_ref().is_none_or(named) {
            problems.push("worker.pool: must have 1 to 100 of A-Z a-z 0-9 . _ -".into());
        }
        for (name, provider) in &self.providers {
            if provider.models.iter().any(String::is_empty) {
                problems.push(format!("worker.providers.{name}.models: a model has no name"));
            }
        }
    }
}

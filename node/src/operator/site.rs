//! Where the two hubs of a local mesh live: directories, names and ports.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use aiox_certs::HubPaths;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    ejabberd::Ejabberd,
    prosody::Prosody,
    server::{Kind, Server},
};

/// Loopback, where everything of a local mesh listens.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Port of the DNS responder that tells the XMPP servers where each other's are.
pub const DNS_OFFSET: u16 = 53;
/// The first port of a local mesh unless another is asked for.
pub const BASE_PORT: u16 = 18000;

/// A local mesh: one directory.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// Its directory.
    pub dir: PathBuf,
    /// Its first port.
    pub base: u16,
}

impl Mesh {
    /// The two hubs.
    pub fn sites(&self) -> [Site; 2] {
        [("hub-a", "a", 0), ("hub-b", "b", 1)].map(|(name, letter, index)| Site {
            name,
            letter,
            dir: self.dir.join(name),
            base: self.base + 100 + index * 100,
            dns: self.dns(),
        })
    }
    /// Address of the DNS responder.
    pub fn dns(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.base + DNS_OFFSET)
    }
    /// Certificate of the authority that vouches for both hubs' servers.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("mesh-ca.pem")
    }
    /// Its key.
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("mesh-ca.key")
    }
    /// Pid file of the DNS responder.
    pub fn dns_pid(&self) -> PathBuf {
        self.dir.join("dns.pid")
    }
}

/// One hub of a local mesh.
#[derive(Debug, Clone)]
pub struct Site {
    /// `hub-a` or `hub-b`.
    pub name: &'static str,
    /// `a` or `b`.
    pub letter: &'static str,
    /// Its directory.
    pub dir: PathBuf,
    base: u16,
    dns: SocketAddr,
}

/// What `aiox up` makes for a hub once, kept in a file that only its owner reads.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Name and password of the hub's administrator.
    pub admin: Login,
    /// Name and password of its first user.
    pub user: Login,
    /// Secret of the XMPP component.
    pub component_secret: String,
    /// Token of the XMPP server's account interface.
    pub accounts_token: String,
    /// Key of the hub's worker.
    pub worker_key: String,
}

/// A name with its password.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Name on XMPP and REST.
    pub username: String,
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: String,
}

impl Site {
    /// The hub's domain.
    pub fn domain(&self) -> String {
        format!("{}.example", self.name)
    }
    /// Readable address of its first agent.
    pub fn agent_jid(&self) -> String {
        format!("assistant@agents.{}", self.domain())
    }
    /// Port of REST.
    pub const fn http_port(&self) -> u16 {
        self.base + 80
    }
    /// A second port of REST.
    const fn second_port(&self) -> u16 {
        self.base + 81
    }
    /// Port of workers.
    pub const fn grpc_port(&self) -> u16 {
        self.base + 51
    }
    /// Port of peers.
    pub const fn federation_port(&self) -> u16 {
        self.base + 43
    }
    /// Port of XMPP clients.
    pub const fn c2s_port(&self) -> u16 {
        self.base + 22
    }
    /// Port of XMPP servers.
    pub const fn s2s_port(&self) -> u16 {
        self.base + 69
    }
    const fn component_port(&self) -> u16 {
        self.base + 47
    }
    const fn accounts_port(&self) -> u16 {
        self.base + 48
    }
    const fn sign_in_port(&self) -> u16 {
        self.base + 49
    }
    /// Domains that the XMPP servers of the mesh talk to: each other's.
    fn peers(&self) -> Vec<String> {
        let other = if self.letter == "a" { "hub-b.example" } else { "hub-a.example" };
        vec![other.to_owned(), format!("agents.{other}")]
    }
    /// Base URL of REST.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.http_port())
    }
    /// Base URL of REST at its second port.
    pub fn second_url(&self) -> String {
        format!("https://localhost:{}", self.second_port())
    }
    /// Address of the second port of REST.
    pub fn second(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.second_port())
    }
    /// Address of XMPP clients.
    pub fn c2s(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.c2s_port())
    }
    /// Address of XMPP servers.
    pub fn s2s(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.s2s_port())
    }
    /// Configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("aiox.toml")
    }
    /// Keys and certificates.
    pub fn certs(&self) -> HubPaths {
        HubPaths::new(&self.certs_dir())
    }
    /// Directory of the keys and certificates.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.join("certs")
    }
    /// Credentials that `aiox up` made.
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.join("credentials.json")
    }
    /// Log of a part: `hub`, `worker` or `xmpp`.
    pub fn log(&self, part: &str) -> PathBuf {
        match part {
            "xmpp" => self.dir.join(self.server_kind().as_str()).join(format!("{}.log", self.server_kind().as_str())),
            _ => self.dir.join(format!("{part}.log")),
        }
    }
    /// Pid file of `hub` or `worker`.
    pub fn pid(&self, part: &str) -> PathBuf {
        self.dir.join(format!("{part}.pid"))
    }

    /// File that names the kind of XMPP server, once it has been chosen.
    fn server_file(&self) -> PathBuf {
        self.dir.join("xmpp-server")
    }

    /// The kind of XMPP server beside the hub.
    pub fn server_kind(&self) -> Kind {
        let chosen = std::fs::read_to_string(self.server_file()).unwrap_or_default();
        if chosen.trim() == Kind::Ejabberd.as_str() { Kind::Ejabberd } else { Kind::Prosody }
    }

    /// Chooses the kind of XMPP server, unless it has been chosen.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn choose_server(&self, kind: Kind) -> std::io::Result<()> {
        if self.server_file().exists() { Ok(()) } else { std::fs::write(self.server_file(), kind.as_str()) }
    }

    /// The hub's XMPP server.
    pub fn server(&self, ca: &Path, credentials: &Credentials) -> Server {
        let (certificate, key) = self.certs().leaf("xmpp");
        let secret = SecretString::from(credentials.component_secret.clone());
        match self.server_kind() {
            Kind::Prosody => Server::Prosody(Prosody {
                dir: self.dir.join("prosody"),
                domain: self.domain(),
                agents_domain: format!("agents.{}", self.domain()),
                address: LOOPBACK,
                c2s_port: self.c2s_port(),
                s2s_port: self.s2s_port(),
                control_address: LOOPBACK,
                component_port: self.component_port(),
                http_port: self.accounts_port(),
                component_secret: secret,
                admin_token: SecretString::from(credentials.accounts_token.clone()),
                sign_in: SocketAddr::new(LOOPBACK, self.sign_in_port()),
                peers: Some(self.peers()),
                certificate,
                key,
                ca: ca.to_owned(),
                dns: Some(self.dns),
            }),
            Kind::Ejabberd => Server::Ejabberd(Ejabberd {
                dir: self.dir.join("ejabberd"),
                domain: self.domain(),
                agents_domain: format!("agents.{}", self.domain()),
                address: LOOPBACK,
                c2s_port: self.c2s_port(),
                s2s_port: self.s2s_port(),
                control_address: LOOPBACK,
                component_port: self.component_port(),
                component_secret: secret,
                sign_in: SocketAddr::new(LOOPBACK, self.sign_in_port()),
                accounts_token: SecretString::from(credentials.accounts_token.clone()),
                peers: Some(self.peers()),
                certificate,
                key,
                ca: ca.to_owned(),
                dns: Some(self.dns),
            }),
        }
    }

    /// The hub's and its worker's configuration file. Paths are absolute, so that it works from anywhere.
    pub fn settings(&self, ca: &Path, xmpp: bool, provider: &str) -> String {
        let path = |path: &Path| format!("{:?}", path.display().to_string());
        let (http_cert, http_key) = self.certs().leaf("http");
        let (grpc_cert, grpc_key) = self.certs().leaf("grpc");
        let (worker_cert, worker_key) = self.certs().leaf("worker");
        format!(
            "# Written by `aiox up` and read by this hub and its worker. Changes are kept: `aiox up` writes it only when it is missing.\n\
             [hub]\ndomain = \"{domain}\"\nnode = \"{letter}\"\ndata_dir = {data}\n\n\
             [http]\nhost = \"127.0.0.1\"\nport = {http}\nports.agent_orchestrator = {second}\ntls_cert = {http_cert}\ntls_key = {http_key}\n\n\
             [grpc]\nhost = \"localhost\"\nport = {grpc}\nworker_key_file = {key_file}\ntls_cert = {grpc_cert}\ntls_key = {grpc_key}\nworker_ca = {ca}\n\n\
             [xmpp]\nenabled = {xmpp}\ncomponent_port = {component}\nsecret_file = {secret_file}\n\
             sign_in_address = \"127.0.0.1:{sign_in}\"\naccounts_token_file = {accounts_token}\n{accounts}\n\
             [federation]\nenabled = true\nport = {federation}\nendpoint = \"https://localhost:{federation}\"\ncerts_dir = {certs}\nweb_roots = {ca}\n\n\
             # Generous, because this is a demonstration on one machine. The defaults are 100000, 10000 and 1000.\n\
             [governance]\ntokens_day = 100000000\ntokens_minute = 10000000\nrequests_day = 1000000\n\
             remote_tokens_day = 100000000\nremote_tokens_minute = 10000000\nremote_requests_day = 1000000\n\n\
             [llm]\ndefault_provider = \"{provider}\"\n\n\
             [worker]\nid = \"worker-{letter}\"\nca = {ca}\ntls_cert = {worker_cert}\ntls_key = {worker_key}\nmax_concurrent = 64\nreconnect_seconds = 0.5\n{model}",
            model = match provider {
                "openai" => "\n[worker.providers.openai]\nmodel = \"gpt-4o-mini\"\n",
                "anthropic" => "\n[worker.providers.anthropic]\nmodel = \"claude-3-5-haiku-latest\"\n",
                _ => "",
            },
            domain = self.domain(),
            letter = self.letter,
            data = path(&self.dir.join("data")),
            http = self.http_port(),
            second = self.second_port(),
            http_cert = path(&http_cert),
            http_key = path(&http_key),
            grpc = self.grpc_port(),
            key_file = path(&self.dir.join("secrets/worker_key")),
            grpc_cert = path(&grpc_cert),
            grpc_key = path(&grpc_key),
            component = self.component_port(),
            secret_file = path(&self.dir.join("secrets/component_secret")),
            sign_in = self.sign_in_port(),
            accounts_token = path(&self.dir.join("secrets/accounts_token")),
            accounts = match self.server_kind() {
                Kind::Prosody => format!("accounts_address = \"127.0.0.1:{}\"\n", self.accounts_port()),
                Kind::Ejabberd => format!("ejabberd_socket = {}\n", path(&self.dir.join("ejabberd/data/api.sock"))),
            },
            federation = self.federation_port(),
            certs = path(&self.certs_dir()),
            ca = path(ca),
            worker_cert = path(&worker_cert),
            worker_key = path(&worker_key),
        )
    }
}

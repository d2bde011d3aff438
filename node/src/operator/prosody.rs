//! A private Prosody beside the hub: its configuration, start, readiness and end.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use super::ports;
use super::process::{self, Launch, Started, Status, Stopped};
use super::service_user;

const TEMPLATE: &str = include_str!("../../../deploy/prosody/prosody.cfg.lua");
const MODULES: [(&str, &str); 3] = [
    ("mod_auth_aiox.lua", include_str!("../../../deploy/prosody/mod_auth_aiox.lua")),
    ("mod_aiox_archive_wal.lua", include_str!("../../../deploy/prosody/mod_aiox_archive_wal.lua")),
    ("mod_aiox_s2s_peers.lua", include_str!("../../../deploy/prosody/mod_aiox_s2s_peers.lua")),
];

/// How long Prosody may take until its ports accept; it takes less than half a second on an idle machine.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long Prosody may take to close its streams; it waits up to 5 seconds for peers by itself.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Everything a hub's Prosody needs to know.
#[derive(Debug)]
pub struct Prosody {
    /// Directory that belongs to this server alone; made when missing.
    pub dir: PathBuf,
    /// Domain of the hub's users.
    pub domain: String,
    /// Domain of the hub's agents, served by the hub through the component port.
    pub agents_domain: String,
    /// Where clients and peers connect.
    pub address: IpAddr,
    /// Port of clients (RFC 6120, STARTTLS required).
    pub c2s_port: u16,
    /// Port of peers (RFC 6120, STARTTLS and a certificate of the mesh required).
    pub s2s_port: u16,
    /// Loopback address of the component link and of the account interface, which are clear text.
    pub control_address: IpAddr,
    /// Port of the component link (XEP-0114).
    pub component_port: u16,
    /// Port of the account interface (`deploy/prosody/README.md`).
    pub http_port: u16,
    /// Shared secret of the component link.
    pub component_secret: SecretString,
    /// Bearer token of the account interface, 32 characters or more.
    pub admin_token: SecretString,
    /// Where the hub says whether an access token is good (`deploy/README.md`).
    pub sign_in: SocketAddr,
    /// Domains that this server talks to. `None`: all that have a valid certificate.
    pub peers: Option<Vec<String>>,
    /// PEM file of the server's certificate, with intermediates.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// PEM file of the authorities that may vouch for peers.
    pub ca: PathBuf,
    /// DNS server to ask instead of the system's, such as the hub's own responder.
    pub dns: Option<SocketAddr>,
}

impl Prosody {
    /// Starts the server and waits until it listens. Does nothing when it runs already.
    ///
    /// # Errors
    /// Prosody is not installed, a port is taken (the text names the owner), or the server does not
    /// come up (the text has the last lines of its log).
    pub async fn start(&self) -> Result<()> {
        if self.status()? != Status::Stopped {
            return Ok(());
        }
        if !self.control_address.is_loopback() {
            bail!("the component link is clear text, so {} must be a loopback address", self.control_address);
        }
        ports::require_free(&self.listeners()).await?;
        let mut started = self.launch()?;
        started.accepts(&self.listeners(), START_PATIENCE).await
    }

    /// Whether the server runs.
    pub fn status(&self) -> Result<Status> {
        process::status(&self.pid_file())
    }

    /// Stops the server.
    pub async fn stop(&self) -> Result<Stopped> {
        process::stop(&self.pid_file(), STOP_GRACE).await
    }

    /// The file with everything the server prints.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("prosody.log")
    }

    /// Address of the account interface.
    pub fn account_address(&self) -> SocketAddr {
        SocketAddr::new(self.control_address, self.http_port)
    }

    fn launch(&self) -> Result<Started> {
        let Some(program) = find_program("prosody") else {
            bail!("Prosody is not installed; run scripts/setup-xmpp.sh or, on Debian, {INSTALL}");
        };
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let dir = fs::canonicalize(&self.dir).with_context(|| format!("cannot find {}", self.dir.display()))?;
        let user = service_user::for_server("Prosody", "prosody", &dir)?;
        self.write_files(&dir, service_user::is_root() && user.is_none())?;
        service_user::hand_over(user, &dir)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(dir.join("config/prosody.cfg.lua")).arg("-F").current_dir(&dir);
        Launch { name: &format!("Prosody of {}", self.domain), command, log_file: self.log_file(), pid_file: self.pid_file(), user }.start()
    }

    fn write_files(&self, dir: &Path, run_as_root: bool) -> Result<()> {
        let config = dir.join("config");
        for path in [dir.join("data"), config.join("modules"), config.join("tls"), config.join("empty")] {
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        for (name, content) in MODULES {
            process::write_private(&config.join("modules").join(name), content.as_bytes())?;
        }
        // Copies, because the originals need not be readable by the server's user.
        for (source, name) in [(&self.certificate, "cert.pem"), (&self.key, "key.pem"), (&self.ca, "ca.pem")] {
            let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
            process::write_private(&config.join("tls").join(name), &content)?;
        }
        process::write_private(&config.join("prosody.cfg.lua"), self.configuration(dir, run_as_root).as_bytes())
    }

    fn configuration(&self, dir: &Path, run_as_root: bool) -> String {
        let path = |name: &str| lua_string(&dir.join(name).to_string_lossy());
        let ip_version_6 = self.address.is_ipv6() || self.control_address.is_ipv6();
        let values = [
            ("run_as_root", run_as_root.to_string()),
            ("data_dir", path("data")),
            ("certificates_dir", path("config/empty")),
            ("plugins_dir", path("config/modules")),
            ("admin_socket", path("data/admin.sock")),
            ("use_ipv6", ip_version_6.to_string()),
            ("address", lua_string(&self.address.to_string())),
            ("c2s_port", self.c2s_port.to_string()),
            ("s2s_port", self.s2s_port.to_string()),
            ("control_address", lua_string(&self.control_address.to_string())),
            ("component_port", self.component_port.to_string()),
            ("http_port", self.http_port.to_string()),
            ("domain", lua_string(&self.domain)),
            ("agents_domain", lua_string(&self.agents_domain)),
            ("admin_token", lua_string(self.admin_token.expose_secret())),
            ("sign_in", format!("aiox_sign_in_url = {}", lua_string(&format!("http://{}/aiox/sign-in", self.sign_in)))),
            ("s2s_peers", self.peers.as_deref().map_or_else(String::new, peer_list)),
            ("component_secret", lua_string(self.component_secret.expose_secret())),
            ("key_file", path("config/tls/key.pem")),
            ("certificate_file", path("config/tls/cert.pem")),
            ("ca_file", path("config/tls/ca.pem")),
            ("empty_dir", path("config/empty")),
            ("archive_file", lua_string("archive.sqlite")),
            ("unbound", self.dns.map_or_else(String::new, resolver)),
        ];
        values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
    }

    fn listeners(&self) -> [SocketAddr; 4] {
        [
            SocketAddr::new(self.address, self.c2s_port),
            SocketAddr::new(self.address, self.s2s_port),
            SocketAddr::new(self.control_address, self.component_port),
            self.account_address(),
        ]
    }

    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("prosody.pid")
    }
}

/// How to install it.
pub const INSTALL: &str = "apt-get install --no-install-recommends prosody prosody-modules lua-unbound lua-dbi-sqlite3";

// libunbound asks one server and nothing else. It refuses loopback servers unless told otherwise.
fn resolver(server: SocketAddr) -> String {
    let forward = lua_string(&format!("{}@{}", server.ip(), server.port()));
    format!(
        "unbound = {{ resolvconf = false, hoststxt = false, forward = {forward},\n\
         \toptions = {{ [\"do-not-query-localhost:\"] = \"no\" }} }}"
    )
}

fn peer_list(peers: &[String]) -> String {
    let names: Vec<String> = peers.iter().map(|peer| lua_string(peer)).collect();
    format!("aiox_s2s_peers = {{ {} }}", names.join(", "))
}

// Every byte that is not plainly harmless becomes a decimal escape (Lua 5.1 to 5.4 read them alike).
fn lua_string(text: &str) -> String {
    let escaped: String = text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'/' | b'-' | b'_' | b':' | b'@' => char::from(byte).to_string(),
            other => format!("\\{other:03}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// Whether the program is on this machine.
pub fn installed() -> bool {
    find_program("prosody").is_some()
}

/// The program of this name on the search path or in a system directory that it may lack.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| fs::metadata(candidate).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prosody(dir: &Path) -> Prosody {
        Prosody {
            dir: dir.to_owned(),
            domain: "hub-a.example".to_owned(),
            agents_domain: "agents.hub-a.example".to_owned(),
            address: IpAddr::from([127, 0, 0, 2]),
            c2s_port: 1,
            s2s_port: 2,
            control_address: IpAddr::from([127, 0, 0, 1]),
            component_port: 3,
            http_port: 4,
            component_secret: SecretString::from("component \"secret\"\n"),
            admin_token: SecretString::from("0123456789abcdef0123456789abcdef"),
            sign_in: SocketAddr::from(([127, 0, 0, 1], 5)),
            peers: Some(vec!["hub-b.example".to_owned(), "agents.hub-b.example".to_owned()]),
            certificate: dir.join("cert"),
            key: dir.join("key"),
            ca: dir.join("ca"),
            dns: Some(SocketAddr::from(([127, 0, 0, 1], 5353))),
        }
    }

    #[test]
    fn the_template_is_filled_completely() {
        let text = prosody(Path::new("/srv")).configuration(Path::new("/srv"), false);
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        assert!(text.contains(r#"component_secret = "component\032\034secret\034\010""#), "{text}");
        assert!(text.contains(r#"forward = "127.0.0.1@5353""#), "{text}");
        assert!(text.contains(r#"aiox_sign_in_url = "http://127.0.0.1:5/aiox/sign-in""#), "{text}");
        assert!(text.contains(r#"aiox_s2s_peers = { "hub-b.example", "agents.hub-b.example" }"#), "{text}");
    }

    #[tokio::test]
    async fn the_component_link_stays_on_loopback() {
        let dir = tempfile::tempdir().unwrap();
        let mut exposed = prosody(dir.path());
        exposed.control_address = IpAddr::from([192, 0, 2, 1]);
        let refused = exposed.start().await.unwrap_err().to_string();
        assert!(refused.contains("loopback"), "{refused}");
    }
}

//! A private ejabberd beside the hub, for sites that want more cores than Prosody uses.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use super::ports;
use super::process::{self, Launch, Started, Status, Stopped};
use super::prosody::find_program;
use super::service_user;

const TEMPLATE: &str = include_str!("../../../deploy/ejabberd/ejabberd.yml");
const SIGN_IN: &str = include_str!("../../../deploy/ejabberd/aiox_auth.escript");

/// How long ejabberd may take until its ports accept; it takes about a second on an idle machine.
const START_PATIENCE: Duration = Duration::from_secs(40);

/// How long ejabberd may take to end; it takes about a second.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// ejabberd's table definitions for SQLite; version 23.01 does not make them itself.
const TABLES: &str = "/usr/share/ejabberd/sql/lite.sql";

/// How to install it.
pub const INSTALL: &str = "run scripts/setup-xmpp.sh --ejabberd or, on Debian, \
     apt-get install --no-install-recommends ejabberd erlang-p1-sqlite3 erlang-jose sqlite3";

/// Everything a hub's ejabberd needs to know.
#[derive(Debug)]
pub struct Ejabberd {
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
    /// Loopback address of the component link, which is clear text.
    pub control_address: IpAddr,
    /// Port of the component link (XEP-0114).
    pub component_port: u16,
    /// Shared secret of the component link.
    pub component_secret: SecretString,
    /// Where the hub says who may sign in (`deploy/README.md`).
    pub sign_in: SocketAddr,
    /// Token that it wants to hear.
    pub accounts_token: SecretString,
    /// Domains that this server talks to. `None`: all that have a valid certificate.
    pub peers: Option<Vec<String>>,
    /// PEM file of the server's certificate, with intermediates. Its key must be ECDSA or RSA:
    /// ejabberd 23.01 cannot use Ed25519.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// PEM file of the authorities that may vouch for peers.
    pub ca: PathBuf,
    /// DNS server to ask instead of the system's, such as the hub's own responder.
    pub dns: Option<SocketAddr>,
}

impl Ejabberd {
    /// Starts the server and waits until it listens. Does nothing when it runs already.
    ///
    /// # Errors
    /// ejabberd is not installed, a port is taken (the text names the owner), or the server does not
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
        self.dir.join("ejabberd.log")
    }

    fn launch(&self) -> Result<Started> {
        let (Some(program), Some(escript), Some(libraries)) = (find_program("erl"), find_program("escript"), find_libraries()) else {
            bail!("ejabberd is not installed; {INSTALL}");
        };
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let dir = fs::canonicalize(&self.dir).with_context(|| format!("cannot find {}", self.dir.display()))?;
        let user = service_user::for_server("ejabberd", "ejabberd", &dir)?;
        self.write_files(&dir, &escript)?;
        service_user::hand_over(user, &dir)?;
        Launch {
            name: &format!("ejabberd of {}", self.domain),
            command: self.command(&program, &libraries, &dir),
            log_file: self.log_file(),
            pid_file: self.pid_file(),
            user,
        }
        .start()
    }

    // Without a node name there is no distribution port, no epmd and no cookie: nobody can attach
    // to the running server. The `+sss` flags enlarge the schedulers' stacks: with the default a
    // stanza nested some 5000 levels deep, which any federated user can send, ends the whole node.
    fn command(&self, program: &Path, libraries: &Path, dir: &Path) -> Command {
        let data = dir.join("data");
        let mut command = Command::new(program);
        command
            .args(["+K", "true", "+P", "250000", "+sss", "8192", "+sssdcpu", "8192", "+sssdio", "8192", "-noinput"])
            .args(["-mnesia", "dir"])
            .arg(quoted(&data.join("mnesia").to_string_lossy()))
            .args(["-s", "ejabberd"])
            .current_dir(&data)
            .env("EJABBERD_CONFIG_PATH", dir.join("config/ejabberd.yml"))
            .env("EJABBERD_LOG_PATH", data.join("ejabberd.log"))
            .env("EJABBERD_PID_PATH", data.join("ejabberd.pid"))
            .env("ERL_CRASH_DUMP", "/dev/null")
            .env("ERL_LIBS", libraries)
            .env("ERL_MAX_PORTS", "32000")
            .env("HOME", &data);
        if self.dns.is_some() {
            command.env("ERL_INETRC", dir.join("config/inetrc"));
        }
        command
    }

    fn write_files(&self, dir: &Path, escript: &Path) -> Result<()> {
        let (config, data) = (dir.join("config"), dir.join("data"));
        for path in [&config, &data] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let pair = [read(&self.certificate)?, read(&self.key)?].join(&b'\n');
        process::write_private(&config.join("pair.pem"), &pair)?;
        process::write_private(&config.join("ca.pem"), &read(&self.ca)?)?;
        if let Some(server) = self.dns {
            process::write_private(&config.join("inetrc"), inetrc(server)?.as_bytes())?;
        }
        process::write_private(&config.join("aiox_auth.escript"), SIGN_IN.as_bytes())?;
        process::write_private(&config.join("accounts_token"), self.accounts_token.expose_secret().as_bytes())?;
        process::write_private(&config.join("ejabberd.yml"), self.configuration(dir, escript).as_bytes())?;
        create_database(&data.join("archive.sqlite"))
    }

    fn configuration(&self, dir: &Path, escript: &Path) -> String {
        let path = |name: &str| quoted(&dir.join(name).to_string_lossy());
        let shell_path = |path: &Path| shell_word(&path.to_string_lossy());
        let sign_in = [
            shell_path(escript),
            shell_path(&dir.join("config/aiox_auth.escript")),
            format!("http://{}", self.sign_in),
            shell_path(&dir.join("config/accounts_token")),
        ];
        let family = if self.address.is_ipv6() { "ipv6" } else { "ipv4" };
        let values = [
            ("domain", quoted(&self.domain)),
            ("agents_domain", quoted(&self.agents_domain)),
            ("address", quoted(&self.address.to_string())),
            ("address_family", family.to_owned()),
            ("c2s_port", self.c2s_port.to_string()),
            ("s2s_port", self.s2s_port.to_string()),
            ("control_address", quoted(&self.control_address.to_string())),
            ("component_port", self.component_port.to_string()),
            ("component_secret", quoted(self.component_secret.expose_secret())),
            ("certificate_and_key_file", path("config/pair.pem")),
            ("ca_file", path("config/ca.pem")),
            ("database_file", path("data/archive.sqlite")),
            ("sign_in_program", quoted(&sign_in.join(" "))),
            ("s2s_peers", list(self.peers.as_deref().unwrap_or_default())),
            ("s2s_access", if self.peers.is_some() { "peers" } else { "all" }.to_owned()),
            ("api_socket", quoted(&format!("unix:{}", dir.join("data/api.sock").to_string_lossy()))),
        ];
        values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
    }

    fn listeners(&self) -> [SocketAddr; 3] {
        [
            SocketAddr::new(self.address, self.c2s_port),
            SocketAddr::new(self.address, self.s2s_port),
            SocketAddr::new(self.control_address, self.component_port),
        ]
    }

    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("ejabberd.pid")
    }
}

// A JSON string is a double-quoted scalar of YAML and a string of Erlang.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

// ejabberd starts the program through a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn list(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", items.join(", "))
}

// The order matters: `resolv_conf` and `hosts_file` forget the name servers given before them.
fn inetrc(server: SocketAddr) -> Result<String> {
    let IpAddr::V4(address) = server.ip() else {
        bail!("the DNS server of ejabberd must have an IPv4 address, not {}", server.ip());
    };
    let [a, b, c, d] = address.octets();
    Ok(format!(
        "{{lookup,[file,dns]}}.\n{{resolv_conf,\"\"}}.\n{{hosts_file,\"\"}}.\n\
         {{nameserver,{{{a},{b},{c},{d}}},{}}}.\n{{timeout,1000}}.\n{{retry,2}}.\n",
        server.port()
    ))
}

// The write-ahead log, a property of the file, makes stored messages about three times cheaper.
fn create_database(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let Some(sqlite) = find_program("sqlite3") else { bail!("sqlite3 is not installed; {INSTALL}") };
    let tables = fs::read(TABLES).with_context(|| format!("cannot read {TABLES}; {INSTALL}"))?;
    let mut child = Command::new(sqlite)
        .args(["-bail", "-batch"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start sqlite3")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"PRAGMA journal_mode=WAL;\n").and_then(|()| input.write_all(&tables)).context("cannot feed sqlite3")?;
    }
    let status = child.wait().context("cannot learn how sqlite3 ended")?;
    if !status.success() {
        bail!("sqlite3 could not make {} ({status})", path.display());
    }
    Ok(())
}

// The directory that holds `ejabberd-<version>/ebin`: Debian has one for each architecture.
/// Whether the program is on this machine.
pub fn installed() -> bool {
    find_program("erl").is_some() && find_libraries().is_some()
}

fn find_libraries() -> Option<PathBuf> {
    if let Some(libraries) = env::var_os("ERL_LIBS") {
        return Some(PathBuf::from(libraries));
    }
    fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()).find(|directory| {
        fs::read_dir(directory).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("ejabberd-")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled_completely() {
        let dir = Path::new("/srv");
        let server = Ejabberd {
            dir: dir.to_owned(),
            domain: "hub-a.example".to_owned(),
            agents_domain: "agents.hub-a.example".to_owned(),
            address: IpAddr::from([127, 0, 0, 2]),
            c2s_port: 1,
            s2s_port: 2,
            control_address: IpAddr::from([127, 0, 0, 1]),
            component_port: 3,
            component_secret: SecretString::from("a\"b\nc"),
            sign_in: SocketAddr::from(([127, 0, 0, 1], 5)),
            accounts_token: SecretString::from("t"),
            peers: Some(vec!["hub-b.example".to_owned()]),
            certificate: dir.join("cert"),
            key: dir.join("key"),
            ca: dir.join("ca"),
            dns: None,
        };
        let text = server.configuration(dir, Path::new("/usr/bin/escript"));
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        assert!(text.contains(r#""agents.hub-a.example": {password: "a\"b\nc"}"#), "{text}");
        let program = r#""'/usr/bin/escript' '/srv/config/aiox_auth.escript' http://127.0.0.1:5 '/srv/config/accounts_token'""#;
        assert!(text.contains(&format!("extauth_program: {program}")), "{text}");
        assert!(text.contains(r#"peers: {server: ["hub-b.example"]}"#) && text.contains("s2s: {allow: peers}"), "{text}");
        let text = Ejabberd { peers: None, ..server }.configuration(dir, Path::new("/usr/bin/escript"));
        assert!(text.contains("peers: {server: []}") && text.contains("s2s: {allow: all}"), "{text}");
        assert!(text.contains(r#"port: "unix:/srv/data/api.sock""#), "{text}");
    }

    #[test]
    fn the_name_server_comes_after_the_options_that_would_reset_it() {
        let text = inetrc("127.0.0.1:5353".parse().unwrap()).unwrap();
        assert!(text.contains("{nameserver,{127,0,0,1},5353}."), "{text}");
        assert!(text.find("resolv_conf") < text.find("nameserver") && text.find("hosts_file") < text.find("nameserver"));
    }
}

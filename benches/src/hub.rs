//! A hub of our own, started for a measurement and stopped after it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use aiox_config::Settings;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::process::Process;
use crate::rest::Rest;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
/// Between two looks whether it lives: the error of a start time.
const LOOK: Duration = Duration::from_millis(1);
/// Lines of its log that are shown when it does not start.
const LOG_LINES: usize = 20;

/// Where a hub lives: directory, ports, secrets. Several starts share it. Dropped, it is deleted.
pub(crate) struct Place {
    directory: TempDir,
    aiox: PathBuf,
    set: Vec<String>,
    http_port: u16,
    grpc_port: u16,
    /// Shared with the fake XMPP server.
    pub(crate) component_secret: String,
    /// Shared with the workers.
    pub(crate) worker_key: String,
}

impl Place {
    /// Makes a directory in `parent`, which should lie on a real disk, not in memory. `set` holds
    /// further settings as `section.key=value`.
    pub(crate) fn create(aiox: &Path, parent: &Path, set: &[String]) -> Result<Self> {
        std::fs::create_dir_all(parent)?;
        let parent = parent.canonicalize()?;
        let aiox = aiox.canonicalize().with_context(|| aiox.display().to_string())?;
        let secret = || uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            directory: tempfile::Builder::new().prefix("hub-").tempdir_in(parent)?,
            aiox,
            set: set.to_vec(),
            http_port: free_port()?,
            grpc_port: free_port()?,
            component_secret: secret(),
            worker_key: secret(),
        })
    }

    /// Writes the configuration. With a component port the XMPP door is open.
    pub(crate) fn configure(&self, component_port: Option<u16>) -> Result<()> {
        let mut text = String::new();
        let mut put = |key: &str, value: toml::Value| text.push_str(&format!("{key} = {value}\n"));
        let data = self.data().display().to_string();
        put("hub.domain", DOMAIN.into());
        put("hub.data_dir", data.into());
        put("http.port", i64::from(self.http_port).into());
        put("http.open_metrics", true.into());
        put("grpc.port", i64::from(self.grpc_port).into());
        put("grpc.worker_key", self.worker_key.as_str().into());
        put("log.level", "info".into());
        // Allowances are there, and checked, but never used up.
        for name in ["tokens_day", "tokens_minute", "requests_day"] {
            put(&format!("governance.{name}"), 2_000_000_000_i64.into());
            put(&format!("governance.remote_{name}"), 2_000_000_000_i64.into());
        }
        if let Some(port) = component_port {
            put("xmpp.enabled", true.into());
            put("xmpp.component_port", i64::from(port).into());
            put("xmpp.secret", self.component_secret.as_str().into());
        }
        std::fs::create_dir_all(self.data())?;
        std::fs::write(self.config(), text)?;
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("aiox.toml")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("hub.log")
    }

    /// Directory of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where workers dial in.
    pub(crate) fn worker_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc_port)
    }

    /// The settings as the hub reads them.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let variables = self.set.iter().map(|pair| {
            let (key, value) = pair.split_once('=').context("--set needs section.key=value")?;
            let name = format!("AIOX__{}", key.trim().replace('.', "__").to_uppercase());
            Ok((name, value.to_owned()))
        });
        let variables = variables.collect::<Result<Vec<_>>>()?;
        Ok(Settings::from_layers(Some(&self.config()), variables, None)?)
    }

    /// Starts the hub: itself, and how long it took until it said that it lives.
    pub(crate) async fn start(&self) -> Result<(Hub, Duration)> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let rest = Rest::new(&format!("http://127.0.0.1:{}", self.http_port))?;
        let mut command = Command::new(&self.aiox);
        command.arg("serve").arg("--config").arg(self.config());
        for pair in &self.set {
            command.arg("--set").arg(pair);
        }
        // Nothing of this process's environment: a measurement must not depend on who runs it.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.current_dir(self.directory.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| self.aiox.display().to_string())?;
        let pid = child.id().context("the hub ended at once")?;
        let live = async {
            while !rest.is_live().await {
                if let Some(status) = child.try_wait()? {
                    bail!("the hub ended with {status}");
                }
                sleep(LOOK).await;
            }
            Ok(begun.elapsed())
        };
        let took = timeout(START, live).await.map_err(|_| anyhow!("the hub was not live within {START:?}"))??;
        Ok((Hub { child, rest, process: Process(pid) }, took))
    }

    /// The end of the hub's log, for a measurement that failed.
    pub(crate) fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        format!("the end of the hub's log:\n{}", lines[from..].join("\n"))
    }
}

/// Domain of the measured hub.
pub(crate) const DOMAIN: &str = "hub-a.example";

/// A running hub; dropped without [`Hub::stop`], it is killed.
pub(crate) struct Hub {
    child: Child,
    /// Its HTTP side.
    pub(crate) rest: Rest,
    /// The process.
    pub(crate) process: Process,
}

impl Hub {
    /// Asks it to stop, and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        let status = timeout(STOP, self.child.wait()).await;
        let status = status.map_err(|_| anyhow!("the hub did not stop within {STOP:?}"))??;
        if !status.success() {
            bail!("the hub stopped with {status}");
        }
        Ok(())
    }
}

/// A loopback port that is free now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_understands_what_is_written_and_set() {
        let parent = tempfile::tempdir().unwrap();
        let set = ["log.level=warn".to_owned(), "hub.node=b".to_owned()];
        let place = Place::create(&std::env::current_exe().unwrap(), parent.path(), &set).unwrap();
        place.configure(Some(1234)).unwrap();
        let settings = place.settings().unwrap();
        assert_eq!((settings.hub.node.as_str(), settings.log.level.as_str()), ("b", "warn"));
        assert!(settings.xmpp.enabled && settings.http.open_metrics);
        assert_eq!((settings.xmpp.component_port, settings.http.port), (1234, place.http_port));
        assert_eq!(settings.grpc.worker_key().unwrap().unwrap().expose(), place.worker_key);
        assert_eq!(settings.governance.remote_tokens_minute, 2_000_000_000);
        place.configure(None).unwrap();
        assert!(!place.settings().unwrap().xmpp.enabled);
    }
}

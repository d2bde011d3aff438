//! A hub as a process of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use aiox_client::Client;
use aiox_model::account::Register;
use aiox_worker::{Credential, ProviderConfig, ProviderKind, WorkerConfig, WorkerError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The key of all workers of the tests.
pub const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// Fails the test instead of hanging it. Far more than anything here takes, for a machine that has much else to do.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(120), future).await.unwrap()
}

/// Where a hub lives across its restarts.
pub struct Place {
    directory: TempDir,
    pub http: u16,
    pub grpc: u16,
}

impl Place {
    pub fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Both are held until both are known, so that they differ.
        let free: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |index: usize| free[index].local_addr().unwrap().port();
        Self { directory: tempfile::tempdir().unwrap(), http: port(0), grpc: port(1) }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the place.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A command of the program, with the settings of this hub and further ones. Nothing of the test's own environment gets in.
    pub fn command(&self, words: &[&str], more: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aiox"));
        command.env_clear().current_dir(self.path()).args(words).stdin(Stdio::null()).kill_on_drop(true);
        let own = [
            format!("http.port={}", self.http),
            format!("grpc.port={}", self.grpc),
            format!("grpc.worker_key={KEY}"),
            format!("hub.data_dir={}", self.file("data").display()),
            "llm.default_provider=slow".to_owned(),
            "llm.providers=[\"slow\"]".to_owned(),
        ];
        for setting in own.iter().chain(more) {
            command.arg("--set").arg(setting);
        }
        command
    }

    /// Starts the hub and waits until it says that it is up.
    pub async fn serve(&self) -> HubProcess {
        self.serve_with(&[]).await
    }

    /// As [`serve`](Self::serve), with further settings.
    pub async fn serve_with(&self, more: &[String]) -> HubProcess {
        self.serve_in::<&str>(more, []).await
    }

    /// As [`serve_with`](Self::serve_with), with an environment.
    pub async fn serve_in<N: AsRef<std::ffi::OsStr>>(
        &self,
        more: &[String],
        environment: impl IntoIterator<Item = (N, String)>,
    ) -> HubProcess {
        let mut child = self.command(&["serve"], more).envs(environment).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, log) = watch::channel(String::new());
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                said.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        let mut hub = HubProcess { child, log, reader };
        hub.says("hub is up").await;
        hub
    }

    /// The hub's REST door.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.http), None).unwrap()
    }

    /// Somebody who has just registered.
    pub async fn user(&self) -> Client {
        let new = Register { email: "alice@mail.example".into(), password: "correct horse".into(), username: None, invite: None };
        let pair = self.client().register(&new).await.unwrap();
        self.client().with_credential(pair.access_token.into())
    }

    /// A worker of this hub, in the test's own process. Its provider `slow` is at `provider`.
    pub fn worker(&self, credential: Credential, provider: Option<&str>) -> Worker {
        let mut config = WorkerConfig::new("w1", format!("http://127.0.0.1:{}", self.grpc), credential);
        config.reconnect_delay = Duration::from_millis(50);
        let mut slow = ProviderConfig::new(ProviderKind::OpenAi);
        slow.base_url = Some(provider.unwrap_or("http://127.0.0.1:9/v1").to_owned());
        slow.default_model = Some("slow-1".into());
        config.providers.insert("slow".into(), slow);
        Worker { running: tokio::spawn(aiox_worker::run(config, CancellationToken::new())) }
    }

    /// Waits until readiness says this of a part.
    pub async fn ready(&self, part: &str, status: &str) {
        within(async {
            while self.client().health().await.unwrap().part(part) != Some(status) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A worker, ended with its test.
pub struct Worker {
    pub running: JoinHandle<Result<(), WorkerError>>,
}
impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A running hub, killed with its test.
pub struct HubProcess {
    child: Child,
    log: watch::Receiver<String>,
    reader: JoinHandle<()>,
}

impl HubProcess {
    /// Waits until the log holds a text.
    pub async fn says(&mut self, text: &str) {
        let child = &mut self.child;
        let log = self.log.clone();
        let mut found = self.log.clone();
        within(async {
            tokio::select! {
                seen = found.wait_for(|log| log.contains(text)) => drop(seen.unwrap()),
                ended = child.wait() => panic!("the hub ended with {ended:?}:\n{}", *log.borrow()),
            }
        })
        .await;
    }

    /// What it has logged.
    pub fn log(&self) -> Arc<str> {
        self.log.borrow().as_str().into()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = within(self.child.wait()).await.unwrap();
        within(&mut self.reader).await.unwrap();
        let log = self.log.borrow().clone();
        (status, log)
    }
}

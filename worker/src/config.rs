//! What a worker needs to know to run. The process that starts it reads files and environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use crate::WorkerError;

/// The configuration of one worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Stable name, unique among the live workers of a hub.
    pub worker_id: String,
    /// The hub's worker door, for example `https://hub-a.example:50051`. `http` is for development.
    pub hub_url: String,
    /// What the worker proves itself with.
    pub credential: Credential,
    /// Trust and identity of the TLS connection; unused with `http`.
    pub tls: TlsFiles,
    /// Tasks run at once; the registration says the same number.
    pub max_concurrent: u32,
    /// Calls of models that belong to no run, served at once beside the tasks; 0 serves none.
    pub max_model_calls: u32,
    /// Time between two signs of life, unless the hub asks for another.
    pub heartbeat_interval: Duration,
    /// First delay before a reconnect; it doubles up to 30 s and is jittered by half.
    pub reconnect_delay: Duration,
    /// Longest time of a task that brings no limit of its own.
    pub task_timeout: Duration,
    /// Longest time from the shutdown signal to the end of [`run`](crate::run).
    pub drain_timeout: Duration,
    /// Longest answer in bytes; a longer one is cut there and finishes with `length`.
    pub max_answer_bytes: usize,
    /// The provider of a task that names none.
    pub default_provider: String,
    /// The providers by name. A name is what agents write into `llm_config.provider`.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Facts for worker choice, for example `gpu` or `region`.
    pub labels: BTreeMap<String, String>,
    /// The pool the worker belongs to; empty means the default pool.
    pub pool: String,
}

impl WorkerConfig {
    /// A worker named `worker_id` of the hub at `hub_url` that has only the built-in `echo`
    /// provider and the defaults of the protocol.
    #[must_use]
    pub fn new(worker_id: impl Into<String>, hub_url: impl Into<String>, credential: Credential) -> Self {
        Self {
            worker_id: worker_id.into(),
            hub_url: hub_url.into(),
            credential,
            tls: TlsFiles::default(),
            max_concurrent: 4,
            max_model_calls: 16,
            heartbeat_interval: Duration::from_secs(30),
            reconnect_delay: Duration::from_secs(5),
            task_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            max_answer_bytes: 1024 * 1024,
            default_provider: "openai".into(),
            providers: BTreeMap::from([("echo".to_owned(), ProviderConfig::new(ProviderKind::Echo))]),
            labels: BTreeMap::new(),
            pool: String::new(),
        }
    }

    /// Everything that is wrong with it, in one error.
    ///
    /// # Errors
    /// [`WorkerError::Config`] with one line for each problem.
    pub fn validate(&self) -> Result<(), WorkerError> {
        let mut problems = Vec::new();
        if self.worker_id.is_empty() {
            problems.push("the worker id is empty".to_owned());
        }
        if !self.hub_url.starts_with("https://") && !self.hub_url.starts_with("http://") {
            problems.push("the hub url must start with https:// or http://".to_owned());
        }
        if self.max_concurrent == 0 {
            problems.push("max_concurrent must be at least 1".to_owned());
        }
        if self.providers.is_empty() {
            problems.push("no provider is configured".to_owned());
        }
        for (name, provider) in &self.providers {
            if let Some(problem) = provider.problem() {
                problems.push(format!("provider {name}: {problem}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(WorkerError::Config(problems.join("; "))) }
    }
}

/// What a worker proves itself with to get a token. A client certificate is shown beside either.
#[derive(Clone)]
pub enum Credential {
    /// The shared key or its own, sent as `x-api-key`.
    ApiKey(SecretString),
    /// Only the client certificate.
    Certificate,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey",
            Self::Certificate => "Certificate",
        })
    }
}

/// PEM files of the connection to the hub, read again for every connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Roots to trust; none means the machine's own.
    pub ca: Option<PathBuf>,
    /// The worker's certificate chain and key, for a hub that wants mTLS.
    pub identity: Option<IdentityFiles>,
    /// The name in the hub's certificate, where it differs from the host in the url.
    pub domain: Option<String>,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Which wire a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's chat completions, also of other vendors and of local servers.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's chat.
    Ollama,
    /// The built-in development provider: repeats the message, calls nobody.
    Echo,
}

impl FromStr for ProviderKind {
    type Err = WorkerError;

    fn from_str(name: &str) -> Result<Self, WorkerError> {
        match name {
            "openai" | "openai_compatible" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "ollama" => Ok(Self::Ollama),
            "echo" => Ok(Self::Echo),
            _ => Err(WorkerError::Config(format!("unknown provider kind {name:?}: openai, openai_compatible, anthropic, ollama, echo"))),
        }
    }
}

/// One provider.
#[derive(Clone)]
pub struct ProviderConfig {
    /// The wire it speaks.
    pub kind: ProviderKind,
    /// Where it is; none means the vendor's own address.
    pub base_url: Option<String>,
    /// The key; Ollama and local servers need none.
    pub api_key: Option<SecretString>,
    /// The model of a task that names none. None: at a vendor's own address a small model of the
    /// vendor's, elsewhere such a task fails with `model_not_found`.
    pub default_model: Option<String>,
    /// The models that it serves, as the hub is told; empty means every model.
    pub models: BTreeSet<String>,
    /// Longest wait for the first byte and between two bytes of an answer.
    pub timeout: Duration,
}

impl ProviderConfig {
    /// A provider of this kind at its usual address, without a key.
    #[must_use]
    pub fn new(kind: ProviderKind) -> Self {
        Self {
            kind,
            base_url: None,
            api_key: None,
            default_model: match kind {
                ProviderKind::Echo => Some("echo".into()),
                _ => None,
            },
            models: BTreeSet::new(),
            timeout: Duration::from_secs(60),
        }
    }

    fn problem(&self) -> Option<String> {
        if let Some(base) = &self.base_url {
            match reqwest::Url::parse(base) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => {}
                _ => return Some("base_url is not an http(s) url".into()),
            }
        }
        let vendor = matches!(self.kind, ProviderKind::OpenAi | ProviderKind::Anthropic);
        if vendor && self.base_url.is_none() && self.api_key.is_none() {
            return Some("api_key is missing".into());
        }
        None
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("kind", &self.kind)
            .field("api_key", &self.api_key.is_some())
            .field("default_model", &self.default_model)
            .finish_non_exhaustive()
    }
}

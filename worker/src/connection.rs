//! The connection to the hub: TLS, identity, credential, and the token that stands for the credential.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiox_proto::worker::v1::IssueTokenRequest;
use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::WorkerError;
use crate::config::{Credential, TlsFiles, WorkerConfig};

/// Longest time for the TCP and TLS handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time to get a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause before a token is asked for again.
const TOKEN_PAUSE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A task carries a prompt, a history and memories; the hub bounds each of them.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

pub(crate) type HubClient = WorkerServiceClient<InterceptedService<Channel, Credentials>>;

/// A connection.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Calls with the token, or with the credential itself while there is none.
    pub(crate) client: HubClient,
    /// Calls with the credential.
    prover: HubClient,
    token: Token,
}

/// The token of the moment.
type Token = Arc<Mutex<Option<SecretString>>>;

impl Connection {
    /// Connects. Files are read each time, so that a renewed certificate is used by the next one.
    pub(crate) async fn open(config: &WorkerConfig) -> Result<Self, WorkerError> {
        let invalid = |error| WorkerError::Config(format!("hub connection: {error}"));
        let mut endpoint = Endpoint::from_shared(config.hub_url.clone())
            .map_err(invalid)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if config.hub_url.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(&config.tls).await?).map_err(invalid)?;
        }
        let channel = endpoint.connect().await.map_err(|error| WorkerError::Connect(Box::new(error)))?;
        let token = Token::default();
        let client = |token: &Token| {
            let credentials = Credentials { credential: config.credential.clone(), token: token.clone() };
            WorkerServiceClient::with_interceptor(channel.clone(), credentials).max_decoding_message_size(MAX_MESSAGE_BYTES)
        };
        Ok(Self { client: client(&token), prover: client(&Token::default()), token })
    }

    /// Gets a token for the calls that follow, and says for how long it is good. None: the hub knows no tokens, and each call
    /// carries the credential.
    pub(crate) async fn renew(&mut self, worker_id: String) -> Result<Option<Duration>, WorkerError> {
        let asked = timeout(TOKEN_TIMEOUT, self.prover.issue_token(IssueTokenRequest { worker_id })).await;
        let issued = match asked.map_err(|_| WorkerError::Silent("token"))? {
            Ok(issued) => issued.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(issued.token.into());
        Ok(Some(Duration::from_millis(issued.expires_in_ms.into())))
    }
}

impl Connection {
    /// Gets a younger token whenever half the life of one is over, and tells of each through `renewed`. Returns only when the hub
    /// refuses for good.
    pub(crate) async fn stay_young(mut self, worker_id: String, mut life: Option<Duration>, renewed: &Notify) -> WorkerError {
        while let Some(whole) = life {
            sleep(whole / 2).await;
            life = loop {
                match self.renew(worker_id.clone()).await {
                    Ok(next) => break next,
                    Err(WorkerError::Session(status)) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
                        return WorkerError::Session(status);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the token could not be renewed yet");
                        sleep((whole / 10).min(TOKEN_PAUSE)).await;
                    }
                }
            };
            renewed.notify_one();
        }
        std::future::pending().await
    }
}

/// Reads everything once, so that a missing file stops the start and not the first connection.
pub(crate) async fn check(config: &WorkerConfig) -> Result<(), WorkerError> {
    if config.hub_url.starts_with("https://") {
        tls(&config.tls).await?;
    }
    config.credential.metadata().map(|_| ()).map_err(|status| WorkerError::Config(status.message().to_owned()))
}

async fn tls(files: &TlsFiles) -> Result<ClientTlsConfig, WorkerError> {
    let mut tls = ClientTlsConfig::new();
    tls = match &files.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca).await?)),
        None => tls.with_native_roots(),
    };
    if let Some(identity) = &files.identity {
        let cert = read(&identity.cert).await?;
        let key = read(&identity.key).await?;
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    if let Some(domain) = &files.domain {
        tls = tls.domain_name(domain);
    }
    Ok(tls)
}

async fn read(path: &Path) -> Result<Vec<u8>, WorkerError> {
    tokio::fs::read(path).await.map_err(|source| WorkerError::File { path: path.to_path_buf(), source })
}

/// Puts the token, or else the credential, on every call.
#[derive(Clone)]
pub(crate) struct Credentials {
    credential: Credential,
    token: Token,
}

type Entry = (&'static str, MetadataValue<Ascii>);

impl Credential {
    fn metadata(&self) -> Result<Option<Entry>, Status> {
        match self {
            Self::ApiKey(key) => Ok(Some(("x-api-key", value(key.expose_secret())?))),
            Self::Certificate => Ok(None),
        }
    }
}

fn value(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| Status::unauthenticated("the credential has characters no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entry = match token {
            Some(token) => Some(("authorization", value(&format!("Bearer {}", token.expose_secret()))?)),
            None => self.credential.metadata()?,
        };
        if let Some((name, value)) = entry {
            request.metadata_mut().insert(name, value);
        }
        Ok(request)
    }
}

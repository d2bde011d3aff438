//! The connection to the hub: TLS, identity, credential.

use std::path::Path;
use std::time::Duration;

use aiox_proto::worker::v1::worker_service_client::WorkerServiceClient;
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::WorkerError;
use crate::config::{Credential, TlsFiles, WorkerConfig};

/// Longest time for the TCP and TLS handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A task carries a prompt, a history and memories; the hub bounds each of them.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

pub(crate) type HubClient = WorkerServiceClient<InterceptedService<Channel, Credentials>>;

/// Connects. Files are read each time, so that a renewed certificate is used by the next one.
pub(crate) async fn open(config: &WorkerConfig) -> Result<HubClient, WorkerError> {
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
    let credentials = Credentials(config.credential.clone());
    Ok(WorkerServiceClient::with_interceptor(channel, credentials).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// Reads everything once, so that a missing file stops the start and not the first connection.
pub(crate) async fn check(config: &WorkerConfig) -> Result<(), WorkerError> {
    if config.hub_url.starts_with("https://") {
        tls(&config.tls).await?;
    }
    Credentials(config.credential.clone()).metadata().map(|_| ()).map_err(|status| WorkerError::Config(status.message().to_owned()))
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

/// Puts the credential on every call.
#[derive(Clone)]
pub(crate) struct Credentials(Credential);

type Entry = (&'static str, MetadataValue<Ascii>);

impl Credentials {
    fn metadata(&self) -> Result<Option<Entry>, Status> {
        match &self.0 {
            Credential::ApiKey(key) => value(key.expose_secret()).map(|v| Some(("x-api-key", v))),
            Credential::Bearer(token) => bearer(token),
            Credential::BearerFile(path) => {
                let token = std::fs::read_to_string(path)
                    .map_err(|error| Status::unauthenticated(format!("token file {}: {error}", path.display())))?;
                bearer(&SecretString::from(token.trim()))
            }
            Credential::Certificate => Ok(None),
        }
    }
}

fn bearer(token: &SecretString) -> Result<Option<Entry>, Status> {
    value(&format!("Bearer {}", token.expose_secret())).map(|v| Some(("authorization", v)))
}

fn value(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| Status::unauthenticated("the credential has characters no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some((name, value)) = self.metadata()? {
            request.metadata_mut().insert(name, value);
        }
        Ok(request)
    }
}

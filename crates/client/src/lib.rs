//! A typed client of a hub's REST door, for programs and for the command line.
//!
//! Knows `aiox-model` and no other part of a hub. Errors carry the hub's own code and message.

mod calls;
mod error;
mod stream;
mod tenants;
mod view;

use std::time::Duration;

use aiox_model::body::Data;
use reqwest::{Certificate, Method, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

pub use calls::{Chat, Fingerprint};
pub use error::{Error, Result};
pub use stream::Frame;
pub use view::{Health, Part, Peer};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for a call that does not wait for an agent.
const QUICK: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const LARGEST: usize = 16 * 1024 * 1024;

/// A hub. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credential: Option<SecretString>,
}

impl Client {
    /// A client of the hub at `base`, for instance `https://hub-a.example`. With `ca` (PEM) it trusts those authorities only,
    /// otherwise those of the machine. It goes to the hub itself, never through a proxy that the environment names. Needs the
    /// process's rustls provider to be installed.
    ///
    /// # Errors
    /// [`Error::Setting`] for a bad URL or certificate.
    pub fn new(base: &str, ca: Option<&[u8]>) -> Result<Self> {
        let mut base = Url::parse(base).map_err(|_| Error::Setting("the hub's address is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(Error::Setting("the hub's address must begin with https:// or http://"));
        }
        // `join` replaces the last segment unless the path ends with a slash.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none()).no_proxy();
        if let Some(pem) = ca {
            let bundle = Certificate::from_pem_bundle(pem).map_err(|_| Error::Setting("the authority's certificate is no PEM"))?;
            http = http.tls_certs_only(bundle);
        }
        Ok(Self { http: http.build()?, base, credential: None })
    }

    /// The same client with an access token or an API key.
    #[must_use]
    pub fn with_credential(mut self, credential: SecretString) -> Self {
        self.credential = Some(credential);
        self
    }

    fn call(&self, method: Method, path: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.base.clone();
        // Segment by segment, so that no name of an agent or peer can change the path.
        url.path_segments_mut().map_err(|()| Error::Setting("the hub's address has no path"))?.pop_if_empty().extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.credential {
            Some(credential) => request.bearer_auth(credential.expose_secret()),
            None => request,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        read(self.call(Method::GET, path)?.query(query).timeout(QUICK).send().await?).await
    }

    async fn data<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.get::<Data<T>>(path, &[]).await.map(|body| body.data)
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T> {
        let response = self.call(Method::POST, path)?.json(body).timeout(QUICK).send().await?;
        read::<Data<T>>(response).await.map(|body| body.data)
    }
}

/// The JSON of a successful answer, or the hub's error.
async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let response = error::successful(response).await?;
    serde_json::from_slice(&bytes(response).await?).map_err(|_| Error::Answer("not the JSON that was expected"))
}

/// The body, up to its bound.
async fn bytes(mut response: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST {
            return Err(Error::Answer("too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

//! Reads what other hubs publish, from where an operator said that they are.

use std::{net::IpAddr, time::Duration};

use futures::StreamExt;
use reqwest::{Certificate, Client, redirect::Policy};
use rustls_pki_types::CertificateDer;
use url::{Host, Url};

use crate::{
    conformance,
    trust::{self, MAX_DOCUMENT},
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not `https` (plain `http` only to this machine), or with credentials in it.
    #[error("must be an https URL without credentials")]
    Url,
    /// No answer, or not the status 200.
    #[error("the trust document could not be fetched")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Larger than 1 MiB.
    #[error("the trust document is too large")]
    TooLarge,
}

/// Fetches with a deadline, a size bound and no redirects. Believing what was fetched is [`trust::read`]'s business.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// `roots`: certificates to verify the server with, alone. Empty: the machine's own.
    ///
    /// # Errors
    /// When the TLS library refuses them.
    pub fn new(roots: &[CertificateDer<'_>]) -> Result<Self, FetchError> {
        let refused = |error: reqwest::Error| FetchError::Unreachable(error.into());
        let mut builder = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).no_proxy();
        if !roots.is_empty() {
            let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>().map_err(refused)?;
            builder = builder.tls_certs_only(roots);
        }
        Ok(Self { client: builder.build().map_err(refused)? })
    }

    /// Reads the document of the hub at `base` (its public base URL, or the document's own URL).
    ///
    /// # Errors
    /// When the URL is not allowed or nothing usable comes back.
    pub async fn document(&self, base: &str) -> Result<Vec<u8>, FetchError> {
        let found = self.get(document_url(base)?).await?;
        found.ok_or_else(|| FetchError::Unreachable(format!("status {}", http::StatusCode::NOT_FOUND).into()))
    }

    /// Reads the conformance result of the hub at `base`. `None`: it publishes none.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    pub async fn conformance(&self, base: &str) -> Result<Option<Vec<u8>>, FetchError> {
        let mut url = document_url(base)?;
        let prefix = url.path().strip_suffix(trust::PATH).unwrap_or_default().to_owned();
        url.set_path(&format!("{prefix}{}", conformance::PATH));
        self.get(url).await
    }

    async fn get(&self, url: Url) -> Result<Option<Vec<u8>>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(error.into());
        let response = self.client.get(url).send().await.map_err(unreachable)?;
        if response.status() == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Unreachable(format!("status {}", response.status()).into()));
        }
        let mut bytes = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(unreachable)?);
            if bytes.len() > MAX_DOCUMENT {
                return Err(FetchError::TooLarge);
            }
        }
        Ok(Some(bytes))
    }
}

/// The URL of the document for what an operator typed.
///
/// # Errors
/// When it is not an allowed URL.
pub fn document_url(base: &str) -> Result<Url, FetchError> {
    let mut url = Url::parse(base).map_err(|_| FetchError::Url)?;
    let this_machine = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && this_machine);
    if !allowed || !url.username().is_empty() || url.password().is_some() || url.host().is_none() {
        return Err(FetchError::Url);
    }
    if url.path() != trust::PATH {
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{}", trust::PATH));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine() {
        assert_eq!(document_url("https://hub-b.example").unwrap().as_str(), "https://hub-b.example/.well-known/aiox-federation.json");
        assert_eq!(document_url("http://127.0.0.1:8080/").unwrap().as_str(), "http://127.0.0.1:8080/.well-known/aiox-federation.json");
        let whole = "https://hub-b.example/.well-known/aiox-federation.json";
        assert_eq!(document_url(whole).unwrap().as_str(), whole);
        for bad in [
            "http://hub-b.example",
            "ftp://hub-b.example",
            "file:///etc/passwd",
            "https://a:b@hub-b.example",
            "hub-b.example",
            "http://127.0.0.1.nip.example/",
        ] {
            assert!(document_url(bad).is_err(), "{bad}");
        }
    }
}

//! The accounts of the hub in its XMPP server (`deploy/prosody/README.md`).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aiox_crypto::scram::Verifier;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

/// The server is on this machine: what takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pushes accounts to a Prosody that runs `mod_auth_aiox`.
#[derive(Debug, Clone)]
pub struct XmppAccounts {
    client: Client,
    base: String,
    token: SecretString,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    verifier: &'a Verifier,
    blocked: bool,
}

impl XmppAccounts {
    /// Accounts of the server whose account interface listens on `address`.
    pub fn new(address: SocketAddr, token: SecretString) -> Result<Self> {
        let client = Client::builder()
            .timeout(PATIENCE)
            // The token goes to this address and nowhere else.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, base: format!("http://{address}/aiox/users"), token })
    }

    /// Localparts of all accounts, sorted.
    pub async fn list(&self) -> Result<Vec<String>> {
        let response = self.send(self.request(Method::GET, &self.base)).await?;
        accepted(response).await?.json().await.context("the XMPP server sent no list of accounts")
    }

    /// Makes or replaces an account. Repeating it changes nothing; a changed password and `blocked`
    /// end the account's open sessions.
    pub async fn put(&self, username: &str, verifier: &Verifier, blocked: bool) -> Result<()> {
        let request = self.request(Method::PUT, &self.account(username)).json(&Document { verifier, blocked });
        accepted(self.send(request).await?).await.map(drop)
    }

    /// Removes an account with its roster and archive. That there is none is no error.
    pub async fn delete(&self, username: &str) -> Result<()> {
        let response = self.send(self.request(Method::DELETE, &self.account(username))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(response).await.map(drop)
    }

    fn account(&self, username: &str) -> String {
        format!("{}/{}", self.base, percent_encoded(username))
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url).bearer_auth(self.token.expose_secret())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.context("the XMPP server's account interface does not answer")
    }
}

async fn accepted(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let reason = response.text().await.unwrap_or_default();
    bail!("the XMPP server refused an account: {status} {}", reason.chars().take(200).collect::<String>());
}

// A localpart may hold any character but a few; everything outside RFC 3986's unreserved set is encoded.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_localpart_stays_one_path_segment() {
        assert_eq!(percent_encoded("a/../b%é"), "a%2F..%2Fb%25%C3%A9");
    }
}

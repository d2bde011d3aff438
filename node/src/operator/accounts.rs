//! The accounts of the hub in its XMPP server (`deploy/prosody/README.md`).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use aiox_app::Accounts;
use aiox_crypto::scram::{ITERATIONS, Verifier};
use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::{sleep, timeout};

/// The server is on this machine: what takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the server's accounts are compared with the hub's although nothing has changed here:
/// somebody may have restored or emptied the server's data.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// First and longest wait before the server is asked again after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

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

    /// Keeps the server's accounts in step with the hub's until the future is dropped.
    pub async fn follow(&self, accounts: &Accounts) {
        let mut pushed = HashMap::new();
        let mut wait = RETRY.0;
        loop {
            match self.bring_up_to_date(accounts, &mut pushed).await {
                Ok(()) => {
                    wait = RETRY.0;
                    // Either way the comparison follows; the time being over is no failure.
                    let _ = timeout(COMPARE_EVERY, accounts.changed()).await;
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), retry_in = ?wait, "the XMPP server's accounts are not up to date");
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    // `pushed` is what the server has from us, so that an unchanged account costs no request.
    async fn bring_up_to_date(&self, accounts: &Accounts, pushed: &mut HashMap<String, (Verifier, bool)>) -> Result<()> {
        let present: HashSet<String> = self.list().await?.into_iter().collect();
        pushed.retain(|username, _| present.contains(username));
        let wanted = accounts.xmpp_accounts().await.context("the hub's accounts cannot be read")?;
        let mut orphans = present;
        for account in wanted {
            orphans.remove(&account.username);
            self.push(pushed, account.username, account.verifier, !account.active).await?;
        }
        // An account that the hub does not know (any more) is locked, not deleted: if the hub is the
        // one that lost data, rosters and archives must survive that.
        for username in orphans {
            self.push(pushed, username, nobodys_verifier(), true).await?;
        }
        Ok(())
    }

    async fn push(
        &self,
        pushed: &mut HashMap<String, (Verifier, bool)>,
        username: String,
        verifier: Verifier,
        blocked: bool,
    ) -> Result<()> {
        let current = (verifier, blocked);
        if pushed.get(&username) != Some(&current) {
            self.put(&username, &current.0, blocked).await?;
            pushed.insert(username, current);
        }
        Ok(())
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

// No password has these keys: they are not the hash of anything known.
fn nobodys_verifier() -> Verifier {
    Verifier { stored_key: "0".repeat(64), server_key: "0".repeat(64), salt: "0".repeat(32), iteration_count: ITERATIONS }
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

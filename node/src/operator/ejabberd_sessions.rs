//! Ends sessions in ejabberd. It asks the hub at each sign-in, but a session that is open asks nobody any more.

use std::{collections::HashMap, path::Path, time::Duration};

use aiox_app::Accounts;
use aiox_crypto::scram::Verifier;
use anyhow::{Context, Result, bail};
use reqwest::Client;
use tokio::time::{sleep, timeout};

/// The server is on this machine: what takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often accounts are compared although nothing has changed here: another process may have changed them.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Wait before the server is asked again after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// The sessions in an ejabberd whose `mod_http_api` listens on a unix socket.
#[derive(Debug, Clone)]
pub struct EjabberdSessions {
    client: Client,
    host: String,
}

/// What is known of an account: how it proves itself, and whether it may.
type Known = HashMap<String, (Verifier, bool)>;

impl EjabberdSessions {
    /// Sessions of the accounts in `domain`.
    pub fn new(socket: &Path, domain: &str) -> Result<Self> {
        let client = Client::builder().timeout(PATIENCE).unix_socket(socket).build().context("cannot make an HTTP client")?;
        Ok(Self { client, host: domain.to_owned() })
    }

    /// Ends the sessions of accounts that are disabled or get another password, until the future is dropped.
    pub async fn follow(&self, accounts: &Accounts) {
        let mut known = Known::new();
        loop {
            match self.compare(accounts, &mut known).await {
                // Either way the comparison follows; the time being over is no failure.
                Ok(()) => drop(timeout(COMPARE_EVERY, accounts.changed()).await),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "sessions of disabled accounts may still be open in ejabberd");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn compare(&self, accounts: &Accounts, known: &mut Known) -> Result<()> {
        for account in accounts.xmpp_accounts().await.context("the hub's accounts cannot be read")? {
            let current = (account.verifier, account.active);
            let former = known.get(&account.username);
            // At the first look nothing is known: a disabled account may have been disabled while this hub was away.
            let ends = former != Some(&current) && (former.is_some() || !account.active);
            if ends {
                self.end(&account.username).await?;
            }
            known.insert(account.username, current);
        }
        Ok(())
    }

    async fn end(&self, user: &str) -> Result<()> {
        let document = serde_json::json!({ "user": user, "host": self.host });
        let asked = self.client.post("http://localhost/api/kick_user").json(&document).send().await;
        let answer = asked.context("ejabberd's administration interface does not answer")?;
        let status = answer.status();
        if !status.is_success() {
            let reason = answer.text().await.unwrap_or_default();
            bail!("ejabberd did not end the sessions of {user}: {status} {}", reason.chars().take(200).collect::<String>());
        }
        Ok(())
    }
}

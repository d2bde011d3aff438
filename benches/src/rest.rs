//! The hub's HTTP side, as far as a load needs it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A client of one hub.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    client: reqwest::Client,
    base: String,
}

/// The agent that a load talks to.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// Id of the agent.
    pub(crate) agent: uuid::Uuid,
    /// Address of the agent.
    pub(crate) jid: String,
}

impl Rest {
    /// A client of the hub at `base`, for example `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(15)).no_proxy().build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Whether the process lives.
    pub(crate) async fn is_live(&self) -> bool {
        let answer = self.client.get(format!("{}/health/live", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// Registers an account and creates a public agent.
    pub(crate) async fn make_agent(&self, provider: &str, memory: bool) -> Result<Made> {
        let email = format!("load-owner-{}@hub-a.example", uuid::Uuid::new_v4().simple());
        let password = uuid::Uuid::new_v4().to_string();
        let account = json!({ "email": email, "password": password });
        let tokens = self.post("/api/v1/auth/register", None, &account).await?;
        let token = tokens["data"]["access_token"].as_str().context("no access token")?.to_owned();
        let agent = json!({
            "name": "load",
            "description": "answers a load",
            "system_prompt": "Say what was said.",
            "llm_config": { "provider": provider, "model": provider },
            "memory_config": { "enabled": memory },
            "visibility": "public",
        });
        let made = self.post("/api/v1/agents", Some(&token), &agent).await?;
        let read = |name: &str| made["data"][name].as_str().with_context(|| format!("no {name}"));
        Ok(Made { agent: read("id")?.parse()?, jid: read("jid")?.to_owned() })
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Result<Value> {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| path.to_owned())
    }

    /// Its counters.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics { client: self.client.clone(), url: format!("{}/metrics", self.base) }
    }
}

/// A `/metrics` in Prometheus text format.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    client: reqwest::Client,
    url: String,
}

impl Metrics {
    /// The metrics at a URL.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(15)).no_proxy().build()?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Sum of all series of a name. `None` when there is none, or no answer.
    pub(crate) async fn sum(&self, name: &str) -> Option<f64> {
        let answer = self.client.get(&self.url).send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        sum(&answer.text().await.ok()?, name)
    }
}

fn sum(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn all_series_of_a_name_are_summed_and_no_other() {
        let text = "# TYPE a_total counter\na_total{x=\"}1\",y=\"b\"} 3\na_total{x=\"2\"} 4 1700000000\na_total_more 100\nb_total 5\n";
        assert_eq!(sum(text, "a_total"), Some(7.0));
        assert_eq!(sum(text, "b_total"), Some(5.0));
        assert_eq!(sum(text, "c_total"), None);
    }
}

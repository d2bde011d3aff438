//! REST calls of the command line.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// A hub as its client sees it.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    credential: Option<String>,
}

impl Api {
    /// `ca`: the authority of the hub's certificate; absent = the machine's own.
    pub fn new(base: &str, ca: Option<&Path>, credential: Option<String>) -> Result<Self> {
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(180)).no_proxy();
        if let Some(ca) = ca {
            let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
            builder =
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).context("the authority's certificate is damaged")?);
        }
        let client = builder.build().context("cannot make an HTTP client")?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), credential })
    }

    /// The same, signed in.
    pub async fn login(self, username: &str, password: &str) -> Result<Self> {
        let pair = self.post("/api/v1/auth/login", &json!({ "username": username, "password": password })).await?;
        let token = pair["data"]["access_token"].as_str().context("the hub sent no token")?.to_owned();
        Ok(Self { credential: Some(token), ..self })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        read(self.send(Method::GET, path, None).await?).await
    }
    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        read(self.send(Method::POST, path, Some(body)).await?).await
    }
    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        read(self.send(Method::DELETE, path, None).await?).await
    }
    /// POST whose answer is an event stream.
    pub async fn stream(&self, path: &str, body: &Value) -> Result<Response> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if response.status().is_success() { Ok(response) } else { read(response).await.and(Err(anyhow::anyhow!("no stream"))) }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(credential) = &self.credential {
            request = request.bearer_auth(credential);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.with_context(|| format!("{} does not answer", self.base))
    }
}

async fn read(response: Response) -> Result<Value> {
    let status = response.status();
    let text = response.text().await.context("the answer was cut")?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if !status.is_success() {
        let error = body["error"].as_str().unwrap_or("no explanation");
        let code = body["code"].as_str().unwrap_or("unknown");
        bail!("{error} ({status}, {code}, {})", body["correlation_id"].as_str().unwrap_or("no correlation id"));
    }
    Ok(body)
}

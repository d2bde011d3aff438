//! Peers without a trust document: plain nodes of the `/v1` contract, which an operator has let in without mutual TLS.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aiox_app::peers::{PlainAsk, PlainCaller, PlainMade, PlainWire};
use aiox_core::{Error, Result};
use aiox_model::run::RunStatus;
use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use url::{Host, Url};

use crate::sse::Parser;

/// Time that a node has for taking a run, repetitions included: the published contract has a forward answer within 10 s.
const BUDGET: Duration = Duration::from_secs(8);
/// Time for one attempt of it, and for the head of an event stream.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Time to say that it is well.
const HEALTH: Duration = Duration::from_secs(2);
/// An event stream that is silent for longer is broken: nodes send a heartbeat every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Wait before the second attempt; later ones wait longer.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 1024 * 1024;
/// Most bytes of a run's id and of the URL of its events.
const MAX_ID: usize = 255;
const MAX_URL: usize = 2048;
/// Time to wait where a node that is too busy names none, and the most that is believed of what it names.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const LONGEST_RETRY_AFTER: u64 = 3600;

/// Calls plain nodes: no redirects, no proxies, no credentials, and no addresses that no hub can have, whatever their names resolve to.
#[derive(Debug, Clone)]
pub struct PlainClient {
    client: Client,
}

struct Judged;

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| may_be_a_hub(address.ip())).collect();
            if allowed.is_empty() {
                return Err("no address of this name is one that a hub can have".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Why an attempt brought no run.
enum Failed {
    /// Not now: the next may.
    Away,
    /// It will not.
    Refused(Error),
}

fn away() -> Error {
    Error::unavailable("peer_unreachable", "the peer hub cannot be reached")
}

impl PlainClient {
    /// A client.
    ///
    /// # Errors
    /// When the TLS library cannot be used.
    pub fn new() -> reqwest::Result<Self> {
        let builder = Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(ATTEMPT).read_timeout(SILENCE);
        Ok(Self { client: builder.dns_resolver(Arc::new(Judged)).build()? })
    }

    async fn attempt(&self, url: &Url, headers: &HeaderMap, ask: &PlainAsk) -> Result<PlainMade, Failed> {
        let request = self.client.post(url.clone()).headers(headers.clone()).header("Idempotency-Key", &ask.key).json(&ask.body);
        let asked = async {
            let response = request.send().await.map_err(|_| Failed::Away)?;
            let (status, headers) = (response.status(), response.headers().clone());
            if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
                return Err(Failed::Away);
            }
            let body: Value = serde_json::from_slice(&bounded(response).await?).unwrap_or_default();
            match status {
                StatusCode::OK | StatusCode::CREATED => made(status, &headers, &body).ok_or_else(|| {
                    Failed::Refused(Error::unavailable("dependency_unavailable", "the peer hub gave an answer that cannot be used"))
                }),
                _ => Err(Failed::Refused(refusal(status, &headers, &body))),
            }
        };
        timeout(ATTEMPT, asked).await.unwrap_or(Err(Failed::Away))
    }
}

async fn bounded(response: Response) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|_| Failed::Away)?);
        if bytes.len() > MAX_ANSWER {
            return Err(Failed::Refused(Error::unavailable("dependency_unavailable", "the peer hub gave an answer that is too long")));
        }
    }
    Ok(bytes)
}

fn made(status: StatusCode, headers: &HeaderMap, body: &Value) -> Option<PlainMade> {
    let run = &body["run"];
    let legal = |id: &&str| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:-".contains(&b));
    let id = run["run_id"].as_str().filter(legal).filter(|id| *id != "." && *id != "..")?;
    let default = format!("/v1/runs/{id}/events");
    let events_url = run["events_url"].as_str().filter(|url| url.len() <= MAX_URL).unwrap_or(&default);
    Some(PlainMade {
        run: id.to_owned(),
        status: serde_json::from_value(run["status"].clone()).unwrap_or(RunStatus::Queued),
        events_url: events_url.to_owned(),
        replayed: status == StatusCode::OK || headers.get("Idempotency-Replayed").is_some_and(|value| value == "true"),
    })
}

/// What a node refuses, in this hub's words. Nothing that it wrote is passed on.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &Value) -> Error {
    let code = body["error"]["code"].as_str().unwrap_or_default();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound("agent"),
        StatusCode::CONFLICT => Error::conflict("conflict", "the peer hub has another run of this idempotency key"),
        StatusCode::TOO_MANY_REQUESTS => {
            let named = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            let retry_after = named.map_or(RETRY_AFTER, |seconds| Duration::from_secs(seconds.min(LONGEST_RETRY_AFTER)));
            let code = if code == "quota_exceeded" { "quota_exceeded" } else { "rate_limited" };
            Error::Limited { code, message: "the limit at the peer hub is reached".into(), retry_after }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::forbidden("forbidden", "the peer hub refused the run"),
        status if status.is_client_error() => Error::invalid("run", "the peer hub cannot take it"),
        _ => Error::unavailable("dependency_unavailable", "the peer hub gave an answer that cannot be used"),
    }
}

fn identity(caller: &PlainCaller) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-tenant-id", &caller.tenant),
        ("x-principal-id", &caller.principal),
        ("x-correlation-id", &caller.correlation),
        ("traceparent", &caller.traceparent),
    ] {
        let value = HeaderValue::from_str(value).map_err(|_| Error::invalid(name, "cannot stand in a header"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A path below a base.
fn under(base: &str, segments: &[&str]) -> Result<Url> {
    let mut url = base_url(base).map_err(|_| away())?;
    url.path_segments_mut().map_err(|()| away())?.pop_if_empty().extend(segments);
    Ok(url)
}

/// Where a run's events are: relative to the base, or absolute and then of the same origin.
fn events_at(base: &str, given: &str) -> Option<Url> {
    let base = base_url(base).ok()?;
    let url = match Url::parse(given) {
        Ok(url) => url,
        Err(_) => Url::parse(&format!("{}/{}", base.as_str().trim_end_matches('/'), given.trim_start_matches('/'))).ok()?,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (url.origin() == base.origin() && plain).then_some(url)
}

#[async_trait]
impl PlainWire for PlainClient {
    async fn create(&self, base: &str, ask: &PlainAsk) -> Result<PlainMade> {
        let (url, headers) = (under(base, &["v1", "agents", &ask.agent, "runs"])?, identity(&ask.caller)?);
        let until_taken = async {
            let mut wait = FIRST_WAIT;
            loop {
                match self.attempt(&url, &headers, ask).await {
                    Ok(made) => return Ok(made),
                    Err(Failed::Refused(error)) => return Err(error),
                    Err(Failed::Away) => sleep(wait).await,
                }
                wait *= 2;
            }
        };
        let made = timeout(BUDGET, until_taken).await.unwrap_or_else(|_| Err(away()))?;
        if events_at(base, &made.events_url).is_none() {
            return Err(Error::unavailable("dependency_unavailable", "the peer hub names a place for its events that is not its own"));
        }
        Ok(made)
    }

    async fn events(&self, base: &str, url: &str, caller: &PlainCaller, after: u64) -> Result<Option<BoxStream<'static, Result<Value>>>> {
        let mut url = events_at(base, url).ok_or_else(away)?;
        if after > 0 {
            url.query_pairs_mut().append_pair("after_sequence", &after.to_string());
        }
        let request = self.client.get(url).headers(identity(caller)?).header(header::ACCEPT, "text/event-stream");
        let response = timeout(ATTEMPT, request.send()).await.map_err(|_| away())?.map_err(|_| away())?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => return Ok(None),
            StatusCode::NOT_FOUND => return Err(Error::NotFound("run")),
            _ => return Err(away()),
        }
        let media = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(away());
        }
        let stream = async_stream::stream! {
            let (mut body, mut parser) = (response.bytes_stream(), Parser::default());
            while let Some(piece) = body.next().await {
                let Ok(piece) = piece else { yield Err(away()); return };
                let Ok(messages) = parser.feed(&piece) else { yield Err(away()); return };
                for message in messages {
                    // Whatever else a node sends, a heartbeat as data for instance, is no event.
                    if let Ok(value @ Value::Object(_)) = serde_json::from_str(&message.data) {
                        yield Ok(value);
                    }
                }
            }
        };
        Ok(Some(stream.boxed()))
    }

    async fn well(&self, base: &str) -> bool {
        let Ok(url) = under(base, &["v1", "health"]) else { return false };
        let asked = timeout(HEALTH, self.client.get(url).send()).await;
        matches!(asked, Ok(Ok(response)) if response.status() == StatusCode::OK)
    }
}

/// Why a base URL is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an http or https URL of a host, without credentials, query and fragment, and not of an address that no hub can have")]
pub struct BaseUrlError;

/// A base URL that an operator has written down. Addresses of metadata services (link-local), unspecified ones and those of many hosts are
/// refused in every form that they can be written in.
///
/// # Errors
/// When it is not allowed.
pub fn base_url(text: &str) -> std::result::Result<Url, BaseUrlError> {
    let url = Url::parse(text).map_err(|_| BaseUrlError)?;
    let host = match url.host().ok_or(BaseUrlError)? {
        Host::Domain(name) => !name.is_empty() && name != "metadata.google.internal",
        Host::Ipv4(ip) => may_be_a_hub(IpAddr::V4(ip)),
        Host::Ipv6(ip) => may_be_a_hub(IpAddr::V6(ip)),
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && host && plain { Ok(url) } else { Err(BaseUrlError) }
}

/// Whether a hub can be at an address.
pub(crate) fn may_be_a_hub(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| !(ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0);
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => v4(inner),
            None => !(ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()),
        },
    }
}

/// The IPv4 address inside a mapped or translated one (RFC 4291 section 2.5.5.2, RFC 6052 section 2.1).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let translated = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = ip.octets();
    ip.to_ipv4_mapped().or_else(|| translated.then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_the_node_alone() {
        let base = "http://node-b:8081/agentos/";
        let at = |given: &str| events_at(base, given).map(String::from);
        assert_eq!(at("/v1/runs/run_1/events").as_deref(), Some("http://node-b:8081/agentos/v1/runs/run_1/events"));
        assert_eq!(at("v1/runs/run_1/events").as_deref(), Some("http://node-b:8081/agentos/v1/runs/run_1/events"));
        assert_eq!(at("http://node-b:8081/x").as_deref(), Some("http://node-b:8081/x"));
        assert_eq!(at("//other/x").as_deref(), Some("http://node-b:8081/agentos/other/x"));
        for bad in ["http://other/x", "https://node-b:8081/x", "http://node-b/x", "file:///etc/passwd", "http://a:b@node-b:8081/x"] {
            assert_eq!(at(bad), None, "{bad}");
        }
        let agent = under(base, &["v1", "agents", "a/b?c", "runs"]).unwrap();
        assert_eq!(agent.as_str(), "http://node-b:8081/agentos/v1/agents/a%2Fb%3Fc/runs");
    }

    #[test]
    fn what_a_node_refuses_is_told_in_our_words() {
        let told = |status: u16, code: &str| {
            let body = serde_json::json!({ "error": { "code": code, "message": "secret" } });
            let error = refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body);
            assert!(!error.to_string().contains("secret"));
            error.code()
        };
        for (status, code, ours) in [
            (400, "invalid_request", "invalid_request"),
            (401, "unauthorized", "forbidden"),
            (403, "policy_blocked", "forbidden"),
            (404, "not_found", "not_found"),
            (409, "conflict", "conflict"),
            (413, "x", "invalid_request"),
            (429, "quota_exceeded", "quota_exceeded"),
            (429, "x", "rate_limited"),
            (302, "", "dependency_unavailable"),
        ] {
            assert_eq!(told(status, code), ours, "{status} {code}");
        }
    }

    #[test]
    fn only_a_usable_run_is_taken() {
        let of = |run: Value| made(StatusCode::CREATED, &HeaderMap::new(), &serde_json::json!({ "run": run }));
        let whole = of(serde_json::json!({ "run_id": "run_1", "status": "running", "events_url": "/e" })).unwrap();
        assert_eq!(
            (whole.run.as_str(), whole.status, whole.events_url.as_str(), whole.replayed),
            ("run_1", RunStatus::Running, "/e", false)
        );
        assert_eq!(of(serde_json::json!({ "run_id": "r" })).unwrap().events_url, "/v1/runs/r/events");
        for id in ["", "..", "a/b", "a b", "a\n", &"x".repeat(256)] {
            assert_eq!(of(serde_json::json!({ "run_id": id })), None, "{id}");
        }
        assert_eq!(of(serde_json::json!({})), None);
    }

    #[test]
    fn only_urls_that_a_hub_can_have_are_used() {
        for good in ["http://127.0.0.1:8081", "https://hub-b.example/base/", "http://node-b:8081", "http://[::1]:8081", "http://10.0.0.7"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in [
            "node-b:8081",
            "ftp://node-b",
            "file:///etc/passwd",
            "gopher://node-b",
            "http://user:secret@node-b",
            "http://node-b/?a=b",
            "http://node-b/#a",
            "http://0.0.0.0",
            "http://0/",
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://[::]",
            "http://[fe80::1]",
            "http://[::ffff:169.254.169.254]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://224.0.0.1",
            "http://255.255.255.255",
            "http://metadata.google.internal/",
        ] {
            assert_eq!(base_url(bad), Err(BaseUrlError), "{bad}");
        }
    }
}

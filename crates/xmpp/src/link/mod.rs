//! The component link (XEP-0114) to the XMPP server: kept up for ever, and not to be broken by anything a stanza contains.
//!
//! XEP-0114 is clear text with a SHA-1 handshake, so the link is opened to loopback addresses only.

mod assemble;
mod backoff;
mod inbound;
mod io;
mod session;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use inbound::{Inbound, Kind, Stanza};
pub(crate) use io::{Outbound, SendError};
pub(crate) use session::Session;

use backoff::Backoff;

pub(crate) const NS_STREAM: &str = "http://etherx.jabber.org/streams";
/// Longest single XML token. Servers route up to 512 KiB in one stanza.
const MAX_TOKEN_BYTES: usize = 512 * 1024;
/// A connection that lived this long was a good one: the next failure starts from the shortest wait again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Where the link stands. Readiness shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No connection; the next attempt follows by itself.
    Down {
        /// Why, in words for an operator.
        reason: String,
    },
    /// An attempt is under way.
    Connecting,
    /// The handshake succeeded and stanzas flow.
    Up {
        /// When it came up.
        since: std::time::Instant,
    },
}

impl LinkState {
    /// Whether stanzas flow.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// Why a connection attempt or a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot reach the XMPP server")]
    Connect(#[source] std::io::Error),
    #[error("the component address resolves to {0}, which is not loopback; the link is clear text")]
    NotLoopback(SocketAddr),
    #[error("the XMPP server did not answer in time while {0}")]
    Timeout(&'static str),
    #[error("the XMPP server broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the XMPP server ended the stream: {0}")]
    Stream(String),
    #[error("another component is connected with our domain")]
    Conflict,
    #[error("the XMPP server closed the stream")]
    Closed,
    #[error("the connection to the XMPP server failed")]
    Io(#[source] std::io::Error),
    #[error("shut down")]
    Shutdown,
}

impl LinkError {
    fn stream(condition: String) -> Self {
        if condition == "conflict" { Self::Conflict } else { Self::Stream(condition) }
    }
}

/// Everything the link needs to know.
#[derive(Debug)]
pub(crate) struct LinkOptions {
    pub(crate) address: String,
    pub(crate) domain: String,
    pub(crate) server_domain: String,
    pub(crate) secret: SecretString,
    pub(crate) first_retry: Duration,
    pub(crate) last_retry: Duration,
    /// Connect and handshake, each.
    pub(crate) open_timeout: Duration,
    /// Silence after which the server is pinged.
    pub(crate) ping_after: Duration,
    /// Silence after that ping until the link counts as dead; also the limit for one write.
    pub(crate) dead_after: Duration,
}

/// Connects, hands each connection to `serve`, and connects again, until `shutdown`.
///
/// `serve` returns when the session's `inbound` ends, or when it has said its goodbyes after `shutdown`.
pub(crate) async fn supervise<F, Fut>(options: Arc<LinkOptions>, state: watch::Sender<LinkState>, shutdown: CancellationToken, serve: F)
where
    F: Fn(Session) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut backoff = Backoff::new(options.first_retry, options.last_retry);
    loop {
        if shutdown.is_cancelled() {
            break;
        }
        state.send_replace(LinkState::Connecting);
        let attempt = tokio::select! {
            attempt = session::open(&options) => attempt,
            () = shutdown.cancelled() => break,
        };
        let ended = match attempt {
            Ok(opened) => {
                let up = Instant::now();
                metrics::gauge!("aiox_xmpp_link_up").set(1.0);
                tracing::info!(domain = %options.domain, "XMPP component link is up");
                state.send_replace(LinkState::Up { since: std::time::Instant::now() });
                let ended = session::run(opened, &options, &serve).await;
                metrics::gauge!("aiox_xmpp_link_up").set(0.0);
                if up.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
                ended
            }
            Err(error) => error,
        };
        if shutdown.is_cancelled() {
            break;
        }
        let reason = describe(&ended);
        let mut wait = backoff.next(random());
        if matches!(ended, LinkError::Conflict) {
            // Two holders that both return at once would throw each other out for ever.
            wait = wait.max(options.last_retry / 6);
        }
        tracing::warn!(domain = %options.domain, reason, retry_in_ms = wait.as_millis(), "XMPP component link is down");
        metrics::counter!("aiox_xmpp_link_failures_total").increment(1);
        state.send_replace(LinkState::Down { reason });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => break,
        }
    }
    state.send_replace(LinkState::Down { reason: LinkError::Shutdown.to_string() });
}

/// The whole chain in one line: `Display` of an error never prints its source.
fn describe(error: &LinkError) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

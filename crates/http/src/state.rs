//! What the routes are built from.

use std::{sync::Arc, time::Duration};

use aiox_app::{Accounts, Agents, Dispatch, PeerBook, Runs, Tenants};
use aiox_core::ports::RateLimiter;
use async_trait::async_trait;

use crate::Network;

/// The use cases and ports of the REST door.
pub struct HttpState {
    /// Accounts, sessions, keys.
    pub accounts: Accounts,
    /// Tenants, their tokens and the audit log of administrators.
    pub tenants: Tenants,
    /// Agents and grants.
    pub agents: Agents,
    /// Runs, conversations, allowance.
    pub runs: Runs,
    /// Peers and what is known of their agents.
    pub peers: PeerBook,
    /// Connected workers.
    pub dispatch: Dispatch,
    /// Counts sign-in attempts.
    pub limiter: Arc<dyn RateLimiter>,
    /// What `/health/ready` tells.
    pub health: Arc<dyn Health>,
    /// The Prometheus text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What the composition root decides.
    pub options: HttpOptions,
}

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Origins that browsers may call from, for instance `https://console.hub-a.example`; `*` for any, then without credentials.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Most bytes of a request body.
    pub max_body: usize,
    /// Most time of one attempt of a run; a waiting chat call waits for it at most.
    pub run_timeout: Duration,
    /// `/metrics` without a credential. Otherwise it needs the scope `tenant:read`.
    pub open_metrics: bool,
    /// Version that `/health` tells.
    pub version: String,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            max_body: 1024 * 1024,
            run_timeout: Duration::from_secs(120),
            open_metrics: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// How a part of the hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Healthy,
    /// It is needed and does not work.
    Unhealthy,
    /// It works less than it should; the text says why, for instance `no workers connected`.
    Degraded(&'static str),
    /// This hub does without it.
    NotConfigured,
}
impl Standing {
    /// The text of the published contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Degraded(why) => why,
            Self::NotConfigured => "not configured",
        }
    }
}

/// One part of the hub and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `database`, `nats`, `redis`, `workers`, `xmpp`, `peers`, or another part.
    pub name: &'static str,
    /// How it is.
    pub standing: Standing,
    /// Whether the hub cannot serve while it is unhealthy.
    pub required: bool,
}

/// Says how the hub is. It must answer within a second, from what it already knows where it can.
#[async_trait]
pub trait Health: Send + Sync {
    /// Every part.
    async fn checks(&self) -> Vec<Check>;
}

//! This hub's identity towards its peers, from files. Whatever is missing or unusable stops the start and is named.

use std::path::PathBuf;

use aiox_certs::HubPaths;
use aiox_config::Settings;
use aiox_federation::{listener::ListenerLimits, local::LocalNode, service::FederationOptions};
use anyhow::{Context as _, Result, bail};

/// The directory with this hub's keys and certificates.
pub fn certs_dir(settings: &Settings) -> PathBuf {
    settings.federation.certs_dir.clone().unwrap_or_else(|| settings.hub.data_dir.join("certs"))
}

/// Certificate and keys of the peer listener.
pub fn local_node(settings: &Settings) -> Result<LocalNode> {
    let paths = HubPaths::new(&certs_dir(settings));
    let (certificate, key) = paths.leaf("federation");
    let (chain, key) = aiox_certs::load_pair("federation", &certificate, &key).context("make it with: aiox certs create")?;
    let token = aiox_certs::load_key("federation.token_key", &paths.token_key())?;
    let envelope = aiox_certs::load_key("federation.envelope_key", &paths.envelope_key())?;
    let node = LocalNode::new(chain, key, &token, &envelope)?;
    if node.domain() != settings.hub.domain {
        bail!("the federation certificate names the domain {}, but hub.domain is {}", node.domain(), settings.hub.domain);
    }
    Ok(node)
}

/// What peers are told of this hub, and whom it believes on the web.
pub fn federation_options(settings: &Settings) -> Result<FederationOptions> {
    let paths = HubPaths::new(&certs_dir(settings));
    let own = &settings.federation;
    let web_roots = match &own.web_roots {
        Some(file) => aiox_certs::load_chain("federation.web_roots", file)?,
        None => Vec::new(),
    };
    Ok(FederationOptions {
        endpoint: own.endpoint.clone().unwrap_or_else(|| format!("https://{}:{}", settings.hub.domain, own.port)),
        roots: aiox_certs::load_chain("federation.roots", &paths.domain_authority())?,
        web_roots,
        skew: i64::from(own.skew_seconds),
        limits: ListenerLimits::default(),
    })
}

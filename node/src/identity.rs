//! This hub's identity towards its peers, from files. Whatever is missing or unusable stops the start and is named.

use std::{path::PathBuf, sync::LazyLock};

use aiox_certs::{HubPaths, Pair, Pem};
use aiox_config::{Mode, Secret, Settings};
use aiox_conformance::{Level, requirements};
use aiox_federation::{conformance::Must, listener::ListenerLimits, local::LocalNode, service::FederationOptions};
use aiox_model::v1::federation::{PeerInfo, Stack};
use anyhow::{Context as _, Result, bail};
use rustls::pki_types::CertificateDer;

/// SHA-256 of this program, for signed conformance results. `None` when it cannot be read.
static BUILD: LazyLock<Option<String>> = LazyLock::new(|| {
    let read = std::env::current_exe().and_then(std::fs::File::open).and_then(aiox_crypto::jws::sha256_of);
    read.inspect_err(|error| tracing::warn!(%error, "this program cannot be read: no conformance result can be published")).ok()
});

/// Begins to read the program beside the rest of a start, which needs its digest in the end ([`stack`]).
pub fn read_program() {
    drop(tokio::task::spawn_blocking(|| LazyLock::force(&BUILD).is_some()));
}

/// The directory with this hub's keys and certificates.
pub fn certs_dir(settings: &Settings) -> PathBuf {
    settings.federation.certs_dir.clone().unwrap_or_else(|| settings.hub.data_dir.join("certs"))
}

/// What settings give beside the directory.
pub struct Given {
    server: Option<Pair>,
    client: Option<Pair>,
    roots: Option<Vec<CertificateDer<'static>>>,
}

/// Reads what is given by settings of its own. It has to be usable, also where the hub has no peers.
pub fn given(settings: &Settings) -> Result<Given> {
    let own = &settings.federation;
    let pair = |certificate: &Option<Secret>, key: &Option<Secret>, name: &str| {
        let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
        let pair = aiox_certs::load_pair("federation", Pem::of(certificate.expose()), Pem::of(key.expose()));
        pair.map(Some).with_context(|| format!("federation.{name}certificate, federation.{name}key"))
    };
    let authority = |authority: &Secret| aiox_certs::load_chain("federation.ca_certificate", Pem::of(authority.expose()));
    Ok(Given {
        server: pair(&own.certificate, &own.key, "")?,
        client: pair(&own.client_certificate, &own.client_key, "client_")?,
        roots: own.ca_certificate.as_ref().map(authority).transpose()?,
    })
}

/// Certificate and keys of the peer listener.
pub fn local_node(settings: &Settings, stack: &Stack) -> Result<LocalNode> {
    let (paths, own) = (HubPaths::new(&certs_dir(settings)), &settings.federation);
    let given = given(settings)?;
    let (chain, key) = match given.server {
        Some(pair) => pair,
        None => {
            let (certificate, key) = paths.leaf("federation");
            aiox_certs::load_pair("federation", &certificate, &key).context("make it with: aiox certs create")?
        }
    };
    let client = given.client.unwrap_or_else(|| (chain.clone(), key.clone_key()));
    let token = aiox_certs::load_key("federation.token_key", &paths.token_key())?;
    if let Some(public) = &own.token_public_key {
        aiox_certs::check_public_half("federation.token_public_key", Pem::of(public.expose()), &token).with_context(|| {
            format!(
                "federation.token_public_key has to be the public half of {}; the keys of peers are in their trust documents",
                paths.token_key().display()
            )
        })?;
    }
    let envelope = aiox_certs::load_key("federation.envelope_key", &paths.envelope_key())?;
    let node = LocalNode::with_client(chain, key, client, &token, &envelope)?.with_stack(stack);
    if node.domain() != settings.hub.domain {
        bail!("the federation certificate names the domain {}, but hub.domain is {}", node.domain(), settings.hub.domain);
    }
    Ok(node)
}

/// What programs and peers are told of this hub: by settings, else by the peers file.
pub fn stack(settings: &Settings, listed: Option<&PeerInfo>) -> Stack {
    let own = &settings.federation;
    let mut stack = Stack::untold(&settings.hub.domain);
    let mode = match settings.hub.mode {
        Mode::Dev => "dev",
        Mode::Demo => "demo",
        Mode::Prod => "prod",
    };
    let told = |own: &Option<String>, listed: Option<&String>, else_: &str| {
        own.as_ref().or(listed).filter(|text| !text.is_empty()).map_or_else(|| else_.to_owned(), Clone::clone)
    };
    stack.peer.stack_id = told(&own.stack_id, listed.map(|listed| &listed.stack_id), &stack.peer.stack_id);
    stack.peer.environment = told(&own.environment, listed.map(|listed| &listed.environment), mode);
    stack.peer.region = told(&own.region, listed.map(|listed| &listed.region), "local");
    stack.peer.endpoints.extend(listed.map(|listed| listed.endpoints.clone()).unwrap_or_default());
    stack.peer.build.version = env!("CARGO_PKG_VERSION").to_owned();
    stack.peer.build.digest.clone_from(&BUILD);
    if own.enabled {
        let endpoint = own.endpoint.clone().unwrap_or_else(|| format!("https://{}:{}", settings.hub.domain, own.port));
        stack.peer.endpoints.insert("node_base_url".into(), endpoint.into());
    }
    stack.capabilities.supports.tenant_isolation = true;
    stack.capabilities.supports.runs_forward = own.enabled;
    stack.capabilities.limits.max_concurrent_runs = settings.governance.concurrent_runs;
    stack.capabilities.limits.max_event_streams = aiox_http::MOST_STREAMS as u64;
    stack
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
        roots: match given(settings)?.roots {
            Some(roots) => roots,
            None => aiox_certs::load_chain("federation.roots", &paths.domain_authority())?,
        },
        web_roots,
        skew: i64::from(own.skew_seconds),
        limits: ListenerLimits::default(),
        musts: musts(),
    })
}

/// What a peer's conformance result has to show, by this program's own copy of the specification: every MUST that a suite can judge.
fn musts() -> Vec<Must> {
    let judged = requirements().iter().filter(|one| one.level == Level::Must && one.check == "conformance");
    judged.map(|one| Must { id: one.id.clone(), profile: one.profile.to_string(), conditional: one.conditional }).collect()
}

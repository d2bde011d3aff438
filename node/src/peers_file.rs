//! The peers file of the `/v1` contract: `{"local": PeerInfo, "peers": [PeerInfo]}`. Whatever is wrong with it is named by a JSON pointer.

use std::{fs::File, io::Read as _, path::Path};

use aiox_app::PeerBook;
use aiox_config::Settings;
use aiox_federation::plain::base_url;
use aiox_model::v1::federation::{API_VERSION, Build, PeerInfo};
use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// Most bytes of the file.
const LONGEST: u64 = 1024 * 1024;
/// Most peers in it.
const MOST: usize = 1000;
/// Most bytes of a text in it.
const TEXT: usize = 255;

/// What a peers file says.
#[derive(Debug, Clone, PartialEq)]
pub struct PeersFile {
    /// This hub.
    pub local: Option<PeerInfo>,
    /// The others.
    pub peers: Vec<PeerInfo>,
}

impl PeersFile {
    /// The configured file, if there is one.
    pub fn load(settings: &Settings) -> Result<Option<Self>> {
        let Some(path) = &settings.federation.peers_file else { return Ok(None) };
        let read = || read(path).and_then(|text| Self::parse(&text));
        read().map(Some).with_context(|| format!("federation.peers_file: {}", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let file: Value = serde_json::from_slice(text)?;
        let at = At { value: &file, pointer: String::new() };
        at.object()?;
        let local = at.member("local").map(|local| peer(&local)).transpose()?;
        let list = at.member("peers").with_context(|| "/peers: is required")?;
        let Value::Array(entries) = list.value else { bail!("/peers: must be a list") };
        if entries.len() > MOST {
            bail!("/peers: must have at most {MOST} entries");
        }
        let mut peers: Vec<PeerInfo> = Vec::with_capacity(entries.len());
        for (index, value) in entries.iter().enumerate() {
            let at = At { value, pointer: format!("/peers/{index}") };
            let found = peer(&at)?;
            let same = |other: &PeerInfo| other.stack_id == found.stack_id;
            if peers.iter().any(same) {
                bail!("{}/stack_id: {:?} is there twice", at.pointer, found.stack_id);
            }
            peers.push(found);
        }
        Ok(Self { local, peers })
    }
}

/// Reads the file again, while the hub runs. One that cannot be used changes nothing.
pub async fn reload(settings: &Settings, book: &PeerBook, own: &str, before: Option<&PeerInfo>) {
    let read = match PeersFile::load(settings) {
        Ok(Some(file)) => file,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the peers file cannot be used; the peers stay as they were");
            return;
        }
    };
    if read.local.as_ref() != before {
        tracing::warn!("what the peers file says of this hub itself counts after a restart");
    }
    if let Err(error) = import(book, &read, own).await {
        tracing::error!(error = format!("{error:#}"), "the peers file cannot be taken over; the peers stay as they were");
    }
}

/// Takes over the peers of a file. The hub itself, by the id that it has, may stand among them and is left out.
pub async fn import(book: &PeerBook, file: &PeersFile, own: &str) -> Result<()> {
    let peers: Vec<PeerInfo> = file.peers.iter().filter(|peer| peer.stack_id != own).cloned().collect();
    let done = book.import(&peers).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    for peer in &done.kept {
        tracing::warn!(
            peer,
            "the peers file says something else than the record of a peer that is let in without mutual TLS; the record counts"
        );
    }
    tracing::info!(peers = peers.len(), changed = done.changed, removed = done.removed, "the peers file was read");
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        bail!("is larger than {LONGEST} bytes");
    }
    Ok(text)
}

/// A place in the file.
struct At<'a> {
    value: &'a Value,
    pointer: String,
}

impl<'a> At<'a> {
    fn object(&self) -> Result<&'a Map<String, Value>> {
        self.value.as_object().with_context(|| format!("{}: must be an object", self.pointer))
    }
    /// A member that is there and not null.
    fn member(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { value, pointer: format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1")) })
    }
    fn text(&self) -> Result<String> {
        let text = self.value.as_str().filter(|text| text.len() <= TEXT && !text.chars().any(char::is_control));
        text.map(str::to_owned).with_context(|| format!("{}: must be a text of at most {TEXT} bytes", self.pointer))
    }
    fn text_of(&self, name: &str) -> Result<String> {
        self.member(name).map_or_else(|| Ok(String::new()), |member| member.text())
    }
}

fn peer(at: &At<'_>) -> Result<PeerInfo> {
    at.object()?;
    let stack_id = at.text_of("stack_id")?;
    if stack_id.is_empty() {
        bail!("{}/stack_id: is required", at.pointer);
    }
    let mut api_versions = Vec::new();
    if let Some(list) = at.member("api_versions") {
        let Value::Array(entries) = list.value else { bail!("{}: must be a list", list.pointer) };
        for (index, value) in entries.iter().take(MOST).enumerate() {
            api_versions.push(At { value, pointer: format!("{}/{index}", list.pointer) }.text()?);
        }
    } else {
        api_versions.push(API_VERSION.to_owned());
    }
    let mut endpoints = Map::new();
    if let Some(given) = at.member("endpoints") {
        for name in given.object()?.keys().take(MOST) {
            let Some(member) = given.member(name) else { continue };
            let url = member.text()?;
            if name.ends_with("_base_url") {
                base_url(&url).with_context(|| member.pointer.clone())?;
            }
            endpoints.insert(name.clone(), url.into());
        }
    }
    let build = match at.member("build") {
        Some(build) => {
            build.object()?;
            Build {
                version: build.text_of("version")?,
                git_sha: build.text_of("git_sha")?,
                timestamp: build.text_of("timestamp")?,
                digest: None,
            }
        }
        None => Build::default(),
    };
    let (environment, region) = (at.text_of("environment")?, at.text_of("region")?);
    Ok(PeerInfo { stack_id, environment, region, api_versions, endpoints, build, health: None })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(file: &Value) -> Result<PeersFile> {
        PeersFile::parse(file.to_string().as_bytes())
    }

    #[test]
    fn a_file_in_full_and_in_short_is_read() {
        let full = json!({ "stack_id": "stk_local_node_b", "environment": "local", "region": "local", "api_versions": ["v1"],
            "endpoints": { "agent-orchestrator_base_url": "http://127.0.0.1:8084", "model-policy_base_url": "http://127.0.0.1:8085" },
            "build": { "version": "1.02", "git_sha": "abc", "timestamp": "2026-01-01T00:00:00Z" } });
        let file = parse(&json!({ "local": { "stack_id": "stk_local_node_a" }, "peers": [full.clone()], "more": 1 })).unwrap();
        assert_eq!(file.local.unwrap().api_versions, ["v1"]);
        assert_eq!(serde_json::to_value(&file.peers[0]).unwrap(), full);
        assert_eq!(parse(&json!({ "peers": [] })).unwrap(), PeersFile { local: None, peers: Vec::new() });
    }

    #[test]
    fn what_is_wrong_is_named_by_its_pointer() {
        let with = |peer: Value| parse(&json!({ "local": { "stack_id": "stk_a" }, "peers": [{ "stack_id": "stk_c" }, peer] }));
        for (peer, pointer) in [
            (json!([]), "/peers/1"),
            (json!({}), "/peers/1/stack_id"),
            (json!({ "stack_id": 7 }), "/peers/1/stack_id"),
            (json!({ "stack_id": "stk_c" }), "/peers/1/stack_id"),
            (json!({ "stack_id": "x".repeat(256) }), "/peers/1/stack_id"),
            (json!({ "stack_id": "stk_b", "region": 1 }), "/peers/1/region"),
            (json!({ "stack_id": "stk_b", "api_versions": "v1" }), "/peers/1/api_versions"),
            (json!({ "stack_id": "stk_b", "api_versions": [1] }), "/peers/1/api_versions/0"),
            (json!({ "stack_id": "stk_b", "endpoints": [] }), "/peers/1/endpoints"),
            (json!({ "stack_id": "stk_b", "endpoints": { "a/b_base_url": "gopher://x" } }), "/peers/1/endpoints/a~1b_base_url"),
            (
                json!({ "stack_id": "stk_b", "endpoints": { "agent-orchestrator_base_url": "http://169.254.169.254/" } }),
                "/peers/1/endpoints/agent-orchestrator_base_url",
            ),
            (json!({ "stack_id": "stk_b", "build": { "version": {} } }), "/peers/1/build/version"),
        ] {
            let told = format!("{:#}", with(peer.clone()).unwrap_err());
            assert!(told.starts_with(&format!("{pointer}: ")), "{peer}: {told}");
        }
        for (file, pointer) in [(json!([]), ": must be an object"), (json!({}), "/peers: "), (json!({ "peers": {} }), "/peers: ")] {
            let told = format!("{:#}", parse(&file).unwrap_err());
            assert!(told.starts_with(pointer), "{file}: {told}");
        }
        assert!(PeersFile::parse(b"{\"peers\": [").is_err());
    }
}

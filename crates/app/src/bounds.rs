//! What a program bounds a run to, beside its agent's configuration.

use std::collections::BTreeSet;

use aiox_core::{Error, Result, gateway::Tier};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a program bounds a run to. The default is no bound at all: the run is as its agent is. Kept with the run, and sent with it to a
/// peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Most steps of one attempt: answers of the model and calls of tools together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// The tools that it may use, of those of its agent; absent = all of them. `tool.x` and `x` are one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeSet<String>>,
    /// The tier of models that is to answer instead of the agent's own model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whether the agent's own model may answer where no model of the tier, and none that stands in, can.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tier_is_a_wish: bool,
    /// What the tier came to at the hub that executes the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ChosenModel>,
}

/// A model that was chosen for one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenModel {
    /// Its provider, in lower case.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
}

impl Bounds {
    /// The bounds of a stored run.
    pub(crate) fn stored(text: Option<&str>, run: uuid::Uuid) -> Result<Self> {
        let damaged = |_| Error::Corrupt { table: "runs", column: "bounds", id: run.to_string() };
        text.map_or(Ok(Self::default()), |text| serde_json::from_str(text).map_err(damaged))
    }

    /// As they are kept; absent where there are none.
    pub(crate) fn to_store(&self) -> Result<Option<String>> {
        if *self == Self::default() {
            return Ok(None);
        }
        serde_json::to_string(self).map(Some).map_err(Error::internal)
    }

    /// The tier that is asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tier that does not exist.
    pub(crate) fn tier(&self) -> Result<Option<Tier>> {
        let Some(name) = &self.tier else { return Ok(None) };
        let tier = Tier::parse(name.strip_prefix("tier:").unwrap_or(name));
        tier.map(Some).ok_or_else(|| Error::invalid("run_options.model_tier", "must be fast, balanced or premium"))
    }

    /// Those of an agent's tools that the run may use.
    pub(crate) fn tools_of(&self, all: &Map<String, Value>) -> Map<String, Value> {
        let Some(allowed) = &self.tools else { return all.clone() };
        let plain = |name: &str| name.strip_prefix("tool.").unwrap_or(name).to_owned();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| plain(name)).collect();
        all.iter().filter(|(name, _)| allowed.contains(&plain(name))).map(|(name, tool)| (name.clone(), tool.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_of_tools_only_narrows() {
        let all = json!({ "clock": {}, "tool.echo": {}, "web.search": {} }).as_object().cloned().unwrap();
        let names = |tools: Option<&[&str]>| {
            let tools = tools.map(|tools| tools.iter().map(|name| (*name).to_owned()).collect());
            Bounds { tools, ..Bounds::default() }.tools_of(&all).keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["clock", "tool.echo", "web.search"]);
        assert!(names(Some(&[])).is_empty());
        assert_eq!(names(Some(&["tool.clock", "echo", "shell"])), ["clock", "tool.echo"]);
    }

    #[test]
    fn what_is_kept_is_read_again_and_damage_is_an_error() {
        let run = uuid::Uuid::nil();
        assert_eq!(Bounds::default().to_store().unwrap(), None);
        let bounds = Bounds { max_steps: Some(3), tools: Some(BTreeSet::new()), tier: Some("fast".into()), ..Bounds::default() };
        assert_eq!(Bounds::stored(bounds.to_store().unwrap().as_deref(), run).unwrap(), bounds);
        assert!(Bounds::stored(Some("x"), run).is_err());
        assert_eq!(bounds.tier().unwrap(), Some(Tier::Fast));
        assert!(Bounds { tier: Some("best".into()), ..Bounds::default() }.tier().is_err());
    }
}

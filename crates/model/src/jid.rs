//! Addresses (RFC 7622), in the small subset that AIOX itself mints and compares.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `localpart@domain`, lower case, without a resource. The XMPP door hands over addresses that its XML library has already
/// prepared; this type only refuses what can never be one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BareJid {
    text: String,
    at: usize,
}

/// A text that is not `localpart@domain`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form name@domain")]
pub struct JidError;

impl BareJid {
    /// The part before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }
    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for BareJid {
    type Err = JidError;
    /// Accepts a full JID too and drops its resource.
    fn from_str(text: &str) -> Result<Self, JidError> {
        let bare = text.split_once('/').map_or(text, |(bare, _)| bare).to_lowercase();
        let (local, domain) = bare.split_once('@').ok_or(JidError)?;
        let legal_local = |c: char| !c.is_control() && !c.is_whitespace() && !"\"&'/:<>@".contains(c);
        let legal_domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
        if local.is_empty() || local.len() > 1023 || !local.chars().all(legal_local) {
            return Err(JidError);
        }
        if domain.is_empty() || domain.len() > 1023 || !domain.chars().all(legal_domain) || domain.starts_with('.') || domain.ends_with('.')
        {
            return Err(JidError);
        }
        let at = local.len();
        Ok(Self { text: bare, at })
    }
}

impl fmt::Display for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl Serialize for BareJid {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}
impl<'de> Deserialize<'de> for BareJid {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for BareJid {
    fn schema_name() -> Cow<'static, str> {
        "BareJid".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^@/\\s]+@[^@/\\s]+$", "maxLength": 2047 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resources_are_dropped_and_case_folded() {
        let jid: BareJid = "Alice@Hub-A.example/phone".parse().unwrap();
        assert_eq!((jid.local(), jid.domain(), jid.as_str()), ("alice", "hub-a.example", "alice@hub-a.example"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "@", "a@", "@b", "a b@c", "a@b@c", "<a>@b", "a@.b", "a@b."] {
            assert!(text.parse::<BareJid>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text: String) {
            if let Ok(jid) = text.parse::<BareJid>() { prop_assert_eq!(jid.as_str().parse::<BareJid>(), Ok(jid)); }
        }
    }
}

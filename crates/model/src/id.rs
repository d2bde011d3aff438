//! Identifiers: a UUIDv7 inside, `prefix_` + 26 Crockford base32 characters (the ULID form) outside.
//!
//! `/api/v1` prints plain UUIDs (its published contract), `/v1` and XMPP print the prefixed form. Both parse everywhere.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind} id")]
pub struct IdError {
    /// The prefix that was expected, for instance `run`.
    pub kind: &'static str,
}

fn encode(prefix: &str, id: Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut value = id.as_u128();
    let mut out = [b'0'; 26];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    write!(f, "{prefix}_{}", String::from_utf8_lossy(&out))
}

fn decode(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    let bad = IdError { kind: prefix };
    if let Some(rest) = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) {
        if rest.len() != 26 || rest.as_bytes()[0] > b'7' {
            return Err(bad);
        }
        let mut value = 0u128;
        for byte in rest.bytes() {
            let digit = ALPHABET.iter().position(|c| *c == byte.to_ascii_uppercase()).ok_or(IdError { kind: prefix })?;
            value = (value << 5) | digit as u128;
        }
        return Ok(Uuid::from_u128(value));
    }
    // Only the hyphenated form: the other spellings of RFC 9562 would give one id several names.
    if text.len() == 36 { Uuid::try_parse(text).map_err(|_| bad) } else { Err(bad) }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;
            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid { self.0 }
        }
        impl From<Uuid> for $name { fn from(id: Uuid) -> Self { Self(id) } }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { encode($prefix, self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { decode($prefix, text).map(Self) }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": concat!("^", $prefix, "_[0-7][0-9A-HJKMNP-TV-Z]{25}$") })
            }
        }
    )*};
}

ids! {
    /// A tenant: the isolation boundary inside a hub.
    TenantId = "tnt";
    /// A local user account.
    UserId = "usr";
    /// An agent.
    AgentId = "agt";
    /// One invocation of an agent.
    RunId = "run";
    /// One entry of a run's durable log.
    EventId = "evt";
    /// The ordered history between one principal and one agent.
    ConversationId = "cnv";
    /// One message of a conversation.
    MessageId = "msg";
    /// An API key (not its secret).
    ApiKeyId = "key";
    /// A sign-in session: one refresh-token family.
    SessionId = "ses";
    /// A permission to use an agent.
    GrantId = "grt";
    /// An invitation to register.
    InviteId = "inv";
    /// One audit record.
    AuditId = "aud";
    /// A federation envelope.
    EnvelopeId = "env";
    /// A correlation id that joins log lines, audit records and errors of one request.
    TraceId = "corr";
    /// One request, as `X-Request-Id` names it below `/v1`.
    RequestId = "req";
    /// One step of a run: one attempt to have it answered.
    StepId = "stp";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_uuid_round_trips_in_both_forms(bits: u128) {
            let id = RunId(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
            prop_assert_eq!(id.uuid().to_string().parse::<RunId>(), Ok(id));
            prop_assert_eq!(serde_json::from_value::<RunId>(serde_json::to_value(id).unwrap()).unwrap(), id);
        }
        #[test]
        fn text_order_is_time_order(a: u128, b: u128) {
            let (a, b) = (RunId(Uuid::from_u128(a)), RunId(Uuid::from_u128(b)));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
        #[test]
        fn no_text_panics(text: String) { let _ = text.parse::<RunId>(); let _ = format!("run_{text}").parse::<RunId>(); }
    }

    #[test]
    fn another_prefix_an_overflow_and_a_braced_uuid_are_refused() {
        for text in
            ["agt_00000000000000000000000001", "run_80000000000000000000000000", "run_", "", "{00000000-0000-0000-0000-000000000001}"]
        {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}

//! One type for points in time.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, UTC, whole microseconds since the Unix epoch. Cut when made, because Postgres keeps no more;
/// printed as RFC 3339 with exactly six fraction digits, so that the text sorts as the time does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(i64);

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time")]
pub struct TsError;

impl Ts {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Whole seconds since the Unix epoch, rounded down: the form of JWT `iat` and `exp`.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// From whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }
    /// This time plus `duration` (negative to go back); saturates at the ends.
    #[must_use]
    pub fn plus(self, duration: SignedDuration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
    /// This time plus a number of seconds.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
    /// Milliseconds from `earlier` to this time, never below zero.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }
}

impl From<Timestamp> for Ts {
    fn from(at: Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

impl fmt::Display for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{at:.6}")
    }
}
impl fmt::Debug for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Ts {
    type Err = TsError;
    fn from_str(text: &str) -> Result<Self, TsError> {
        text.parse::<Timestamp>().map(Self::from).map_err(|_| TsError)
    }
}
impl Serialize for Ts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Ts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for Ts {
    fn schema_name() -> Cow<'static, str> {
        "Ts".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips_and_sorts(a in 0i64..4_000_000_000_000_000, b in 0i64..4_000_000_000_000_000) {
            let (a, b) = (Ts::from_micros(a), Ts::from_micros(b));
            prop_assert_eq!(a.to_string().parse::<Ts>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}

//! Times and ids in the forms that hubs exchange.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| now.as_micros().try_into().ok()).unwrap_or(0)
}

/// A time some seconds from now, RFC 3339 with microseconds in UTC.
pub(crate) fn at(seconds: i64) -> String {
    let time = micros() + seconds * 1_000_000;
    jiff::Timestamp::from_microsecond(time).map(|time| format!("{time:.6}")).unwrap_or_default()
}

/// Now.
pub(crate) fn now() -> String {
    at(0)
}

/// Now, in whole seconds.
pub(crate) fn seconds() -> i64 {
    micros() / 1_000_000
}

/// Seconds of a time in RFC 3339.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// The text form `<prefix>_<ULID>` of an id.
pub(crate) fn ulid(prefix: &str, id: Uuid) -> String {
    let number = id.as_u128();
    let digits = (0..26).rev().map(|place| char::from(ALPHABET[usize::try_from(number >> (place * 5) & 31).unwrap_or(0)]));
    std::iter::once(prefix.to_owned()).chain(std::iter::once("_".to_owned())).chain(digits.map(String::from)).collect()
}

/// A new id in its text form.
pub(crate) fn fresh(prefix: &str) -> String {
    ulid(prefix, Uuid::now_v7())
}

/// The id of either form.
pub(crate) fn uuid_of(text: &str) -> Option<Uuid> {
    if let Ok(id) = text.parse() {
        return Some(id);
    }
    let digits = text.rsplit('_').next().filter(|digits| digits.len() == 26)?;
    let number = digits.bytes().try_fold(0_u128, |number, byte| {
        let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_uppercase())?;
        Some(number << 5 | digit as u128)
    })?;
    Some(Uuid::from_u128(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_one_id() {
        for id in [Uuid::nil(), Uuid::max(), Uuid::now_v7()] {
            assert_eq!(uuid_of(&ulid("run", id)), Some(id));
            assert_eq!(uuid_of(&id.to_string()), Some(id));
        }
        assert_eq!(ulid("run", Uuid::max()), "run_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    }
}

//! The policy baseline: what no model may see.
//!
//! Personal data (e-mail addresses, phone numbers, payment cards) is masked before a text leaves the hub. Secrets (private keys,
//! well-known forms of access keys) and the operator's blocked terms stop the request. Everything here is a pure function of the
//! text and the rules, linear in the text's length.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{Error, Result};

/// What has been decided about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// It passes as it is.
    Allowed,
    /// It passes with some of it masked.
    Redacted,
    /// It does not pass.
    Blocked,
}
impl Decision {
    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Redacted => "redacted",
            Self::Blocked => "blocked",
        }
    }
}

/// Which rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ruleset {
    /// Masks personal data, blocks secrets and blocked terms.
    #[default]
    Default,
    /// Blocks personal data too.
    Strict,
}
impl Ruleset {
    /// The rule set of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Default),
            "strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// One masked place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// `email`, `phone` or `card`.
    pub kind: &'static str,
    /// Which text of the request: the index of the message, or of the text to embed. `None`: the definition of a tool.
    pub part: Option<usize>,
    /// First character of the original text, counted in Unicode scalar values from 0.
    pub start: usize,
    /// The character after the last one.
    pub end: usize,
}

/// What was decided about a whole request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The decision.
    pub decision: Decision,
    /// Stable words, each once, in order: `pii:email`, `pii:phone`, `pii:card`, `secret:private_key`, `secret:access_key`,
    /// `blocked_term`, and what the router adds.
    pub reasons: Vec<String>,
    /// What was masked.
    pub redactions: Vec<Redaction>,
}

/// The compiled rules of a hub.
#[derive(Debug, Clone)]
pub struct Policy {
    email: Regex,
    card: Regex,
    phone: Regex,
    secrets: Vec<(&'static str, Regex)>,
    terms: Option<Regex>,
}

/// Most terms that an operator may block.
const MAX_TERMS: usize = 1000;

impl Policy {
    /// The rules, with the operator's blocked terms: whole words, in any case.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a term is empty or there are too many.
    pub fn new(blocked_terms: &[String]) -> Result<Self> {
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(16 << 20).build().map_err(Error::internal);
        if blocked_terms.len() > MAX_TERMS || blocked_terms.iter().any(|term| term.trim().is_empty()) {
            return Err(Error::invalid("policy.blocked_terms", format!("must be at most {MAX_TERMS} terms, none of them empty")));
        }
        let terms = match blocked_terms {
            [] => None,
            terms => {
                let any: Vec<String> = terms.iter().map(|term| regex::escape(term.trim())).collect();
                // A term may begin or end with a sign, where `\b` would not match.
                Some(compile(&format!(r"(?i)(?:^|[^\p{{L}}\p{{N}}_])(?:{})(?:$|[^\p{{L}}\p{{N}}_])", any.join("|")))?)
            }
        };
        Ok(Self {
            email: compile(
                r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?(?:\.[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?)+",
            )?,
            card: compile(r"\b[0-9](?:[ -]?[0-9]){12,18}\b")?,
            // International (+ or 00), North American, national with a leading 0, and the short local form.
            phone: compile(concat!(
                r"(?:\+|\b00)[1-9](?:[ ./-]?\(?[0-9]\)?){6,13}\b",
                r"|\(?\b[0-9]{3}\)?[ .-]?[0-9]{3}[.-][0-9]{4}\b",
                r"|\([0-9]{3}\) ?[0-9]{3} [0-9]{4}\b",
                r"|\b[0-9]{3} [0-9]{3} [0-9]{4}\b",
                r"|\(?\b0[0-9]{2,4}\)?[ /.-][0-9]{3,8}(?:[ -][0-9]{2,6}){0,2}\b",
                r"|\b0[0-9](?:[ .-][0-9]{2}){4}\b",
                r"|\b0[0-9]{9,10}\b",
                r"|\b[0-9]{3}-[0-9]{4}\b",
            ))?,
            secrets: vec![
                ("secret:private_key", compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")?),
                (
                    "secret:access_key",
                    compile(r"\b(?:AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,}|xox[abprs]-[A-Za-z0-9-]{10,})")?,
                ),
            ],
            terms,
        })
    }

    /// Begins to read the texts of one request.
    #[must_use]
    pub fn review(&self, ruleset: Ruleset) -> Review<'_> {
        Review { policy: self, ruleset, part: None, decision: Decision::Allowed, reasons: Vec::new(), redactions: Vec::new() }
    }

    /// Personal data in a text, in order, none overlapping another.
    fn personal(&self, text: &str) -> Vec<(&'static str, Range<usize>)> {
        let mut merged = Vec::new();
        let cards = self.card.find_iter(text).filter(|card| luhn(card.as_str())).map(|card| ("card", card.range()));
        let emails = self.email.find_iter(text).map(|email| ("email", email.range()));
        let phones = self.phone.find_iter(text).map(|phone| ("phone", phone.range()));
        merged.extend(cards.map(|one| (0, one)));
        merged.extend(emails.map(|one| (1, one)));
        merged.extend(phones.map(|one| (2, one)));
        merged.sort_by_key(|(rank, (_, range))| (range.start, *rank));
        let mut found: Vec<(&'static str, Range<usize>)> = Vec::new();
        for (_, (kind, range)) in merged {
            match found.last_mut() {
                // What overlaps is one place, named after what began first.
                Some((_, last)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => found.push((kind, range)),
            }
        }
        found
    }
}

/// The reading of one request's texts.
pub struct Review<'p> {
    policy: &'p Policy,
    ruleset: Ruleset,
    part: Option<usize>,
    decision: Decision,
    reasons: Vec<String>,
    redactions: Vec<Redaction>,
}

impl Review<'_> {
    /// The index of the message or text that is read next; `None` for a tool's definition.
    pub fn part(&mut self, part: Option<usize>) {
        self.part = part;
    }

    /// Reads one text; the text that a model may see.
    pub fn text(&mut self, text: &str) -> String {
        for (reason, secret) in &self.policy.secrets {
            if secret.is_match(text) {
                self.block(reason);
            }
        }
        if self.policy.terms.as_ref().is_some_and(|terms| terms.is_match(text)) {
            self.block("blocked_term");
        }
        let found = self.policy.personal(text);
        if found.is_empty() {
            return text.to_owned();
        }
        let mut masked = String::with_capacity(text.len());
        let (mut bytes, mut chars) = (0, 0);
        for (kind, range) in found {
            let (before, inside) = (&text[bytes..range.start], &text[range.clone()]);
            let start = chars + before.chars().count();
            let end = start + inside.chars().count();
            masked.push_str(before);
            masked.push('[');
            masked.push_str(kind);
            masked.push(']');
            (bytes, chars) = (range.end, end);
            self.redactions.push(Redaction { kind, part: self.part, start, end });
            let reason = match kind {
                "email" => "pii:email",
                "card" => "pii:card",
                _ => "pii:phone",
            };
            match self.ruleset {
                Ruleset::Default => {
                    self.decision = self.decision.max(Decision::Redacted);
                    self.note(reason);
                }
                Ruleset::Strict => self.block(reason),
            }
        }
        masked.push_str(&text[bytes..]);
        masked
    }

    /// Reads every text inside a JSON value and masks it in place, the names of members too.
    pub fn json(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(members) => {
                for (name, mut member) in std::mem::take(members) {
                    self.json(&mut member);
                    members.insert(self.text(&name), member);
                }
            }
            // A card number is a number too.
            Value::Number(number) => {
                let text = number.to_string();
                let masked = self.text(&text);
                if masked != text {
                    *value = Value::String(masked);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn block(&mut self, reason: &str) {
        self.decision = Decision::Blocked;
        self.note(reason);
    }

    fn note(&mut self, reason: &str) {
        if !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }

    /// What was decided.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        Outcome { decision: self.decision, reasons: self.reasons, redactions: self.redactions }
    }
}

/// Whether the digits of a text pass the check of payment cards (ISO/IEC 7812-1 annex B), and are not all the same.
fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => *digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::json;

    fn policy() -> &'static Policy {
        static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::new(&["project nightfall".into(), "C++".into()]).unwrap());
        &POLICY
    }

    fn read(text: &str, ruleset: Ruleset) -> (String, Outcome) {
        let policy = policy();
        let mut review = policy.review(ruleset);
        review.part(Some(0));
        let masked = review.text(text);
        (masked, review.outcome())
    }

    #[test]
    fn personal_data_is_masked_and_its_place_told() {
        for (text, masked) in [
            ("write to Mary.O'Neil+x@mail.hub-a.example now", "write to [email] now"),
            ("é ünïcode@bücher.example.", "é [email]."),
            ("call +1 415 555 2671 or (415) 555-2671", "call [phone] or [phone]"),
            ("415-555-2671, 415.555.2671, 415 555 2671, 555-0100", "[phone], [phone], [phone], [phone]"),
            ("+49 30 1234567, 0049301234567, 030 1234567, 020 7946 0958", "[phone], [phone], [phone], [phone]"),
            ("+44 (0)20 7946 0958; 01 23 45 67 89; 07700900123", "[phone]; [phone]; [phone]"),
            ("card 4111 1111 1111 1111 and 5500-0000-0000-0004", "card [card] and [card]"),
            ("a@b.example,c@d.example", "[email],[email]"),
        ] {
            let (got, outcome) = read(text, Ruleset::Default);
            assert_eq!(got, masked);
            assert_eq!(outcome.decision, Decision::Redacted, "{text}");
            let chars: Vec<char> = text.chars().collect();
            for redaction in &outcome.redactions {
                let place: String = chars[redaction.start..redaction.end].iter().collect();
                assert!(!masked.contains(&place), "{place}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "on 2026-11-21 at 14:50:36",
            "address 192.168.100.200, version 10.12.1",
            "pi is 3.14159265358979 and 4111 1111 1111 1112 is no card",
            "order 123456789012",
            "@everyone and user@localhost",
            "1,234,567 of 7,654,321",
            "run_01JD0000000000000000000000",
        ] {
            let (got, outcome) = read(text, Ruleset::Default);
            assert_eq!((got.as_str(), outcome.decision), (text, Decision::Allowed), "{:?}", outcome.redactions);
        }
    }

    #[test]
    fn secrets_and_blocked_terms_stop_the_request() {
        for (text, reason) in [
            ("-----BEGIN RSA PRIVATE KEY-----\nMII", "secret:private_key"),
            ("-----BEGIN PRIVATE KEY-----", "secret:private_key"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "secret:private_key"),
            ("key=AKIAIOSFODNN7EXAMPLE", "secret:access_key"),
            ("use sk-proj-abcdefghijklmnopqrst", "secret:access_key"),
            ("about Project Nightfall.", "blocked_term"),
            ("I like C++", "blocked_term"),
        ] {
            let (_, outcome) = read(text, Ruleset::Default);
            assert_eq!(outcome.decision, Decision::Blocked, "{text}");
            assert_eq!(outcome.reasons, [reason]);
        }
        assert_eq!(read("project nightfalls, -----BEGIN CERTIFICATE-----", Ruleset::Default).1.decision, Decision::Allowed);
    }

    #[test]
    fn the_strict_rules_block_what_the_default_ones_mask() {
        let (_, outcome) = read("a@b.example", Ruleset::Strict);
        assert_eq!((outcome.decision, outcome.reasons), (Decision::Blocked, vec!["pii:email".to_owned()]));
    }

    #[test]
    fn texts_inside_json_are_masked_wherever_they_are() {
        let policy = policy();
        let mut review = policy.review(Ruleset::Default);
        let mut value = json!({ "to": ["a@b.example", { "a@b.example": 5 }], "card": 4_111_111_111_111_111_u64, "n": 7 });
        review.json(&mut value);
        assert_eq!(value, json!({ "to": ["[email]", { "[email]": 5 }], "card": "[card]", "n": 7 }));
        assert_eq!(review.outcome().redactions.len(), 3);
    }

    #[test]
    fn unusable_terms_are_refused() {
        assert!(Policy::new(&[" ".into()]).is_err());
        assert!(Policy::new(&vec!["x".to_owned(); MAX_TERMS + 1]).is_err());
        assert!(Policy::new(&vec!["x".repeat(100); MAX_TERMS]).is_ok());
    }

    proptest! {
        #[test]
        fn a_masked_text_holds_nothing_more_to_mask(before: String, after: String, user in "[a-z]{1,8}", host in "[a-z]{1,8}") {
            let (masked, outcome) = read(&format!("{before} {user}@{host}.example {after}"), Ruleset::Default);
            prop_assert!(outcome.decision >= Decision::Redacted);
            let again = read(&masked, Ruleset::Default);
            prop_assert!(!again.0.contains('@') || !policy().email.is_match(&again.0));
        }

        #[test]
        fn places_are_in_order_and_inside_the_text(text in "[-0-9a-c@. +()]{0,80}") {
            let (_, outcome) = read(&text, Ruleset::Default);
            let mut last = 0;
            for redaction in outcome.redactions {
                prop_assert!(last <= redaction.start && redaction.start < redaction.end);
                last = redaction.end;
            }
            prop_assert!(last <= text.chars().count());
        }
    }
}

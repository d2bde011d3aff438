//! Mutants of TLS between hubs, and of what a hub sends to its peers.

use serde_json::json;

use super::{Mutant, by_call, by_front, by_server};
use crate::{certificate::Said, tamper::Fault};

/// The URI name of a certificate that has one.
fn name(leaf: &Said) -> &str {
    leaf.plan.uris.first().map_or("", String::as_str)
}

/// Whose authority signed a certificate, as far as its name says.
fn domain(leaf: &Said) -> String {
    format!("spiffe://{}/", leaf.signed_by)
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_front("the peer listener speaks TLS 1.2", "FED-009", Fault::OldTls),
    by_front("the peer listener asks for no certificate", "FED-009", Fault::NoCertificate),
    by_front("the peer listener speaks HTTP/2 whatever was agreed", "FED-009", Fault::AnyProtocol),
    by_front("the peer listener sends session tickets", "FED-010", Fault::Tickets),
    by_front("the peer listener names its authorities", "FED-010", Fault::Hints),
    by_front(
        "a certificate may have two names, of which one is right",
        "FED-011",
        Fault::Certificate(|leaf, good| leaf.plan.uris.len() == 2 && leaf.plan.uris[0] == name(good) && leaf.plan.uris[1] != name(good)),
    ),
    by_front(
        "a certificate may have its name twice",
        "FED-011",
        Fault::Certificate(|leaf, _| leaf.plan.uris.len() == 2 && leaf.plan.uris[0] == leaf.plan.uris[1]),
    ),
    by_front("a DNS name is enough for a peer", "FED-011", Fault::Certificate(|leaf, _| leaf.plan.uris.is_empty())),
    by_front(
        "a node that no document lists is a peer",
        "FED-011",
        Fault::Certificate(|leaf, _| leaf.plan.uris.len() == 1 && name(leaf).ends_with("/node/n2")),
    ),
    by_front("an agent is a peer", "FED-011", Fault::Certificate(|leaf, _| name(leaf).contains("/agent/"))),
    by_front(
        "an authority speaks for the domain of another peer",
        "FED-011",
        Fault::Certificate(|leaf, good| {
            leaf.signed_by == good.signed_by && !name(leaf).is_empty() && !name(leaf).starts_with(&domain(leaf))
        }),
    ),
    by_front(
        "the authority of any active peer is good for all of them",
        "FED-011",
        Fault::Certificate(|leaf, good| leaf.signed_by != good.signed_by && name(leaf) == name(good)),
    ),
    by_front(
        "a peer's certificate may be of an authority that nobody knows",
        "FED-011",
        // It bears the name of the right one, and is all that is right otherwise.
        Fault::Certificate(|leaf, good| {
            let usual = leaf.plan.uris == good.plan.uris && leaf.plan.client && !leaf.plan.over;
            leaf.signed_by == good.signed_by && usual
        }),
    ),
    by_front("a peer's certificate does not expire", "FED-011", Fault::Certificate(|leaf, _| leaf.plan.over)),
    by_front("any certificate may be that of a client", "FED-011", Fault::Certificate(|leaf, _| !leaf.plan.client)),
    by_front(
        "a token is bound to its node and not to its connection",
        "FED-018",
        Fault::Certificate(|leaf, good| leaf.plan.uris == good.plan.uris),
    ),
    by_server("any node of a peer is the one that is called", "FED-012", |leaf, _| name(leaf).ends_with("/node/n2")),
    by_server("the DNS name of a peer is enough", "FED-012", |leaf, _| leaf.plan.uris.is_empty()),
    by_server("a server may have a certificate of any authority", "FED-012", |leaf, domain| leaf.signed_by != domain),
    by_call("the hub calls its peers without a token", "FED-022", |seen, _| {
        seen.authorization = None;
        true
    }),
    by_call("the hub uses one token for all its requests", "FED-022", |seen, memory| {
        if let Some(token) = seen.authorization.take() {
            seen.authorization = Some(memory.texts.entry("first".into()).or_insert(token).clone());
        }
        true
    }),
    by_call("tokens of the hub are bound to another certificate", "FED-022", |seen, _| {
        seen.certificate = "AAAA".into();
        true
    }),
    by_call("the hub does not greet its peers", "FED-034", |seen, _| seen.path != "/fed/v1/hello"),
    by_call("an envelope is sent once", "FED-034", |seen, memory| {
        memory.count += usize::from(seen.path == "/fed/v1/envelopes");
        seen.path != "/fed/v1/envelopes" || memory.count == 1
    }),
    by_call("an envelope is dated anew with each attempt", "FED-034", |seen, memory| {
        if seen.path == "/fed/v1/envelopes" {
            memory.count += 1;
            let second = memory.count;
            for envelope in seen.body["envelopes"].as_array_mut().into_iter().flatten() {
                envelope["created"] = json!(format!("2026-01-01T00:00:{second:02}.000Z"));
            }
        }
        true
    }),
];

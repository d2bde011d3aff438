//! Mutants of a peer listener, and of how peers are administered.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Ask, Memory, Mutant, Reply, by_answer, by_link, by_request};

const PEERS: &str = "/api/v1/admin/peers";

/// One part of the request token.
fn part(ask: &Ask, index: usize) -> Value {
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    ask.token().split('.').nth(index).and_then(decode).unwrap_or_default()
}

fn header(ask: &Ask) -> Value {
    part(ask, 0)
}

fn claims(ask: &Ask) -> Value {
    part(ask, 1)
}

/// Lets a request in whose token was refused.
fn let_in(reply: &mut Reply, wrongly: bool) {
    if reply.status == 401 && wrongly {
        *reply = Reply::new(200, &json!({}));
    }
}

/// Changes the verdicts on envelopes.
fn each_verdict(ask: &Ask, reply: &mut Reply, mut change: impl FnMut(&Value, &mut Value)) {
    if !ask.is("POST", "/fed/v1/envelopes") {
        return;
    }
    let envelopes = ask.json()["envelopes"].clone();
    reply.edit(|body| {
        let verdicts = body["verdicts"].as_array_mut().into_iter().flatten();
        verdicts.zip(envelopes.as_array().into_iter().flatten()).for_each(|(verdict, envelope)| change(envelope, verdict));
    });
}

/// Takes envelopes that were refused with this code.
fn take(ask: &Ask, reply: &mut Reply, code: &str) {
    take_if(ask, reply, code, |_| true);
}

fn take_if(ask: &Ask, reply: &mut Reply, code: &str, wrongly: fn(&Value) -> bool) {
    each_verdict(ask, reply, |envelope, verdict| {
        if verdict["code"] == json!(code) && wrongly(envelope) {
            *verdict = json!({ "id": envelope["id"], "verdict": "accepted" });
        }
    });
}

/// Whether this text was here before.
fn seen(memory: &mut Memory, text: &str) -> bool {
    memory.texts.insert(text.to_owned(), String::new()).is_some()
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_link("problems of the peer listener have no code", "ERR-013", |_, reply, _| {
        if reply.status >= 400 {
            reply.edit_at("", |body| drop(body.remove("code")));
        }
    }),
    by_link("problems of the peer listener are plain JSON", "ERR-013", |_, reply, _| {
        if reply.status >= 400 {
            reply.set("content-type", "application/json");
        }
    }),
    by_answer("the trust document shows a private key", "FED-001", |ask, reply, _| {
        if ask.path == "/.well-known/aiox-federation.json" {
            reply.edit(|body| body["token_keys"][0]["d"] = json!("AAAA"));
        }
    }),
    by_answer("any fingerprint confirms a peer", "FED-004", |ask, reply, _| {
        if ask.is("POST", "/api/v1/admin/peers/*/confirm") && reply.status == 400 {
            *reply = Reply::new(200, &json!({ "data": { "state": "active" } }));
        }
    }),
    by_answer("the fingerprint of a peer is not that of its keys", "FED-004", |ask, reply, _| {
        if ask.is("POST", PEERS) {
            reply.edit_at("/data", |peer| drop(peer.insert("fingerprint".into(), json!("00:11:22"))));
        }
    }),
    by_answer("any trust document is proposed", "FED-005", |ask, reply, _| {
        if ask.is("POST", PEERS) && reply.status == 409 {
            *reply = Reply::new(201, &json!({ "data": { "state": "proposed" } }));
        }
    }),
    by_answer("trust documents are read by ftp", "FED-005", |ask, reply, _| {
        if ask.is("POST", PEERS) && ask.json()["url"].as_str().is_some_and(|url| url.starts_with("ftp:")) {
            *reply = Reply::new(201, &json!({ "data": { "state": "proposed" } }));
        }
    }),
    by_answer("everybody sees the peers", "FED-007", |ask, reply, _| {
        if ask.is("GET", PEERS) && reply.status == 403 {
            *reply = Reply::new(200, &json!({ "data": [] }));
        }
    }),
    by_answer("a peer can be confirmed twice", "FED-007", |ask, reply, _| {
        if ask.is("POST", "/api/v1/admin/peers/*/confirm") && reply.status == 409 {
            reply.status = 200;
        }
    }),
    by_request("a suspended peer is served", "FED-008", |ask, _| {
        ask.is("POST", "/api/v1/admin/peers/*/suspend").then(|| Reply::new(200, &json!({ "data": { "state": "suspended" } })))
    }),
    by_link("the peer listener serves clients too", "FED-013", |ask, reply, _| {
        if ask.path == "/v1/health" {
            *reply = Reply::new(200, &json!({ "status": "ok" }));
        }
    }),
    by_answer("the product listener takes envelopes", "FED-013", |ask, reply, _| {
        if ask.path.starts_with("/fed/v1/envelopes") {
            *reply = Reply::new(200, &json!({ "verdicts": [] }));
        }
    }),
    by_link("a peer's token with alg none is accepted", "FED-014", |ask, reply, _| let_in(reply, header(ask)["alg"] == "none")),
    by_link("a key inside of the token is believed", "FED-014", |ask, reply, _| let_in(reply, !header(ask)["jwk"].is_null())),
    by_link("crit is not read", "FED-014", |ask, reply, _| let_in(reply, !header(ask)["crit"].is_null())),
    by_link("any typ of a token is accepted", "FED-014", |ask, reply, _| let_in(reply, header(ask)["typ"] == "JWT")),
    by_link("the audience of a token is not read", "FED-015", |ask, reply, _| {
        let_in(reply, claims(ask)["aud"] == "spiffe://hub-z.example/node/n1");
    }),
    by_link("the subject of a token is not read", "FED-015", |ask, reply, _| let_in(reply, claims(ask)["sub"] != claims(ask)["iss"])),
    by_link("the end of a token is not read", "FED-016", |ask, reply, _| {
        let now = crate::peer::ids::seconds();
        let_in(reply, claims(ask)["exp"].as_i64().is_some_and(|exp| exp < now - 30));
    }),
    by_link("tokens may live for a day", "FED-016", |ask, reply, _| {
        let claims = claims(ask);
        let life = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
        let_in(reply, life == Some(86_400));
    }),
    by_link("a token works twice", "FED-017", |ask, reply, memory| {
        let again = seen(memory, &ask.token());
        let_in(reply, again);
    }),
    by_link("a token needs no jti", "FED-017", |ask, reply, _| let_in(reply, claims(ask)["jti"].is_null())),
    by_link("a token is not bound to its connection", "FED-018", |ask, reply, _| let_in(reply, claims(ask)["cnf"].is_null())),
    by_link("scopes of tokens are not looked at", "FED-019", |_, reply, _| {
        if reply.status == 401 {
            reply.status = 400;
        }
    }),
    by_link("a refused token is told why", "FED-020", |_, reply, _| {
        if reply.status == 401 {
            reply.body = br#"{"code":"token_expired"}"#.to_vec();
        }
    }),
    by_link("a refused token has a header that says why", "FED-020", |ask, reply, _| {
        if reply.status == 401 && claims(ask)["cnf"].is_null() {
            reply.set("x-reason", "binding");
        }
    }),
    by_link("one bad envelope spoils its batch", "FED-024", |ask, reply, _| {
        let mixed = reply.json()["verdicts"].as_array().is_some_and(|all| all.len() == 6);
        if mixed {
            each_verdict(ask, reply, |_, verdict| verdict["verdict"] = json!("refused"));
        }
    }),
    by_link("a batch has no bound", "FED-024", |ask, reply, _| {
        if ask.is("POST", "/fed/v1/envelopes") && reply.status == 413 {
            *reply = Reply::new(200, &json!({ "verdicts": [] }));
        }
    }),
    by_link("members of JSON may come twice", "FED-024", |ask, reply, _| {
        if String::from_utf8_lossy(&ask.body).contains("\"envelopes\":[],\"envelopes\"") && reply.status == 400 {
            *reply = Reply::new(200, &json!({ "verdicts": [] }));
        }
    }),
    by_link("an unsigned envelope is accepted", "FED-025", |ask, reply, _| {
        take_if(ask, reply, "malformed_envelope", |envelope| envelope.get("signature").is_none());
    }),
    by_link("signatures of envelopes are not verified", "FED-025", |ask, reply, _| take(ask, reply, "bad_signature")),
    by_link("the payload of an envelope is not compared", "FED-025", |ask, reply, _| take(ask, reply, "payload_mismatch")),
    by_link("unknown members of envelopes are refused", "FED-026", |ask, reply, _| {
        each_verdict(ask, reply, |envelope, verdict| {
            if envelope.get("x_later").is_some() {
                *verdict = json!({ "id": envelope["id"], "verdict": "refused", "code": "malformed_envelope" });
            }
        });
    }),
    by_link("unknown members of envelopes are not signed", "FED-026", |ask, reply, _| take(ask, reply, "bad_signature")),
    by_link("envelopes of other hubs are accepted", "FED-027", |ask, reply, _| take(ask, reply, "wrong_origin")),
    by_link("envelopes for other hubs are accepted", "FED-028", |ask, reply, _| take(ask, reply, "wrong_destination")),
    by_link("envelopes do not expire", "FED-028", |ask, reply, _| take(ask, reply, "expired")),
    by_link("scopes of envelopes are not looked at", "FED-028", |ask, reply, _| take(ask, reply, "insufficient_scope")),
    by_link("envelopes go round and round", "FED-029", |ask, reply, _| take(ask, reply, "loop_detected")),
    by_link("envelopes of any size are accepted", "FED-029", |ask, reply, _| take(ask, reply, "envelope_too_large")),
    by_link("an agent that is not allowed is told apart from a missing one", "FED-030", |ask, reply, memory| {
        each_verdict(ask, reply, |_, verdict| {
            memory.count += usize::from(verdict["code"] == "not_found");
            if memory.count == 2 {
                verdict["detail"] = json!("this agent is private");
            }
        });
    }),
    by_link("a copy has a receipt of its own", "FED-031", |ask, reply, _| {
        each_verdict(ask, reply, |_, verdict| {
            if verdict["verdict"] == "duplicate" {
                verdict["receipt"]["at"] = json!("2026-01-01T00:00:00.000Z");
            }
        });
    }),
    by_link("one id may stand for two envelopes", "FED-031", |ask, reply, _| take(ask, reply, "digest_changed")),
    by_link("receipts are not signed", "FED-032", |ask, reply, _| {
        each_verdict(ask, reply, |_, verdict| verdict["receipt"]["signature"] = json!("e30..AAAA"));
    }),
    by_link("receipts are for another envelope", "FED-032", |ask, reply, _| {
        each_verdict(ask, reply, |_, verdict| verdict["receipt"]["digest"] = json!("AAAA"));
    }),
    by_link("the hello has no marks", "FED-036", |ask, reply, _| {
        if ask.is("POST", "/fed/v1/hello") {
            reply.edit_at("", |body| drop(body.remove("marks")));
        }
    }),
    by_link("an envelope that skips a number is taken", "FED-036", |ask, reply, _| {
        each_verdict(ask, reply, |envelope, verdict| {
            if envelope["seq"] == json!(3) {
                *verdict = json!({ "id": envelope["id"], "verdict": "accepted" });
            }
        });
    }),
    by_link("a cancel that comes before its run is refused", "FED-036", |ask, reply, _| {
        each_verdict(ask, reply, |envelope, verdict| {
            if envelope["type"] == "run.cancel" {
                *verdict = json!({ "id": envelope["id"], "verdict": "refused", "code": "not_found" });
            }
        });
    }),
    by_link("a peer over its rate is not told when to come back", "FED-023", |_, reply, _| drop(reply.headers.remove("retry-after"))),
    by_link("headers that tell of a certificate are believed", "FED-011", |ask, reply, _| {
        if !ask.header("x-client-cert").is_empty() && [400, 401].contains(&reply.status) {
            *reply = Reply::new(200, &json!({}));
        }
    }),
    by_link("a token is bound to any certificate of its node", "FED-018", |ask, reply, _| {
        let wrongly = claims(ask)["cnf"]["x5t#S256"].as_str().is_some_and(|thumbprint| thumbprint.len() == 43);
        let_in(reply, wrongly);
    }),
    by_link("the hello does not name the node", "FED-037", |ask, reply, _| {
        if ask.is("POST", "/fed/v1/hello") {
            reply.edit_at("", |body| drop(body.remove("node")));
        }
    }),
    by_link("any profile of a peer is taken", "FED-037", |ask, reply, _| {
        if ask.is("POST", "/fed/v1/hello") && reply.status == 409 {
            reply.status = 200;
        }
    }),
    by_link("a peer says hello for another node", "FED-037", |ask, reply, _| {
        if ask.is("POST", "/fed/v1/hello") && reply.status == 400 {
            *reply = Reply::new(200, &json!({}));
        }
    }),
    by_link("runs of others look forbidden to a peer", "FED-038", |_, reply, _| {
        if reply.status == 404 {
            reply.status = 403;
        }
    }),
    by_link("the directory passes on what it learnt", "FED-039", |ask, reply, _| {
        if ask.is("GET", "/fed/v1/directory") {
            reply.edit(|body| {
                let learnt = json!({ "id": "spiffe://hub-z.example/agent/1", "jid": "agent-1@agents.hub-z.example", "name": "x" });
                body["agents"].as_array_mut().into_iter().for_each(|agents| agents.push(learnt.clone()));
            });
        }
    }),
    by_link("the directory is empty", "FED-039", |ask, reply, _| {
        if ask.is("GET", "/fed/v1/directory") {
            reply.edit(|body| body["agents"] = json!([]));
        }
    }),
    by_link("a peer is told why there is nothing", "FED-040", |ask, reply, _| {
        if ask.path == "/fed/v1/conversations" && reply.status == 404 {
            reply.edit(|body| body["detail"] = json!("nobody has talked to this agent"));
        }
    }),
];

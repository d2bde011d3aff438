//! Makes `spec/vectors/tokens.json` and `spec/vectors/trust.json` anew, with fresh keys that are thrown away afterwards:
//! `cargo test -p aiox-federation --test it -- --ignored the_vectors_are_made_anew`.

use aiox_certs::{Authority, create_signing_key};
use aiox_crypto::jws::{base64url, canonical, sha256, thumbprint};
use aiox_federation::{envelope, token, trust};
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z: what time it is for every vector.
const NOW: i64 = 1_767_225_600;
const SENDER: &str = "spiffe://hub-a.example/node/n1";
const RECEIVER: &str = "spiffe://hub-b.example/node/n1";
const STRANGER: &str = "spiffe://hub-c.example/node/n1";

/// A key that signs whatever header and payload it is given.
struct Forge {
    pair: EcdsaKeyPair,
    public: Value,
}

impl Forge {
    fn new() -> Self {
        let key = PrivateKeyDer::from_pem_slice(create_signing_key().unwrap().as_bytes()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der()).unwrap();
        let point = pair.public_key().as_ref()[1..].to_vec();
        let (x, y) = (base64url(&point[..32]), base64url(&point[32..]));
        let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": thumbprint(&x, &y) });
        Self { pair, public }
    }

    fn kid(&self) -> &str {
        self.public["kid"].as_str().unwrap()
    }

    fn header(&self, typ: &str) -> Value {
        json!({ "alg": "ES256", "kid": self.kid(), "typ": typ })
    }

    /// A compact JWS with exactly this header and payload.
    fn sign(&self, header: &str, payload: &[u8]) -> String {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(payload));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature.as_ref()))
    }

    /// The document with its signature over everything but `signature`.
    fn seal(&self, header: &Value, mut document: Value) -> Value {
        document.as_object_mut().unwrap().remove("signature");
        let whole = self.sign(&header.to_string(), &canonical(&document).unwrap());
        let (head, rest) = whole.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        document["signature"] = json!(format!("{head}..{signature}"));
        document
    }
}

fn with(document: &Value, name: &str, value: Value) -> Value {
    let mut changed = document.clone();
    changed[name] = value;
    changed
}

fn without(document: &Value, name: &str) -> Value {
    let mut changed = document.clone();
    changed.as_object_mut().unwrap().remove(name);
    changed
}

/// Cases of request tokens, collected one by one.
struct Tokens {
    key: Forge,
    thumbprint: String,
    cases: Vec<Value>,
}

impl Tokens {
    /// Claims that are as they must be. Each case has a `jti` of its own.
    fn claims(&self) -> Value {
        json!({
            "iss": SENDER, "sub": SENDER, "aud": RECEIVER, "iat": NOW, "exp": NOW + 60, "scope": "hello",
            "jti": base64url(sha256(self.cases.len().to_string().as_bytes()).as_bytes()), "cnf": { "x5t#S256": self.thumbprint },
        })
    }

    fn add(&mut self, name: &str, authorization: Value, breaks: Option<&str>) {
        self.cases.push(json!({ "name": name, "authorization": authorization, "taken": breaks.is_none(), "breaks": breaks }));
    }

    fn claim(&mut self, name: &str, claims: &Value, breaks: Option<&str>) {
        let header = self.key.header(token::TYPE).to_string();
        let text = format!("Bearer {}", self.key.sign(&header, claims.to_string().as_bytes()));
        self.add(name, json!(text), breaks);
    }

    fn head(&mut self, name: &str, header: &str, breaks: &str) {
        let text = format!("Bearer {}", self.key.sign(header, self.claims().to_string().as_bytes()));
        self.add(name, json!(text), Some(breaks));
    }
}

fn good_claims(tokens: &mut Tokens) {
    let base = tokens.claims();
    tokens.claim("valid", &base, None);
    let copy = tokens.cases[0]["authorization"].clone();
    tokens
        .cases
        .push(json!({ "name": "the same token again", "authorization": copy, "after": "valid", "taken": false, "breaks": "FED-017" }));
    for (name, claim, value) in [
        ("an audience that is a list of one", "aud", json!([RECEIVER])),
        ("times that began a moment ago", "nbf", json!(NOW - 5)),
        ("begins in 29 s", "nbf", json!(NOW + 29)),
        ("a claim that nobody knows", "act", json!({ "sub": "spiffe://hub-a.example/agent/x" })),
    ] {
        let claims = with(&tokens.claims(), claim, value);
        tokens.claim(name, &claims, None);
    }
    let early = with(&with(&tokens.claims(), "iat", json!(NOW + 29)), "exp", json!(NOW + 89));
    tokens.claim("made 29 s in the future", &early, None);
    let late = with(&with(&tokens.claims(), "iat", json!(NOW - 89)), "exp", json!(NOW - 29));
    tokens.claim("over since 29 s", &late, None);
}

fn bad_claims(tokens: &mut Tokens) {
    for (name, claim, value, breaks) in [
        ("another audience", "aud", json!(STRANGER), "FED-015"),
        ("an audience of two", "aud", json!([RECEIVER, STRANGER]), "FED-015"),
        ("an audience of the same node twice", "aud", json!([RECEIVER, RECEIVER]), "FED-015"),
        ("an empty audience", "aud", json!([]), "FED-015"),
        ("an audience that is the domain", "aud", json!("hub-b.example"), "FED-015"),
        ("another issuer", "iss", json!(STRANGER), "FED-015"),
        ("another node of the same domain", "iss", json!("spiffe://hub-a.example/node/n2"), "FED-015"),
        ("another subject", "sub", json!(STRANGER), "FED-015"),
        ("lives for 61 s", "exp", json!(NOW + 61), "FED-016"),
        ("lives for ever", "exp", json!(i64::MAX), "FED-016"),
        ("ends when it begins", "exp", json!(NOW), "FED-016"),
        ("an end in words", "exp", json!("2026-01-01T00:01:00Z"), "FED-016"),
        ("begins in 33 s", "nbf", json!(NOW + 33), "FED-016"),
        ("bound to another certificate", "cnf", json!({ "x5t#S256": sha256(b"another certificate") }), "FED-018"),
        ("bound to nothing", "cnf", json!({}), "FED-018"),
        ("another scope", "scope", json!("deliver"), "FED-019"),
        ("two scopes", "scope", json!("hello deliver"), "FED-019"),
        ("a short jti", "jti", json!(base64url(&[7; 8])), "FED-017"),
        ("a jti that is a number", "jti", json!(7), "FED-017"),
    ] {
        let claims = with(&tokens.claims(), claim, value);
        tokens.claim(name, &claims, Some(breaks));
    }
    for (claim, breaks) in [
        ("aud", "FED-015"),
        ("iss", "FED-015"),
        ("sub", "FED-015"),
        ("iat", "FED-016"),
        ("exp", "FED-016"),
        ("cnf", "FED-018"),
        ("jti", "FED-017"),
        ("scope", "FED-019"),
    ] {
        let claims = without(&tokens.claims(), claim);
        tokens.claim(&format!("no {claim}"), &claims, Some(breaks));
    }
    let early = with(&with(&tokens.claims(), "iat", json!(NOW + 33)), "exp", json!(NOW + 93));
    tokens.claim("made 33 s in the future", &early, Some("FED-016"));
    let late = with(&with(&tokens.claims(), "iat", json!(NOW - 93)), "exp", json!(NOW - 33));
    tokens.claim("over since 33 s", &late, Some("FED-016"));
    let twice = tokens.claims().to_string().replacen('{', &format!("{{\"aud\":\"{STRANGER}\","), 1);
    let header = tokens.key.header(token::TYPE).to_string();
    let text = format!("Bearer {}", tokens.key.sign(&header, twice.as_bytes()));
    tokens.add("two audiences by a doubled claim", json!(text), Some("FED-015"));
}

fn tricks(tokens: &mut Tokens, stranger: &Forge) {
    let good = tokens.key.header(token::TYPE);
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("jwk", stranger.public.clone()),
        ("jku", json!("https://hub-c.example/keys")),
        ("x5u", json!("https://hub-c.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("x5t", json!("AAAA")),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
    ] {
        let header = with(&good, member, value).to_string();
        tokens.head(&format!("a header with {member}"), &header, "FED-014");
    }
    for (name, member, value) in [
        ("typ of any JWT", "typ", json!("JWT")),
        ("typ of an envelope", "typ", json!(envelope::TYPE)),
        ("alg in lower case", "alg", json!("es256")),
        ("alg of a longer curve", "alg", json!("ES384")),
        ("alg EdDSA", "alg", json!("EdDSA")),
        ("a key id that nobody has", "kid", json!(stranger.kid())),
    ] {
        let header = with(&good, member, value).to_string();
        tokens.head(name, &header, "FED-014");
    }
    for member in ["alg", "kid", "typ"] {
        let header = without(&good, member).to_string();
        tokens.head(&format!("a header without {member}"), &header, "FED-014");
    }
    let doubled = good.to_string().replacen('{', "{\"alg\":\"none\",", 1);
    tokens.head("a header with two algorithms", &doubled, "FED-014");

    let payload = tokens.claims().to_string();
    let none = format!("{}.{}.", base64url(with(&good, "alg", json!("none")).to_string().as_bytes()), base64url(payload.as_bytes()));
    tokens.add("alg none, no signature", json!(format!("Bearer {none}")), Some("FED-014"));
    let input = format!("{}.{}", base64url(with(&good, "alg", json!("HS256")).to_string().as_bytes()), base64url(payload.as_bytes()));
    let public = tokens.key.public.to_string();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes()), input.as_bytes());
    tokens.add("alg HS256, keyed with the public key", json!(format!("Bearer {input}.{}", base64url(mac.as_ref()))), Some("FED-014"));
    let foreign = stranger.sign(&good.to_string(), payload.as_bytes());
    tokens.add("signed by another key under this key's id", json!(format!("Bearer {foreign}")), Some("FED-014"));
    let own = tokens.key.sign(&good.to_string(), payload.as_bytes());
    let (head, signature) = own.rsplit_once('.').unwrap();
    tokens.add("no signature", json!(format!("Bearer {head}.")), Some("FED-014"));
    let other = tokens.claims().to_string().replace("hello", "deliver");
    let (first, _) = head.split_once('.').unwrap();
    let moved = format!("Bearer {first}.{}.{signature}", base64url(other.as_bytes()));
    tokens.add("claims changed after signing", json!(moved), Some("FED-014"));
    tokens.add("no Authorization at all", Value::Null, Some("FED-020"));
    for (name, text) in [
        ("another scheme", "Basic aHViLWE6aHViLWE=".to_owned()),
        ("the scheme alone", "Bearer ".to_owned()),
        ("not a JWS", "Bearer a.b.c".to_owned()),
        ("padded base64", format!("Bearer {own}=")),
    ] {
        tokens.add(name, json!(text), Some("FED-014"));
    }
}

fn tokens() -> Value {
    let (key, stranger) = (Forge::new(), Forge::new());
    let mut tokens = Tokens { key, thumbprint: sha256(b"the client certificate of this connection"), cases: Vec::new() };
    good_claims(&mut tokens);
    bad_claims(&mut tokens);
    tricks(&mut tokens, &stranger);
    json!({
        "description": "Values of the header Authorization of GET /fed/v1/capabilities, on a connection whose client certificate is the \
                        sender's and has this thumbprint, at this time. `taken` says whether the request is answered or refused with a bare \
                        401, `breaks` which requirement a refused one breaks. Each case is judged with an empty memory of used tokens, or \
                        after the case that it names. The private keys were thrown away.",
        "sender": SENDER, "receiver": RECEIVER, "certificate_thumbprint": tokens.thumbprint,
        "now": NOW, "skew": 30, "token_keys": [tokens.key.public], "cases": tokens.cases,
    })
}

fn trust_documents() -> Value {
    let authority = Authority::create("hub-a.example").unwrap();
    let root = STANDARD.encode(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap());
    let (envelope_key, token_key, next, stranger) = (Forge::new(), Forge::new(), Forge::new(), Forge::new());
    let header = envelope_key.header(trust::TYPE);
    let base = json!({
        "domain": "hub-a.example", "nodes": [{ "id": SENDER, "endpoint": "https://hub-a.example:8443" }], "roots": [root],
        "token_keys": [token_key.public], "envelope_keys": [envelope_key.public], "sequence": 7, "refresh_hint": 300,
        "not_after": "2026-01-08T00:00:00.000000Z", "profiles": ["aiox-federation/1"],
    });
    let sealed = |document: Value| envelope_key.seal(&header, document);
    let valid = sealed(base.clone());
    let mut documents = Vec::new();
    let mut add = |name: &str, document: Value, taken: bool| {
        let fingerprint = taken.then(|| trust::fingerprint(&document).unwrap());
        documents.push(json!({ "name": name, "document": document, "taken": taken, "fingerprint": fingerprint }));
    };
    add("valid", valid.clone(), true);
    add("an unknown member is covered", sealed(with(&base, "a_member_of_a_later_version", json!({ "b": [1] }))), true);
    let retired = with(&next.public, "expired_ts", json!("2025-12-31T00:00:00.000000Z"));
    add("retired and denied keys", sealed(with(&with(&base, "old_keys", json!([retired])), "deny", json!([stranger.kid()]))), true);
    add("two profiles", sealed(with(&base, "profiles", json!(["aiox-federation/2", "aiox-federation/1"]))), true);
    add("a changed member", with(&valid, "refresh_hint", json!(1)), false);
    add("a member added after signing", with(&valid, "later", json!(true)), false);
    add("a member taken away after signing", without(&valid, "refresh_hint"), false);
    add("no signature", without(&valid, "signature"), false);
    add("signed by another key under this key's id", stranger.seal(&header, base.clone()), false);
    add("signed by a key that is not in the document", stranger.seal(&stranger.header(trust::TYPE), base.clone()), false);
    add("signed by the token key", token_key.seal(&token_key.header(trust::TYPE), base.clone()), false);
    add("signed as an envelope", envelope_key.seal(&envelope_key.header(envelope::TYPE), base.clone()), false);
    add("signed by a denied key", sealed(with(&base, "deny", json!([envelope_key.kid()]))), false);
    let foreign_node = json!([{ "id": STRANGER, "endpoint": "https://hub-c.example:8443" }]);
    for (name, member, value) in [
        ("of another domain", "domain", json!("hub-c.example")),
        ("a domain with a capital", "domain", json!("Hub-A.example")),
        ("a node of another domain", "nodes", foreign_node),
        ("no node", "nodes", json!([])),
        ("over", "not_after", json!("2025-12-31T23:59:59.000000Z")),
        ("no common profile", "profiles", json!(["aiox-federation/2"])),
        ("no root", "roots", json!([])),
        ("a root that is no certificate", "roots", json!(["AAAA"])),
        ("no token key", "token_keys", json!([])),
        ("a key whose id is not its thumbprint", "token_keys", json!([with(&token_key.public, "kid", json!(next.kid()))])),
        ("a key of another curve", "token_keys", json!([with(&token_key.public, "crv", json!("P-384"))])),
        ("a sequence in words", "sequence", json!("seven")),
    ] {
        add(name, sealed(with(&base, member, value)), false);
    }
    let rolled = with(&with(&base, "sequence", json!(8)), "envelope_keys", json!([next.public]));
    let updates = [
        ("newer, by the accepted key", sealed(with(&base, "sequence", json!(8))), "newer"),
        ("newer, a new key signed by the accepted one", sealed(rolled.clone()), "newer"),
        ("the same again", sealed(base.clone()), "same"),
        ("newer, by its new key alone", next.seal(&next.header(trust::TYPE), rolled), "refused"),
        ("older", sealed(with(&base, "sequence", json!(6))), "refused"),
        ("the same sequence, other content", sealed(with(&base, "refresh_hint", json!(1))), "contradiction"),
        ("of another domain", sealed(with(&with(&base, "sequence", json!(8)), "domain", json!("hub-c.example"))), "refused"),
    ];
    let updates = updates.map(|(name, document, outcome)| json!({ "name": name, "document": document, "outcome": outcome }));
    json!({
        "description": "Trust documents of hub-a.example as they are read at this time. `documents`: at first contact, whether one is taken, \
                        and the fingerprint that an operator confirms. `updates`: what a reader does that has accepted the document `valid`; \
                        a contradiction suspends the peer. `receipts`: of the node of that document for the envelope with this id and digest. \
                        The private keys were thrown away.",
        "domain": "hub-a.example", "now": NOW, "documents": documents, "updates": updates, "receipts": receipts(&envelope_key, &stranger),
    })
}

fn receipts(key: &Forge, stranger: &Forge) -> Value {
    let (id, digest) = ("env_01JD8Q00000000000000000001", sha256(b"the signed bytes of an envelope"));
    let base = json!({ "digest": digest, "id": id, "node": SENDER, "at": "2026-01-01T00:00:00.000000Z" });
    let header = key.header(envelope::RECEIPT_TYPE);
    let valid = key.seal(&header, base.clone());
    let cases = [
        ("valid", valid.clone(), true),
        ("a later time than was signed", with(&valid, "at", json!("2026-01-02T00:00:00.000000Z")), false),
        ("of another envelope", key.seal(&header, with(&base, "id", json!("env_01JD8Q00000000000000000002"))), false),
        ("of another digest", key.seal(&header, with(&base, "digest", json!(sha256(b"other bytes")))), false),
        ("of another node", key.seal(&header, with(&base, "node", json!(STRANGER))), false),
        ("signed as an envelope", key.seal(&key.header(envelope::TYPE), base.clone()), false),
        ("signed by another key", stranger.seal(&header, base.clone()), false),
    ];
    let cases = cases.map(|(name, receipt, holds)| json!({ "name": name, "receipt": receipt, "holds": holds }));
    json!({ "id": id, "digest": digest, "cases": cases })
}

#[test]
#[ignore = "writes files of spec/vectors; what is published stays until somebody wants it new"]
fn the_vectors_are_made_anew() {
    for (name, document) in [("tokens", tokens()), ("trust", trust_documents())] {
        let path = format!("{}/../spec/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&document).unwrap())).unwrap();
    }
}

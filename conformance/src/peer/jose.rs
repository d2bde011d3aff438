//! What is signed between hubs, written from `spec/federation.md` alone: canonical form, ES256, thumbprints.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use crate::case::Stop;

pub(crate) const TRUST: &str = "aiox-trust+jws";
pub(crate) const TOKEN: &str = "aiox-fed+jwt";
pub(crate) const ENVELOPE: &str = "aiox-envelope+jws";
pub(crate) const RECEIPT: &str = "aiox-receipt+jws";

/// Largest integer that every reader keeps.
const LARGEST: u64 = (1 << 53) - 1;
/// Members of a header that none of the four kinds may have.
const FORBIDDEN: [&str; 9] = ["crit", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "zip", "b64"];

pub(crate) fn b64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// SHA-256 in base64url.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    b64(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The canonical form (RFC 8785) of a value whose integers everybody can read.
pub(crate) fn canonical(value: &Value) -> Option<Vec<u8>> {
    sane(value).then(|| serde_jcs::to_vec(value).ok()).flatten()
}

fn sane(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() || number.as_u64().is_some_and(|n| n <= LARGEST) || number.as_i64().is_some_and(|n| n.unsigned_abs() <= LARGEST)
        }
        Value::Array(items) => items.iter().all(sane),
        Value::Object(members) => members.values().all(sane),
        _ => true,
    }
}

/// A document without some of its members, in canonical form: the bytes that are signed.
pub(crate) fn without(document: &Value, members: &[&str]) -> Option<Vec<u8>> {
    let mut rest = document.as_object()?.clone();
    for member in members {
        rest.shift_remove(*member);
    }
    canonical(&Value::Object(rest))
}

/// Reads JSON as I-JSON (RFC 7493): no member name twice, no integer beyond 2^53 - 1.
pub(crate) fn strict(bytes: &[u8]) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    sane(&value).then_some(value)
}

struct Strict;
impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}
impl<'de> Visitor<'de> for Strict {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// The thumbprint of a public key (RFC 7638).
pub(crate) fn thumbprint(jwk: &Value) -> String {
    let part = json!({ "crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"] });
    canonical(&part).map(|bytes| sha256(&bytes)).unwrap_or_default()
}

/// A P-256 key pair.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    /// The public half, with `kid`.
    pub(crate) public: Value,
}

impl Key {
    pub(crate) fn generate() -> Result<Self, Stop> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Stop::Harness("no key could be made".into()))?;
        let point = pair.public_key().as_ref();
        let mut public = json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..65]) });
        public["kid"] = thumbprint(&public).into();
        Ok(Self { pair, public })
    }

    pub(crate) fn kid(&self) -> &str {
        self.public["kid"].as_str().unwrap_or_default()
    }

    /// The usual header.
    pub(crate) fn header(&self, typ: &str) -> Value {
        json!({ "alg": "ES256", "kid": self.kid(), "typ": typ })
    }

    /// A compact JWS under any header, whatever it says.
    pub(crate) fn compact(&self, header: &Value, payload: &[u8]) -> Result<String, Stop> {
        let input = format!("{}.{}", b64(header.to_string().as_bytes()), b64(payload));
        let signature =
            self.pair.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| Stop::Harness("a signature could not be made".into()))?;
        Ok(format!("{input}.{}", b64(signature.as_ref())))
    }

    /// A detached JWS (RFC 7515 appendix F) over bytes.
    pub(crate) fn detached(&self, typ: &str, bytes: &[u8]) -> Result<String, Stop> {
        let whole = self.compact(&self.header(typ), bytes)?;
        let (head, signature) = (whole.split('.').next().unwrap_or_default(), whole.rsplit('.').next().unwrap_or_default());
        Ok(format!("{head}..{signature}"))
    }

    /// Signs a document over everything but some members, and puts the signature into it.
    pub(crate) fn seal(&self, typ: &str, mut document: Value, but: &[&str]) -> Result<Value, Stop> {
        let bytes = without(&document, but).ok_or_else(|| Stop::Harness("a document has no canonical form".into()))?;
        document["signature"] = self.detached(typ, &bytes)?.into();
        Ok(document)
    }
}

/// Verifies a JWS of three parts; the middle one is given apart when it is detached.
fn verify_parts(typ: &str, head: &str, payload: &str, signature: &str, keys: &[Value]) -> Result<(), &'static str> {
    let header = unb64(head).and_then(|bytes| strict(&bytes)).ok_or("the header is not JSON")?;
    if header["alg"] != "ES256" || header["typ"] != typ {
        return Err("the header has another `alg` or `typ`");
    }
    if FORBIDDEN.iter().any(|name| header.get(name).is_some()) {
        return Err("the header has a member that it may not have");
    }
    let kid = header["kid"].as_str().ok_or("the header has no `kid`")?;
    let key = keys.iter().find(|key| key["kid"] == kid).ok_or("the `kid` is no key of the document")?;
    if key["kty"] != "EC" || key["crv"] != "P-256" || thumbprint(key) != kid {
        return Err("the `kid` is not the thumbprint of its key");
    }
    let coordinate = |name: &str| key[name].as_str().and_then(unb64).filter(|bytes| bytes.len() == 32);
    let (Some(x), Some(y)) = (coordinate("x"), coordinate("y")) else { return Err("the key is no P-256 key") };
    let point = [vec![4], x, y].concat();
    let signature = unb64(signature).ok_or("the signature is not base64url")?;
    let input = format!("{head}.{payload}");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(input.as_bytes(), &signature)
        .map_err(|_| "the signature does not verify")
}

/// Verifies a detached JWS over bytes under one of these keys.
pub(crate) fn verify_detached(typ: &str, jws: &str, bytes: &[u8], keys: &[Value]) -> Result<(), &'static str> {
    let parts: Vec<&str> = jws.split('.').collect();
    let [head, "", signature] = parts[..] else { return Err("it is no detached JWS") };
    verify_parts(typ, head, &b64(bytes), signature, keys)
}

/// Verifies a compact JWS and gives its claims.
pub(crate) fn verify_compact(typ: &str, jws: &str, keys: &[Value]) -> Result<Value, &'static str> {
    let parts: Vec<&str> = jws.split('.').collect();
    let [head, payload, signature] = parts[..] else { return Err("it is no compact JWS") };
    verify_parts(typ, head, payload, signature, keys)?;
    unb64(payload).and_then(|bytes| strict(&bytes)).ok_or("the claims are not JSON that everybody reads alike")
}

/// What a request token is judged against.
pub(crate) struct TokenCheck<'a> {
    pub(crate) keys: &'a [Value],
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) certificate: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) now: i64,
    pub(crate) skew: i64,
}

impl TokenCheck<'_> {
    /// Judges an `Authorization` header by FED-014 to FED-019.
    pub(crate) fn judge(&self, authorization: Option<&str>, used: &mut BTreeSet<String>) -> Result<(), String> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or("there is no bearer token")?;
        let claims = verify_compact(TOKEN, token, self.keys)?;
        if claims["iss"] != self.issuer || claims["sub"] != self.issuer {
            return Err(format!("FED-015: `iss` is {}, `sub` is {}, the connection is {}'s", claims["iss"], claims["sub"], self.issuer));
        }
        if claims["aud"] != self.audience && claims["aud"] != json!([self.audience]) {
            return Err(format!("FED-015: `aud` is {}, not {} alone", claims["aud"], self.audience));
        }
        let (Some(iat), Some(exp)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
            return Err("FED-016: `iat` or `exp` is no whole number".into());
        };
        let begin = match claims.get("nbf") {
            None => iat,
            Some(nbf) => nbf.as_i64().ok_or("FED-016: `nbf` is no whole number")?.max(iat),
        };
        if exp <= iat || exp - iat > 60 || exp + self.skew <= self.now || begin > self.now + self.skew {
            return Err(format!("FED-016: `iat` {iat}, `exp` {exp} and `nbf` {} at {}", claims["nbf"], self.now));
        }
        if claims["cnf"]["x5t#S256"] != self.certificate {
            return Err("FED-018: it is bound to another certificate, or to none".into());
        }
        if claims["scope"] != self.scope {
            return Err(format!("FED-019: the scope is {}, not {}", claims["scope"], self.scope));
        }
        let jti = claims["jti"]
            .as_str()
            .filter(|jti| unb64(jti).is_some_and(|bytes| bytes.len() >= 16))
            .ok_or("FED-017: `jti` is too short, or none")?;
        if used.insert(jti.to_owned()) { Ok(()) } else { Err("FED-017: the `jti` was used before".into()) }
    }
}

fn texts<'a>(value: &'a Value, names: &[&str]) -> Option<Vec<&'a str>> {
    names.iter().map(|name| value[name].as_str()).collect()
}

/// Proves an envelope that `sender` handed over (FED-025, FED-027); its digest, or the code of its refusal.
pub(crate) fn prove(envelope: &Value, sender: &str, keys: &[Value]) -> Result<String, &'static str> {
    let malformed = "malformed_envelope";
    texts(envelope, &["id", "conv", "type", "created", "expires", "content_type", "payload_hash"]).ok_or(malformed)?;
    let [payload, signature] = texts(envelope, &["payload", "signature"]).ok_or(malformed)?[..] else { return Err(malformed) };
    if envelope["seq"].as_u64().is_none() || envelope["hop"].as_u64().is_none() || envelope["dest"]["node"].as_str().is_none() {
        return Err(malformed);
    }
    let (Some(node), Some(sub), Some(_)) =
        (envelope["origin"]["node"].as_str(), envelope["auth"]["sub"].as_str(), envelope["auth"]["scope"].as_str())
    else {
        return Err(malformed);
    };
    let bytes = without(envelope, &["payload", "signature"]).ok_or(malformed)?;
    let domain = sender.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).ok_or(malformed)?;
    let of_domain = sub.ends_with(&format!("@{domain}"))
        || sub.ends_with(&format!("@agents.{domain}"))
        || sub.starts_with(&format!("spiffe://{domain}/agent/"));
    if node != sender || !of_domain {
        return Err("wrong_origin");
    }
    verify_detached(ENVELOPE, signature, &bytes, keys).map_err(|_| "bad_signature")?;
    if sha256(payload.as_bytes()) != envelope["payload_hash"].as_str().unwrap_or_default() {
        return Err("payload_mismatch");
    }
    Ok(sha256(&bytes))
}

/// Whether a receipt proves that `node` holds the envelope with this id and digest.
pub(crate) fn receipt(receipt: &Value, node: &str, id: &str, digest: &str, keys: &[Value]) -> Result<(), String> {
    for (member, wanted) in [("node", node), ("id", id), ("digest", digest)] {
        if receipt[member] != wanted {
            return Err(format!("`{member}` is {}, not {wanted}", receipt[member]));
        }
    }
    let (Some(_), Some(signature)) = (receipt["at"].as_str(), receipt["signature"].as_str()) else {
        return Err("`at` or `signature` is missing".into());
    };
    let bytes = without(receipt, &["signature"]).ok_or("it has no canonical form")?;
    verify_detached(RECEIPT, signature, &bytes, keys).map_err(str::to_owned)
}

/// The fingerprint of a trust document (FED-004).
pub(crate) fn fingerprint(document: &Value) -> String {
    let part: Map<String, Value> =
        ["domain", "envelope_keys", "roots", "token_keys"].into_iter().map(|name| (name.to_owned(), document[name].clone())).collect();
    canonical(&Value::Object(part)).map(|bytes| sha256_hex(&bytes)).unwrap_or_default()
}

/// Whether the signature and the keys of a trust document are right (FED-002).
pub(crate) fn document_holds(document: &Value) -> Result<(), String> {
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let (tokens, envelopes) = (list("token_keys"), list("envelope_keys"));
    if tokens.is_empty() || envelopes.is_empty() {
        return Err("there is no token key or no envelope key".into());
    }
    for key in tokens.iter().chain(&envelopes) {
        if key["kty"] != "EC" || key["crv"] != "P-256" || key["kid"] != thumbprint(key).as_str() {
            return Err(format!("the `kid` of {key} is not its thumbprint {}", thumbprint(key)));
        }
    }
    if let Some(both) = tokens.iter().find(|key| envelopes.iter().any(|other| other["kid"] == key["kid"])) {
        return Err(format!("{} is in `token_keys` and in `envelope_keys`", both["kid"]));
    }
    let denied = list("deny");
    let believed: Vec<Value> = envelopes.into_iter().filter(|key| !denied.contains(&key["kid"])).collect();
    let signature = document["signature"].as_str().ok_or("there is no signature")?;
    let bytes = without(document, &["signature"]).ok_or("it has no canonical form")?;
    verify_detached(TRUST, signature, &bytes, &believed).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }
    fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
        value.pointer(pointer).unwrap().as_array().unwrap()
    }

    #[test]
    fn canonical_forms_are_those_of_the_vectors() {
        let vectors = vectors(include_str!("../../../spec/vectors/canonical.json"));
        for case in list(&vectors, "/canonical") {
            let value = strict(case["input"].as_str().unwrap().as_bytes()).unwrap();
            let bytes = canonical(&value).unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), case["output"].as_str().unwrap(), "{}", case["name"]);
            assert_eq!(sha256(&bytes), case["sha256"].as_str().unwrap(), "{}", case["name"]);
        }
        for case in list(&vectors, "/refused") {
            assert_eq!(strict(case["input"].as_str().unwrap().as_bytes()), None, "{}", case["name"]);
        }
    }

    #[test]
    fn signatures_are_judged_as_in_the_vectors() {
        let vectors = vectors(include_str!("../../../spec/vectors/jws.json"));
        let key = &vectors["thumbprint"];
        assert_eq!(thumbprint(key), key["kid"].as_str().unwrap());
        for case in list(&vectors, "/detached") {
            let bytes = canonical(&case["document"]).unwrap();
            let verdict = verify_detached(case["typ"].as_str().unwrap(), case["jws"].as_str().unwrap(), &bytes, std::slice::from_ref(key));
            assert_eq!(verdict.is_ok(), case["valid"].as_bool().unwrap(), "{}: {verdict:?}", case["name"]);
        }
    }

    #[test]
    fn envelopes_are_proven_as_in_the_vectors() {
        let vectors = vectors(include_str!("../../../spec/vectors/envelope.json"));
        let (sender, keys) = (vectors["sender"].as_str().unwrap(), std::slice::from_ref(&vectors["envelope_key"]));
        for case in list(&vectors, "/cases") {
            let wanted = case["digest"].as_str().map(str::to_owned).ok_or_else(|| case["code"].as_str().unwrap());
            assert_eq!(prove(&case["envelope"], sender, keys), wanted, "{}", case["name"]);
        }
    }

    #[test]
    fn tokens_are_judged_as_in_the_vectors() {
        let vectors = vectors(include_str!("../../../spec/vectors/tokens.json"));
        let check = TokenCheck {
            keys: list(&vectors, "/token_keys"),
            issuer: vectors["sender"].as_str().unwrap(),
            audience: vectors["receiver"].as_str().unwrap(),
            certificate: vectors["certificate_thumbprint"].as_str().unwrap(),
            scope: "hello",
            now: vectors["now"].as_i64().unwrap(),
            skew: vectors["skew"].as_i64().unwrap(),
        };
        let cases = list(&vectors, "/cases");
        for case in cases {
            let mut used = BTreeSet::new();
            if let Some(before) = case["after"].as_str() {
                let before = cases.iter().find(|case| case["name"] == before).unwrap();
                check.judge(before["authorization"].as_str(), &mut used).unwrap();
            }
            let verdict = check.judge(case["authorization"].as_str(), &mut used);
            assert_eq!(verdict.is_ok(), case["taken"].as_bool().unwrap(), "{}: {verdict:?}", case["name"]);
        }
    }

    #[test]
    fn receipts_and_fingerprints_are_those_of_the_vectors() {
        let vectors = vectors(include_str!("../../../spec/vectors/trust.json"));
        let valid = &vectors["documents"][0]["document"];
        for case in list(&vectors, "/documents").iter().filter(|case| case["taken"] == true) {
            assert_eq!(document_holds(&case["document"]), Ok(()), "{}", case["name"]);
            assert_eq!(fingerprint(&case["document"]), case["fingerprint"].as_str().unwrap(), "{}", case["name"]);
        }
        for name in
            ["a changed member", "no signature", "signed by the token key", "signed as an envelope", "a key whose id is not its thumbprint"]
        {
            let case = list(&vectors, "/documents").iter().find(|case| case["name"] == name).unwrap();
            assert!(document_holds(&case["document"]).is_err(), "{name}");
        }
        let (id, digest) = (vectors["receipts"]["id"].as_str().unwrap(), vectors["receipts"]["digest"].as_str().unwrap());
        for case in list(&vectors, "/receipts/cases") {
            let verdict = receipt(&case["receipt"], "spiffe://hub-a.example/node/n1", id, digest, list(valid, "/envelope_keys"));
            assert_eq!(verdict.is_ok(), case["holds"].as_bool().unwrap(), "{}: {verdict:?}", case["name"]);
        }
    }

    #[test]
    fn what_is_signed_here_verifies_here() {
        let key = Key::generate().unwrap();
        let sealed = key.seal(TRUST, json!({ "b": 1, "a": "\u{e9}" }), &["signature"]).unwrap();
        let bytes = without(&sealed, &["signature"]).unwrap();
        let jws = sealed["signature"].as_str().unwrap();
        assert_eq!(verify_detached(TRUST, jws, &bytes, std::slice::from_ref(&key.public)), Ok(()));
        assert!(verify_detached(ENVELOPE, jws, &bytes, std::slice::from_ref(&key.public)).is_err());
    }
}

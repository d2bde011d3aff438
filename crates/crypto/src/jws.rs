//! ES256 signatures: JWS in compact and detached form (RFC 7515), canonical JSON (RFC 8785), key thumbprints (RFC 7638).
//!
//! One algorithm, named here and never taken from a message. A header that brings its own key (`jwk`, `jku`, `x5u`, `x5c`) or
//! demands an extension (`crit`) is refused before any key is looked up.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Read},
};

use aiox_model::federation::{MAX_SAFE_INTEGER, PublicJwk};
use aws_lc_rs::{
    digest::{Context, SHA256, digest as hash},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, json};

/// The one signature algorithm.
pub const ALGORITHM: &str = "ES256";
/// Longest signature text that is read.
pub const MAX_JWS: usize = 16 * 1024;

/// Why a signature, a key or a document was refused. For the audit log; a peer never sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three dot-separated base64url parts, or a part that is not what it should be.
    #[error("not a JWS")]
    Malformed,
    /// The header names another algorithm.
    #[error("algorithm is not allowed")]
    Algorithm,
    /// The header carries `crit`, `jwk`, `jku`, `x5u`, `x5c`, `x5t` or `b64`.
    #[error("header member is not allowed")]
    Header,
    /// The header's `typ` is not the expected one: a signature made for another purpose.
    #[error("typ is not the expected one")]
    Type,
    /// No known key has this id.
    #[error("key id is not known")]
    UnknownKey,
    /// The signature does not fit.
    #[error("signature does not verify")]
    Signature,
    /// The key is not an EC P-256 key, or its id is not its thumbprint.
    #[error("not a usable P-256 key")]
    Key,
    /// The text is not I-JSON (RFC 7493): a doubled member, or a number that not every reader keeps exactly.
    #[error("not a document that every reader reads alike")]
    Document,
}

/// Base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256, base64url without padding: the form of digests, payload hashes and `x5t#S256`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    base64url(hash(&SHA256, bytes).as_ref())
}

/// As [`sha256`], of everything that a reader gives.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(mut source: impl Read) -> io::Result<String> {
    let (mut context, mut piece) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match source.read(&mut piece)? {
            0 => return Ok(base64url(context.finish().as_ref())),
            some => context.update(&piece[..some]),
        }
    }
}

/// JWK thumbprint (RFC 7638 section 3) of an EC P-256 key given by its coordinates in base64url.
#[must_use]
pub fn thumbprint(x: &str, y: &str) -> String {
    sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
}

/// Canonical form (RFC 8785) of a document.
///
/// # Errors
/// When it holds an integer beyond 2^53 - 1, which the canonical form cannot carry exactly.
pub fn canonical(document: &Value) -> Result<Vec<u8>, JwsError> {
    if !every_number_is_exact(document) {
        return Err(JwsError::Document);
    }
    serde_jcs::to_vec(document).map_err(|_| JwsError::Document)
}

fn every_number_is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(positive), _) => positive <= MAX_SAFE_INTEGER,
            (_, Some(negative)) => negative.unsigned_abs() <= MAX_SAFE_INTEGER,
            _ => true,
        },
        Value::Array(items) => items.iter().all(every_number_is_exact),
        Value::Object(members) => members.values().all(every_number_is_exact),
        _ => true,
    }
}

/// Whether every integer of a JSON text is read as it stands there. `serde_json` makes a double of those beyond 64 bits: that is the same
/// number only where the text is the double's canonical form, which has no exponent below 1e21.
fn every_integer_fits(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => after_string(after),
            b'-' | b'0'..=b'9' => {
                let part_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let (number, after) = rest.split_at(rest.iter().position(|byte| !part_of_number(byte)).unwrap_or(rest.len()));
                let number = str::from_utf8(number).unwrap_or_default();
                let integer = !number.contains(['.', 'e', 'E']);
                if integer && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() && !is_canonical_double(number) {
                    return false;
                }
                after
            }
            _ => after,
        };
    }
    true
}

fn is_canonical_double(number: &str) -> bool {
    let double: Option<f64> = number.parse().ok();
    double.and_then(|double| serde_jcs::to_vec(&double).ok()).is_some_and(|form| form == number.as_bytes())
}

/// What comes after a string of which this is the inside.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Strict;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Strict, E> {
                Number::from_f64(v).map(|n| Strict(n.into())).ok_or_else(|| E::custom("number"))
            }
            fn visit_str<E>(self, v: &str) -> Result<Strict, E> {
                Ok(Strict(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Strict(list.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("doubled member"));
                    }
                }
                Ok(Strict(map.into()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads JSON that two readers cannot understand differently: a doubled member name is an error (RFC 7493 section 2.3), and so is an
/// integer beyond 64 bits that would be read as another one.
///
/// # Errors
/// When the bytes are not such a document.
pub fn read_strict(bytes: &[u8]) -> Result<Value, JwsError> {
    if !every_integer_fits(bytes) {
        return Err(JwsError::Document);
    }
    serde_json::from_slice::<Strict>(bytes).map(|Strict(value)| value).map_err(|_| JwsError::Document)
}

/// A private ES256 key. Debug shows its public id only.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicJwk,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// From PKCS#8 DER.
    ///
    /// # Errors
    /// When it is not an EC P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, JwsError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| JwsError::Key)?;
        let (x, y) = match pair.public_key().as_ref() {
            [4, point @ ..] if point.len() == 64 => (base64url(&point[..32]), base64url(&point[32..])),
            _ => return Err(JwsError::Key),
        };
        let public = PublicJwk { kid: thumbprint(&x, &y), kty: "EC".to_owned(), crv: "P-256".to_owned(), x, y };
        Ok(Self { pair, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// Signs `payload` as a compact JWS.
    ///
    /// # Errors
    /// When the key library fails.
    pub fn sign(&self, typ: &str, payload: &[u8]) -> Result<String, JwsError> {
        let header = json!({ "alg": ALGORITHM, "kid": self.public.kid, "typ": typ });
        let input = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(payload));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| JwsError::Signature)?;
        Ok(format!("{input}.{}", base64url(signature.as_ref())))
    }

    /// Signs `payload` and leaves it out of the JWS (RFC 7515 appendix F): `header..signature`.
    ///
    /// # Errors
    /// When the key library fails.
    pub fn sign_detached(&self, typ: &str, payload: &[u8]) -> Result<String, JwsError> {
        let whole = self.sign(typ, payload)?;
        let (header, rest) = whole.split_once('.').ok_or(JwsError::Malformed)?;
        let (_, signature) = rest.split_once('.').ok_or(JwsError::Malformed)?;
        Ok(format!("{header}..{signature}"))
    }
}

/// Public keys by id. Parsed once.
#[derive(Default)]
pub struct KeySet {
    keys: HashMap<String, ParsedPublicKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

fn parse_key(key: &PublicJwk) -> Result<ParsedPublicKey, JwsError> {
    let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32).ok_or(JwsError::Key);
    if key.kty != "EC" || key.crv != "P-256" || key.kid != thumbprint(&key.x, &key.y) {
        return Err(JwsError::Key);
    }
    let mut point = vec![4];
    point.extend(coordinate(&key.x)?);
    point.extend(coordinate(&key.y)?);
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| JwsError::Key)
}

impl KeySet {
    /// From public keys.
    ///
    /// # Errors
    /// When one is not an EC P-256 key or its `kid` is not its thumbprint.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a PublicJwk>) -> Result<Self, JwsError> {
        let keys = keys.into_iter().map(|key| Ok((key.kid.clone(), parse_key(key)?))).collect::<Result<_, JwsError>>()?;
        Ok(Self { keys })
    }

    /// Whether a key with this id is in the set.
    #[must_use]
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Verifies a compact JWS and gives its payload and the id of the key that signed it.
    ///
    /// # Errors
    /// When anything about it is not as it must be.
    pub fn verify(&self, typ: &str, jws: &str) -> Result<(Vec<u8>, String), JwsError> {
        let (signed, signature) = jws.rsplit_once('.').ok_or(JwsError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed)?;
        let payload_bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| JwsError::Malformed)?;
        let kid = self.check(typ, header, signed, signature)?;
        Ok((payload_bytes, kid))
    }

    /// Verifies a detached JWS over `payload` and gives the id of the key that signed it.
    ///
    /// # Errors
    /// When anything about it is not as it must be.
    pub fn verify_detached(&self, typ: &str, jws: &str, payload: &[u8]) -> Result<String, JwsError> {
        let (header, signature) = jws.split_once("..").ok_or(JwsError::Malformed)?;
        let signed = format!("{header}.{}", base64url(payload));
        self.check(typ, header, &signed, signature)
    }

    fn check(&self, typ: &str, header: &str, signed: &str, signature: &str) -> Result<String, JwsError> {
        if header.len() > MAX_JWS {
            return Err(JwsError::Malformed);
        }
        let kid = check_header(typ, &URL_SAFE_NO_PAD.decode(header).map_err(|_| JwsError::Malformed)?)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwsError::Malformed)?;
        let key = self.keys.get(&kid).ok_or(JwsError::UnknownKey)?;
        key.verify_sig(signed.as_bytes(), &signature).map_err(|_| JwsError::Signature)?;
        Ok(kid)
    }
}

/// Judges a protected header and gives its `kid`.
fn check_header(typ: &str, header: &[u8]) -> Result<String, JwsError> {
    let header = read_strict(header).map_err(|_| JwsError::Malformed)?;
    let members = header.as_object().ok_or(JwsError::Malformed)?;
    if members.get("alg").and_then(Value::as_str) != Some(ALGORITHM) {
        return Err(JwsError::Algorithm);
    }
    if ["crit", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "b64", "zip"].iter().any(|name| members.contains_key(*name)) {
        return Err(JwsError::Header);
    }
    if members.get("typ").and_then(Value::as_str) != Some(typ) {
        return Err(JwsError::Type);
    }
    members.get("kid").and_then(Value::as_str).map(str::to_owned).ok_or(JwsError::UnknownKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::EcdsaKeyPair;

    fn key() -> SigningKey {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap()
    }

    fn forged(key: &SigningKey, header: &Value, payload: &[u8]) -> String {
        let input = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(payload));
        let signature = key.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature.as_ref()))
    }

    #[test]
    fn what_was_signed_verifies_in_both_forms() {
        let key = key();
        let keys = KeySet::new([key.public()]).unwrap();
        let (payload, kid) = keys.verify("t", &key.sign("t", b"hello").unwrap()).unwrap();
        assert_eq!((payload.as_slice(), &kid), (b"hello".as_slice(), &key.public().kid));
        let detached = key.sign_detached("t", b"hello").unwrap();
        assert_eq!(keys.verify_detached("t", &detached, b"hello").unwrap(), kid);
        assert_eq!(keys.verify_detached("t", &detached, b"hellp"), Err(JwsError::Signature));
        assert_eq!(keys.verify_detached("other", &detached, b"hello"), Err(JwsError::Type));
        assert_eq!(KeySet::default().verify_detached("t", &detached, b"hello"), Err(JwsError::UnknownKey));
    }

    #[test]
    fn algorithm_tricks_are_refused_even_with_a_valid_signature() {
        let key = key();
        let keys = KeySet::new([key.public()]).unwrap();
        let kid = &key.public().kid;
        for alg in ["none", "HS256", "EdDSA", "ES384", "es256"] {
            let jws = forged(&key, &json!({ "alg": alg, "kid": kid, "typ": "t" }), b"x");
            assert_eq!(keys.verify("t", &jws), Err(JwsError::Algorithm), "{alg}");
        }
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("jwk", json!(key.public())),
            ("jku", json!("https://hub-c.example/keys")),
            ("x5u", json!("https://hub-c.example/cert")),
            ("x5c", json!(["AAAA"])),
            ("b64", json!(false)),
        ] {
            let mut header = json!({ "alg": "ES256", "kid": kid, "typ": "t" });
            header[name] = value;
            assert_eq!(keys.verify("t", &forged(&key, &header, b"x")), Err(JwsError::Header), "{name}");
        }
        let unsigned = format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(b"x"));
        assert_eq!(keys.verify("t", &unsigned), Err(JwsError::Algorithm));
        let doubled = format!(r#"{{"alg":"none","alg":"ES256","kid":"{kid}","typ":"t"}}"#);
        assert_eq!(check_header("t", doubled.as_bytes()), Err(JwsError::Malformed));
        for text in ["", ".", "..", "a.b.c", "a.b", "....", "ä.ö.ü"] {
            assert!(keys.verify("t", text).is_err(), "{text}");
            assert!(keys.verify_detached("t", text, b"x").is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_whose_id_is_not_its_thumbprint_is_refused() {
        let mut public = key().public().clone();
        public.kid = key().public().kid.clone();
        assert_eq!(KeySet::new([&public]).unwrap_err(), JwsError::Key);
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        assert_eq!(read_strict(br#"{"a":1,"a":1}"#), Err(JwsError::Document));
        assert_eq!(read_strict(br#"{"a":{"b":[{"c":1,"c":2}]}}"#), Err(JwsError::Document));
        // Integers that no type holds would be read as other ones: two texts, one document.
        for large in ["18446744073709551616", "-9223372036854775809", r#"{"a":[1,{"b":100000000000000000000000}]}"#] {
            assert_eq!(read_strict(large.as_bytes()), Err(JwsError::Document), "{large}");
        }
        for legal in [
            "18446744073709551615",
            "295147905179352830000",
            "-9223372036854775808",
            "1e30",
            "0.1234567890123456789012",
            r#"{"18446744073709551616":"18446744073709551616 \" 18446744073709551616"}"#,
        ] {
            assert!(read_strict(legal.as_bytes()).is_ok(), "{legal}");
        }
        assert_eq!(canonical(&json!({ "a": 1_u64 << 53 })), Err(JwsError::Document));
        assert_eq!(canonical(&json!([-(1_i64 << 53)])), Err(JwsError::Document));
        assert_eq!(canonical(&json!((1_u64 << 53) - 1)).unwrap(), b"9007199254740991");
    }

    #[derive(Deserialize)]
    struct Vectors {
        canonical: Vec<CanonicalVector>,
        thumbprint: PublicJwk,
        detached: Vec<DetachedVector>,
    }
    #[derive(Deserialize)]
    struct CanonicalVector {
        input: String,
        output: String,
        sha256: String,
    }
    #[derive(Deserialize)]
    struct DetachedVector {
        name: String,
        typ: String,
        jws: String,
        document: Value,
        valid: bool,
    }

    #[test]
    fn the_published_vectors_hold() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../../spec/vectors/jws.json")).unwrap();
        for vector in &vectors.canonical {
            let bytes = canonical(&read_strict(vector.input.as_bytes()).unwrap()).unwrap();
            assert_eq!(String::from_utf8(bytes.clone()).unwrap(), vector.output);
            assert_eq!(sha256(&bytes), vector.sha256);
        }
        let keys = KeySet::new([&vectors.thumbprint]).unwrap();
        for vector in &vectors.detached {
            let bytes = canonical(&vector.document).unwrap();
            assert_eq!(keys.verify_detached(&vector.typ, &vector.jws, &bytes).is_ok(), vector.valid, "{}", vector.name);
        }
        assert!(vectors.detached.iter().any(|v| v.valid) && vectors.detached.iter().any(|v| !v.valid));
    }
}

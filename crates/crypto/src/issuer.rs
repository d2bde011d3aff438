//! Tokens that somebody else signed for programs (RFC 7519), judged by keys that the operator gave (RFC 7517).
//!
//! Nothing of a token chooses how it is judged: a key belongs to its algorithms, whatever the token's header says, and keys that a
//! header brings along or points to are refused. There are no shared secrets here, so no public key can be taken for one.

use aiox_model::Ts;
use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::jws::{JwsError, MAX_JWS, read_strict};

/// Why a token was refused. For the audit log; a client never sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this issuer, or not signed by one of its keys.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// `iss` is no configured issuer.
    #[error("issuer is not known")]
    Issuer,
    /// `aud` does not name this hub.
    #[error("audience is not this hub")]
    Audience,
    /// `exp` is missing, past, or too far away; `nbf` or `iat` lies in the future.
    #[error("token times are outside the allowance")]
    Time,
    /// A claim is missing or has the wrong type.
    #[error("claim {0} is missing or malformed")]
    Claim(&'static str),
}

/// Why a set of keys cannot be used. Names no key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JSON Web Key Set.
    #[error("is not a JSON Web Key Set (RFC 7517)")]
    Document,
    /// It has no key.
    #[error("has no key")]
    Empty,
    /// A private or a shared key.
    #[error("key {0}: is private or shared; only public keys belong here")]
    Private(usize),
    /// A key that cannot be used.
    #[error("key {0}: must be RSA of 2048 bits or more, EC P-256, P-384 or P-521, or OKP Ed25519, and `alg` must fit it")]
    Key(usize),
}

#[derive(Clone)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The name of its one algorithm, and the key.
    Curve(&'static str, ParsedPublicKey),
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    /// The only algorithm of this key, if the set says so.
    alg: Option<String>,
    public: Public,
}

/// The public keys of an issuer.
#[derive(Clone)]
pub struct IssuerKeys(Vec<Key>);

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl IssuerKeys {
    /// From a JSON Web Key Set. Keys for encryption are passed over.
    ///
    /// # Errors
    /// When it is not one, or one of its keys cannot be used for signatures.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let document = read_strict(document).map_err(|_| KeySetError::Document)?;
        let entries = document["keys"].as_array().ok_or(KeySetError::Document)?;
        let signing = entries.iter().enumerate().filter(|(_, entry)| entry["use"].as_str() != Some("enc"));
        let keys: Vec<Key> = signing.map(|(at, entry)| key(at, entry)).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    fn verify(&self, header: &Map<String, Value>, signed: &str, signature: &[u8]) -> Result<(), JwsError> {
        let alg = header.get("alg").and_then(Value::as_str).ok_or(JwsError::Algorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(JwsError::Malformed)?),
        };
        let named: Vec<&Key> = self.0.iter().filter(|key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))).collect();
        if named.is_empty() {
            return Err(JwsError::UnknownKey);
        }
        let fitting: Vec<&Key> = named.into_iter().filter(|key| key.takes(alg)).collect();
        if fitting.is_empty() {
            return Err(JwsError::Algorithm);
        }
        if fitting.iter().any(|key| key.verifies(alg, signed.as_bytes(), signature)) { Ok(()) } else { Err(JwsError::Signature) }
    }
}

fn key(at: usize, entry: &Value) -> Result<Key, KeySetError> {
    let bad = || KeySetError::Key(at);
    let text = |name: &str| entry[name].as_str();
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(bad);
    if ["d", "k", "p", "q"].iter().any(|name| entry.get(*name).is_some()) || text("kty") == Some("oct") {
        return Err(KeySetError::Private(at));
    }
    let curve = |name, algorithm: &'static dyn VerificationAlgorithm, bytes: Vec<u8>| {
        ParsedPublicKey::new(algorithm, bytes).map(|key| Public::Curve(name, key)).map_err(|_| bad())
    };
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        if x.len() == length && y.len() == length { Ok([&[4], &x[..], &y[..]].concat()) } else { Err(bad()) }
    };
    let public = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // 2048 bits at least, without leading zeros.
            if n.len() < 256 || n.len() > 1024 || n[0] == 0 || (n.len() == 256 && n[0] < 0x80) {
                return Err(bad());
            }
            Public::Rsa { n, e }
        }
        (Some("EC"), Some("P-256")) => curve("ES256", &ECDSA_P256_SHA256_FIXED, point(32)?)?,
        (Some("EC"), Some("P-384")) => curve("ES384", &ECDSA_P384_SHA384_FIXED, point(48)?)?,
        (Some("EC"), Some("P-521")) => curve("ES512", &ECDSA_P521_SHA512_FIXED, point(66)?)?,
        (Some("OKP"), Some("Ed25519")) => curve("EdDSA", &ED25519, bytes("x")?)?,
        _ => return Err(bad()),
    };
    let key = Key { kid: text("kid").map(str::to_owned), alg: None, public };
    match text("alg") {
        Some(alg) if !key.takes(alg) => Err(bad()),
        alg => Ok(Key { alg: alg.map(str::to_owned), ..key }),
    }
}

impl Key {
    /// Whether the key makes signatures of this algorithm.
    fn takes(&self, alg: &str) -> bool {
        let able = match &self.public {
            Public::Rsa { .. } => rsa(alg).is_some(),
            Public::Curve(own, _) => *own == alg,
        };
        able && self.alg.as_deref().is_none_or(|only| only == alg)
    }

    fn verifies(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa { n, e } => {
                rsa(alg).is_some_and(|parameters| PublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok())
            }
            Public::Curve(_, key) => key.verify_sig(signed, signature).is_ok(),
        }
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    match alg {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

/// Whoever signs tokens for programs, and what its tokens may say.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `iss` of its tokens.
    pub issuer: String,
    /// What `aud` of its tokens has to name.
    pub audience: String,
    /// Its keys.
    pub keys: IssuerKeys,
    /// Tolerated difference between its clock and ours, in seconds.
    pub skew: i64,
    /// Most seconds from now to `exp`.
    pub longest: i64,
}

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The tenant, by any of its names.
    pub tenant: String,
    /// The principal, 1 to 255 bytes.
    pub principal: String,
    /// Whether it is a program.
    pub service: bool,
    /// What it may do, in the issuer's words.
    pub scopes: Vec<String>,
}

/// `iss` of a token that is signed with a public key, without any judgement. `None`: it is no such token.
#[must_use]
pub fn claimed_issuer(token: &str) -> Option<String> {
    let (header, payload, _, _) = parts(token).ok()?;
    let symmetric = header.get("alg").and_then(Value::as_str).is_some_and(|alg| alg.starts_with("HS"));
    if symmetric { None } else { payload.get("iss").and_then(Value::as_str).map(str::to_owned) }
}

impl Issuer {
    /// What a token says, if it is one of this issuer and for this hub, now.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn judge(&self, token: &str, now: Ts) -> Result<Bearer, TokenError> {
        let (header, claims, signed, signature) = parts(token)?;
        if ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
            return Err(JwsError::Header.into());
        }
        let typ = header.get("typ").map_or(Some("JWT"), Value::as_str);
        if !typ.is_some_and(|typ| ["jwt", "at+jwt", "application/at+jwt"].contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(JwsError::Type.into());
        }
        self.keys.verify(&header, signed, &signature)?;
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err(TokenError::Issuer);
        }
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(self.audience.as_str())),
            _ => false,
        };
        if !audience {
            return Err(TokenError::Audience);
        }
        self.check_times(&claims, now.seconds())?;
        bearer(&claims)
    }

    fn check_times(&self, claims: &Map<String, Value>, now: i64) -> Result<(), TokenError> {
        // RFC 7519 section 2: a number of seconds, which may have a fraction.
        #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
        let seconds = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|number| number.floor() as i64)).ok_or(TokenError::Time);
        let ends = seconds(claims.get("exp").ok_or(TokenError::Time)?)?;
        if ends <= now.saturating_sub(self.skew) || ends > now.saturating_add(self.longest).saturating_add(self.skew) {
            return Err(TokenError::Time);
        }
        for begin in ["nbf", "iat"] {
            if let Some(begins) = claims.get(begin)
                && seconds(begins)? > now.saturating_add(self.skew)
            {
                return Err(TokenError::Time);
            }
        }
        Ok(())
    }
}

type Parts<'a> = (Map<String, Value>, Map<String, Value>, &'a str, Vec<u8>);

fn parts(token: &str) -> Result<Parts<'_>, JwsError> {
    let malformed = || JwsError::Malformed;
    if token.len() > MAX_JWS {
        return Err(malformed());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    let object = |part: &str| match read_strict(&decode(part)?).map_err(|_| malformed())? {
        Value::Object(members) => Ok(members),
        _ => Err(malformed()),
    };
    Ok((object(header)?, object(payload)?, signed, decode(signature)?))
}

fn bearer(claims: &Map<String, Value>) -> Result<Bearer, TokenError> {
    // The first of two names that is there counts, and has to be sound.
    let name = |names: [&str; 2], what: &'static str| {
        let value = names.iter().find_map(|name| claims.get(*name)).and_then(Value::as_str);
        value.filter(|text| (1..=255).contains(&text.len())).map(str::to_owned).ok_or(TokenError::Claim(what))
    };
    let kind = match ["subject_type", "principal_type"].iter().find_map(|name| claims.get(*name)) {
        None => None,
        Some(kind) => Some(kind.as_str().ok_or(TokenError::Claim("subject_type"))?),
    };
    Ok(Bearer {
        tenant: name(["tenant_id", "tid"], "tenant_id")?,
        principal: name(["principal_id", "sub"], "sub")?,
        service: kind.is_some_and(|kind| kind != "user"),
        scopes: match ["scopes", "scope", "scp"].iter().find_map(|name| claims.get(*name)) {
            None => Vec::new(),
            Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
            Some(Value::Array(all)) => {
                let texts: Option<Vec<String>> = all.iter().map(|one| one.as_str().map(str::to_owned)).collect();
                texts.ok_or(TokenError::Claim("scope"))?
            }
            Some(_) => return Err(TokenError::Claim("scope")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jws::base64url;
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeyPair as RsaKeyPair, KeySize},
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
            EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding,
        },
    };
    use serde_json::json;

    type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    /// An algorithm, the key's JWK without `kid`, and the signer.
    struct Signer {
        alg: &'static str,
        jwk: Value,
        sign: Sign,
    }

    fn ec(alg: &'static str, crv: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Signer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({ "kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y) });
        Signer { alg, jwk, sign: Box::new(move |text| pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec()) }
    }

    fn rs(alg: &'static str, encoding: &'static dyn RsaEncoding, size: KeySize) -> Signer {
        let pair = RsaKeyPair::generate(size).unwrap();
        let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
        let jwk = json!({ "kty": "RSA", "n": base64url(n.big_endian_without_leading_zero()), "e": base64url(e.big_endian_without_leading_zero()) });
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        Signer { alg, jwk, sign: Box::new(sign) }
    }

    fn ed() -> Signer {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) });
        Signer { alg: "EdDSA", jwk, sign: Box::new(move |text| pair.sign(text).as_ref().to_vec()) }
    }

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Ts {
        Ts::from_micros(seconds * 1_000_000)
    }

    fn issuer(keys: Value) -> Issuer {
        let keys = IssuerKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        Issuer { issuer: "https://login.example".into(), audience: "hub-a.example".into(), keys, skew: 30, longest: 86_400 }
    }

    fn claims() -> Value {
        json!({ "iss": "https://login.example", "aud": "hub-a.example", "exp": NOW + 60, "tenant_id": "tnt_x", "sub": "svc_1", "scope": "runs:write agents:read" })
    }

    fn token(signer: &Signer, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        format!("{input}.{}", base64url(&(signer.sign)(input.as_bytes())))
    }

    #[test]
    fn every_algorithm_of_the_contract_is_taken_and_no_key_takes_anothers() {
        let all = [
            rs("RS256", &RSA_PKCS1_SHA256, KeySize::Rsa2048),
            rs("RS384", &RSA_PKCS1_SHA384, KeySize::Rsa2048),
            rs("RS512", &RSA_PKCS1_SHA512, KeySize::Rsa3072),
            ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            ec("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            ec("ES512", "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            ed(),
        ];
        for signer in &all {
            let alg = signer.alg;
            let known = issuer(json!([signer.jwk]));
            let good = token(signer, &json!({ "alg": alg, "typ": "JWT" }), &claims());
            let bearer = known.judge(&good, at(NOW)).unwrap();
            assert_eq!((bearer.tenant.as_str(), bearer.principal.as_str(), bearer.service), ("tnt_x", "svc_1", false), "{alg}");
            assert_eq!(bearer.scopes, ["runs:write", "agents:read"]);
            assert_eq!(claimed_issuer(&good).as_deref(), Some("https://login.example"));
            for other in ["none", "HS256", "HS512", "PS256", "RS256", "ES256", "ES384", "EdDSA", "es256", ""] {
                let rsa = alg.starts_with("RS") && other.starts_with("RS");
                if other != alg && !rsa {
                    let tricked = token(signer, &json!({ "alg": other }), &claims());
                    assert_eq!(known.judge(&tricked, at(NOW)), Err(JwsError::Algorithm.into()), "{alg} as {other}");
                }
            }
            // A key for one algorithm alone.
            let mut only = signer.jwk.clone();
            only["alg"] = alg.into();
            assert!(issuer(json!([only])).judge(&good, at(NOW)).is_ok());
            for stranger in all.iter().filter(|other| other.alg == alg && other.jwk != signer.jwk) {
                assert_eq!(issuer(json!([stranger.jwk])).judge(&good, at(NOW)), Err(JwsError::Signature.into()));
            }
        }
        let two = issuer(json!([all[0].jwk, all[3].jwk]));
        assert!(two.judge(&token(&all[3], &json!({ "alg": "ES256" }), &claims()), at(NOW)).is_ok());
        assert_eq!(two.judge(&token(&all[3], &json!({ "alg": "RS256" }), &claims()), at(NOW)), Err(JwsError::Signature.into()));
    }

    #[test]
    fn a_token_that_is_not_wholly_right_is_refused() {
        let signer = ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
        let mut named = signer.jwk.clone();
        named["kid"] = "k1".into();
        let known = issuer(json!([named]));
        let judge = |header: Value, claims: &Value| known.judge(&token(&signer, &header, claims), at(NOW));
        let es256 = || json!({ "alg": "ES256", "kid": "k1" });
        assert!(judge(es256(), &claims()).is_ok());
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("jwk", signer.jwk.clone()),
            ("jku", json!("https://x.example")),
            ("x5c", json!(["AA"])),
            ("b64", json!(false)),
        ] {
            let mut header = es256();
            header[name] = value;
            assert_eq!(judge(header, &claims()), Err(JwsError::Header.into()), "{name}");
        }
        assert_eq!(judge(json!({ "alg": "ES256", "kid": "k2" }), &claims()), Err(JwsError::UnknownKey.into()));
        assert_eq!(judge(json!({ "alg": "ES256", "kid": 1 }), &claims()), Err(JwsError::Malformed.into()));
        assert_eq!(judge(json!({ "alg": "ES256", "typ": "aiox-fed+jwt" }), &claims()), Err(JwsError::Type.into()));
        assert!(judge(json!({ "alg": "ES256", "typ": "at+jwt" }), &claims()).is_ok());
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            judge(es256(), &claims)
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().shift_remove(name);
            judge(es256(), &claims)
        };
        assert_eq!(with("iss", json!("https://other.example")), Err(TokenError::Issuer));
        assert_eq!(without("iss"), Err(TokenError::Issuer));
        for bad in [json!("hub-b.example"), json!([]), json!(["x"]), json!(5), json!({ "hub-a.example": 1 })] {
            assert_eq!(with("aud", bad), Err(TokenError::Audience));
        }
        assert_eq!(without("aud"), Err(TokenError::Audience));
        assert!(with("aud", json!(["x", "hub-a.example"])).is_ok());
        // Ended at the skew exactly, just before it, and too far away.
        for (exp, good) in [(NOW - 30, false), (NOW - 29, true), (NOW + 86_430, true), (NOW + 86_431, false), (i64::MAX, false)] {
            assert_eq!(with("exp", json!(exp)).is_ok(), good, "{exp}");
        }
        for bad in [json!("soon"), json!(null), json!(1e300)] {
            assert_eq!(with("exp", bad), Err(TokenError::Time));
        }
        assert_eq!(without("exp"), Err(TokenError::Time));
        for begin in ["nbf", "iat"] {
            assert!(with(begin, json!(NOW + 30)).is_ok());
            assert_eq!(with(begin, json!(NOW + 31)), Err(TokenError::Time));
            assert_eq!(with(begin, json!("x")), Err(TokenError::Time));
        }
        assert_eq!(without("tenant_id"), Err(TokenError::Claim("tenant_id")));
        assert_eq!(without("sub"), Err(TokenError::Claim("sub")));
        assert_eq!(with("tenant_id", json!(5)), Err(TokenError::Claim("tenant_id")));
        assert_eq!(with("sub", json!("")), Err(TokenError::Claim("sub")));
        assert_eq!(with("scope", json!({ "a": 1 })), Err(TokenError::Claim("scope")));
        assert_eq!(with("scp", json!([5])).unwrap().scopes, ["runs:write", "agents:read"], "the first name that is there counts");
        assert_eq!(with("scopes", json!(["agents:read"])).unwrap().scopes, ["agents:read"]);
        assert!(without("scope").unwrap().scopes.is_empty());
        assert!(with("principal_type", json!("service")).unwrap().service);
        assert_eq!(with("principal_id", json!("usr_1")).unwrap().principal, "usr_1");
        let good = token(&signer, &es256(), &claims());
        let (signed, _) = good.rsplit_once('.').unwrap();
        for text in ["", ".", "..", "a.b.c", signed, &format!("{signed}."), &format!("{good}A"), &good[1..]] {
            assert!(known.judge(text, at(NOW)).is_err(), "{text}");
        }
        assert_eq!(claimed_issuer("x"), None);
        assert_eq!(claimed_issuer(&token(&signer, &json!({ "alg": "HS256" }), &claims())), None);
    }

    #[test]
    fn a_set_of_keys_that_cannot_be_trusted_is_refused_whole() {
        let signer = ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
        let parse = |keys: Value| IssuerKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).map(drop).unwrap_err();
        let with = |name: &str, value: Value| {
            let mut jwk = signer.jwk.clone();
            jwk[name] = value;
            jwk
        };
        assert_eq!(IssuerKeys::parse(b"x").map(drop), Err(KeySetError::Document));
        assert_eq!(IssuerKeys::parse(b"{}").map(drop), Err(KeySetError::Document));
        assert_eq!(parse(json!([])), KeySetError::Empty);
        assert_eq!(parse(json!([with("use", json!("enc"))])), KeySetError::Empty);
        assert_eq!(parse(json!([signer.jwk, { "kty": "oct", "k": "AAAA" }])), KeySetError::Private(1));
        assert_eq!(parse(json!([with("d", json!("AAAA"))])), KeySetError::Private(0));
        for bad in [
            with("alg", json!("RS256")),
            with("alg", json!("none")),
            with("crv", json!("P-384")),
            with("x", json!("AAAA")),
            with("y", signer.jwk["x"].clone()),
            json!({ "kty": "EC" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
            json!({ "kty": "RSA", "n": base64url(&[0xff; 128]), "e": "AQAB" }),
            json!(5),
        ] {
            assert_eq!(parse(json!([bad])), KeySetError::Key(0), "{bad}");
        }
    }
}

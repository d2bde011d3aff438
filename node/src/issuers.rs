//! From the configured issuers to those whose tokens are believed. What cannot be used stops the start and is named.

use aiox_app::accounts::TrustedIssuer;
use aiox_config::{Issuer as Configured, Settings};
use aiox_core::Scope;
use aiox_crypto::issuer::{Issuer, IssuerKeys};
use anyhow::{Context as _, Result, bail};

/// Every configured issuer, with its keys.
pub fn load(settings: &Settings) -> Result<Vec<TrustedIssuer>> {
    let one = |(name, own)| issuer(own, &settings.hub.domain).with_context(|| format!("auth.issuers.{name}"));
    settings.auth.issuers.iter().map(one).collect()
}

fn issuer(own: &Configured, domain: &str) -> Result<TrustedIssuer> {
    let keys = match (&own.jwks, &own.jwks_file) {
        (Some(text), None) => IssuerKeys::parse(text.as_bytes()).context("jwks")?,
        (None, Some(file)) => {
            let text = std::fs::read(file).with_context(|| format!("jwks_file: cannot read {}", file.display()))?;
            IssuerKeys::parse(&text).with_context(|| format!("jwks_file: {}", file.display()))?
        }
        _ => bail!("give jwks or jwks_file, and not both"),
    };
    Ok(TrustedIssuer {
        issuer: Issuer {
            issuer: own.issuer.clone(),
            audience: own.audience.clone().unwrap_or_else(|| domain.to_owned()),
            keys,
            skew: own.skew_seconds.into(),
            longest: own.longest_seconds.into(),
        },
        tenants: own.tenants.clone(),
        scopes: match &own.scopes {
            None => Scope::USE.to_vec(),
            Some(names) => scopes(names)?,
        },
    })
}

fn scopes(names: &[String]) -> Result<Vec<Scope>> {
    let mut scopes = Vec::new();
    for name in names {
        let named = Scope::named(name);
        if named.is_empty() {
            bail!("scopes: {name:?} is no scope");
        }
        scopes.extend(named);
    }
    Ok(scopes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn configured() -> Configured {
        Configured { issuer: "https://login.example".into(), jwks: Some(KEYS.into()), tenants: vec!["*".into()], ..Configured::default() }
    }

    #[test]
    fn an_issuer_has_the_hub_as_audience_and_the_scopes_of_a_user_unless_it_says_otherwise() {
        let plain = issuer(&configured(), "hub-a.example").unwrap();
        assert_eq!((plain.issuer.audience.as_str(), plain.scopes.as_slice()), ("hub-a.example", &Scope::USE[..]));
        let own = Configured { audience: Some("api".into()), scopes: Some(vec!["runs:write".into()]), ..configured() };
        let own = issuer(&own, "hub-a.example").unwrap();
        assert_eq!(own.issuer.audience, "api");
        assert_eq!(own.scopes, [Scope::RunsCreate, Scope::RunsCancel, Scope::RunsForward]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let told = |own: &Configured| format!("{:#}", issuer(own, "hub-a.example").map(drop).unwrap_err());
        assert!(told(&Configured { jwks: Some("{}".into()), ..configured() }).starts_with("jwks: "));
        let absent = Configured { jwks: None, jwks_file: Some("/does/not/exist".into()), ..configured() };
        assert!(told(&absent).contains("/does/not/exist"));
        assert!(told(&Configured { scopes: Some(vec!["runs".into()]), ..configured() }).contains("runs"));
    }
}

//! `aiox conformance --publish`: a report becomes a result that the judged hub signs and publishes.

use aiox_client::Client;
use aiox_conformance::{Level, Options, Report, requirements};
use aiox_crypto::jws;
use aiox_model::{
    account::Login,
    conformance::{ConformanceResult, NewConformanceResult, RequirementVerdict, Suite},
};
use anyhow::{Context as _, Result};

/// Publishes a report at the hub that it judged.
///
/// # Errors
/// When there is no administrator, or the hub refuses.
pub async fn publish(options: &Options, report: &Report) -> Result<ConformanceResult> {
    let admin = options.admin.as_ref().context("--publish needs an administrator: give --admin-email, or --local")?;
    let client = Client::new(options.target.as_str(), options.ca.as_deref())?;
    let login = Login { email: Some(admin.email.clone()), username: None, password: admin.password.clone() };
    let pair = client.login(&login).await.context("the administrator cannot sign in")?;
    client.with_credential(pair.access_token.into()).publish_conformance(&found(report)?).await.context("the hub does not publish it")
}

fn found(report: &Report) -> Result<NewConformanceResult> {
    let requirements = report.judged.iter().map(|one| RequirementVerdict {
        id: one.id.clone(),
        level: match one.level {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        }
        .to_owned(),
        profile: one.profile.to_string(),
        verdict: one.verdict.as_str().to_owned(),
    });
    let suite = Suite { name: "aiox-conformance".to_owned(), version: report.suite.clone(), digest: digest()? };
    Ok(NewConformanceResult { suite, requirements: requirements.collect() })
}

/// SHA-256 of the canonical JSON of every requirement that the suite knows.
fn digest() -> Result<String> {
    let all = serde_json::to_value(requirements())?;
    Ok(jws::sha256(&jws::canonical(&all)?))
}

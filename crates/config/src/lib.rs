//! Configuration of a hub and of a worker: defaults < TOML file < environment < flags.
//!
//! Environment: `AIOX__SECTION__KEY`, the names of the first AIOX ([`legacy`]), and a `.env` file in the working directory beneath
//! both. Unknown keys are refused. Every secret has a twin `<key>_file` that names a file holding it; an unreadable file stops the
//! start. The embedded engine needs no configuration at all.
//!
//! ```
//! let settings = aiox_config::Settings::from_layers(None, [("AIOX__HTTP__PORT".into(), "9000".into())], None)?;
//! assert_eq!(settings.http.port, 9000);
//! # Ok::<(), aiox_config::ConfigError>(())
//! ```
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod audit;
mod error;
pub mod legacy;
pub mod models;
mod secret;
mod sections;

use std::path::Path;

use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Tag, Value},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use audit::{Audit, AuditSink};
pub use error::ConfigError;
pub use secret::Secret;
pub use sections::{
    Auth, Database, Engine, Federation, Governance, Grpc, Http, Hub, Issuer, Llm, Log, LogFormat, Mode, Ports, Provider, SignUp, Worker,
    Xmpp, XmppBrakes,
};

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The hub itself.
    pub hub: Hub,
    /// REST, SSE and WebSocket.
    pub http: Http,
    /// Where the data is.
    pub database: Database,
    /// Sign-in.
    pub auth: Auth,
    /// The XMPP door.
    pub xmpp: Xmpp,
    /// The workers' door.
    pub grpc: Grpc,
    /// Peer hubs.
    pub federation: Federation,
    /// Allowances and time limits.
    pub governance: Governance,
    /// Providers.
    pub llm: Llm,
    /// Models that can be called without an agent.
    pub models: models::Models,
    /// What may not be sent to a model.
    pub policy: models::Policy,
    /// Where audit records go besides the database.
    pub audit: Audit,
    /// Logs.
    pub log: Log,
    /// `aiox worker`.
    pub worker: Worker,
}

/// One `NAME=value` of an environment.
pub type Variable = (String, String);

impl Settings {
    /// Reads the layers. `flags` holds what the command line says, as a partial tree.
    ///
    /// # Errors
    /// [`ConfigError`] listing every problem with the name of its key.
    pub fn from_layers(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = Variable>,
        flags: Option<Dict>,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::one(format!("the configuration file {} does not exist", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut environment: Vec<Variable> = environment.into_iter().collect();
        environment.sort();
        let mut unknown = Vec::new();
        let mut layer = Dict::new();
        unknown.extend(legacy::given_twice(&environment));
        for (name, value) in legacy::translate(&environment) {
            put(&mut layer, name.split('.'), &value);
        }
        for (name, value) in &environment {
            let Some(path) = name.strip_prefix("AIOX__") else { continue };
            let path = path.to_lowercase();
            if path.split("__").any(str::is_empty) {
                unknown.push(format!("{name}: must be AIOX__SECTION__KEY"));
                continue;
            }
            put(&mut layer, path.split("__"), value);
        }
        figment = figment.merge(Layer(layer));
        if let Some(flags) = flags {
            figment = figment.merge(Layer(flags));
        }
        let settings: Self = figment.extract().map_err(|error| {
            let mut problems = unknown.clone();
            problems.extend(error.into_iter().map(|problem| describe(&problem)));
            ConfigError { problems }
        })?;
        let mut problems = unknown;
        settings.check(&mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
    }

    fn check(&self, problems: &mut Vec<String>) {
        self.hub.check(problems);
        self.database.check(problems);
        self.auth.check(problems);
        self.xmpp.check(problems);
        self.grpc.check(problems, self.hub.mode);
        self.federation.check(problems);
        self.governance.check(problems);
        self.worker.check(problems);
        self.models.check(problems);
        self.policy.check(problems);
        self.audit.check(problems);
        if self.hub.mode == Mode::Prod && self.http.tls_cert.is_none() && !self.http.behind_tls_proxy {
            problems.push(
                "http.tls_cert: production needs TLS; set http.tls_cert and http.tls_key, or http.behind_tls_proxy = true where a proxy ends it".into(),
            );
        }
        if self.hub.mode == Mode::Prod && self.http.header_identity == Some(true) {
            problems.push("http.header_identity: production believes credentials alone; leave it out".into());
        }
        if self.hub.mode == Mode::Prod && self.http.default_tenant.is_some() {
            problems.push("http.default_tenant: AGENTOS_DEFAULT_TENANT must be empty in production".into());
        }
        if self.http.tls_cert.is_some() != self.http.tls_key.is_some() {
            problems.push("http.tls_cert: http.tls_cert and http.tls_key go together".into());
        }
    }
}

fn describe(error: &figment::Error) -> String {
    let path = error.path.join(".");
    if path.is_empty() { error.kind.to_string() } else { format!("{path}: {}", error.kind) }
}

/// Puts a text at a path. Texts that read as numbers, booleans or lists become those.
fn put<'a>(layer: &mut Dict, mut path: impl Iterator<Item = &'a str>, value: &str) {
    let Some(first) = path.next() else { return };
    let rest: Vec<&str> = path.collect();
    if rest.is_empty() {
        let parsed: Value = value.parse().unwrap_or_else(|_| Value::from(value));
        layer.insert(first.to_owned(), parsed);
        return;
    }
    let slot = layer.entry(first.to_owned()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
    if let Value::Dict(_, inner) = slot {
        put(inner, rest.into_iter(), value);
    }
}

struct Layer(Dict);
impl figment::Provider for Layer {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named("environment and flags")
    }
    fn data(&self) -> Result<Map<figment::Profile, Dict>, figment::Error> {
        Ok(figment::Profile::Default.collect(self.0.clone()))
    }
}

/// The variables of a `.env` file: `NAME=value` lines, `#` comments, optional quotes. A missing file has none.
#[must_use]
pub fn dotenv(path: &Path) -> Vec<Variable> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            if line.starts_with('#') {
                return None;
            }
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let bare = |quote: char| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
            let value = bare('"').or_else(|| bare('\'')).unwrap_or(value);
            Some((name.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::from_layers(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), None)
    }

    #[test]
    fn nothing_is_needed_for_the_embedded_engine() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings.database.engine, Engine::Sqlite);
        assert_eq!(settings.hub.domain, "hub-a.example");
    }

    #[test]
    fn later_layers_win_and_numeric_secrets_stay_texts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("aiox.toml");
        std::fs::write(&file, "[http]\nport = 1\nhost = \"127.0.0.9\"\n[xmpp]\nsecret = \"x\"\n").unwrap();
        let environment = [("AIOX__HTTP__PORT".to_owned(), "2".to_owned()), ("AIOX__XMPP__SECRET".to_owned(), "123456".to_owned())];
        let settings = Settings::from_layers(Some(&file), environment, None).unwrap();
        assert_eq!((settings.http.port, settings.http.host.as_str()), (2, "127.0.0.9"));
        assert_eq!(settings.xmpp.secret.as_ref().unwrap().expose(), "123456");
    }

    #[test]
    fn the_names_of_the_first_aiox_are_read_and_ours_win() {
        let settings = with(&[("SERVER_PORT", "1234"), ("XMPP_DOMAIN", "hub-b.example"), ("JWT_ACCESS_EXPIRY", "15m")]).unwrap();
        assert_eq!((settings.http.port, settings.hub.domain.as_str(), settings.auth.access_seconds), (1234, "hub-b.example", 900));
        let both = with(&[("SERVER_PORT", "1234"), ("AIOX__HTTP__PORT", "99")]).unwrap();
        assert_eq!(both.http.port, 99);
    }

    #[test]
    fn the_federation_files_of_the_contract_are_read_as_text_or_path() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        let settings = with(&[
            ("AGENTOS_FED_SERVER_CERT", pem),
            ("AGENTOS_FED_SERVER_KEY_FILE", "/run/fed.key"),
            ("AGENTOS_FED_CA_CERT", "/run/ca.pem"),
            ("AGENTOS_FED_CLIENT_CERT_FILE", "/run/client.pem"),
            ("AGENTOS_FED_CLIENT_KEY", "/run/client.key"),
            ("AGENTOS_FED_JWT_PUBLIC_KEY", "/run/jwt.pub"),
        ])
        .unwrap()
        .federation;
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        assert_eq!(text(&settings.certificate).as_deref(), Some(pem));
        for (secret, path) in [
            (&settings.key, "/run/fed.key"),
            (&settings.ca_certificate, "/run/ca.pem"),
            (&settings.client_certificate, "/run/client.pem"),
            (&settings.client_key, "/run/client.key"),
            (&settings.token_public_key, "/run/jwt.pub"),
        ] {
            assert_eq!(text(secret).as_deref(), Some(path));
        }
        let error = with(&[("AGENTOS_FED_CLIENT_CERT", "/run/client.pem")]).unwrap_err().to_string();
        assert!(error.contains("federation.client_certificate"), "{error}");
        let error = with(&[("AGENTOS_FED_CA_CERT", "/a.pem"), ("AGENTOS_FED_CA_CERT_FILE", "/b.pem")]).unwrap_err().to_string();
        assert!(error.contains("AGENTOS_FED_CA_CERT"), "{error}");
    }

    #[test]
    fn unknown_keys_and_all_problems_are_named() {
        let error = with(&[("AIOX__HTTP__PROT", "1")]).unwrap_err();
        assert!(error.to_string().contains("prot"), "{error}");
        let error = with(&[
            ("AIOX__HUB__DOMAIN", "not a domain"),
            ("AIOX__GOVERNANCE__TASK_TIMEOUT_MS", "0"),
            ("AIOX__DATABASE__ENGINE", "postgres"),
        ])
        .unwrap_err();
        for name in ["hub.domain", "governance.task_timeout_ms", "database"] {
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn the_interfaces_of_the_xmpp_server_stay_on_loopback_and_need_a_token() {
        let token = ("AIOX__XMPP__ACCOUNTS_TOKEN", "0123456789abcdef0123456789abcdef");
        for name in ["ACCOUNTS_ADDRESS", "SIGN_IN_ADDRESS"] {
            let key = format!("AIOX__XMPP__{name}");
            let shown = format!("xmpp.{}", name.to_lowercase());
            assert!(with(&[(&key, "127.0.0.1:5280"), token]).is_ok() && with(&[(&key, "[::1]:5280"), token]).is_ok());
            for variables in [&[(key.as_str(), "10.0.0.1:5280"), token][..], &[(&key, "localhost"), token], &[(&key, "127.0.0.1:5280")]] {
                let error = with(variables).unwrap_err().to_string();
                assert!(error.contains(&shown), "{variables:?}: {error}");
            }
        }
    }

    #[test]
    fn brakes_are_read_and_cannot_stand_still() {
        let settings = with(&[("AIOX__XMPP__BRAKES__BURST", "5"), ("AIOX__XMPP__BRAKES__PER_SECOND", "0.5")]).unwrap();
        let brakes = settings.xmpp.brakes;
        assert_eq!((brakes.burst, brakes.per_second, brakes.program_burst), (5, 0.5, 10));
        for (name, value) in [("BURST", "0"), ("PER_SECOND", "0.0"), ("PROGRAM_PER_MINUTE", "-1.0"), ("INSTANT_TURNS", "0")] {
            let error = with(&[(&format!("AIOX__XMPP__BRAKES__{name}"), value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("xmpp.brakes.{}", name.to_lowercase())), "{error}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_never_show() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hunter42hunter42\n").unwrap();
        let settings = with(&[("AIOX__XMPP__SECRET_FILE", file.to_str().unwrap())]).unwrap();
        assert_eq!(settings.xmpp.secret().unwrap().unwrap().expose(), "hunter42hunter42");
        let gone = with(&[("AIOX__XMPP__SECRET_FILE", "/nonexistent/secret")]).unwrap();
        assert!(gone.xmpp.secret().unwrap_err().to_string().contains("xmpp.secret_file"));
        let shown = format!("{:?}", with(&[("AIOX__XMPP__SECRET", "hunter42")]).unwrap());
        assert!(!shown.contains("hunter42"), "{shown}");
    }

    #[test]
    fn a_password_with_any_characters_reaches_the_database() {
        let settings = with(&[("DB_HOST", "db.internal"), ("DB_PASSWORD", "p@:/w#?&"), ("AIOX__DATABASE__ENGINE", "postgres")]).unwrap();
        assert_eq!(settings.database.postgres_url().unwrap(), "postgres://aiox:p%40%3A%2Fw%23%3F%26@db.internal:5433/aiox?sslmode=disable");
        let mut socket = settings.database.clone();
        socket.host = "/run/postgresql".into();
        let url = socket.postgres_url().unwrap();
        assert_eq!(url, "postgres://aiox:p%40%3A%2Fw%23%3F%26@%2Frun%2Fpostgresql:5433/aiox?sslmode=disable");
    }

    #[test]
    fn models_are_added_to_the_built_in_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("aiox.toml");
        let text = "[models.catalogue.\"gpt-4o-mini\"]\nprovider = \"openai\"\ntier = \"premium\"\ninput_usd = 0.15\noutput_usd = 0.6\n\
                    [policy]\nblocked_terms = [\"x\"]\n";
        std::fs::write(&file, text).unwrap();
        let settings = Settings::from_layers(Some(&file), [], None).unwrap();
        assert_eq!(settings.models.catalogue.keys().collect::<Vec<_>>(), ["echo", "gpt-4o-mini"]);
        assert_eq!(settings.models.catalogue["gpt-4o-mini"].tier, models::Tier::Premium);
        assert_eq!(settings.policy.blocked_terms, ["x"]);
        let error = with(&[("AIOX__MODELS__CATALOGUE__ECHO__PROVIDER", "")]).unwrap_err();
        assert!(error.to_string().contains("models.catalogue.echo"), "{error}");
    }

    #[test]
    fn dotenv_reads_quotes_comments_and_exports() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "# c\nA=1\nexport B=\"x y\"\nC='q'\nbroken\n").unwrap();
        assert_eq!(dotenv(&file), [("A", "1"), ("B", "x y"), ("C", "q")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}

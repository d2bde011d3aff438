//! The variable names of the first AIOX, and those that the contract of `/v1` names, kept.

use crate::Variable;

const NAMES: &[(&str, &str)] = &[
    ("SERVER_HOST", "http.host"),
    ("SERVER_PORT", "http.port"),
    ("DB_HOST", "database.host"),
    ("DB_PORT", "database.port"),
    ("DB_USER", "database.user"),
    ("DB_PASSWORD", "database.password"),
    ("DB_NAME", "database.name"),
    ("DB_SSLMODE", "database.sslmode"),
    ("DB_MAX_CONNS", "database.connections"),
    ("JWT_ACCESS_SECRET", "auth.access_secret"),
    ("JWT_REFRESH_SECRET", "auth.refresh_secret"),
    ("JWT_ACCESS_EXPIRY", "auth.access_seconds"),
    ("JWT_REFRESH_EXPIRY", "auth.refresh_seconds"),
    ("ENCRYPTION_KEY", "auth.encryption_key"),
    ("XMPP_DOMAIN", "hub.domain"),
    ("XMPP_COMPONENT_HOST", "xmpp.component_host"),
    ("XMPP_COMPONENT_PORT", "xmpp.component_port"),
    ("XMPP_COMPONENT_SECRET", "xmpp.secret"),
    ("GRPC_HOST", "grpc.host"),
    ("GRPC_PORT", "grpc.port"),
    ("GRPC_WORKER_API_KEY", "grpc.worker_key"),
    ("GRPC_TASK_TIMEOUT_SEC", "governance.task_timeout_ms"),
    ("GOVERNANCE_MAX_TOKENS_PER_DAY", "governance.tokens_day"),
    ("GOVERNANCE_MAX_TOKENS_PER_MINUTE", "governance.tokens_minute"),
    ("GOVERNANCE_MAX_REQUESTS_PER_DAY", "governance.requests_day"),
    ("AGENTOS_QUOTA_RUN_CREATE_QPS", "governance.run_create_qps"),
    ("AGENTOS_QUOTA_CONCURRENT_RUNS", "governance.concurrent_runs"),
    ("AGENTOS_QUOTA_INVOKE_QPS", "governance.invoke_qps"),
    ("AIOX_MODE", "hub.mode"),
    ("AGENTOS_PROFILE", "hub.mode"),
    ("AIOX_STRICT_INGRESS", "http.strict_ingress"),
    ("AGENTOS_DEFAULT_TENANT", "http.default_tenant"),
    ("AGENTOS_PEERS_FILE", "federation.peers_file"),
    ("AGENTOS_STACK_ID", "federation.stack_id"),
    ("AGENTOS_ENVIRONMENT", "federation.environment"),
    ("AGENTOS_REGION", "federation.region"),
    ("AGENTOS_FED_SERVER_CERT", "federation.certificate"),
    ("AGENTOS_FED_SERVER_CERT_FILE", "federation.certificate"),
    ("AGENTOS_FED_SERVER_KEY", "federation.key"),
    ("AGENTOS_FED_SERVER_KEY_FILE", "federation.key"),
    ("AGENTOS_FED_CA_CERT", "federation.ca_certificate"),
    ("AGENTOS_FED_CA_CERT_FILE", "federation.ca_certificate"),
    ("AGENTOS_FED_CLIENT_CERT", "federation.client_certificate"),
    ("AGENTOS_FED_CLIENT_CERT_FILE", "federation.client_certificate"),
    ("AGENTOS_FED_CLIENT_KEY", "federation.client_key"),
    ("AGENTOS_FED_CLIENT_KEY_FILE", "federation.client_key"),
    ("AGENTOS_FED_JWT_PUBLIC_KEY", "federation.token_public_key"),
    ("AGENTOS_FED_JWT_PUBLIC_KEY_FILE", "federation.token_public_key"),
    ("AGENTOS_AUDIT_SINK", "audit.sink"),
    ("LOG_LEVEL", "log.level"),
    ("LOG_FORMAT", "log.format"),
    ("WORKER_ID", "worker.id"),
    ("MAX_CONCURRENT", "worker.max_concurrent"),
    ("HEARTBEAT_INTERVAL", "worker.heartbeat_seconds"),
    ("RECONNECT_DELAY", "worker.reconnect_seconds"),
    ("OPENAI_API_KEY", "worker.providers.openai.api_key"),
    ("ANTHROPIC_API_KEY", "worker.providers.anthropic.api_key"),
    ("OLLAMA_BASE_URL", "worker.providers.ollama.base_url"),
];

/// The variables of the first AIOX, with the keys that they stand for. `CORS_ALLOWED_ORIGINS` becomes a list; `XMPP_COMPONENT_NAME`
/// must name the agents' domain, which follows from the hub's, so that the two cannot diverge.
pub(crate) fn translate(environment: &[Variable]) -> Vec<Variable> {
    let mut out = Vec::new();
    for (name, value) in environment {
        if value.is_empty() {
            continue;
        }
        if name == "CORS_ALLOWED_ORIGINS" {
            let list: Vec<String> = value.split(',').map(|origin| format!("{:?}", origin.trim())).collect();
            out.push(("http.cors_origins".into(), format!("[{}]", list.join(","))));
            continue;
        }
        if name == "XMPP_COMPONENT_NAME" {
            out.push(("xmpp.component_name".into(), value.clone()));
            continue;
        }
        let Some((_, key)) = NAMES.iter().find(|(known, _)| known == name) else { continue };
        let value = match *key {
            "auth.access_seconds" | "auth.refresh_seconds" => seconds(value).map_or_else(|| value.clone(), |seconds| seconds.to_string()),
            "governance.task_timeout_ms" => value.parse::<u64>().map_or_else(|_| value.clone(), |seconds| (seconds * 1000).to_string()),
            "http.strict_ingress" if matches!(value.as_str(), "0" | "1") => (value == "1").to_string(),
            _ => value.clone(),
        };
        out.push(((*key).to_owned(), value));
    }
    out
}

/// Variables that are given as a value and as a file.
pub(crate) fn given_twice(environment: &[Variable]) -> Vec<String> {
    let given = |name: &str| environment.iter().any(|(other, value)| other == name && !value.is_empty());
    let twice = |name: &&str| name.strip_suffix("_FILE").is_some_and(|value| given(name) && given(value));
    NAMES.iter().map(|(name, _)| *name).filter(twice).map(|name| format!("{name}: give either it or the variable without _FILE")).collect()
}

/// Seconds of a duration like `15m`, `168h` or `90s`.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let number: u64 = number.parse().ok()?;
    match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    }
}

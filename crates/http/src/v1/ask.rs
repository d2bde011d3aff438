//! What a request asks for: the run and who asks, read leniently.

use std::collections::BTreeSet;

use aiox_app::Bounds;
use aiox_core::{Scope, gateway::Tier, run::Priority};
use aiox_model::v1::run::RunOptions;
use serde_json::Value;

use super::lenient::{At, Reader};

/// Most bytes of an idempotency key.
const KEY: usize = 256;
/// Most bytes of an id or a name that a caller makes.
const NAME: usize = 255;

/// Who a body says that it is from. It narrows and never widens what the credential gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) tenant: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) service: bool,
    pub(crate) scopes: Option<Vec<Scope>>,
}

/// A run as a body asks for it.
#[derive(Debug, PartialEq)]
pub(crate) struct AskedRun {
    pub(crate) auth: Auth,
    pub(crate) input: String,
    pub(crate) options: RunOptions,
    pub(crate) priority: Priority,
    pub(crate) bounds: Bounds,
    pub(crate) session: Option<String>,
    pub(crate) key: Option<String>,
}

/// `auth`, nested or flat.
pub(crate) fn auth(reader: &mut Reader, body: &At<'_>) -> Auth {
    let at = reader.object(body, "auth");
    reader.expects(body, &["auth"]);
    if !at.is_there() {
        return Auth::default();
    }
    reader.knows(&at, &["tenant_id", "principal", "scopes", "roles", "policy_context", "session"]);
    reader.expects(&at, &["principal", "scopes", "policy_context"]);
    let nested = reader.object(&at, "principal");
    let principal = if nested.is_there() {
        let id = reader.name(&nested, "principal_id", NAME);
        if !nested.has("principal_id") {
            reader.required::<()>(&nested, "principal_id");
        }
        id
    } else {
        reader.name(&at, "principal_id", NAME)
    };
    let kind = if nested.is_there() { reader.text(&nested, "principal_type") } else { reader.text(&at, "subject_type") };
    let scopes = reader.texts(&at, "scopes");
    policy_context(reader, &at);
    Auth {
        tenant: reader.name(&at, "tenant_id", NAME),
        principal,
        service: kind.is_some_and(|kind| kind != "user"),
        scopes: scopes.map(|scopes| scopes.iter().flat_map(|scope| Scope::named(scope)).collect()),
    }
}

fn policy_context(reader: &mut Reader, at: &At<'_>) {
    let context = reader.object(at, "policy_context");
    for name in ["data_classification", "region", "purpose"] {
        reader.text(&context, name);
    }
    reader.texts(&context, "consent_tags");
}

/// The members of a run. `body` is the object that has `input`.
pub(crate) fn run(reader: &mut Reader, body: &At<'_>) -> Option<AskedRun> {
    let auth = auth(reader, body);
    reader.knows(body, &["auth", "input", "context", "tooling", "run_options", "idempotency_key", "traceparent"]);
    reader.expects(body, &["context", "tooling", "run_options"]);
    let input = input(reader, body);
    let session = context(reader, body);
    let tools = tooling(reader, body);
    let (options, priority) = options(reader, body);
    let key = reader.name(body, "idempotency_key", KEY);
    let tier = options.model_tier.clone();
    let bounds = Bounds { max_steps: Some(options.max_steps), tools: Some(tools), tier, ..Bounds::default() };
    Some(AskedRun { auth, input: input?, options, priority, bounds, session, key })
}

fn input(reader: &mut Reader, body: &At<'_>) -> Option<String> {
    let (at, name) = match body.get("input") {
        None => return reader.required(body, "input"),
        Some(Value::String(_)) => {
            reader.deviates(body, "input", "must be an object", "type");
            (body.clone(), "input")
        }
        Some(_) => (reader.object(body, "input"), "text"),
    };
    if name == "text" && at.is_there() {
        reader.knows(&at, &["type", "text"]);
        reader.expects(&at, &["type"]);
        reader.choice(&at, "type", &["text"]);
        if !at.has("text") {
            return reader.required(&at, "text");
        }
    }
    let text = reader.text(&at, name)?;
    if text.trim().is_empty() { reader.wrong(&at, name, "must not be empty", "value") } else { Some(text) }
}

/// The session, the one member of it that has an effect; the others are checked.
fn context(reader: &mut Reader, body: &At<'_>) -> Option<String> {
    let at = reader.object(body, "context");
    if at.is_there() {
        reader.knows(&at, &["locale", "timezone", "channel", "user_id", "session_id", "metadata", "labels"]);
        reader.expects(&at, &["locale", "timezone"]);
    }
    for name in ["locale", "timezone", "channel", "user_id"] {
        reader.text(&at, name);
    }
    reader.object(&at, "metadata");
    reader.name(&at, "session_id", NAME)
}

/// The tools that the run may use: none unless they are named.
fn tooling(reader: &mut Reader, body: &At<'_>) -> BTreeSet<String> {
    let at = reader.object(body, "tooling");
    if !at.is_there() {
        return BTreeSet::new();
    }
    reader.knows(&at, &["tool_allowlist", "tool_denymap"]);
    reader.expects(&at, &["tool_allowlist"]);
    let mut allowed: BTreeSet<String> = if at.has("tool_allowlist") {
        reader.texts(&at, "tool_allowlist").unwrap_or_default().into_iter().collect()
    } else {
        // Whole tools are read by their id or name.
        let id = |tool: &Value| [tool, &tool["tool_id"], &tool["id"], &tool["name"]].into_iter().find_map(Value::as_str).map(str::to_owned);
        reader.list(&at, "tools").unwrap_or_default().iter().filter_map(id).collect()
    };
    for denied in denied(reader, &at) {
        allowed.remove(&denied);
    }
    allowed
}

/// A list of ids, or an object whose members that are not `false` are ids.
fn denied(reader: &mut Reader, at: &At<'_>) -> Vec<String> {
    match at.get("tool_denymap") {
        None => Vec::new(),
        Some(Value::Object(map)) => map.iter().filter(|(_, denied)| **denied != Value::Bool(false)).map(|(id, _)| id.clone()).collect(),
        Some(_) => reader.texts(at, "tool_denymap").unwrap_or_default(),
    }
}

fn options(reader: &mut Reader, body: &At<'_>) -> (RunOptions, Priority) {
    let at = reader.object(body, "run_options");
    if at.is_there() {
        reader.knows(&at, &["timeout_ms", "max_steps", "priority", "stream_events", "dry_run", "model_tier"]);
        reader.expects(&at, &["timeout_ms", "max_steps"]);
    }
    let default = RunOptions::default();
    let options = RunOptions {
        timeout_ms: reader.count(&at, "timeout_ms").unwrap_or(default.timeout_ms),
        max_steps: reader.count(&at, "max_steps").unwrap_or(default.max_steps),
        priority: reader.choice(&at, "priority", &["low", "normal", "high"]).unwrap_or(default.priority),
        stream_events: reader.flag(&at, "stream_events").unwrap_or(default.stream_events),
        dry_run: reader.flag(&at, "dry_run").unwrap_or(default.dry_run),
        model_tier: tier(reader, &at),
    };
    let priority = Priority::parse(&options.priority).unwrap_or(Priority::Normal);
    (options, priority)
}

fn tier(reader: &mut Reader, at: &At<'_>) -> Option<String> {
    let text = reader.text(at, "model_tier")?;
    match Tier::parse(text.strip_prefix("tier:").unwrap_or(&text)) {
        Some(tier) => Some(tier.as_str().to_owned()),
        None => reader.wrong(at, "model_tier", "must be fast, balanced or premium", "value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use serde_json::json;

    fn read(body: &Value, strict: bool) -> Result<AskedRun, Vec<(String, &'static str)>> {
        let mut reader = Reader::default();
        let at = reader.body(body);
        let asked = run(&mut reader, &at);
        match reader.finish(strict) {
            Ok(()) => Ok(asked.unwrap()),
            Err(Failure::Issues(issues)) => Err(issues.into_iter().map(|issue| (issue.path, issue.kind)).collect()),
            Err(other) => Err(vec![(format!("{other:?}"), "unexpected")]),
        }
    }

    fn whole() -> Value {
        json!({
            "auth": {
                "tenant_id": "tnt_demo", "principal": { "principal_id": "usr_1", "principal_type": "user" }, "scopes": ["runs:create"],
                "policy_context": { "data_classification": "internal", "region": "local", "purpose": "agent_run" }
            },
            "input": { "type": "text", "text": "hi" },
            "context": { "locale": "en-US", "timezone": "UTC", "session_id": "s" },
            "tooling": { "tool_allowlist": [] },
            "run_options": { "timeout_ms": 1000, "max_steps": 2, "priority": "high", "stream_events": false, "dry_run": true },
            "idempotency_key": "k"
        })
    }

    #[test]
    fn the_documented_form_is_read_in_both_modes() {
        for strict in [false, true] {
            let asked = read(&whole(), strict).unwrap();
            assert_eq!((asked.input.as_str(), asked.priority, asked.key.as_deref()), ("hi", Priority::High, Some("k")));
            assert_eq!(asked.session.as_deref(), Some("s"));
            assert!(asked.options.dry_run && !asked.options.stream_events && asked.options.max_steps == 2);
            let auth = Auth {
                tenant: Some("tnt_demo".into()),
                principal: Some("usr_1".into()),
                service: false,
                scopes: Some(vec![Scope::RunsCreate]),
            };
            assert_eq!(asked.auth, auth);
        }
    }

    /// Row by row: what is taken leniently, and where strict ingress finds fault with it.
    #[test]
    fn each_deviation_is_taken_leniently_and_refused_strictly() {
        let without = |name: &str| {
            let mut body = whole();
            body.as_object_mut().unwrap().shift_remove(name);
            body
        };
        let with = |pointer: &str, value: Value| {
            let mut body = whole();
            *body.pointer_mut(pointer).unwrap() = value;
            body
        };
        let flat = json!({ "tenant_id": "tnt_demo", "principal_id": "usr_1", "subject_type": "service", "api_key_id": "key_1", "scopes": [],
            "policy_context": {} });
        for (body, place) in [
            (with("/auth", flat), "/auth/principal"),
            (without("auth"), "/auth"),
            (with("/auth", json!({ "principal": { "principal_id": "usr_1" }, "scopes": [] })), "/auth/policy_context"),
            (with("/auth", json!({ "principal": { "principal_id": "usr_1" }, "policy_context": {} })), "/auth/scopes"),
            (without("tooling"), "/tooling"),
            (with("/tooling", json!({})), "/tooling/tool_allowlist"),
            (with("/tooling", json!({ "tools": ["tool.echo"] })), "/tooling/tools"),
            (without("run_options"), "/run_options"),
            (with("/run_options", json!({ "max_steps": 1 })), "/run_options/timeout_ms"),
            (without("context"), "/context"),
            (with("/context", json!({})), "/context/locale"),
            (with("/input", json!("hi")), "/input"),
            (with("/input", json!({ "text": "hi" })), "/input/type"),
            (with("/context", json!({ "locale": "de", "timezone": "UTC", "mood": 1 })), "/context/mood"),
        ] {
            let asked = read(&body, false).unwrap();
            assert_eq!(asked.input, "hi", "{body}");
            let faults = read(&body, true).unwrap_err();
            assert!(faults.iter().any(|(path, _)| path == place), "{place}: {faults:?}");
        }
        let asked = read(&json!({ "input": "hi" }), false).unwrap();
        assert_eq!((asked.options, asked.auth, asked.key, asked.session), (RunOptions::default(), Auth::default(), None, None));
        let null = read(&json!({ "input": "hi", "context": null, "auth": { "principal": null, "principal_id": "svc_1" } }), false).unwrap();
        assert_eq!((null.auth.principal.as_deref(), null.auth.service), (Some("svc_1"), false));
    }

    #[test]
    fn tools_are_none_unless_they_are_named() {
        for (tooling, tools) in [
            (json!(null), vec![]),
            (json!({}), vec![]),
            (json!({ "tool_allowlist": [] , "tools": ["tool.echo"] }), vec![]),
            (json!({ "tool_allowlist": ["tool.echo", "clock"] }), vec!["clock", "tool.echo"]),
            (json!({ "tools": ["tool.echo", { "tool_id": "clock" }, { "name": "web" }, 5] }), vec!["clock", "tool.echo", "web"]),
            (json!({ "tool_allowlist": ["a", "b", "c"], "tool_denymap": { "a": true, "b": false } }), vec!["b", "c"]),
            (json!({ "tool_allowlist": ["a", "b"], "tool_denymap": ["b"] }), vec!["a"]),
        ] {
            let asked = read(&json!({ "input": "hi", "tooling": tooling }), false).unwrap();
            assert_eq!(asked.bounds.tools.unwrap().into_iter().collect::<Vec<_>>(), tools, "{tooling}");
            assert_eq!((asked.bounds.max_steps, asked.bounds.tier), (Some(30), None));
        }
        let tier = read(&json!({ "input": "hi", "run_options": { "model_tier": "tier:fast", "max_steps": 2 } }), false).unwrap();
        assert_eq!((tier.bounds.max_steps, tier.bounds.tier.as_deref()), (Some(2), Some("fast")));
    }

    #[test]
    fn every_member_at_fault_is_named_by_its_pointer() {
        let body = json!({
            "auth": { "principal": { "principal_type": "user" }, "scopes": "all", "tenant_id": 5 },
            "input": { "type": "text", "text": " " },
            "context": { "locale": 1, "metadata": [] },
            "tooling": { "tool_allowlist": "x", "tool_denymap": 5 },
            "run_options": { "model_tier": "best", "timeout_ms": 0, "max_steps": 1.5, "priority": "asap", "stream_events": "yes" },
            "idempotency_key": ""
        });
        let faults = read(&body, false).unwrap_err();
        for fault in [
            ("/auth/principal/principal_id", "required"),
            ("/auth/scopes", "type"),
            ("/auth/tenant_id", "type"),
            ("/input/text", "value"),
            ("/context/locale", "type"),
            ("/context/metadata", "type"),
            ("/tooling/tool_allowlist", "type"),
            ("/tooling/tool_denymap", "type"),
            ("/run_options/model_tier", "value"),
            ("/run_options/timeout_ms", "value"),
            ("/run_options/max_steps", "value"),
            ("/run_options/priority", "value"),
            ("/run_options/stream_events", "type"),
            ("/idempotency_key", "value"),
        ] {
            assert!(faults.contains(&(fault.0.to_owned(), fault.1)), "{fault:?} in {faults:?}");
        }
        assert_eq!(read(&json!([]), false).unwrap_err()[0], (String::new(), "type"));
        assert!(read(&json!({}), false).unwrap_err().contains(&("/input".to_owned(), "required")));
        for input in [json!(5), json!([]), json!(true)] {
            assert_eq!(read(&json!({ "input": input }), false).unwrap_err()[0], ("/input".to_owned(), "type"));
        }
        assert_eq!(read(&json!({ "input": {} }), false).unwrap_err(), [("/input/text".to_owned(), "required")]);
    }
}

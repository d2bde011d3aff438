//! Runs for agents of plain nodes. They are the node's: this hub keeps where they are, and nothing else of them.

use aiox_core::{Caller, Error, Result, Scope};
use aiox_model::v1::run::RunOptions;
use serde_json::{Value, json};

use super::{NewRun, Runs, check_input};
use crate::peers::{PeerBook, PlainAsk, PlainCaller, PlainMade};

/// Most bytes of the name of an agent there.
const NAME: usize = 255;

impl Runs {
    /// Makes a run at a plain node, for the caller, whose tenant has the name `tenant`. It takes its place in the tenant's pace.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); [`Error::Unavailable`] `peer_unreachable` when the node did not take it in time. What the node
    /// refuses, in this hub's words.
    pub async fn forward_plain(
        &self,
        caller: &Caller,
        tenant: &str,
        book: &PeerBook,
        (stack_id, agent): (&str, &str),
        new: &NewRun,
    ) -> Result<PlainMade> {
        caller.require(Scope::RunsForward)?;
        caller.require(Scope::RunsCreate)?;
        check_input(new)?;
        new.bounds.tier()?;
        if agent.is_empty() || agent == "." || agent == ".." || agent.len() > NAME || agent.chars().any(char::is_control) {
            return Err(Error::NotFound("agent"));
        }
        self.options.tenants.take_run(caller).await?;
        let key = new.idempotency_key.clone().unwrap_or_else(|| format!("idem_{}", self.ids.uuid()));
        let ask = PlainAsk { caller: PlainCaller::of(caller, tenant), agent: agent.to_owned(), body: body(new, &key), key };
        book.make_plain(caller, stack_id, &ask).await
    }
}

/// The request in full: older nodes know no defaults.
fn body(new: &NewRun, key: &str) -> Value {
    let asked = new.asked.as_ref();
    let options = asked.map_or_else(RunOptions::default, |asked| asked.options.clone());
    let given = |name: &str| {
        let body = asked.map(|asked| &asked.body)?;
        ["/forward/run", "/forward/run_create", "/forward/request", "/forward"]
            .iter()
            .find_map(|place| body.pointer(place)?.get(name).cloned())
    };
    let tools: Vec<&String> = new.bounds.tools.iter().flatten().collect();
    json!({
        "input": { "type": "text", "text": new.input },
        "context": given("context").filter(Value::is_object).unwrap_or_else(|| json!({ "locale": "en-US", "timezone": "UTC" })),
        "tooling": { "tool_allowlist": tools },
        "run_options": options,
        "idempotency_key": key,
    })
}

//! Commands, by XEP-0050 and as plain text: the sender's quota, its agents, its runs.

use aiox_core::{Caller, Error};
use aiox_model::RunId;
use xmpp_parsers::{
    minidom::{Element, NSChoice},
    ns,
    stanza_error::{DefinedCondition as Condition, ErrorType},
};

use super::Door;
use crate::{
    disco::NS_COMMANDS,
    fault::Fault,
    hub::Hub,
    stanza::{self, NS_COMPONENT},
};

/// Most runs or agents that are listed.
const MAX_LISTED: usize = 50;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Quota,
    Agents,
    Runs,
    Cancel,
}

impl Command {
    pub(super) const ALL: [Self; 5] = [Self::Help, Self::Quota, Self::Agents, Self::Runs, Self::Cancel];

    pub(super) fn node(self) -> &'static str {
        match self {
            Self::Help => "help",
            Self::Quota => "quota",
            Self::Agents => "agents",
            Self::Runs => "runs",
            Self::Cancel => "cancel",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Help => "Help",
            Self::Quota => "Show my quota",
            Self::Agents => "List the agents I may use",
            Self::Runs => "List my unfinished runs",
            Self::Cancel => "Cancel a run",
        }
    }

    pub(super) fn of_node(node: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.node() == node)
    }

    /// Clients swallow a leading slash, so a command begins with `!`; the bare word `quota` is one too.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        match text {
            "quota" | "/quota" => Some(Self::Quota),
            _ => text.strip_prefix('!').and_then(Self::of_node).filter(|command| *command != Self::Cancel),
        }
    }
}

impl<H: Hub> Door<H> {
    /// The answer to a command in words.
    pub(super) async fn command_text(&self, caller: &Caller, command: Command) -> String {
        match self.describe(caller, command).await {
            Ok(text) => text,
            Err(error) => Fault::from(&error).text,
        }
    }

    async fn describe(&self, caller: &Caller, command: Command) -> Result<String, Error> {
        Ok(match command {
            Command::Help | Command::Cancel => {
                "Write to me and I answer. Commands: !quota, !agents, !runs, !help. To cancel a run, use the command menu of your client."
                    .to_owned()
            }
            Command::Quota => {
                let quota = self.hub.quota(caller).await?;
                format!(
                    "Today: {} of {} requests, {} of {} tokens. This minute: {} of {} tokens.",
                    quota.requests_today,
                    quota.requests_limit_day,
                    quota.tokens_used_today,
                    quota.tokens_limit_day,
                    quota.tokens_used_minute,
                    quota.tokens_limit_minute
                )
            }
            Command::Agents => {
                let cards = self.hub.cards(caller).await?;
                let line = |card: &aiox_model::agent::AgentCard| {
                    let address = card.handle.as_ref().map_or_else(|| card.jid.clone(), |handle| format!("{handle}@{}", self.domain));
                    format!("{} <{address}>", card.name)
                };
                list("You may use no agents.", cards.iter().map(line))
            }
            Command::Runs => {
                let runs = self.hub.unfinished(caller).await?;
                list("You have no unfinished runs.", runs.iter().map(describe_run))
            }
        })
    }

    /// XEP-0050. Nothing is kept between the steps: the session id is only echoed.
    pub(super) async fn command(&self, caller: &Caller, request: &Element) -> Result<Element, Fault> {
        let node = request.attr::<str>("node").unwrap_or_default();
        let command = Command::of_node(node).ok_or_else(|| Fault::new(ErrorType::Cancel, Condition::ItemNotFound, "No such command"))?;
        let session = request.attr::<str>("sessionid").map_or_else(stanza::fresh_id, str::to_owned);
        let reply =
            |status: &'static str| stanza::leaf("command", NS_COMMANDS, &[("node", node), ("sessionid", &session), ("status", status)]);
        match request.attr::<str>("action").unwrap_or("execute") {
            "cancel" => return Ok(reply("canceled")),
            "execute" | "complete" | "next" => {}
            _ => return Err(stanza::bad_request()),
        }
        let failed = |error: Error| Fault::from(&error);
        if command != Command::Cancel {
            let mut answer = reply("completed");
            answer.append_child(note(&self.describe(caller, command).await.map_err(failed)?));
            return Ok(answer);
        }
        if let Some(run) = field(request, "run") {
            let run: RunId = run.parse().map_err(|_| stanza::bad_request())?;
            self.hub.cancel(caller, run).await.map_err(failed)?;
            let mut answer = reply("completed");
            answer.append_child(note("The run is canceled."));
            return Ok(answer);
        }
        let runs = self.hub.unfinished(caller).await.map_err(failed)?;
        if runs.is_empty() {
            let mut answer = reply("completed");
            answer.append_child(note("You have no unfinished runs."));
            return Ok(answer);
        }
        let mut answer = reply("executing");
        let mut actions = stanza::leaf("actions", NS_COMMANDS, &[("execute", "complete")]);
        actions.append_child(Element::bare("complete", NS_COMMANDS));
        answer.append_child(actions);
        let mut form = stanza::leaf("x", ns::DATA_FORMS, &[("type", "form")]);
        form.append_child(stanza::with_text("title", ns::DATA_FORMS, command.title()));
        let mut choice = stanza::leaf("field", ns::DATA_FORMS, &[("type", "list-single"), ("var", "run"), ("label", "Run")]);
        choice.append_child(Element::bare("required", ns::DATA_FORMS));
        for run in runs.iter().take(MAX_LISTED) {
            let mut option = stanza::leaf("option", ns::DATA_FORMS, &[("label", &describe_run(run))]);
            option.append_child(stanza::with_text("value", ns::DATA_FORMS, &RunId(run.id).to_string()));
            choice.append_child(option);
        }
        form.append_child(choice);
        answer.append_child(form);
        Ok(answer)
    }
}

fn list(none: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.take(MAX_LISTED).collect();
    if lines.is_empty() { none.to_owned() } else { lines.join("\n") }
}

fn describe_run(run: &aiox_model::run::Run) -> String {
    let question: String = run.input.chars().take(60).collect();
    format!("{}: {question} ({})", RunId(run.id), run.status.as_str())
}

fn note(text: &str) -> Element {
    let mut note = stanza::with_text("note", NS_COMMANDS, text);
    stanza::set(&mut note, "type", "info");
    note
}

fn field<'a>(request: &'a Element, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    let form = request.get_child("x", ns::DATA_FORMS).or_else(|| request.get_child("x", NSChoice::OneOf(NS_COMPONENT)))?;
    let field = form.children().find(|field| field.name() == "field" && field.attr::<str>("var") == Some(name))?;
    Some(field.children().find(|child| child.name() == "value")?.text().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_commands_are_few_and_exact() {
        assert_eq!(Command::of_text("quota"), Some(Command::Quota));
        assert_eq!(Command::of_text("!quota"), Some(Command::Quota));
        assert_eq!(Command::of_text("!help"), Some(Command::Help));
        for prompt in ["Quota?", "what is my quota", "help", "!", "!cancel", "!quota please"] {
            assert_eq!(Command::of_text(prompt), None, "{prompt}");
        }
    }
}

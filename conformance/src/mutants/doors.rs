//! Mutants of the doors of workers and XMPP, and of the streams of the peer listener.

use aiox_probe::{ChatState, Element, Event, Message, MessageKind, PresenceKind};
use aiox_proto::worker::v1::{server_message::Payload as FromHub, worker_message::Payload as ToHub};
use serde_json::json;
use tonic::Status;

use super::{Ask, Mutant, Reply, by_answer, by_beat, by_feed, by_order, by_report, by_socket, by_stanza};
use crate::{contact::CLIENT, stream::SocketFrame, tamper::KeyShown};

/// Changes messages with a text.
fn each_text(event: &mut Event, change: impl FnOnce(&mut Message)) -> bool {
    if let Event::Message(message) = event
        && message.body.is_some()
        && message.kind == MessageKind::Chat
    {
        change(message);
    }
    true
}

fn is_error(event: &Event) -> bool {
    matches!(event, Event::Message(message) if message.kind == MessageKind::Error)
}

/// Changes a text of a stanza, as it is written.
fn rewrite(stanza: &mut Element, from: &str, to: &str) {
    if let Ok(changed) = Element::parse(&stanza.to_string().replace('\'', "\"").replace(from, to)) {
        *stanza = changed;
    }
}

/// Shows an agent one run more than it had.
fn one_run_more(ask: &Ask, reply: &mut Reply) {
    if ask.is("GET", "/api/v1/agents/*/executions") {
        reply.edit(|body| body["data"].as_array_mut().into_iter().for_each(|runs| runs.push(json!({ "input": "x" }))));
    }
}

pub(super) const MUTANTS: &[Mutant] = &[
    by_feed("a gap in a peer's stream", "FED-038", |frame| frame.id != ["2"]),
    by_feed("ids of a peer's stream are not the sequences", "FED-038", |frame| {
        if !frame.id.is_empty() {
            frame.id = vec!["0".into()];
        }
        true
    }),
    by_feed("a peer's stream has no final event", "FED-038", |frame| frame.json()["type"] != "run.completed"),
    by_feed("events of a peer's stream have no id", "FED-038", |frame| {
        let mut event = frame.json();
        event.as_object_mut().map(|event| event.remove("id"));
        frame.data = vec![event.to_string()];
        true
    }),
    by_beat("a worker with a wrong key is let in", "WRK-001", |shown, answer| {
        if matches!(shown, KeyShown::Wrong) {
            *answer = Ok(true);
        }
    }),
    by_beat("a worker without a key is not allowed, and not unknown", "WRK-001", |shown, answer| {
        if matches!(shown, KeyShown::None) {
            *answer = Err(Status::permission_denied("missing api key"));
        }
    }),
    by_beat("the heartbeat of anybody is good", "WRK-016", |_, answer| *answer = Ok(true)),
    by_beat("no heartbeat is good", "WRK-016", |_, answer| *answer = Ok(false)),
    by_report("places of a worker are not counted", "WRK-004", |report| {
        if let ToHub::Register(about) = report {
            about.max_concurrent = 50;
        }
    }),
    by_report("a worker that names no places has one", "WRK-004", |report| {
        if let ToHub::Register(about) = report {
            about.max_concurrent = about.max_concurrent.max(1);
        }
    }),
    by_report("every worker is taken for one of protocol 2", "WRK-005", |report| {
        if let ToHub::Register(about) = report {
            about.protocol = 2;
        }
    }),
    by_report("any worker gets any run", "WRK-007", |report| {
        if let ToHub::Register(about) = report {
            about.supported_providers.push("echo".into());
        }
    }),
    by_report("calls of models have no places", "WRK-019", |report| {
        if let ToHub::Register(about) = report {
            about.max_model_calls = 8;
        }
    }),
    by_socket("a socket without a credential is closed like any other", "RUN-027", |frame| {
        if let SocketFrame::Close(code) = frame {
            *code = 1000;
        }
        true
    }),
    by_socket("a socket says why before it closes", "RUN-027", |frame| {
        *frame = SocketFrame::Text("{\"type\":\"error\",\"code\":\"unauthorized\"}".into());
        true
    }),
    by_socket(
        "a chat over a socket is not accepted first",
        "RUN-028",
        |frame| !matches!(frame, SocketFrame::Text(text) if text.contains("accepted")),
    ),
    by_socket("a bad message gets no code", "RUN-028", |frame| {
        if let SocketFrame::Text(text) = frame {
            *text = text.replace("\"code\"", "\"reason\"");
        }
        true
    }),
    by_socket("done has no answer", "RUN-028", |frame| {
        if let SocketFrame::Text(text) = frame {
            *text = text.replace("\"response\"", "\"answer\"");
        }
        true
    }),
    by_order("a stream may begin with anything", "WRK-002", |order| {
        if let FromHub::RegisterAck(ack) = order {
            ack.accepted = true;
        }
    }),
    by_order("two workers have one name", "WRK-003", |order| {
        if let FromHub::RegisterAck(ack) = order {
            ack.accepted = true;
        }
    }),
    by_order("a task is of another run", "WRK-006", |order| {
        if let FromHub::TaskRequest(task) = order {
            task.request_id = uuid::Uuid::nil().to_string();
        }
    }),
    by_order("a task has no prompt", "WRK-006", |order| {
        if let FromHub::TaskRequest(task) = order {
            task.system_prompt.clear();
        }
    }),
    by_order("a task has every tool of its agent", "POL-005", |order| {
        if let FromHub::TaskRequest(task) = order {
            task.tools_json = json!({ "look-up": {}, "search": {} }).to_string();
        }
    }),
    by_order("the settings of a task are no JSON", "WRK-006", |order| {
        if let FromHub::TaskRequest(task) = order {
            task.llm_config_json.clear();
        }
    }),
    by_order("a stranger's result is stored", "WRK-010", |order| {
        if let FromHub::ResultAck(ack) = order {
            ack.stored = true;
        }
    }),
    by_order("every attempt is the first", "WRK-012", |order| {
        if let FromHub::TaskRequest(task) = order {
            task.attempt = 1;
        }
    }),
    by_order("a stopped task does not hear why", "WRK-014", |order| {
        if let FromHub::CancelTask(cancel) = order {
            cancel.reason.clear();
        }
    }),
    by_order("another task is stopped", "WRK-014", |order| {
        if let FromHub::CancelTask(cancel) = order {
            cancel.request_id = uuid::Uuid::nil().to_string();
        }
    }),
    by_order("a stored result is not confirmed", "WRK-015", |order| {
        if let FromHub::ResultAck(ack) = order {
            ack.stored = false;
        }
    }),
    by_answer("a provider that is away is an internal error", "RUN-017", |ask, reply, _| {
        if ask.is("GET", "/v1/runs/*") {
            reply.edit_at("/run/error", |error| drop(error.insert("code".into(), json!("internal_error"))));
        }
    }),
    by_stanza("answers are normal messages", "XMP-001", |event| each_text(event, |message| message.kind = MessageKind::Normal)),
    by_stanza("an answer is not that of its run", "XMP-001", |event| {
        each_text(event, |message| message.body.as_mut().into_iter().for_each(|body| body.push('!')))
    }),
    by_stanza("answers have no thread", "XMP-002", |event| each_text(event, |message| message.thread = None)),
    by_stanza("answers have no id", "XMP-002", |event| each_text(event, |message| message.id = None)),
    by_answer("what came by XMPP is not in the history", "XMP-003", |ask, reply, _| {
        if ask.is("GET", "/api/v1/agents/*/history") {
            reply.edit(|body| body["data"] = json!([]));
        }
    }),
    by_answer("a message that comes twice makes two runs", "XMP-004", |ask, reply, _| one_run_more(ask, reply)),
    by_stanza("receipts are for another message", "XMP-005", |event| {
        if let Event::Message(message) = event
            && message.receipt_for.is_some()
        {
            message.receipt_for = Some("another".into());
        }
        true
    }),
    by_stanza(
        "nobody sees that an agent writes",
        "XMP-006",
        |event| !matches!(event, Event::Message(message) if message.chat_state == Some(ChatState::Composing)),
    ),
    by_answer("a bounced message makes a run", "XMP-007", |ask, reply, _| one_run_more(ask, reply)),
    by_answer("a reaction makes a run", "XMP-008", |ask, reply, _| one_run_more(ask, reply)),
    by_answer("a refused message is charged", "XMP-009", |ask, reply, memory| {
        if ask.is("GET", "/api/v1/governance/quota") {
            memory.count += 1;
            let used = memory.count;
            reply.edit_at("/data", |quota| drop(quota.insert("requests_today".into(), json!(used))));
        }
    }),
    by_stanza("a message that is too large is not refused", "XMP-010", |event| !is_error(event)),
    by_answer("a message that is too large makes a run", "XMP-010", |ask, reply, _| one_run_more(ask, reply)),
    by_stanza("requests are not answered", "XMP-011", |event| !matches!(event, Event::Other(stanza) if stanza.is("iq", CLIENT))),
    by_stanza("a request that nobody knows is answered by a result", "XMP-011", |event| {
        if let Event::Other(stanza) = event {
            rewrite(stanza, "type=\"error\"", "type=\"result\"");
        }
        true
    }),
    by_stanza("an agent is a person", "XMP-012", |event| {
        if let Event::Other(stanza) = event {
            rewrite(stanza, "type=\"bot\"", "type=\"pc\"");
        }
        true
    }),
    by_stanza("the node of a request is lost", "XMP-012", |event| {
        if let Event::Other(stanza) = event {
            rewrite(stanza, "node=\"urn:example:node#1\"", "");
        }
        true
    }),
    by_answer("an agent talks to itself", "XMP-015", |ask, reply, _| one_run_more(ask, reply)),
    by_stanza(
        "a hostile stanza ends the link",
        "XMP-016",
        |event| !matches!(event, Event::Message(message) if message.kind == MessageKind::Chat),
    ),
    by_stanza("an agent is available to who has lost it", "XMP-020", |event| {
        if let Event::Presence(presence) = event
            && presence.kind == PresenceKind::Unsubscribed
        {
            presence.kind = PresenceKind::Available;
        }
        true
    }),
    by_stanza("an agent asks for a subscription too", "XMP-013", |event| {
        if let Event::Presence(presence) = event
            && presence.kind == PresenceKind::Available
        {
            presence.kind = PresenceKind::Subscribe;
        }
        true
    }),
    by_answer("an encrypted message makes a run", "XMP-014", |ask, reply, _| one_run_more(ask, reply)),
    by_stanza("corrections replace another message", "XMP-017", |event| {
        each_text(event, |message| message.replace_for = message.replace_for.take().map(|id| format!("{id}-other")))
    }),
];

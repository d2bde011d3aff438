//! Cases of `spec/xmpp.md`, by accounts that log in at the hub's XMPP server. Each case has accounts and agents of its own.

use std::time::Duration;

use aiox_probe::{ChatState, Element, Event, MessageKind, PresenceKind};
use reqwest::Method;
use serde_json::{Value, json};

use super::{chat, common::agent_with};
use crate::{
    case::{Outcome, Stop, cases, ensure},
    contact::{CLIENT, Contact, ERRORS, MOMENT, SOON, condition, escaped, fresh_id},
    scene::Scene,
    world::{Account, Agent},
};

cases! {
    "XMP-001" => a_message_is_answered,
    "XMP-002" => an_answer_belongs_to_its_question,
    "XMP-003" => the_run_is_shown_over_rest,
    "XMP-004" => a_message_twice,
    "XMP-005" => receipts,
    "XMP-006" => chat_states,
    "XMP-007" => errors_are_not_answered @ slow,
    "XMP-008" => what_is_no_prompt,
    "XMP-009" => an_agent_that_may_not_be_used,
    "XMP-010" => other_errors,
    "XMP-011" => requests,
    "XMP-012" => service_discovery,
    "XMP-013" => subscriptions @ slow,
    "XMP-014" => encrypted_messages,
    "XMP-015" => brakes @ slow,
    "XMP-016" => hostile_stanzas,
    "XMP-017" => answers_that_grow,
    "XMP-020" => presence_ends_with_access,
}

/// An account that is logged in, and an echo agent of it.
struct Stage {
    scene: Scene,
    who: Account,
    contact: Contact,
    agent: Agent,
    /// The agent's readable address.
    handle: String,
}

impl Stage {
    async fn set(scene: Scene) -> Result<Self, Stop> {
        Self::with(scene, "private").await
    }

    async fn with(scene: Scene, visibility: &str) -> Result<Self, Stop> {
        if scene.world.options.xmpp.is_none() {
            return Err(Stop::NotRun("no XMPP server was given (--xmpp, --xmpp-domain)".into()));
        }
        let who = scene.world.register("xmpp").await?;
        let name = format!("conf-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let agent = agent_with(&scene, &who, "contact", json!({ "handle": name, "visibility": visibility })).await?;
        let contact = Contact::log_in(&scene, &who).await?;
        let domain = agent.jid.split_once('@').map_or("", |(_, domain)| domain).to_owned();
        Ok(Self { scene, who, contact, agent, handle: format!("{name}@{domain}") })
    }

    /// The agent's runs of the account, as REST shows them.
    async fn runs(&self) -> Result<Vec<Value>, Stop> {
        let answer = self.scene.get(&self.who, &format!("/api/v1/agents/{}/executions?page_size=100", self.agent.id)).await?;
        answer.expect(200)?;
        Ok(answer.list("/data")?.clone())
    }

    /// Fails unless the agent has these runs alone, after one more question that shows that everything before has been looked at.
    async fn nothing_but(&mut self, what: &str, before: usize) -> Outcome {
        let jid = self.agent.jid.clone();
        self.contact.ask(&jid, "and now a question").await?;
        let runs = self.runs().await?;
        let inputs: Vec<&Value> = runs.iter().map(|run| &run["input"]).collect();
        ensure!(runs.len() == before + 1, "after {what} the agent has {} runs, not {}: {inputs:?}", runs.len(), before + 1);
        Ok(())
    }

    async fn message(&mut self, kind: &str, children: &str) -> Result<String, Stop> {
        let id = fresh_id();
        let to = escaped(&self.agent.jid);
        self.contact.raw(&format!("<message to='{to}' type='{kind}' id='{id}'>{children}</message>")).await?;
        Ok(id)
    }
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or_default()
}

async fn a_message_is_answered(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    for (kind, to) in [("chat", stage.agent.jid.clone()), ("normal", stage.agent.jid.clone()), ("chat", stage.handle.clone())] {
        let (id, text) = (fresh_id(), format!("{kind} to {to}"));
        stage.contact.raw(&format!("<message to='{to}' type='{kind}' id='{id}'><body>{text}</body></message>")).await?;
        let all = stage.contact.answer(&to).await?;
        let Some(answer) = all.last() else { return Err(Stop::Failed(format!("{to} did not answer"))) };
        ensure!(
            answer.kind == MessageKind::Chat && answer.stanza.attr("type") == Some("chat"),
            "the answer to a {kind} message is a {:?} message",
            answer.kind
        );
        let addressee = answer.stanza.attr("to").unwrap_or_default();
        ensure!(bare(addressee) == stage.contact.bare(), "the answer is for {addressee}");
        let runs = stage.runs().await?;
        let run = runs
            .iter()
            .find(|run| run["input"] == json!(text))
            .ok_or_else(|| Stop::Failed(format!("there is no run with the input `{text}`: {runs:?}")))?;
        ensure!(run["output"] == json!(answer.body), "the answer is {:?}, the run's is {}", answer.body, run["output"]);
    }
    Ok(())
}

async fn an_answer_belongs_to_its_question(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    for (origin, thread) in [(None, "thread-1"), (Some("origin-7"), "thread-2")] {
        let origin_id = origin.map(|id| format!("<origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>")).unwrap_or_default();
        let id = stage.contact.say(&jid, "x", &format!("<thread>{thread}</thread>{origin_id}")).await?;
        for answer in stage.contact.answer(&jid).await?.iter().filter(|message| message.body.is_some()) {
            ensure!(answer.thread.as_deref() == Some(thread), "the thread of the answer is {:?}, not {thread}", answer.thread);
            ensure!(
                answer.id.as_deref().is_some_and(|own| own != id && !own.is_empty()),
                "the id of the answer is {:?}, of the question {id}",
                answer.id
            );
            let reference = answer.stanza.child("reply", "urn:xmpp:reply:0").and_then(|reply| reply.attr("id"));
            let wanted = origin.unwrap_or(&id);
            // A correction (XEP-0308) replaces the message that has the reference.
            ensure!(answer.replace_for.is_some() || reference == Some(wanted), "the answer refers to {reference:?}, not {wanted}");
        }
    }
    Ok(())
}

async fn the_run_is_shown_over_rest(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    stage.contact.ask(&jid, "by XMPP, with caf\u{e9}").await?;
    let by_rest = chat::say(&stage.scene, &stage.who, &stage.agent.id, "by REST").await?;
    chat::ended(&stage.scene, &stage.who, &by_rest).await?;
    let runs = stage.runs().await?;
    let find = |text: &str| {
        runs.iter()
            .find(|run| run["input"] == text)
            .ok_or_else(|| Stop::Failed(format!("there is no run with the input `{text}`: {runs:?}")))
    };
    let (one, other) = (find("by XMPP, with caf\u{e9}")?, find("by REST")?);
    ensure!(
        one["conversation_id"] == other["conversation_id"],
        "XMPP has the conversation {}, REST {}",
        one["conversation_id"],
        other["conversation_id"]
    );
    let history = stage.scene.get(&stage.who, &format!("/api/v1/agents/{}/history", stage.agent.id)).await?;
    history.expect(200)?;
    ensure!(
        String::from_utf8_lossy(&history.bytes).contains("by XMPP, with caf"),
        "{}: the message is not in it: {}",
        history.what,
        history.json
    );
    Ok(())
}

async fn a_message_twice(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let (jid, id) = (stage.agent.jid.clone(), fresh_id());
    let stanza = format!("<message to='{jid}' type='chat' id='{id}'><body>once</body></message>");
    stage.contact.raw(&stanza).await?;
    let first = stage.contact.answer(&jid).await?;
    stage.contact.raw(&stanza).await?;
    for event in stage.contact.rest().await? {
        if let Event::Message(message) = event
            && bare(&message.from) == jid
            && message.body.is_some()
        {
            let wanted = first.last().and_then(|message| message.body.clone());
            ensure!(message.body == wanted, "the copy is answered by {:?}, the first message by {wanted:?}", message.body);
        }
    }
    stage.nothing_but("a message that came twice", 1).await
}

async fn receipts(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    let id = stage.contact.say(&jid, "with a receipt", "<request xmlns='urn:xmpp:receipts'/>").await?;
    let receipt = stage.contact.wait("the receipt", SOON, |event| match event {
        Event::Message(message) if message.receipt_for.is_some() => message.receipt_for.clone(),
        _ => None,
    });
    let receipt = receipt.await?;
    let runs = stage.runs().await?;
    ensure!(receipt == id, "the receipt is for {receipt}, the question is {id}");
    ensure!(runs.iter().any(|run| run["input"] == "with a receipt"), "when the receipt came there was no run: {runs:?}");
    stage.contact.answer(&jid).await?;
    stage.contact.say(&jid, "without a receipt", "").await?;
    let mut all = stage.contact.answer(&jid).await?;
    all.extend(
        stage.contact.rest().await?.into_iter().filter_map(|event| if let Event::Message(message) = event { Some(message) } else { None }),
    );
    let unasked = all.iter().find(|message| message.receipt_for.is_some());
    ensure!(unasked.is_none(), "a receipt came that nobody had asked for: {unasked:?}");
    Ok(())
}

async fn chat_states(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    stage.contact.say(&jid, "x", "<active xmlns='http://jabber.org/protocol/chatstates'/>").await?;
    let all = stage.contact.answer(&jid).await?;
    let composing = all.iter().position(|message| message.chat_state == Some(ChatState::Composing));
    let body = all.iter().position(|message| message.body.is_some() && message.chat_state == Some(ChatState::Active));
    ensure!(composing.is_some() && composing < body, "`composing` is at {composing:?}, the answer at {body:?}");
    Ok(())
}

async fn errors_are_not_answered(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let error = format!("<error type='cancel'><service-unavailable xmlns='{ERRORS}'/></error>");
    for children in [format!("<body>bounced</body>{error}"), error.clone(), "<body>an error without its content</body>".into()] {
        let id = stage.message("error", &children).await?;
        let jid = stage.agent.jid.clone();
        for event in stage.contact.rest().await? {
            let from = match &event {
                Event::Message(message) => message.from.clone(),
                Event::Presence(presence) => presence.from.clone(),
                Event::Other(stanza) => stanza.attr("from").unwrap_or_default().to_owned(),
            };
            ensure!(bare(&from) != jid, "the error {id} was answered by {event:?}");
        }
    }
    stage.nothing_but("errors", 0).await
}

async fn what_is_no_prompt(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    stage.message("headline", "<body>news</body>").await?;
    for children in [
        "",
        "<subject>only a subject</subject>",
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        "<received xmlns='urn:xmpp:receipts' id='r-1'/>",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='m-1'/>",
        "<body>corrected</body><replace xmlns='urn:xmpp:message-correct:0' id='c-1'/>",
        "<retract xmlns='urn:xmpp:message-retract:1' id='t-1'/><body>retracted</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>",
        "<reactions xmlns='urn:xmpp:reactions:0' id='e-1'><reaction>\u{1f44d}</reaction></reactions>",
    ] {
        stage.message("chat", children).await?;
    }
    let id = stage.message("groupchat", "<body>in a room</body>").await?;
    let error = stage.contact.error(&id).await?;
    ensure!(condition(&error).1 == "service-unavailable", "a groupchat message is refused with {:?}", condition(&error));
    stage.nothing_but("a headline, receipts, markers, corrections and reactions", 0).await
}

/// The error of an error stanza, as text.
fn error_of(stanza: &Element) -> String {
    stanza.child("error", CLIENT).map(ToString::to_string).unwrap_or_default()
}

async fn an_agent_that_may_not_be_used(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let private = stage.scene.world.agent().await?;
    let domain = private.jid.split_once('@').map_or("", |(_, domain)| domain).to_owned();
    let used_before = stage.scene.get(&stage.who, "/api/v1/governance/quota").await?;
    let mut errors = Vec::new();
    for to in
        [format!("agent-{}@{domain}", uuid::Uuid::new_v4()), private.jid.clone(), format!("nobody-{}@{domain}", stage.scene.world.mark)]
    {
        let id = stage.contact.say(&to, "x", "").await?;
        let error = stage.contact.error(&id).await?;
        ensure!(
            condition(&error) == ("cancel".to_owned(), "item-not-found".to_owned()),
            "a message to {to} is refused with {:?}",
            condition(&error)
        );
        let text = error.child("error", CLIENT).and_then(|error| error.child("text", ERRORS)).map(Element::text);
        ensure!(text.as_deref() == Some("Error: Agent not found"), "a message to {to} is refused with the text {text:?}");
        errors.push(error_of(&error));
    }
    ensure!(errors.iter().all(|error| *error == errors[0]), "the errors differ: {errors:?}");
    let used_after = stage.scene.get(&stage.who, "/api/v1/governance/quota").await?;
    ensure!(
        used_before.at("/data") == used_after.at("/data"),
        "refused messages were charged: {} and {}",
        used_before.at("/data"),
        used_after.at("/data")
    );
    Ok(())
}

async fn other_errors(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    let id = stage.contact.say(&jid, &"x".repeat(65_537), "").await?;
    let error = stage.contact.error(&id).await?;
    ensure!(
        condition(&error) == ("modify".to_owned(), "policy-violation".to_owned()),
        "a message over 65,536 bytes is refused with {:?}",
        condition(&error)
    );
    stage.nothing_but("a message that is too large", 0).await
}

async fn requests(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let (jid, private) = (stage.agent.jid.clone(), stage.scene.world.agent().await?);
    let domain = jid.split_once('@').map_or("", |(_, domain)| domain).to_owned();
    let known = [
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<query xmlns='jabber:iq:version'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
    ];
    for payload in known {
        let answer = stage.contact.iq(&jid, "get", payload).await?;
        ensure!(answer.attr("type") == Some("result"), "{payload} is answered by {answer}");
        for to in [private.jid.clone(), format!("agent-{}@{domain}", uuid::Uuid::new_v4())] {
            let answer = stage.contact.iq(&to, "get", payload).await?;
            ensure!(
                answer.attr("type") == Some("error") && condition(&answer).1 == "item-not-found",
                "{payload} of {to} is answered by {answer}"
            );
        }
    }
    for (kind, payload) in [
        ("get", "<query xmlns='urn:example:unknown'/>"),
        ("set", "<query xmlns='urn:example:unknown'/>"),
        ("set", "<vCard xmlns='vcard-temp'/>"),
        ("get", "<query xmlns='jabber:iq:version'/><query xmlns='jabber:iq:version'/>"),
    ] {
        let answer = stage.contact.iq(&jid, kind, payload).await?;
        let wanted = ["service-unavailable", "bad-request"];
        ensure!(
            answer.attr("type") == Some("error") && wanted.contains(&condition(&answer).1.as_str()),
            "{kind} of {payload} is answered by {answer}"
        );
    }
    let unasked = fresh_id();
    for kind in ["result", "error"] {
        stage.contact.raw(&format!("<iq to='{jid}' type='{kind}' id='{unasked}'/>")).await?;
    }
    for event in stage.contact.rest().await? {
        let answered = matches!(&event, Event::Other(stanza) if stanza.attr("id") == Some(&unasked));
        ensure!(!answered, "a result or an error is answered by {event:?}");
    }
    Ok(())
}

async fn service_discovery(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    let domain = jid.split_once('@').map_or("", |(_, domain)| domain).to_owned();
    let info = "http://jabber.org/protocol/disco#info";
    for (to, category, kind, name) in
        [(jid.as_str(), "client", "bot", stage.agent.body["name"].as_str()), (&domain, "component", "generic", None)]
    {
        let answer = stage.contact.iq(to, "get", &format!("<query xmlns='{info}'/>")).await?;
        let query = answer.child("query", info).ok_or_else(|| Stop::Failed(format!("disco#info of {to} is answered by {answer}")))?;
        let identity = query
            .children()
            .find(|child| child.name() == "identity" && child.attr("category") == Some(category) && child.attr("type") == Some(kind));
        let Some(identity) = identity else { return Err(Stop::Failed(format!("{to} has no identity {category}/{kind}: {answer}"))) };
        ensure!(name.is_none() || identity.attr("name") == name, "the name of {to} is {:?}, not {name:?}", identity.attr("name"));
    }
    let node = "urn:example:node#1";
    let answer = stage.contact.iq(&jid, "get", &format!("<query xmlns='{info}' node='{node}'/>")).await?;
    let echoed = answer.child("query", info).and_then(|query| query.attr("node"));
    ensure!(echoed == Some(node), "the `node` of the request is answered by {echoed:?}: {answer}");
    Ok(())
}

async fn subscriptions(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    stage.contact.raw(&format!("<presence to='{jid}' type='subscribe'/>")).await?;
    let mut seen = Vec::new();
    while !seen.iter().any(|(kind, _)| *kind == PresenceKind::Available) {
        let of = |event: &Event| match event {
            Event::Presence(presence) if bare(&presence.from) == jid => Some((presence.kind, presence.from.clone())),
            _ => None,
        };
        let found = stage.contact.wait("presence after `subscribe`", SOON, of).await?;
        ensure!(found.0 != PresenceKind::Subscribe, "`subscribe` is answered by a `subscribe`");
        seen.push(found);
    }
    ensure!(seen[0] == (PresenceKind::Subscribed, jid.clone()), "`subscribe` is answered by {seen:?}, not by `subscribed` of {jid} first");
    ensure!(seen.last().is_some_and(|(_, from)| from.contains('/')), "available presence comes from {seen:?}, not from a full address");
    // The server probes the contacts of an account that comes.
    let mut second = Contact::log_in(&stage.scene, &stage.who).await?;
    let probed = second.presence(&jid, SOON, PresenceKind::Available).await?;
    ensure!(probed.from.contains('/'), "a probe is answered from {}", probed.from);
    let private = stage.scene.world.agent().await?;
    let domain = jid.split_once('@').map_or("", |(_, domain)| domain).to_owned();
    for to in [private.jid.clone(), format!("agent-{}@{domain}", uuid::Uuid::new_v4())] {
        stage.contact.raw(&format!("<presence to='{to}' type='subscribe'/>")).await?;
        stage.contact.presence(&to, SOON, PresenceKind::Unsubscribed).await?;
        for event in stage.contact.rest().await? {
            let other = matches!(&event, Event::Presence(presence) if bare(&presence.from) == to);
            ensure!(!other, "beside `unsubscribed` of {to} came {event:?}");
        }
        stage.contact.raw(&format!("<presence to='{to}' type='probe'/>")).await?;
        for event in stage.contact.rest().await? {
            let ended =
                matches!(&event, Event::Presence(presence) if bare(&presence.from) == to && presence.kind == PresenceKind::Unsubscribed);
            ensure!(!ended, "a probe of {to} is answered by `unsubscribed`");
        }
    }
    Ok(())
}

async fn encrypted_messages(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    let hint = |namespace: &str| format!("<encryption xmlns='urn:xmpp:eme:0' namespace='{namespace}'/>");
    for (body, more) in [
        (
            "I sent you an OMEMO encrypted message",
            format!(
                "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'/></encrypted>{}",
                hint("eu.siacs.conversations.axolotl")
            ),
        ),
        ("I sent you an OMEMO encrypted message", "<encrypted xmlns='urn:xmpp:omemo:2'><header sid='1'/></encrypted>".into()),
        ("This message is encrypted", "<x xmlns='jabber:x:encrypted'>hQEMA</x>".into()),
        ("This message is encrypted", "<openpgp xmlns='urn:xmpp:openpgp:0'>hQEMA</openpgp>".into()),
        ("This message is encrypted", hint("urn:example:secret")),
        ("?OTRv23?", String::new()),
    ] {
        stage.contact.say(&jid, body, &more).await?;
        let what = format!("words about `{body}` {more}");
        let told = stage.contact.wait(&what, SOON, |event| match event {
            Event::Message(message) if bare(&message.from) == jid && message.kind != MessageKind::Error => message.body.clone(),
            _ => None,
        });
        let told = told.await?;
        ensure!(!told.contains(body), "an encrypted message is answered by its own text: {told}");
    }
    stage.nothing_but("encrypted messages", 0).await
}

async fn brakes(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene.clone()).await?;
    let jid = stage.agent.jid.clone();
    let mut answered = 0;
    for number in 0..300 {
        let id = stage.contact.say(&jid, &format!("message {number}"), "").await?;
        let next = stage.contact.wait("an answer or a brake", Duration::from_secs(3), |event| match event {
            Event::Message(message) if message.kind == MessageKind::Error && message.id.as_deref() == Some(&id) => Some(false),
            Event::Message(message)
                if bare(&message.from) == jid && message.body.is_some() && message.chat_state == Some(ChatState::Active) =>
            {
                Some(true)
            }
            _ => None,
        });
        match next.await {
            Ok(true) => answered += 1,
            Ok(false) | Err(Stop::Failed(_)) => break,
            Err(stop) => return Err(stop),
        }
    }
    ensure!(answered < 300, "a sender that answers each answer at once made {answered} runs");
    let mut other = Stage::set(scene).await?;
    let jid = other.agent.jid.clone();
    let own = other.contact.ask(&jid, "say something of your own").await?;
    other.contact.say(&jid, &own, "").await?;
    other.contact.rest().await?;
    other.nothing_but("the agent's own text coming back", 1).await
}

async fn hostile_stanzas(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    let deep = format!("{}{}", "<a xmlns='urn:example:deep'>".repeat(70), "</a>".repeat(70));
    let long = "y".repeat(8 * 1024);
    for (what, xml) in [
        ("a deep message", format!("<message to='{jid}' type='chat' id='d1'><body>deep</body>{deep}</message>")),
        ("a deep request", format!("<iq to='{jid}' type='get' id='d2'>{deep}</iq>")),
        ("a long attribute", format!("<message to='{jid}' type='chat' id='l1' x='{long}'><body>long</body></message>")),
        (
            "a long attribute of a child",
            format!("<message to='{jid}' type='chat' id='l2'><body>long</body><x xmlns='urn:example:x' y='{long}'/></message>"),
        ),
        ("a request without a child", format!("<iq to='{jid}' type='get' id='n1'/>")),
        ("a receipt without an id", format!("<message to='{jid}' id='n2'><received xmlns='urn:xmpp:receipts'/></message>")),
        ("an error without a content", format!("<message to='{jid}' type='error' id='n3'/>")),
        ("an unknown type of message", format!("<message to='{jid}' type='teleport' id='t1'/>")),
        ("an unknown type of presence", format!("<presence to='{jid}' type='teleport'/>")),
        ("an unknown type of request", format!("<iq to='{jid}' type='teleport' id='t2'><x xmlns='urn:example:x'/></iq>")),
    ] {
        // The server may end the stream of such a sender; what counts is the next message of somebody else.
        let mut hostile = Contact::log_in(&stage.scene, &stage.who).await?;
        let sent = hostile.raw(&xml).await;
        let barrier = hostile.raw(&format!("<iq to='{jid}' type='get' id='{}'><ping xmlns='urn:xmpp:ping'/></iq>", fresh_id())).await;
        if sent.is_ok() && barrier.is_ok() {
            // Until the hub has seen it, or the server has ended the stream.
            let seen = hostile
                .wait("the ping", Duration::from_secs(3), |event| {
                    matches!(event, Event::Other(stanza) if stanza.is("iq", CLIENT)).then_some(())
                })
                .await;
            drop(seen);
        }
        let answer = stage.contact.ask(&jid, &format!("after {what}")).await;
        ensure!(answer.is_ok(), "after {what} the next message is not answered: {answer:?}");
    }
    Ok(())
}

async fn answers_that_grow(scene: Scene) -> Outcome {
    let mut stage = Stage::set(scene).await?;
    let jid = stage.agent.jid.clone();
    // The first question lets the hub learn that this client shows corrections.
    stage.contact.ask(&jid, "a first question").await?;
    let text = "one two three four five six seven eight nine ten ".repeat(60);
    stage.contact.say(&jid, text.trim(), "<active xmlns='http://jabber.org/protocol/chatstates'/>").await?;
    let all = stage.contact.answer(&jid).await?;
    let bodies: Vec<_> = all.iter().filter(|message| message.body.is_some()).collect();
    let Some((first, later)) = bodies.split_first().filter(|(_, later)| !later.is_empty()) else {
        return Err(Stop::NotRun("the answer was not shown while it grew".into()));
    };
    let mut ids = vec![first.id.clone()];
    for state in later {
        ensure!(
            state.replace_for.is_some() && state.replace_for == first.id,
            "a later state replaces {:?}, the first one is {:?}",
            state.replace_for,
            first.id
        );
        ensure!(!ids.contains(&state.id), "the id {:?} comes twice", state.id);
        ids.push(state.id.clone());
    }
    let runs = stage.runs().await?;
    let run = runs.iter().find(|run| run["input"] == json!(text.trim())).cloned().unwrap_or_default();
    let last = bodies.last().and_then(|message| message.body.clone());
    ensure!(run["output"] == json!(last), "the last state is {last:?}, the run's answer is {}", run["output"]);
    Ok(())
}

async fn presence_ends_with_access(scene: Scene) -> Outcome {
    let stage = Stage::with(scene, "shared").await?;
    let jid = stage.agent.jid.clone();
    let guest = stage.scene.world.register("guest").await?;
    let id = stage.scene.get(&guest, "/api/v1/me").await?.some_text("/data/id")?;
    let grants = format!("/api/v1/agents/{}/grants", stage.agent.id);
    let grant = stage.scene.post(&stage.who, &grants, &json!({ "kind": "user", "grantee": id })).await?;
    grant.expect(201)?;
    let grant = grant.some_text("/data/id")?;
    let mut contact = Contact::log_in(&stage.scene, &guest).await?;
    contact.raw(&format!("<presence to='{jid}' type='subscribe'/>")).await?;
    contact.presence(&jid, SOON, PresenceKind::Available).await?;
    stage.scene.call(Method::DELETE, &format!("{grants}/{grant}")).bearer(&stage.who.access).send().await?.expect(200)?;
    let mut left = vec![PresenceKind::Unavailable, PresenceKind::Unsubscribed];
    while !left.is_empty() {
        // The case itself may take no longer than the requirement grants, its preparation included.
        let kind = contact.wait("`unavailable` and `unsubscribed` after the grant ended", Duration::from_secs(55), |event| match event {
            Event::Presence(presence) if bare(&presence.from) == jid => Some(presence.kind),
            _ => None,
        });
        let kind = kind.await?;
        ensure!(kind != PresenceKind::Available, "after the grant ended the agent is available");
        left.retain(|wanted| *wanted != kind);
    }
    let mut again = Contact::log_in(&stage.scene, &guest).await?;
    let end = tokio::time::Instant::now() + MOMENT;
    while let Some(event) = again.next(end.saturating_duration_since(tokio::time::Instant::now())).await? {
        let shown = matches!(&event, Event::Presence(presence) if bare(&presence.from) == jid && presence.kind == PresenceKind::Available);
        ensure!(!shown, "after the grant ended the agent shows its presence");
    }
    Ok(())
}

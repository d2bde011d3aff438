//! `POST /fed/v1/envelopes`: a batch in, as many verdicts out.

use std::sync::Arc;

use aiox_crypto::jws;
use aiox_model::{
    EnvelopeId,
    federation::{EnvelopeBatch, EnvelopeVerdict, MAX_BATCH_ITEMS, Verdict, VerdictBatch, envelope_type},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{Authenticated, Shared, problem, read_body};
use crate::{
    documented::{PeerBody, Peered},
    envelope::{self, EnvelopeError, Verified},
    order::Place,
    ports::{Answer, Incoming},
    tls::PeerIdentity,
    token::Operation,
};

/// After how many seconds an envelope that waits here may be sent again.
const HELD_SECONDS: u32 = 2;

/// Deliver envelopes
///
/// 1 to 100 of them, in order per conversation. Each is judged on its own, so that one bad item stops no other, and what is accepted is durable before the answer. One that skips a `seq` of its
/// conversation is `held`, without a receipt, until the missing one comes or 30 seconds have gone by; of a node's, up to 1,000 wait, further ones are answered `retry`. A cancel that
/// comes before its run cancels the run when it comes. The same envelope may be delivered again: the stored answer follows. The token needs the scope `deliver`.
#[utoipa::path(
    post,
    path = "/fed/v1/envelopes",
    tag = "federation",
    operation_id = "deliver_envelopes",
    security(("request_token" = [])),
    request_body = EnvelopeBatch,
    responses(
        (status = 200, description = "As many verdicts as there were envelopes, in the same order.", body = VerdictBatch),
        (status = 401, description = "The token is missing or refused, or the peer is not active. No body; `WWW-Authenticate: Bearer`."),
        Peered,
        PeerBody
    )
)]
pub(super) async fn envelopes(
    State(shared): State<Arc<Shared>>,
    identity: Option<Extension<PeerIdentity>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let who = match shared.authenticate(identity, &headers, Operation::Deliver).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let batch = jws::read_strict(&body).ok().and_then(|value| serde_json::from_value::<EnvelopeBatch>(value).ok());
    let Some(EnvelopeBatch { envelopes }) = batch else { return problem(StatusCode::BAD_REQUEST, "invalid_request") };
    if envelopes.is_empty() || envelopes.len() > MAX_BATCH_ITEMS {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
    }
    Json(VerdictBatch { verdicts: judge_all(&shared, &who, envelopes).await }).into_response()
}

/// Judges all items: one after the other within a conversation, side by side across conversations, so that they share a commit.
async fn judge_all(shared: &Shared, who: &Authenticated, envelopes: Vec<Value>) -> Vec<EnvelopeVerdict> {
    let count = envelopes.len();
    let mut lanes: Vec<(String, Vec<(usize, Value)>)> = Vec::new();
    for (index, document) in envelopes.into_iter().enumerate() {
        let conv = document.get("conv").and_then(Value::as_str).unwrap_or_default();
        match lanes.iter_mut().find(|(name, _)| name == conv) {
            Some((_, lane)) => lane.push((index, document)),
            None => lanes.push((conv.to_owned(), vec![(index, document)])),
        }
    }
    let judged = join_all(lanes.into_iter().map(|(conv, lane)| async move {
        let mut verdicts = Vec::with_capacity(lane.len());
        let mut blocked = false;
        for (index, document) in lane {
            let id = read_id(&document);
            let verdict = if blocked { EnvelopeVerdict { id, ..retry("order") } } else { judge(shared, who, document, id).await };
            // What follows an envelope that must come again must come again too, or it would overtake.
            blocked |= verdict.verdict == Verdict::Retry;
            release(shared, who, &conv).await;
            verdicts.push((index, verdict));
        }
        verdicts
    }))
    .await;
    let mut verdicts = vec![retry("order"); count];
    for (index, verdict) in judged.into_iter().flatten() {
        verdicts[index] = verdict;
    }
    verdicts
}

/// Takes what waited in a conversation and whose turn has come. Its sender hears of it when it sends it again.
async fn release(shared: &Shared, who: &Authenticated, conv: &str) {
    let door = &shared.door;
    loop {
        match door.order.next(&who.identity.node, conv, door.clock.now()).await {
            Ok(Some(document)) => {
                let id = read_id(&document);
                judge(shared, who, document, id).await;
            }
            Ok(None) => return,
            Err(error) => return tracing::warn!(error = %error.chain(), "held envelopes have to be sent again"),
        }
    }
}

fn read_id(document: &Value) -> Option<EnvelopeId> {
    document.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok())
}

fn verdict(verdict: Verdict, code: &str) -> EnvelopeVerdict {
    EnvelopeVerdict { id: None, verdict, code: Some(code.to_owned()), retry_after: None, receipt: None }
}

fn retry(code: &str) -> EnvelopeVerdict {
    EnvelopeVerdict { retry_after: Some(1), ..verdict(Verdict::Retry, code) }
}

async fn judge(shared: &Shared, who: &Authenticated, document: Value, id: Option<EnvelopeId>) -> EnvelopeVerdict {
    let judged = match envelope::prove(document, &who.identity.node, &who.peer) {
        Ok(envelope) => judge_proven(shared, who, envelope).await,
        Err(reason) => {
            shared.denied(who, "federation.envelope", reason.code()).await;
            Ok(verdict(Verdict::Refused, reason.code()))
        }
    };
    let answer = judged.unwrap_or_else(|error| {
        if !error.retryable() {
            tracing::error!(error = %error.chain(), "an envelope could not be taken");
        }
        retry(error.code())
    });
    metrics::counter!("aiox_federation_envelopes_total", "direction" => "in", "verdict" => format!("{:?}", answer.verdict).to_lowercase())
        .increment(1);
    EnvelopeVerdict { id, ..answer }
}

async fn judge_proven(shared: &Shared, who: &Authenticated, envelope: Verified) -> aiox_core::Result<EnvelopeVerdict> {
    let door = &shared.door;
    let (id, digest) = (envelope.header.id, envelope.digest.clone());
    if let Some(first) = door.inbox.seen(&who.identity.node, id).await? {
        return Ok(answered(shared, who, id, &digest, &first, true).await);
    }
    if envelope.header.dest.node != door.local.id {
        // Its number is one of another hub's.
        let code = EnvelopeError::Destination.code();
        shared.denied(who, "federation.envelope", code).await;
        return Ok(verdict(Verdict::Refused, code));
    }
    let (node, conv, seq) = (&who.identity.node, envelope.header.conv.clone(), envelope.header.seq);
    match door.order.place(node, &conv, seq, door.clock.now()).await? {
        Place::Next => {}
        Place::Late(missing) => {
            tracing::warn!(peer = %node, conv, missing, seq, "envelopes of a peer never came; what follows them is taken");
            metrics::counter!("aiox_federation_gaps_total", "peer" => node.domain().to_owned()).increment(1);
            let lost = format!("envelopes {missing} to {} of the conversation {conv} never came", seq - 1);
            door.audit.record(node.domain(), "federation.gap", "allowed", &lost).await;
        }
        Place::Early => return held(shared, who, envelope).await,
    }
    let answer = match permitted(shared, who, envelope).await? {
        Ok(incoming) => {
            let answer = door.inbox.take(incoming).await?;
            answered(shared, who, id, &digest, &answer, false).await
        }
        Err(refused) => refused,
    };
    if answer.verdict == Verdict::Refused {
        door.inbox.passed_over(node, &conv, seq).await?;
    }
    Ok(answer)
}

/// An envelope that skips a number waits for what is missing. A cancel has its effect all the same.
async fn held(shared: &Shared, who: &Authenticated, envelope: Verified) -> aiox_core::Result<EnvelopeVerdict> {
    let (door, node, header) = (&shared.door, &who.identity.node, envelope.header.clone());
    let document = envelope.document.clone();
    if header.kind == envelope_type::RUN_CANCEL
        && let Ok(incoming) = permitted(shared, who, envelope).await?
    {
        match door.inbox.cancel_ahead(incoming).await {
            // What is wrong with it is told when its turn has come.
            Ok(()) | Err(aiox_core::Error::Invalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let Some(first) = door.order.hold(node, &header.conv, header.seq, document, door.clock.now()) else {
        return Ok(retry("order"));
    };
    if first {
        // Our marks tell the sender what is missing.
        door.roster.want_hello(node.domain());
    }
    Ok(EnvelopeVerdict { retry_after: Some(HELD_SECONDS), ..verdict(Verdict::Held, "order") })
}

/// What an envelope may do here, or why not.
async fn permitted(shared: &Shared, who: &Authenticated, envelope: Verified) -> aiox_core::Result<Result<Incoming, EnvelopeVerdict>> {
    let door = &shared.door;
    if let Err(reason) = envelope::admit(&envelope.header, &who.peer, &door.local.id, door.skew, door.clock.now()) {
        shared.denied(who, "federation.envelope", reason.code()).await;
        return Ok(Err(verdict(Verdict::Refused, reason.code())));
    }
    let allowed = who.peer.record.operations;
    let (scope, permitted) = match envelope.header.kind.as_str() {
        envelope_type::RUN_CREATE => ("runs:create", allowed.send && may_use(shared, who, &envelope).await?),
        envelope_type::RUN_CANCEL => ("runs:cancel", allowed.cancel),
        _ => return Ok(Err(verdict(Verdict::Refused, "unknown_type"))),
    };
    // What the origin signed is one of the limits: it may have given the subject less than the peer record would allow.
    if !envelope.header.auth.scope.split(' ').any(|given| given == scope) {
        shared.denied(who, "federation.envelope", "scope of the envelope").await;
        return Ok(Err(verdict(Verdict::Refused, "insufficient_scope")));
    }
    let tenant = who.peer.local_tenant(envelope.header.tenant.as_deref()).filter(|_| permitted);
    let Some(tenant) = tenant else {
        shared.denied(who, "federation.envelope", "not allowed by the peer record, or no such agent").await;
        return Ok(Err(verdict(Verdict::Refused, "not_found")));
    };
    Ok(Ok(Incoming { sender: who.identity.node.clone(), tenant: tenant.to_owned(), envelope }))
}

async fn may_use(shared: &Shared, who: &Authenticated, envelope: &Verified) -> aiox_core::Result<bool> {
    let Some(agent) = &envelope.header.dest.agent else { return Ok(false) };
    let names = shared.door.agents.names(agent).await?;
    Ok(names.is_some_and(|names| who.peer.may_use_agent(names.iter().map(String::as_str))))
}

/// Turns a durable answer into the verdict for a copy with `digest`.
async fn answered(shared: &Shared, who: &Authenticated, id: EnvelopeId, digest: &str, answer: &Answer, copy: bool) -> EnvelopeVerdict {
    if answer.digest != digest {
        shared.denied(who, "federation.envelope", "same id with another digest").await;
        return verdict(Verdict::Refused, "digest_changed");
    }
    let receipt = match answer.verdict {
        Verdict::Accepted | Verdict::Duplicate => envelope::receipt(&shared.door.local, id, digest, answer.at),
        _ => return EnvelopeVerdict { id: None, verdict: answer.verdict, code: answer.code.clone(), retry_after: None, receipt: None },
    };
    match receipt {
        Ok(receipt) => {
            let verdict = if copy { Verdict::Duplicate } else { answer.verdict };
            EnvelopeVerdict { id: None, verdict, code: None, retry_after: None, receipt: Some(receipt) }
        }
        Err(error) => {
            tracing::error!(%error, "a receipt could not be signed");
            retry("internal_error")
        }
    }
}

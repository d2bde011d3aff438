//! The order of the envelopes that come in (federation section 10, rule 4): how far each conversation has come, and what skips a
//! number and waits for the one before.
//!
//! What waits is in memory alone: it has no receipt, so its sender keeps it and sends it again, also after a restart of this hub.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use aiox_core::Result;
use aiox_model::{Ts, federation::NodeId};
use serde_json::Value;

use crate::ports::Inbox;

/// Conversations that a hello names: those that wait for an envelope, then those that moved last.
pub const MAX_MARKS: usize = 1000;
/// Envelopes of one node that may wait. A further one is answered `retry`.
const MAX_HELD: usize = 1000;
/// Bytes of one node's envelopes that may wait, about.
const MAX_HELD_BYTES: usize = 8 * 1024 * 1024;
/// After this long a missing envelope is given up, and what waits for it is taken: its sender may have lost it, or it has expired.
pub const GIVE_UP_SECONDS: i64 = 30;
/// After this long without any news a conversation is forgotten here. Its sender tries at least every 5 minutes.
const FORGET_SECONDS: i64 = 600;

/// Where an envelope is in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its turn has come, or had.
    Next,
    /// What is missing before it, from this `seq` on, was waited for long enough.
    Late(u64),
    /// An earlier one is missing.
    Early,
}

/// One conversation that waits for an envelope.
struct Lane {
    since: Ts,
    waiting: BTreeMap<u64, Value>,
}

type Lanes = BTreeMap<String, Lane>;

/// The order of what comes in.
pub struct Order {
    inbox: Arc<dyn Inbox>,
    held: Mutex<HashMap<NodeId, Lanes>>,
}

fn size(document: &Value) -> usize {
    document.get("payload").and_then(Value::as_str).map_or(0, str::len) + 2048
}

/// As many marks of a peer as are looked at.
pub(crate) fn bounded(marks: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    marks.into_iter().take(MAX_MARKS).collect()
}

impl Order {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(inbox: Arc<dyn Inbox>) -> Self {
        Self { inbox, held: Mutex::default() }
    }

    fn lanes<T>(&self, node: &NodeId, look: impl FnOnce(&mut Lanes) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = held.entry(node.clone()).or_default();
        let seen = look(lanes);
        if lanes.is_empty() {
            held.remove(node);
        }
        seen
    }

    pub(crate) async fn place(&self, node: &NodeId, conv: &str, seq: u64, now: Ts) -> Result<Place> {
        let Some(mark) = self.inbox.mark(node, conv).await? else { return Ok(Place::Next) };
        if seq <= mark.saturating_add(1) {
            return Ok(Place::Next);
        }
        let late = self.lanes(node, |lanes| {
            lanes.get(conv).is_some_and(|lane| {
                // The first of them alone: the others have their turn behind it.
                lane.since.plus_seconds(GIVE_UP_SECONDS) <= now && lane.waiting.keys().next().is_none_or(|first| seq <= *first)
            })
        });
        Ok(if late { Place::Late(mark + 1) } else { Place::Early })
    }

    /// Keeps an envelope that came too early. `None`: too many wait already. `true`: it is the first that shows this gap.
    pub(crate) fn hold(&self, node: &NodeId, conv: &str, seq: u64, document: Value, now: Ts) -> Option<bool> {
        self.lanes(node, |lanes| {
            lanes.retain(|_, lane| lane.since.plus_seconds(FORGET_SECONDS) > now);
            if lanes.get(conv).is_some_and(|lane| lane.waiting.contains_key(&seq)) {
                return Some(false);
            }
            let waiting = || lanes.values().flat_map(|lane| lane.waiting.values());
            if waiting().count() >= MAX_HELD || waiting().map(size).sum::<usize>() + size(&document) > MAX_HELD_BYTES {
                return None;
            }
            let first = !lanes.contains_key(conv);
            let lane = lanes.entry(conv.to_owned()).or_insert_with(|| Lane { since: now, waiting: BTreeMap::new() });
            lane.waiting.insert(seq, document);
            Some(first)
        })
    }

    /// The next envelope that waits in a conversation and whose turn has come.
    pub(crate) async fn next(&self, node: &NodeId, conv: &str, now: Ts) -> Result<Option<Value>> {
        if !self.lanes(node, |lanes| lanes.contains_key(conv)) {
            return Ok(None);
        }
        let mark = self.inbox.mark(node, conv).await?.unwrap_or(u64::MAX);
        Ok(self.lanes(node, |lanes| {
            let lane = lanes.get_mut(conv)?;
            let first = lane.waiting.first_entry().filter(|first| *first.key() <= mark.saturating_add(1)).map(|first| first.remove());
            if lane.waiting.is_empty() {
                lanes.remove(conv);
            } else if first.is_some() {
                // Whatever is missing behind it has not been waited for yet.
                lane.since = now;
            }
            first
        }))
    }

    /// The highest `seq` that is here of the conversations of a node; at most [`MAX_MARKS`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn marks(&self, node: &NodeId) -> Result<BTreeMap<String, u64>> {
        let gaps: Vec<String> = self.lanes(node, |lanes| lanes.keys().cloned().collect());
        let mut marks = BTreeMap::new();
        for conv in gaps.into_iter().take(MAX_MARKS) {
            if let Some(mark) = self.inbox.mark(node, &conv).await? {
                marks.insert(conv, mark);
            }
        }
        let latest = self.inbox.marks(node, u32::try_from(MAX_MARKS).unwrap_or(u32::MAX)).await?;
        for (conv, mark) in latest {
            if marks.len() >= MAX_MARKS {
                break;
            }
            marks.entry(conv).or_insert(mark);
        }
        Ok(marks)
    }
}

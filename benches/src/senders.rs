//! Those who send: so many users with one message in flight each, or messages at a fixed rate.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::component::Sender;
use crate::ledger::Ledger;
use crate::stanza::{NS_CHAT_STATES, NS_RECEIPTS};

/// Requests of an open loop that may wait for answers; at the bound the rate is more than the server
/// can do, and the level ends with an error.
const MAX_WAITING: usize = 100_000;
/// Users of an open loop, at least: messages of one user to one agent are handled in order.
const OPEN_USERS: u64 = 500;

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// This many users, each waiting for an answer before the next message.
    Closed(u32),
    /// This many messages in a second, whatever comes back. Times run from when a message was due,
    /// not from when it could be sent, so that a stall counts for all it delayed.
    Open(f64),
}

impl Mode {
    /// Users that this many messages need, when each sends at most `per_user`.
    pub(crate) fn users(self, messages: u64, per_user: u64) -> u64 {
        match self {
            // Each lane may leave its last user before his share is used up.
            Self::Closed(lanes) => messages.div_ceil(per_user) + u64::from(lanes),
            Self::Open(_) => messages.div_ceil(per_user).max(OPEN_USERS.min(messages)),
        }
    }
}

/// Where messages go and who sends them.
pub(crate) struct Senders {
    pub(crate) link: Sender,
    pub(crate) ledger: Arc<Ledger>,
    /// Address of the agent.
    pub(crate) agent: String,
    /// Number of the next user that has not sent yet.
    pub(crate) next_user: AtomicU64,
    /// Messages of one user: a hub brakes an address that talks like a program.
    pub(crate) per_user: u64,
    /// Bytes of a message's body, at least its token.
    pub(crate) body_bytes: usize,
    /// Whether messages ask for receipts (XEP-0184).
    pub(crate) receipts: bool,
    /// Time for one answer.
    pub(crate) patience: Duration,
    /// Unanswered messages after which a closed loop ends early: each costs its lane the whole patience.
    pub(crate) max_lost: u64,
}

impl Senders {
    /// Sends `messages` and waits for their answers, each for `patience` at most.
    pub(crate) async fn send(self: &Arc<Self>, mode: Mode, messages: u64) -> Result<Range<u64>> {
        let first = self.ledger.next();
        match mode {
            Mode::Closed(lanes) => self.closed(lanes, messages).await?,
            Mode::Open(rate) => self.open(rate, messages).await?,
        }
        Ok(first..self.ledger.next())
    }

    async fn closed(self: &Arc<Self>, lanes: u32, messages: u64) -> Result<()> {
        let left = Arc::new(AtomicU64::new(messages));
        let lost = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..lanes {
            let (senders, left, lost) = (Arc::clone(self), Arc::clone(&left), Arc::clone(&lost));
            tasks.spawn(async move {
                let take = || {
                    let less = |left: u64| left.checked_sub(1);
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
                };
                let (mut user, mut sent) = (senders.user(), 0);
                while lost.load(Ordering::Relaxed) < senders.max_lost && take() {
                    if sent == senders.per_user {
                        (user, sent) = (senders.user(), 0);
                    }
                    sent += 1;
                    let (_, token, done) = senders.ledger.enter(user, Instant::now());
                    senders.link.send(senders.message(user, &token)).await?;
                    // Without an answer in time it is lost; the lane goes on.
                    if timeout(senders.patience, done).await.is_err() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(lane) = tasks.join_next().await {
            lane?.context("the component link ended")?;
        }
        Ok(())
    }

    async fn open(self: &Arc<Self>, rate: f64, messages: u64) -> Result<()> {
        let senders = Arc::clone(self);
        // A thread of its own: the runtime's timer has a grain of 1 ms, which would be measured too.
        tokio::task::spawn_blocking(move || senders.pace(rate, messages)).await??;
        let _ = timeout(self.patience, self.ledger.all_done()).await;
        Ok(())
    }

    fn pace(&self, rate: f64, messages: u64) -> Result<()> {
        let users = Mode::Open(rate).users(messages, self.per_user);
        let first = self.next_user.fetch_add(users, Ordering::Relaxed);
        let start = Instant::now();
        for index in 0..messages {
            let due = start + Duration::from_secs_f64(index as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.ledger.waiting() >= MAX_WAITING {
                bail!("{MAX_WAITING} messages wait for answers: the server cannot do {rate} per second");
            }
            let user = first + index % users;
            let (_, token, _) = self.ledger.enter(user, due);
            self.link.blocking_send(self.message(user, &token)).context("the component link ended")?;
        }
        Ok(())
    }

    fn user(&self) -> u64 {
        self.next_user.fetch_add(1, Ordering::Relaxed)
    }

    /// A chat message as a client sends it.
    fn message(&self, user: u64, token: &str) -> Vec<u8> {
        let padding = self.body_bytes.saturating_sub(token.len() + 1);
        let receipt = if self.receipts { format!("<request xmlns='{NS_RECEIPTS}'/>") } else { String::new() };
        format!(
            "<message type='chat' id='{token}' from='{}/load' to='{}'><body>{token} {:x<padding$}</body>\
             <thread>{token}</thread><active xmlns='{NS_CHAT_STATES}'/>{receipt}</message>",
            self.ledger.jid(user),
            self.agent,
            ""
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Incoming, tests::read};
    use tokio::sync::mpsc;

    fn senders(capacity: usize, per_user: u64) -> (Arc<Senders>, mpsc::Receiver<Vec<u8>>) {
        let (link, out) = mpsc::channel(capacity);
        let senders = Senders {
            link,
            ledger: Arc::new(Ledger::new(1, "hub-a.example")),
            agent: "agent-1@agents.hub-a.example".into(),
            next_user: AtomicU64::new(10),
            per_user,
            body_bytes: 100,
            receipts: true,
            patience: Duration::from_secs(3600),
            max_lost: 5,
        };
        (Arc::new(senders), out)
    }

    #[test]
    fn a_message_has_its_token_everywhere_and_its_size() {
        let (senders, _out) = senders(1, 1);
        let text = String::from_utf8(senders.message(3, "token-1")).unwrap();
        let all = read(&text);
        let [Incoming::Stanza(message)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(message.from, "load-3@hub-a.example/load");
        assert_eq!((message.id.as_str(), message.text_of("thread")), ("token-1", Some("token-1")));
        let body = message.text_of("body").unwrap();
        assert!(body.len() == 100 && body.starts_with("token-1 x"), "{body}");
        assert!(message.child("request", NS_RECEIPTS).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_wait_for_answers_and_users_stop_at_their_share() {
        let (senders, mut out) = senders(64, 2);
        let ledger = Arc::clone(&senders.ledger);
        let run = tokio::spawn({
            let senders = Arc::clone(&senders);
            async move { senders.send(Mode::Closed(3), 10).await }
        });
        let mut froms = Vec::new();
        for _ in 0..10 {
            let bytes = out.recv().await.unwrap();
            assert!(ledger.waiting() <= 3);
            let all = read(&String::from_utf8(bytes).unwrap());
            let [Incoming::Stanza(asked)] = &all[..] else { panic!("{all:?}") };
            let mut answer = asked.clone();
            std::mem::swap(&mut answer.from, &mut answer.to);
            froms.push(answer.to.clone());
            ledger.take(&answer, Instant::now());
        }
        assert_eq!(run.await.unwrap().unwrap(), 0..10);
        assert_eq!(ledger.summary(0..10).times.len(), 10);
        for from in &froms {
            assert!(froms.iter().filter(|other| *other == from).count() <= 2, "{froms:?}");
        }
        let used = senders.next_user.load(Ordering::Relaxed) - 10;
        assert!(used <= Mode::Closed(3).users(10, 2), "{used}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_goes_on_after_a_lost_message_but_not_for_ever() {
        let (senders, _out) = senders(64, 100);
        let range = senders.send(Mode::Closed(1), 3).await.unwrap();
        assert_eq!(senders.ledger.summary(range).lost, 3);
        let range = senders.send(Mode::Closed(1), 30).await.unwrap();
        assert_eq!(senders.ledger.summary(range).lost, senders.max_lost);
    }

    #[tokio::test]
    async fn the_time_of_a_delayed_message_runs_from_when_it_was_due() {
        // One place in the queue and nobody reads: the second and third message are held up.
        let (senders, mut out) = senders(1, 100);
        let ledger = Arc::clone(&senders.ledger);
        let run = tokio::spawn({
            let senders = Arc::clone(&senders);
            async move { senders.send(Mode::Open(1_000.0), 3).await }
        });
        let mut answers = Vec::new();
        for _ in 0..3 {
            let bytes = out.recv().await.unwrap();
            let all = read(&String::from_utf8(bytes).unwrap());
            let [Incoming::Stanza(asked)] = &all[..] else { panic!("{all:?}") };
            let mut answer = asked.clone();
            std::mem::swap(&mut answer.from, &mut answer.to);
            answers.push(answer);
        }
        // All answered at one moment: the times differ by the schedule, exactly.
        let now = Instant::now() + Duration::from_secs(1);
        for answer in &answers {
            ledger.take(answer, now);
        }
        run.await.unwrap().unwrap();
        let times = ledger.summary(0..3).times;
        assert_eq!(times[0] - times[1], Duration::from_millis(1));
        assert_eq!(times[1] - times[2], Duration::from_millis(1));
    }
}

//! The harness against its own echo component: it must count exactly, faults included.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::component::{ComponentServer, Listener};
use crate::echo::{self, Faults};
use crate::hub::DOMAIN;
use crate::ledger::Ledger;
use crate::measure::{Target, level};
use crate::process::Process;
use crate::report::{Report, Row};
use crate::senders::{Mode, Senders};
use crate::stanza::Stanza;

/// What a self-test is run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Messages of each level.
    pub(crate) messages: u64,
    /// Messages per second of the open loop.
    pub(crate) rate: f64,
    /// Time for an answer; each lost message costs it once in its lane.
    pub(crate) patience: Duration,
}

/// Runs levels against a faultless component and one with faults, and checks every count.
pub(crate) async fn run(size: Size, report: &mut Report, data: &Path) -> Result<()> {
    for mode in [Mode::Closed(1), Mode::Closed(16), Mode::Closed(100), Mode::Open(size.rate)] {
        let row = one(size, mode, Faults::default(), data).await?;
        report.row(&row)?;
        ensure!(row.is_exact(), "a faultless component looks faulty: {row:?}");
    }
    // Of every 100 messages, warm-up included, each fault hits its share.
    let faults = Faults { lose_each: 100, refuse_each: 25, ..Faults::default() };
    let total = size.messages + WARM_UP;
    let lost = total / 100;
    // A lost message is not refused too.
    let refused = total / 25 - lost;
    let row = one(size, Mode::Closed(16), faults, data).await?;
    report.row(&row)?;
    ensure!(
        (row.lost, row.errors, row.duplicates) == (lost, refused, 0),
        "faults were miscounted: {row:?}, not {lost} lost and {refused} refused"
    );
    let faults = Faults { repeat_each: 50, ..Faults::default() };
    let row = one(size, Mode::Open(size.rate), faults, data).await?;
    report.row(&row)?;
    ensure!(
        (row.lost, row.errors, row.duplicates) == (0, 0, total / 50),
        "repeated answers were miscounted: {row:?}, not {} duplicates",
        total / 50
    );
    Ok(())
}

const WARM_UP: u64 = 100;

async fn one(size: Size, mode: Mode, faults: Faults, data: &Path) -> Result<Row> {
    let ledger = Arc::new(Ledger::new(0x5e1f, DOMAIN));
    let server = ComponentServer::start(0, "self-test", listener(&ledger)).await?;
    let _echo = echo::start(server.port(), "self-test", faults).await?;
    let senders = Arc::new(Senders {
        link: server.connected(echo::CONNECT).await?,
        ledger,
        agent: "agent-1@agents.hub-a.example".into(),
        next_user: AtomicU64::new(0),
        per_user: 50,
        body_bytes: 100,
        receipts: true,
        patience: size.patience,
        max_lost: u64::MAX,
    });
    let target = Target {
        engine: "self-test".into(),
        process: Some(Process(std::process::id())),
        data: Some(data.to_path_buf()),
        ..Target::default()
    };
    level(&senders, &target, mode, WARM_UP, size.messages).await
}

/// Hands what a component sends to a ledger.
pub(crate) fn listener(ledger: &Arc<Ledger>) -> Listener {
    let ledger = Arc::clone(ledger);
    Arc::new(move |stanza: &Stanza| {
        ledger.take(stanza, Instant::now());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_harness_counts_exactly() {
        let data = tempfile::tempdir().unwrap();
        let size = Size { messages: 300, rate: 2_000.0, patience: Duration::from_secs(2) };
        run(size, &mut Report::new(None).unwrap(), data.path()).await.unwrap();
    }
}

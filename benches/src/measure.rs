//! One level: warm up, measure, wait for what comes late, count.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::disk;
use crate::latency::{millis, percentile, round};
use crate::ledger::Traffic;
use crate::process::{Process, load_average};
use crate::report::Row;
use crate::rest::Metrics;
use crate::senders::{Mode, Senders};

/// Time after a level in which a second answer would still be seen.
const SETTLE: Duration = Duration::from_secs(1);

/// What is measured beside the answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// What to call it.
    pub(crate) engine: String,
    /// The measured process.
    pub(crate) process: Option<Process>,
    /// Where its counters are.
    pub(crate) metrics: Option<Metrics>,
    /// A directory on its data's disk.
    pub(crate) data: Option<PathBuf>,
    /// Whether the agent's memory is on.
    pub(crate) memory: Option<bool>,
    /// Agents in its store.
    pub(crate) agents: Option<u64>,
}

impl Target {
    async fn statements(&self) -> Option<f64> {
        self.metrics.as_ref()?.sum("aiox_sql_statements_total").await
    }

    fn cpu_seconds(&self) -> Result<Option<f64>> {
        self.process.map(Process::cpu_seconds).transpose()
    }

    async fn fdatasync(&self) -> Result<Vec<Duration>> {
        match &self.data {
            Some(data) => disk::probe(data).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Runs one level. The warm-up counts only where answers are counted.
pub(crate) async fn level(senders: &Arc<Senders>, target: &Target, mode: Mode, warm_up: u64, messages: u64) -> Result<Row> {
    let ledger = &senders.ledger;
    let before = ledger.traffic();
    let mut syncs = target.fdatasync().await?;
    let warm = senders.send(mode, warm_up).await?;
    let (cpu, statements) = (target.cpu_seconds()?, target.statements().await);
    let peak = target.process.map(Process::watch);

    let start = Instant::now();
    let measured = senders.send(mode, messages).await?;
    // Fewer than wanted when too many were lost.
    let messages = measured.end - measured.start;
    // Work that the answers left behind belongs to them, so CPU and statements are read after it.
    tokio::time::sleep(SETTLE).await;

    let per_message = |after: Option<f64>, before: Option<f64>, scale: f64| Some(round((after? - before?) * scale / messages as f64));
    let cpu_ms_per_msg = per_message(target.cpu_seconds()?, cpu, 1000.0);
    let sql_per_msg = per_message(target.statements().await, statements, 1.0);
    let rss_mb = peak.map(|peak| round(peak.mib()));
    syncs.extend(target.fdatasync().await?);
    syncs.sort_unstable();

    let mut summary = ledger.summary(measured.clone());
    summary.times.sort_unstable();
    let elapsed = summary.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(start));
    let answered = summary.times.len() as f64;
    let point = |percent| percentile(&summary.times, percent).map(|time| round(millis(time)));
    let all = ledger.summary(warm.start..measured.end);
    if let Some(example) = &all.example {
        crate::say(&format!("first error: {example}"));
    }
    let (c, rate, name) = match mode {
        Mode::Closed(c) => (Some(c), None, "closed"),
        Mode::Open(rate) => (None, Some(rate), "open"),
    };
    Ok(Row {
        engine: target.engine.clone(),
        mode: name,
        c,
        rate,
        messages,
        msgs_per_s: if elapsed.is_zero() { 0.0 } else { round(answered / elapsed.as_secs_f64()) },
        p50_ms: point(50.0),
        p99_ms: point(99.0),
        cpu_ms_per_msg,
        rss_mb,
        sql_per_msg,
        errors: all.failed,
        duplicates: all.duplicates,
        lost: all.lost,
        fdatasync_p50_ms: percentile(&syncs, 50.0).map(|time| round(millis(time))),
        traffic: less(ledger.traffic(), before),
        memory: target.memory,
        agents: target.agents,
        load_average: load_average(),
    })
}

fn less(after: Traffic, before: Traffic) -> Traffic {
    Traffic {
        chat_states: after.chat_states - before.chat_states,
        receipts: after.receipts - before.receipts,
        corrections: after.corrections - before.corrections,
        unmatched: after.unmatched - before.unmatched,
    }
}

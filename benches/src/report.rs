//! What comes out: a line of a table for people, a line of JSON for programs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::ledger::Traffic;

/// One measured level.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// `sqlite`, `postgres`, or what the caller calls the server.
    pub(crate) engine: String,
    /// `closed` or `open`.
    pub(crate) mode: &'static str,
    /// Users with one message in flight each; null in an open loop.
    pub(crate) c: Option<u32>,
    /// Messages per second that were sent in an open loop; null in a closed one.
    pub(crate) rate: Option<f64>,
    /// Measured messages, without the warm-up.
    pub(crate) messages: u64,
    /// Answered messages per second.
    pub(crate) msgs_per_s: f64,
    /// Median time of an answer.
    pub(crate) p50_ms: Option<f64>,
    /// 99th percentile.
    pub(crate) p99_ms: Option<f64>,
    /// CPU of the measured process, user and system. Null without a pid.
    pub(crate) cpu_ms_per_msg: Option<f64>,
    /// The most resident memory of the measured process during the level, in MiB.
    pub(crate) rss_mb: Option<f64>,
    /// SQL statements. Null where the server does not count them.
    pub(crate) sql_per_msg: Option<f64>,
    /// Messages answered with an error, warm-up included, as in all counts below.
    pub(crate) errors: u64,
    /// Answers beyond the first.
    pub(crate) duplicates: u64,
    /// Messages without any answer.
    pub(crate) lost: u64,
    /// Median of a 4 KiB write with `fdatasync` on the same disk, right before and after the level.
    pub(crate) fdatasync_p50_ms: Option<f64>,
    /// Other stanzas that came.
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    /// Whether the agent's memory was on. Null where the harness did not make the agent.
    pub(crate) memory: Option<bool>,
    /// Agents in the store. Null where the harness did not start the hub.
    pub(crate) agents: Option<u64>,
    /// Load average of the host in the last minute, at the end of the level.
    pub(crate) load_average: Option<f64>,
}

impl Row {
    /// Whether every message was answered exactly once.
    pub(crate) fn is_exact(&self) -> bool {
        self.errors + self.duplicates + self.lost + self.traffic.unmatched == 0
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"));
        let level = match (self.c, self.rate) {
            (Some(c), _) => format!("c={c}"),
            (_, Some(rate)) => format!("{rate}/s"),
            _ => "-".into(),
        };
        format!(
            "{:<10} {:<6} {:>8} {:>9.0} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9} {:>5} {:>5} {:>5}",
            self.engine,
            self.mode,
            level,
            self.msgs_per_s,
            number(self.p50_ms, 2),
            number(self.p99_ms, 2),
            number(self.cpu_ms_per_msg, 3),
            number(self.rss_mb, 1),
            number(self.sql_per_msg, 2),
            number(self.fdatasync_p50_ms, 3),
            self.errors,
            self.duplicates,
            self.lost
        )
    }
}

const HEAD: &str = "engine     mode      level    msgs/s   p50 ms   p99 ms   cpu ms  rss MB sql/msg fdatasync   err   dup  lost";

/// Where results go.
pub(crate) struct Report {
    file: Option<(PathBuf, File)>,
    headed: bool,
}

impl Report {
    /// Appends JSON lines to a file, if one is named; its directory is made.
    pub(crate) fn new(out: Option<&Path>) -> Result<Self> {
        let file = out
            .map(|path| {
                if let Some(directory) = path.parent() {
                    std::fs::create_dir_all(directory)?;
                }
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                anyhow::Ok((path.to_path_buf(), file))
            })
            .transpose()
            .context("the file for the results")?;
        Ok(Self { file, headed: false })
    }

    /// Reports a level.
    pub(crate) fn row(&mut self, row: &Row) -> Result<()> {
        if !self.headed {
            self.headed = true;
            crate::say(HEAD);
        }
        crate::say(&row.line());
        self.json(row)
    }

    /// Reports something else: a line for people and an object for programs.
    pub(crate) fn fact(&mut self, line: &str, object: &impl Serialize) -> Result<()> {
        self.headed = false;
        crate::say(line);
        self.json(object)
    }

    fn json(&mut self, object: &impl Serialize) -> Result<()> {
        if let Some((path, file)) = &mut self.file {
            let mut line = serde_json::to_vec(object)?;
            line.push(b'\n');
            file.write_all(&line).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            engine: "sqlite".into(),
            mode: "closed",
            c: Some(16),
            rate: None,
            messages: 10,
            msgs_per_s: 1234.5,
            p50_ms: Some(1.0),
            p99_ms: None,
            cpu_ms_per_msg: None,
            rss_mb: None,
            sql_per_msg: None,
            errors: 0,
            duplicates: 0,
            lost: 0,
            fdatasync_p50_ms: None,
            traffic: Traffic::default(),
            memory: None,
            agents: None,
            load_average: None,
        }
    }

    #[test]
    fn each_row_is_one_json_line_with_the_agreed_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/main-job.jsonl");
        let mut report = Report::new(Some(&path)).unwrap();
        report.row(&row()).unwrap();
        report.row(&row()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        let value: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        for name in [
            "engine",
            "c",
            "msgs_per_s",
            "p50_ms",
            "p99_ms",
            "cpu_ms_per_msg",
            "rss_mb",
            "sql_per_msg",
            "mode",
            "errors",
            "duplicates",
            "lost",
            "fdatasync_p50_ms",
            "chat_states",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
        assert_eq!((&value["c"], &value["sql_per_msg"]), (&16.into(), &serde_json::Value::Null));
    }

    #[test]
    fn anything_but_one_answer_each_is_not_exact() {
        assert!(row().is_exact());
        let faults: [fn(&mut Row); 4] = [|r| r.errors = 1, |r| r.duplicates = 1, |r| r.lost = 1, |r| r.traffic.unmatched = 1];
        for fault in faults {
            let mut bad = row();
            fault(&mut bad);
            assert!(!bad.is_exact());
        }
    }
}

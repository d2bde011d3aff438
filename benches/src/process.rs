//! What the measured process used, read from `/proc`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::task::AbortOnDropHandle;

/// Ticks of a second in `/proc/<pid>/stat`. Part of the kernel's interface on every architecture we
/// build for, whatever the kernel's own timer does.
const TICKS: f64 = 100.0;
/// Between two looks at the resident memory.
const LOOK: Duration = Duration::from_millis(50);

/// A process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn file(self, name: &str) -> Result<String> {
        let path = PathBuf::from(format!("/proc/{}/{name}", self.0));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// CPU seconds it has used so far, user and system, all threads.
    pub(crate) fn cpu_seconds(self) -> Result<f64> {
        cpu_ticks(&self.file("stat")?).map(|ticks| ticks as f64 / TICKS).context("unreadable stat")
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mib(self) -> Result<f64> {
        resident_kib(&self.file("status")?).map(|kib| kib as f64 / 1024.0).context("unreadable status")
    }

    /// Watches the resident memory until it is dropped.
    pub(crate) fn watch(self) -> Peak {
        let peak = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            while let Some(kib) = self.file("status").ok().and_then(|text| resident_kib(&text)) {
                seen.fetch_max(kib, Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Peak { kib: peak, _task: AbortOnDropHandle::new(task) }
    }
}

/// The most resident memory that was seen.
pub(crate) struct Peak {
    kib: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Peak {
    /// In MiB.
    pub(crate) fn mib(&self) -> f64 {
        self.kib.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

/// `utime` + `stime` (proc(5)): fields 14 and 15. The name in field 2 may hold anything, also `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Load average of the last minute, for the report.
pub(crate) fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 33 0 0 20 0 4 0 12345 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(283));
        assert_eq!(cpu_ticks("42 (aiox"), None);
    }

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(resident_kib("Name:\taiox\nVmHWM:\t  999 kB\nVmRSS:\t   2048 kB\n"), Some(2048));
        assert_eq!(resident_kib("Name:\taiox\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process(std::process::id());
        own.cpu_seconds().unwrap();
        assert!(own.rss_mib().unwrap() > 0.0);
        assert!(Process(u32::MAX).cpu_seconds().is_err());
    }
}

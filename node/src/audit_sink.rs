//! Audit records to a place besides the database, one JSON line each.
//!
//! The database is the truth, and says how far the sink has come: a batch of lines is written, synced, and then noted. A hub that dies
//! between the last two writes the batch again, so a line may come twice, and none is missing. A sink that cannot be written holds every
//! change ([`Store::hold_changes`]) after [`PATIENCE`], until it can be written again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use aiox_app::{AuditBatch, Tenants};
use aiox_config::{AuditSink as Place, Settings};
use aiox_store::Store;
use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the sink asks for new records.
const LOOK: Duration = Duration::from_millis(500);
/// How long a sink may fail before changes are held.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records that are written and synced together.
const BATCH: u32 = 500;
/// Most of the end of a file that is searched for the last whole line. No line is longer.
const LONGEST: u64 = 1 << 20;

/// The configured sink.
#[derive(Clone)]
pub struct AuditSink {
    tenants: Tenants,
    store: Store,
    place: Place,
    /// What its progress is kept under.
    name: String,
    patience: Duration,
}

impl AuditSink {
    /// The sink of a hub, if it has one. A file is opened once, so that one that cannot be written stops the start. Commands beside a running
    /// hub come here too, so nothing in the file is changed.
    pub fn open(settings: &Settings, store: &Store, tenants: &Tenants) -> Result<Option<Self>> {
        let (Some(place), Some(name)) = (settings.audit.sink(), settings.audit.sink.clone()) else { return Ok(None) };
        if let Place::File(path) = &place {
            opened(path).with_context(|| format!("audit.sink: {} cannot be written", path.display()))?;
        }
        Ok(Some(Self { tenants: tenants.clone(), store: store.clone(), place, name, patience: PATIENCE }))
    }

    /// Writes what comes until the hub stops, and then what is left.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing: Option<Instant> = None;
        loop {
            let deadline = failing.unwrap_or_else(Instant::now) + self.patience;
            let mut pass = std::pin::pin!(self.pass());
            let done = tokio::select! {
                done = &mut pass => done,
                // It neither ends nor fails: nobody reads the pipe, or the disk hangs.
                () = tokio::time::sleep_until(deadline) => {
                    self.hold("it has been waiting for too long");
                    tokio::select! {
                        done = &mut pass => done,
                        () = stop.cancelled() => return,
                    }
                }
            };
            let more = match done {
                Ok(more) => {
                    if failing.take().is_some() || self.store.holds_changes() {
                        tracing::info!(sink = self.name, "the audit sink is written again");
                    }
                    self.store.hold_changes(false);
                    more
                }
                Err(error) => {
                    let since = *failing.get_or_insert_with(|| {
                        tracing::error!(
                            sink = self.name,
                            error = format!("{error:#}"),
                            "the audit sink cannot be written; records wait in the database"
                        );
                        Instant::now()
                    });
                    if since.elapsed() >= self.patience {
                        self.hold(&format!("{error:#}"));
                    }
                    false
                }
            };
            if more {
                continue;
            }
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Writes one batch; whether there may be more.
    async fn pass(&self) -> Result<bool> {
        let batch = self.tenants.audit_for(&self.name, BATCH).await.map_err(told)?;
        if batch.records.is_empty() {
            return Ok(false);
        }
        let (lines, place) = (lines(&batch)?, self.place.clone());
        tokio::task::spawn_blocking(move || write(&place, &lines)).await??;
        self.tenants.audit_kept(&self.name, &batch).await.map_err(told)?;
        Ok(true)
    }

    fn hold(&self, why: &str) {
        if !self.store.holds_changes() {
            tracing::error!(sink = self.name, why, "the audit sink cannot be written; nothing is changed until it can");
            self.store.hold_changes(true);
        }
    }
}

fn told(error: aiox_core::Error) -> anyhow::Error {
    anyhow::anyhow!(error.chain())
}

fn lines(batch: &AuditBatch) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for record in &batch.records {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn write(place: &Place, lines: &[u8]) -> Result<()> {
    match place {
        Place::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(lines).and_then(|()| out.flush()).context("standard output")
        }
        Place::Stderr => io::stderr().lock().write_all(lines).context("standard error"),
        Place::File(path) => {
            // Opened anew for each batch, so that a file that was moved away is followed by a new one.
            let mut file = opened(path)?;
            whole(&mut file, path)?;
            let before = file.metadata()?.len();
            let written = file.write_all(lines).and_then(|()| file.sync_data());
            if written.is_err() {
                // The batch comes again: no half of it stays if that can be helped.
                let _ = file.set_len(before);
            }
            written.with_context(|| path.display().to_string())
        }
    }
}

/// The file, for adding to its end. A new one is its owner's alone, and its name is durable.
fn opened(path: &Path) -> Result<File> {
    let new = !path.exists();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let file = options.open(path).with_context(|| path.display().to_string())?;
    if !file.metadata()?.is_file() {
        bail!("{} is no file", path.display());
    }
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        bail!("{} is open to others; run chmod 600 on it", path.display());
    }
    if new {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(file)
}

/// Cuts off what a hub that died left of a line; the line comes again.
fn whole(file: &mut File, path: &Path) -> Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    let from = length.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    (&*file).take(LONGEST).read_to_end(&mut end)?;
    match end.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => file.set_len(from + last as u64 + 1)?,
        None if from > 0 => bail!("{} holds no lines", path.display()),
        None => file.set_len(0)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use aiox_model::{TenantId, Ts};
    use aiox_store::audit::{self, AuditRow};

    use super::*;
    use crate::{hub::Hub, supervise::Supervisor};

    async fn until(condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    fn row(number: u8) -> AuditRow {
        let id = |number: u8| format!("00000000-0000-0000-0000-00000000000{number}").parse::<TenantId>().unwrap().uuid();
        AuditRow {
            id: id(number),
            tenant: id(7),
            owner: None,
            actor: "user:x".into(),
            action: format!("test.{number}"),
            outcome: "allowed".into(),
            severity: "info".into(),
            resource_type: None,
            resource_id: None,
            detail: None,
            address: None,
            trace: "t".into(),
            at: Ts::from_micros(1),
        }
    }

    #[tokio::test]
    async fn a_sink_that_cannot_be_written_holds_changes_until_it_can_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let variables = [
            ("AIOX__HUB__DATA_DIR".to_owned(), dir.path().join("data").display().to_string()),
            ("AGENTOS_AUDIT_SINK".to_owned(), format!("file:{}", file.display())),
        ];
        let settings = Settings::from_layers(None, variables, None).unwrap();
        let stop = CancellationToken::new();
        let tasks = Supervisor::new(stop.clone());
        let hub = Hub::build(settings, &tasks).await.unwrap();
        let mut sink = AuditSink::open(&hub.settings, &hub.store, &hub.tenants).unwrap().unwrap();
        sink.patience = Duration::ZERO;
        // What stands in the place of the file cannot be written, whoever the test runs as.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let mut tx = hub.store.begin().await.unwrap();
        audit::insert(&mut tx, &row(1)).await.unwrap();
        tx.commit().await.unwrap();
        tasks.once("audit sink of the test", |stop| async move {
            sink.run(stop).await;
            Ok(())
        });
        until(|| hub.store.holds_changes()).await;
        let mut tx = hub.store.begin().await.unwrap();
        assert_eq!(audit::insert(&mut tx, &row(2)).await.unwrap_err().code(), "dependency_unavailable");
        // A denial is still recorded.
        audit::note(&mut tx, &row(3)).await.unwrap();
        tx.commit().await.unwrap();

        std::fs::remove_dir(&file).unwrap();
        until(|| !hub.store.holds_changes()).await;
        until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("test.3"))).await;
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("test.1") && !text.contains("test.2"), "{text}");
        let mut tx = hub.store.begin().await.unwrap();
        audit::insert(&mut tx, &row(4)).await.unwrap();
        drop(tx);
        stop.cancel();
    }
}

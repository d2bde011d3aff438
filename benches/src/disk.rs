//! What one durable write costs on the disk that the measured server writes to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Writes of one probe.
const WRITES: usize = 100;
/// Bytes of each: a page.
const BYTES: usize = 4096;

/// Appends pages to a file in `directory`, each followed by `fdatasync`; the time of each.
pub(crate) async fn probe(directory: &Path) -> Result<Vec<Duration>> {
    let directory = directory.to_path_buf();
    tokio::task::spawn_blocking(move || write(&directory)).await?
}

fn write(directory: &Path) -> Result<Vec<Duration>> {
    let path = directory.join(format!("fdatasync-probe-{}", std::process::id()));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let _gone = Remove(path);
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let start = Instant::now();
        (&file).write_all(&[0x5a; BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

struct Remove(PathBuf);
impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn every_write_is_timed_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let times = super::probe(directory.path()).await.unwrap();
        assert_eq!(times.len(), super::WRITES);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        assert!(super::probe(&directory.path().join("missing")).await.is_err());
    }
}

//! Secrets that a hub needs to have. In development the missing ones are made once and kept in the data directory.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aiox_config::{Mode, Secret, Settings};
use aiox_crypto::system::random;
use anyhow::{Context as _, Result, bail};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// What every start needs.
pub struct Secrets {
    /// Signs access tokens.
    pub access: SecretString,
    /// Signs refresh tokens.
    pub refresh: SecretString,
    /// Seals tenants' keys.
    pub master: [u8; 32],
    /// Admits workers without a certificate.
    pub worker_key: SecretString,
}

#[derive(Serialize, Deserialize)]
struct Made {
    access_secret: String,
    refresh_secret: String,
    encryption_key: String,
    worker_key: String,
}

const FILE: &str = "secrets.json";

impl Secrets {
    /// From the settings, else from the data directory, else (in development) made now.
    ///
    /// # Errors
    /// In production, naming the missing setting; when the file is damaged or open to others.
    pub fn load(settings: &Settings) -> Result<Self> {
        let access = settings.auth.access_secret()?;
        let refresh = settings.auth.refresh_secret()?;
        let key = settings.auth.encryption_key()?;
        let worker = settings.grpc.worker_key()?;
        if settings.hub.mode == Mode::Prod {
            for (name, given) in [
                ("auth.access_secret", &access),
                ("auth.refresh_secret", &refresh),
                ("auth.encryption_key", &key),
                ("grpc.worker_key", &worker),
            ] {
                if given.is_none() {
                    bail!("{name} is required in production; set it or {name}_file");
                }
            }
        }
        let all_given = access.is_some() && refresh.is_some() && key.is_some() && worker.is_some();
        let made = if all_given { None } else { Some(kept_or_made(&settings.hub.data_dir.join(FILE))?) };
        let pick = |given: Option<Secret>, field: fn(&Made) -> &String| -> Result<String> {
            given
                .map(|secret| secret.expose().to_owned())
                .or_else(|| made.as_ref().map(|made| field(made).clone()))
                .context("a secret is missing")
        };
        let key = pick(key, |made| &made.encryption_key)?;
        Ok(Self {
            access: pick(access, |made| &made.access_secret)?.into(),
            refresh: pick(refresh, |made| &made.refresh_secret)?.into(),
            master: unhex(&key).context("auth.encryption_key must be 64 hex characters")?,
            worker_key: pick(worker, |made| &made.worker_key)?.into(),
        })
    }
}

fn kept_or_made(file: &Path) -> Result<Made> {
    if file.exists() {
        let mode = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("{} is open to others; run chmod 600 on it", file.display());
        }
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        return serde_json::from_str(&text).with_context(|| format!("{} is damaged; restore it from a backup", file.display()));
    }
    let made = Made { access_secret: hex(), refresh_secret: hex(), encryption_key: hex(), worker_key: hex() };
    write_private(file, serde_json::to_string_pretty(&made)?.as_bytes())?;
    tracing::warn!(file = %file.display(), "development secrets were made; production needs its own");
    Ok(made)
}

/// Writes a file that only its owner reads: next to its place, synced, then moved there.
pub fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().context("a file needs a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let beside = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&beside, file)?;
        fs::File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// 256 random bits in hex.
pub fn hex() -> String {
    random::<32>().iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

//! Where settings come from: file, `.env`, environment, flags. The one reader of the environment.

use std::path::{Path, PathBuf};

use aiox_config::{Settings, dotenv};
use anyhow::{Context as _, Result, bail};
use clap::Args;

/// A process that reads settings.
#[derive(Debug, Clone, Args)]
pub struct Configured {
    /// TOML file with settings; the environment (`AIOX__SECTION__KEY`) wins over it
    #[arg(long, short, env = "AIOX_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, for instance `http.port=9000`; wins over everything
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Reads the layers. `set` holds `key=value` texts of the command line.
pub fn load(file: Option<&Path>, set: &[String]) -> Result<Settings> {
    let mut variables = dotenv(Path::new(".env"));
    // Real variables win over the file.
    let real: Vec<(String, String)> = std::env::vars().collect();
    variables.retain(|(name, _)| !real.iter().any(|(other, _)| other == name));
    variables.extend(real);
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else { bail!("--set {pair}: must be key=value, for instance http.port=9000") };
        let name = format!("AIOX__{}", key.trim().replace('.', "__").to_uppercase());
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value.to_owned()));
    }
    Settings::from_layers(file, variables, None).context("see docs/configuration.md, or run with the setting corrected")
}

/// The settings of a command.
pub fn of(configured: &Configured) -> Result<Settings> {
    load(configured.config.as_deref(), &configured.set)
}

/// One variable.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

//! The published documents, made by a program of their own: this one stays small and quick to build.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::house::root;

/// Writes the documents; with `bless` also their baselines; with `exercised` looks which operations no test has exercised.
pub fn run(task: Option<&str>) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["run", "--quiet", "--locked", "-p", "aiox-specgen", "--"]);
    match task {
        None => command.arg("write"),
        Some("bless") => command.arg("bless"),
        Some("exercised") => {
            command.arg("exercised").arg(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target").into()))
        }
        Some(_) => anyhow::bail!("spec [bless | exercised]"),
    };
    anyhow::ensure!(command.status().context("cargo")?.success(), "spec: see above");
    Ok(())
}

//! The rules of the house, read from the manifests and the sources. `cargo test -p xtask` holds them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use toml::{Table, Value};

/// The committed crate graph.
pub const GRAPH: &str = "docs/crate-graph.txt";
/// The committed digests of the migrations.
pub const CHECKSUMS: &str = "migrations/CHECKSUMS";

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One member of the workspace.
#[derive(Debug)]
pub struct Member {
    /// Its name without `aiox-`.
    pub name: String,
    /// Its directory, from the root.
    #[cfg(test)]
    pub dir: String,
    /// Its manifest.
    pub manifest: Table,
}

impl Member {
    /// What it depends on, without tests: names as in the manifest.
    pub fn dependencies(&self) -> BTreeSet<String> {
        let mut all = names(&self.manifest, "dependencies");
        all.extend(names(&self.manifest, "build-dependencies"));
        for target in self.manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|all| all.values()) {
            all.extend(target.as_table().map(|target| names(target, "dependencies")).unwrap_or_default());
        }
        all
    }

    /// What only its tests depend on.
    pub fn dev_dependencies(&self) -> BTreeSet<String> {
        names(&self.manifest, "dev-dependencies")
    }
}

fn names(table: &Table, section: &str) -> BTreeSet<String> {
    table.get(section).and_then(Value::as_table).map(|all| all.keys().cloned().collect()).unwrap_or_default()
}

/// Every member, in the order of the workspace's manifest.
///
/// # Errors
/// If a manifest cannot be read.
pub fn members() -> Result<Vec<Member>> {
    let read = |path: &Path| -> Result<Table> { Ok(fs::read_to_string(path).with_context(|| path.display().to_string())?.parse()?) };
    let workspace = read(&root().join("Cargo.toml"))?;
    let list = workspace.get("workspace").and_then(|one| one.get("members")).and_then(Value::as_array).context("workspace.members")?;
    list.iter()
        .filter_map(Value::as_str)
        .map(|dir| {
            let manifest = read(&root().join(dir).join("Cargo.toml"))?;
            let name = manifest.get("package").and_then(|one| one.get("name")).and_then(Value::as_str).context("package.name")?;
            Ok(Member {
                name: name.trim_start_matches("aiox-").to_owned(),
                #[cfg(test)]
                dir: dir.to_owned(),
                manifest,
            })
        })
        .collect()
}

/// The crate graph: one line for each crate, and one for what only its tests add.
///
/// # Errors
/// If a manifest cannot be read.
pub fn graph() -> Result<String> {
    let members = members()?;
    let own: BTreeSet<String> = members.iter().map(|member| member.name.clone()).collect();
    let inside = |all: BTreeSet<String>| -> Vec<String> {
        all.iter().filter_map(|name| name.strip_prefix("aiox-")).filter(|name| own.contains(*name)).map(str::to_owned).collect()
    };
    let mut lines =
        vec!["# Which crate depends on which. Written by `cargo run -p xtask -- graph`, held by `cargo test -p xtask`.".to_owned()];
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for member in sorted {
        lines.push(format!("{}: {}", member.name, inside(member.dependencies()).join(" ")).trim_end().to_owned());
        let tests = inside(&member.dev_dependencies() - &member.dependencies());
        if !tests.is_empty() {
            lines.push(format!("{} (tests): {}", member.name, tests.join(" ")));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Writes [`GRAPH`] anew.
///
/// # Errors
/// If it cannot be made or written.
pub fn write_graph() -> Result<()> {
    fs::create_dir_all(root().join("docs"))?;
    Ok(fs::write(root().join(GRAPH), graph()?)?)
}

/// The digests of all migrations, one line each.
///
/// # Errors
/// If they cannot be read.
pub fn checksums() -> Result<String> {
    let mut lines = Vec::new();
    for backend in ["postgres", "sqlite"] {
        let mut files =
            fs::read_dir(root().join("migrations").join(backend))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            lines.push(format!("{}  {backend}/{name}", digest(&fs::read(&file)?)));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// SHA-256 in lower-case hex.
fn digest(bytes: &[u8]) -> String {
    aiox_crypto::sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds the digests of new migrations to [`CHECKSUMS`]; an edited one is refused.
///
/// # Errors
/// If a migration was edited, or the file cannot be written.
pub fn write_checksums() -> Result<()> {
    let path = root().join(CHECKSUMS);
    let (before, now) = (fs::read_to_string(&path).unwrap_or_default(), checksums()?);
    for line in before.lines() {
        anyhow::ensure!(now.lines().any(|other| other == line), "a migration that has been recorded was edited or removed: {line}");
    }
    Ok(fs::write(path, now)?)
}

//! The files in the repository: writing them, and moving the baselines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{coverage, generated, lint};

/// What a baseline is of: the document and where its baseline stands.
pub const BASELINES: [(&str, &str); 5] = [
    ("openapi/node.json", "openapi/baseline/node.json"),
    ("openapi/federation.json", "openapi/baseline/federation.json"),
    ("schemas/config.schema.json", "schemas/baseline/config.schema.json"),
    ("proto/worker/v1/worker.proto", "schemas/baseline/worker.proto"),
    ("spec/errors.md", "schemas/baseline/error-codes.txt"),
];
/// Where single schemas stand, and their baselines.
pub const SCHEMAS: (&str, &str) = ("schemas/v1", "schemas/baseline/v1");
/// The list of operations that no test exercises, with reasons.
pub const UNEXERCISED: &str = "openapi/unexercised.txt";
/// Where tests note what they exercise, below the target directory.
pub const EXERCISED: &str = "spec/exercised";

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads a file of the repository.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// Reads a JSON file of the repository.
///
/// # Errors
/// If it cannot be read.
pub fn json(path: &str) -> Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| path.to_owned())
}

/// The generated files that are committed, by path. A schema of a type that is no longer published counts too.
///
/// # Errors
/// If the directory cannot be read.
pub fn committed() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in generated().into_keys().chain(files(SCHEMAS.0)?) {
        if let Ok(text) = read(&path) {
            found.insert(path, text);
        }
    }
    Ok(found)
}

/// The files of a directory of the repository; none where it does not exist.
///
/// # Errors
/// If it cannot be read.
pub fn files(directory: &str) -> Result<BTreeSet<String>> {
    let Ok(entries) = fs::read_dir(root().join(directory)) else { return Ok(BTreeSet::new()) };
    entries.map(|entry| Ok(format!("{directory}/{}", entry?.file_name().to_string_lossy()))).collect()
}

/// Writes every generated file, and removes the schemas of what is no longer published. Returns the paths that changed.
///
/// # Errors
/// If a file cannot be written.
pub fn write() -> Result<Vec<String>> {
    let (wanted, there) = (generated(), committed()?);
    let mut changed = Vec::new();
    for (path, text) in &wanted {
        if there.get(path) != Some(text) {
            put(path, text)?;
            changed.push(path.clone());
        }
    }
    for path in there.keys().filter(|path| !wanted.contains_key(*path)) {
        fs::remove_file(root().join(path)).with_context(|| path.clone())?;
        changed.push(path.clone());
    }
    Ok(changed)
}

fn put(path: &str, text: &str) -> Result<()> {
    let path = root().join(path);
    fs::create_dir_all(path.parent().context("a path without a directory")?)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Makes what is committed now the promise that later changes are measured by: at a release, in a commit of its own.
///
/// # Errors
/// If a file cannot be read or written.
pub fn bless() -> Result<()> {
    write()?;
    for (document, baseline) in BASELINES {
        let text = read(document)?;
        put(baseline, &if baseline.ends_with(".txt") { lint::codes(&text).into_iter().map(|code| code + "\n").collect() } else { text })?;
    }
    for old in files(SCHEMAS.1)? {
        fs::remove_file(root().join(old))?;
    }
    for path in files(SCHEMAS.0)? {
        put(&path.replace(SCHEMAS.0, SCHEMAS.1), &read(&path)?)?;
    }
    Ok(())
}

/// Operations that no test has exercised, by what the tests noted below `target`.
///
/// # Errors
/// If the notes cannot be read.
pub fn unexercised(target: &Path) -> Result<Vec<String>> {
    let directory = target.join(EXERCISED);
    let entries = fs::read_dir(&directory).with_context(|| format!("{}: no test has noted anything", directory.display()))?;
    let notes = entries.map(|entry| Ok(fs::read_to_string(entry?.path())?)).collect::<Result<String>>()?;
    Ok(coverage::problems(&[&json("openapi/node.json")?, &json("openapi/federation.json")?], &coverage::noted(&notes), &read(UNEXERCISED)?))
}

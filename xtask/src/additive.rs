//! Proves on real edits of the sources that the tests let nothing through that an integrator would notice, and what they allow.
//!
//! It works in a copy of the repository below the target directory, never in the checkout. Each edit is made there alone; the documents
//! are renewed as `make spec` does, so that drift cannot be what is found; and the tests run that `make test` runs too.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    edits::{Change, EDITS, Edit, Verdict},
    house::root,
};

/// The version of the copy's crates. They share a target directory with the checkout's; without a version of their own each would push
/// the other's out.
const VERSION: &str = "0.0.0";

/// Makes every edit and looks what the tests say.
///
/// # Errors
/// When the tests fail without an edit, or say something else of one than they have to.
#[expect(clippy::print_stdout, reason = "a tool tells what it found")]
pub fn prove() -> Result<()> {
    let copy = Copy::new()?;
    copy.renew()?;
    let before = copy.test(true)?;
    ensure!(before.status.success(), "the tests fail before any edit:\n{}", text(&before));
    println!("without an edit the tests pass");
    let mut wrong = Vec::new();
    for edit in EDITS {
        let began = Instant::now();
        match judged(&copy, edit).with_context(|| format!("\"{}\"", edit.name))? {
            Ok(said) => println!("{} ({:.0} s): {said}", edit.name, began.elapsed().as_secs_f64()),
            Err(problem) => wrong.push(format!("{}: {problem}", edit.name)),
        }
    }
    copy.sync()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// What the tests said of an edit, or what is wrong with that.
fn judged(copy: &Copy, edit: &Edit) -> Result<Result<String, String>> {
    copy.sync()?;
    for change in edit.changes {
        let path = copy.directory.join(change.file);
        fs::write(&path, made(&fs::read_to_string(&path).with_context(|| change.file)?, change)?)?;
    }
    copy.renew()?;
    let output = copy.test(edit.door)?;
    let said = text(&output);
    let failed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect();
    Ok(match &edit.verdict {
        Verdict::Taken if output.status.success() => Ok("taken".to_owned()),
        Verdict::Taken => Err(format!("it was refused:\n{said}")),
        Verdict::Refused(_) if output.status.success() => Err("it was taken".to_owned()),
        Verdict::Refused(words) => match words.iter().find(|words| !said.contains(**words)) {
            Some(missing) => Err(format!("nobody said \"{missing}\":\n{said}")),
            None if failed.contains(&"drift::the_committed_documents_are_those_of_the_code") => Err("the documents had drifted".to_owned()),
            None => Ok(format!("refused by {}\n    {}", failed.join(", "), words.join("\n    "))),
        },
    })
}

/// A file after a change.
fn made(before: &str, change: &Change) -> Result<String> {
    ensure!(before.matches(change.from).count() == 1, "{} does not have once what an edit changes: {}", change.file, change.from);
    Ok(before.replace(change.from, change.to))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The copy.
struct Copy {
    directory: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new() -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        fs::create_dir_all(&target)?;
        let target = target.canonicalize()?;
        let copy = Self { directory: target.join("prove-additive"), target };
        copy.sync()?;
        Ok(copy)
    }

    /// Makes the copy what the checkout is. A file that is right already is left alone, so that nothing is built twice.
    fn sync(&self) -> Result<()> {
        let listed = Command::new("git")
            .current_dir(root())
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("git, which knows what belongs to the repository")?;
        ensure!(listed.status.success(), "git ls-files: {}", text(&listed));
        let names = String::from_utf8(listed.stdout).context("a name of a file is no text")?;
        let mut kept = BTreeSet::new();
        for name in names.split_terminator('\0') {
            // What was deleted and not committed is listed still.
            let Ok(content) = fs::read(root().join(name)) else { continue };
            let content = if ["Cargo.toml", "Cargo.lock"].contains(&name) { with_version(content)? } else { content };
            let path = self.directory.join(name);
            if fs::read(&path).ok().as_ref() != Some(&content) {
                fs::create_dir_all(path.parent().context("a file without a directory")?)?;
                fs::write(&path, content).with_context(|| path.display().to_string())?;
            }
            kept.insert(path);
        }
        remove_others(&self.directory, &kept)
    }

    fn cargo(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let command = command.current_dir(&self.directory).env("CARGO_TARGET_DIR", &self.target);
        command.args(arguments).output().context("cargo")
    }

    /// What `make spec` does.
    fn renew(&self) -> Result<()> {
        let output = self.cargo(&["run", "--quiet", "--locked", "-p", "aiox-specgen", "--", "write"])?;
        ensure!(output.status.success(), "the documents cannot be written:\n{}", text(&output));
        Ok(())
    }

    /// The tests of the documents and of the error codes, and with `door` those of accounts at the REST door.
    fn test(&self, door: bool) -> Result<Output> {
        let documents = ["test", "--locked", "--no-fail-fast", "-p", "aiox-core", "-p", "aiox-specgen", "--test", "errors", "--test", "it"];
        let output = self.cargo(&documents)?;
        if !door || !output.status.success() {
            return Ok(output);
        }
        self.cargo(&["test", "--locked", "-p", "aiox-http", "--test", "it", "accounts::"])
    }
}

/// Removes files that are not listed: what an edit has left.
fn remove_others(directory: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_others(&entry.path(), kept)?;
        } else if !kept.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The workspace's manifest or lock with [`VERSION`] for its own crates.
fn with_version(content: Vec<u8>) -> Result<Vec<u8>> {
    let manifest = String::from_utf8(content)?;
    let own = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    let version = format!("version = \"{VERSION}\"");
    let mut lines: Vec<String> = manifest.lines().map(str::to_owned).collect();
    for at in 1..lines.len() {
        let named = |start: &str| lines[at - 1].starts_with(start);
        if lines[at] == own && (named("[workspace.package]") || named("name = \"aiox-") || named("name = \"xtask\"")) {
            lines[at].clone_from(&version);
        }
    }
    Ok((lines.join("\n") + "\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_finds_its_place_in_the_sources() {
        for edit in EDITS {
            assert!(!edit.changes.is_empty(), "{}", edit.name);
            for change in edit.changes {
                let before = fs::read_to_string(root().join(change.file)).unwrap();
                assert_ne!(made(&before, change).unwrap(), before, "xtask/src/edits.rs: {}", edit.name);
            }
        }
    }

    #[test]
    fn the_copy_has_a_version_of_its_own_and_the_libraries_keep_theirs() {
        let lock = concat!("[[package]]\nname = \"aiox-x\"\nversion = \"", env!("CARGO_PKG_VERSION"), "\"\n");
        let other = lock.replace("aiox-x", "serde");
        let changed = |text: &str| String::from_utf8(with_version(text.into()).unwrap()).unwrap();
        assert_eq!(changed(lock), "[[package]]\nname = \"aiox-x\"\nversion = \"0.0.0\"\n");
        assert_eq!(changed(&other), other);
    }
}

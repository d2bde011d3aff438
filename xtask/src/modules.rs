//! Sources of a crate, and which of its modules names which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::house::{Member, root};

impl Member {
    /// Every Rust source of the crate itself.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn sources(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        collect(&root().join(&self.dir).join("src"), &mut found)?;
        Ok(found)
    }
}

fn collect(dir: &Path, into: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let mut entries =
        fs::read_dir(dir).with_context(|| dir.display().to_string())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path)?;
            into.push((path, text));
        }
    }
    Ok(())
}

/// Top-level modules of a crate and which of them each names by `crate::…`.
///
/// # Errors
/// If its sources cannot be read.
pub fn modules(member: &Member) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let src = root().join(&member.dir).join("src");
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in member.sources()? {
        let inside = path.strip_prefix(&src)?;
        let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let module = first.trim_end_matches(".rs").to_owned();
        // The root of a crate names its modules; a module tree for tests may name everything.
        if ["lib", "main", "tests"].contains(&module.as_str()) {
            continue;
        }
        uses.entry(module).or_default().extend(named(without_tests(&text)));
    }
    let known: BTreeSet<String> = uses.keys().cloned().collect();
    for (module, named) in &mut uses {
        named.retain(|other| other != module && known.contains(other));
    }
    Ok(uses)
}

/// The part of a source before its unit tests.
#[must_use]
pub fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(before, _)| before)
}

/// First path segments after `crate::`, also inside braces: `use crate::{a, b::c}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // A link in a document is no dependency.
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (_, rest) in code.match_indices("crate::").map(|(at, word)| (at, &code[at + word.len()..])) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0usize;
            let mut word = String::new();
            let mut first = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(std::mem::take(&mut word));
                        first = true;
                    }
                    ':' if depth == 0 => first = false,
                    c if depth == 0 && first && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ => {}
                }
            }
            found.insert(word);
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

/// Modules that need one another, as sorted groups.
#[must_use]
pub fn knots(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(at) = next.pop() {
            for other in uses.get(&at).into_iter().flatten() {
                if seen.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|module| (module, reach(module))).collect();
    let both = |a: &String, b: &String| reached[a].contains(b) && reached.get(b).is_some_and(|all| all.contains(a));
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for module in uses.keys() {
        let knot: BTreeSet<String> = uses.keys().filter(|other| both(module, other)).cloned().collect();
        if !knot.is_empty() && !found.contains(&knot) {
            found.push(knot);
        }
    }
    found
}

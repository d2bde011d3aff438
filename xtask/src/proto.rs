//! Rust code of the `.proto` files under `proto/`, made without protoc and committed, so that a
//! build needs neither a protobuf compiler nor a build script.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The `.proto` files, below `proto/`.
const FILES: &[&str] = &["worker/v1/worker.proto"];

/// Messages with prompts and answers in them; `aiox-proto` writes their `Debug` by hand, without.
const CONFIDENTIAL: &[&str] = &[
    ".worker.v1.TaskRequest",
    ".worker.v1.TaskResponse",
    ".worker.v1.MemoryEntry",
    ".worker.v1.TaskDelta",
    ".worker.v1.TaskEvent",
];

/// Where the repository is: the parent of this crate.
fn repository() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in the repository")?
        .to_path_buf())
}

/// Generates the code of every `.proto` file into `out`.
fn generate_into(out: &Path) -> anyhow::Result<()> {
    let root = repository()?.join("proto");
    let descriptors = protox::compile(FILES.iter().map(|file| root.join(file)), [&root])
        .context("proto files")?;
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(CONFIDENTIAL.iter().copied())
        .boxed(".worker.v1.ServerMessage.payload.task_request")
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .context("code generation")
}

/// Rewrites the committed code, `proto/src/gen`.
pub(crate) fn generate() -> anyhow::Result<()> {
    generate_into(&repository()?.join("proto/src/gen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_code_is_current() -> anyhow::Result<()> {
        let out = std::env::temp_dir().join(format!("aiox-proto-{}", std::process::id()));
        std::fs::create_dir_all(&out)?;
        generate_into(&out)?;
        let committed = repository()?.join("proto/src/gen");
        let mut seen = 0;
        for entry in std::fs::read_dir(&out)? {
            let entry = entry?;
            let name = entry.file_name();
            let fresh = std::fs::read_to_string(entry.path())?;
            let stored = std::fs::read_to_string(committed.join(&name))?;
            assert_eq!(
                fresh,
                stored,
                "proto/src/gen/{} is stale: run `cargo run -p xtask -- proto`",
                name.to_string_lossy()
            );
            seen += 1;
        }
        std::fs::remove_dir_all(&out)?;
        assert_eq!(seen, std::fs::read_dir(&committed)?.count());
        assert_eq!(seen, FILES.len());
        Ok(())
    }
}

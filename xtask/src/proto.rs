//! Rust code of the `.proto` files under `proto/`, made without protoc and committed, so that a
//! build needs neither a protobuf compiler nor a build script.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The `.proto` files, below `proto/`.
const FILES: &[&str] = &["worker/v1/worker.proto"];

/// Messages with prompts, answers or tokens in them; `aiox-proto` writes their `Debug` by hand, without.
const CONFIDENTIAL: &[&str] = &[
    ".worker.v1.TaskRequest",
    ".worker.v1.TaskResponse",
    ".worker.v1.MemoryEntry",
    ".worker.v1.TaskDelta",
    ".worker.v1.TaskEvent",
    ".worker.v1.ModelRequest",
    ".worker.v1.ModelMessage",
    ".worker.v1.ModelTool",
    ".worker.v1.ModelToolCall",
    ".worker.v1.ModelDelta",
    ".worker.v1.ModelResponse",
    ".worker.v1.ModelVector",
    ".worker.v1.IssueTokenResponse",
];

/// Where the repository is: the parent of this crate.
fn repository() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?.to_path_buf())
}

/// Generates the code of every `.proto` file into `out`.
fn generate_into(out: &Path) -> anyhow::Result<()> {
    let root = repository()?.join("proto");
    let descriptors = protox::compile(FILES.iter().map(|file| root.join(file)), [&root]).context("proto files")?;
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(CONFIDENTIAL.iter().copied())
        .boxed(".worker.v1.ServerMessage.payload.task_request")
        .boxed(".worker.v1.ServerMessage.payload.model_request")
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
            assert_eq!(fresh, stored, "proto/src/gen/{} is stale: run `cargo run -p xtask -- proto`", name.to_string_lossy());
            seen += 1;
        }
        std::fs::remove_dir_all(&out)?;
        assert_eq!(seen, std::fs::read_dir(&committed)?.count());
        assert_eq!(seen, FILES.len());
        Ok(())
    }

    /// The first protocol, which workers in the field speak: `message field=number...`. `*` means
    /// repeated, the letter is the type: s string, i int32, b bool, f float, m message.
    const FIRST: &str = "
        WorkerMessage register=1m task_response=2m
        ServerMessage register_ack=1m task_request=2m
        RegisterWorker worker_id=1s max_concurrent=2i supported_providers=3s*
        RegisterAck accepted=1b message=2s
        TaskRequest request_id=1s agent_id=2s owner_user_id=3s user_message=4s system_prompt=5s \
            llm_config_json=6s from_jid=7s agent_jid=8s agent_name=9s memory_context_json=10s \
            memory_config_json=11s
        TaskResponse request_id=1s worker_id=2s response_text=3s tokens_used=4i duration_ms=5i \
            model_used=6s error_message=7s new_memories=8m*
        MemoryEntry content=1s embedding=2f* memory_type=3s metadata_json=4s
        HeartbeatRequest worker_id=1s active_tasks=2i memory_usage_mb=3i avg_latency_ms=4i
        HeartbeatResponse ok=1b";

    #[test]
    fn the_first_protocol_is_unchanged_and_additions_keep_their_distance() -> anyhow::Result<()> {
        let root = repository()?.join("proto");
        let set = protox::compile([root.join(FILES[0])], [&root])?;
        let file = &set.file[0];
        assert_eq!(file.package(), "worker.v1");
        let service = &file.service[0];
        assert_eq!(service.name(), "WorkerService");
        let calls: Vec<_> = service.method.iter().map(|call| (call.name(), call.client_streaming(), call.server_streaming())).collect();
        // A worker of the first protocol knows the first two and makes no other call.
        assert_eq!(calls, [("TaskStream", true, true), ("Heartbeat", false, false), ("IssueToken", false, false)]);
        for line in FIRST.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let message = file.message_type.iter().find(|message| message.name() == name).with_context(|| format!("{name} is missing"))?;
            let least = if message.oneof_decl.is_empty() { 20 } else { 10 };
            let (old, new): (Vec<_>, Vec<_>) = message.field.iter().partition(|field| field.number() < least);
            let old: Vec<String> = old
                .iter()
                .map(|field| {
                    let kind = match field.r#type().as_str_name() {
                        "TYPE_STRING" => "s",
                        "TYPE_INT32" => "i",
                        "TYPE_BOOL" => "b",
                        "TYPE_FLOAT" => "f",
                        "TYPE_MESSAGE" => "m",
                        other => other,
                    };
                    let many = field.label().as_str_name() == "LABEL_REPEATED";
                    let many = if many { "*" } else { "" };
                    format!("{}={}{kind}{many}", field.name(), field.number())
                })
                .collect();
            assert_eq!(old, words.collect::<Vec<_>>(), "{name}");
            assert!(new.iter().all(|field| field.number() >= least), "{name}");
        }
        Ok(())
    }
}

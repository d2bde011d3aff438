//! Tasks of the repository's own workflow: `cargo run -p xtask -- <task>`.

mod proto;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("proto") => proto::generate(),
        _ => anyhow::bail!("tasks: proto"),
    }
}

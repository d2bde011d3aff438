//! Tasks of the repository's own workflow: `cargo run -p xtask -- <task>`.
//!
//! `proto` writes the generated protocol code, `graph` writes `docs/crate-graph.txt`, `migrations` records new migrations in
//! `migrations/CHECKSUMS`, `spec` writes the OpenAPI documents, schemas and example configuration, `prove-additive` edits a copy of the sources in ways that
//! integrators would notice and sees the tests refuse it. `cargo test -p xtask` holds the rules of the house.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod additive;
mod edits;
mod house;
#[cfg(test)]
mod modules;
mod proto;
mod spec;
#[cfg(test)]
mod tests;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("proto") => proto::generate(),
        Some("graph") => house::write_graph(),
        Some("migrations") => house::write_checksums(),
        Some("spec") => spec::run(std::env::args().nth(2).as_deref()),
        Some("prove-additive") => additive::prove(),
        _ => anyhow::bail!("tasks: proto, graph, migrations, spec [bless | exercised], prove-additive"),
    }
}

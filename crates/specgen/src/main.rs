//! `cargo run -p xtask -- spec [bless | exercised]`.
#![expect(clippy::print_stdout, reason = "a tool tells what it did")]

use std::path::PathBuf;

use aiox_specgen::tree;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("write"), None) => {
            for path in tree::write()? {
                println!("{path}");
            }
        }
        (Some("bless"), None) => tree::bless()?,
        (Some("exercised"), Some(target)) => {
            let problems = tree::unexercised(&PathBuf::from(target))?;
            anyhow::ensure!(
                problems.is_empty(),
                "{}\nEvery operation is exercised by a test, or stands in {} with a reason.",
                problems.join("\n"),
                tree::UNEXERCISED
            );
        }
        _ => anyhow::bail!("write, bless, or exercised TARGET_DIRECTORY"),
    }
    Ok(())
}

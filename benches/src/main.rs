//! The load harness: how fast a hub carries chat messages, from XMPP stanza in to XMPP stanza out.
//!
//! It plays everything around a hub: the XMPP server (XEP-0114), the users, and the workers. It works
//! against any server that speaks the same protocols. `docs/performance.md` says how to read results.
#![cfg_attr(test, expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test"))]

mod cli;
mod component;
mod disk;
mod echo;
mod hub;
mod latency;
mod ledger;
mod measure;
mod process;
mod report;
mod rest;
mod run;
mod seed;
mod selftest;
mod senders;
mod stanza;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    // A second installation would be refused, and is no harm.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run::run(cli::Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("not every message was answered exactly once");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// A line on the terminal. Nobody may be there to read it, which must not stop a measurement.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

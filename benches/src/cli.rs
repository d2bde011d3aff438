//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures how a hub carries chat messages from XMPP in to XMPP out. Exit code 1: not every message
/// was answered exactly once; 2: the measurement could not be made.
#[derive(Debug, Parser)]
#[command(name = "aiox-benches", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a hub of our own, load it, stop it
    #[command(after_help = "Examples:\n  \
        aiox-benches main-job --aiox target/release/aiox\n  \
        aiox-benches main-job --aiox target/release/aiox --concurrency 1,32 --rate 500,1000 --memory\n  \
        aiox-benches main-job --aiox target/release/aiox --agents 100000\n  \
        aiox-benches main-job --aiox target/release/aiox --set database.engine=postgres \\\n      \
        --set database.port=5433 --set database.password=... --set database.name=bench")]
    MainJob(MainJob),
    /// Load a server that runs already; it must connect to our component port
    #[command(after_help = "Examples:\n  \
        aiox-benches load --component-port 5275 --component-secret s --agent-jid agent-<uuid>@agents.hub-a.example --pid 4711\n  \
        aiox-benches load --component-port 5275 --component-secret s --agent-jid agent-<uuid>@agents.hub-a.example \\\n      \
        --engine predecessor --worker-url http://127.0.0.1:50051 --worker-key k --worker-protocol 1\n\
        \n\
        Users are load-<n>@<user domain>. A hub of ours knows those of its own domain only if they have accounts;\n\
        name another --user-domain to have them come as users of another server.")]
    Load(Load),
    /// Time from the start of a hub to its first sign of life
    #[command(after_help = "Example:\n  aiox-benches cold-start --aiox target/release/aiox --runs 10")]
    ColdStart(ColdStart),
    /// Memory of a hub that has nothing to do
    #[command(after_help = "Example:\n  aiox-benches idle --aiox target/release/aiox")]
    Idle(Idle),
    /// Try the harness on its own echo component: it must count exactly, faults included
    #[command(after_help = "Example:\n  aiox-benches self-test --messages 4000")]
    SelfTest(SelfTest),
}

/// How a load is sent and reported.
#[derive(Debug, Args)]
pub(crate) struct Shape {
    /// Closed loops: so many users with one message in flight each
    #[arg(long, value_delimiter = ',', default_value = "1,16,32,100")]
    pub(crate) concurrency: Vec<u32>,
    /// Open loops: so many messages per second, whatever comes back
    #[arg(long, value_delimiter = ',')]
    pub(crate) rate: Vec<f64>,
    /// Measured messages of each level
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,
    /// Messages before each level that are not measured
    #[arg(long, default_value_t = 200)]
    pub(crate) warm_up: u64,
    /// Messages of one user; then another one goes on. A hub brakes a user who talks like a program
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) per_user: u64,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 100)]
    pub(crate) body_bytes: usize,
    /// Ask for receipts (XEP-0184)
    #[arg(long)]
    pub(crate) receipts: bool,
    /// Seconds until a message counts as lost
    #[arg(long, default_value_t = 30.0)]
    pub(crate) timeout: f64,
    /// Lost messages after which a closed loop ends early
    #[arg(long, default_value_t = 100)]
    pub(crate) max_lost: u64,
    /// File to which results are appended, a JSON object per line
    #[arg(long, default_value = "target/bench/main-job.jsonl")]
    pub(crate) out: PathBuf,
    /// Sessions of the mock worker
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: u32,
    /// Tasks that one session takes at the same time
    #[arg(long, default_value_t = 256)]
    pub(crate) slots: i32,
    /// Worker protocol to speak: 2, or 1 for the predecessor
    #[arg(long, default_value_t = 2)]
    pub(crate) worker_protocol: u32,
    /// Provider that the worker offers and the agent names
    #[arg(long, default_value = "echo")]
    pub(crate) provider: String,
}

/// A hub of our own.
#[derive(Debug, Args)]
pub(crate) struct Own {
    /// The `aiox` program, a release build for figures that mean something
    #[arg(long)]
    pub(crate) aiox: PathBuf,
    /// Directory on a real disk; the hub's own is made in it and deleted
    #[arg(long, default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// A setting of the hub, for instance `database.engine=postgres`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `main-job`.
#[derive(Debug, Args)]
pub(crate) struct MainJob {
    #[command(flatten)]
    pub(crate) own: Own,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Switch the agent's memory on
    #[arg(long)]
    pub(crate) memory: bool,
    /// Further agents in the store
    #[arg(long, default_value_t = 0)]
    pub(crate) agents: u64,
}

/// `load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Loopback port to which the server's component connects
    #[arg(long)]
    pub(crate) component_port: u16,
    /// Secret of the component
    #[arg(long, env = "AIOX_BENCH_COMPONENT_SECRET", hide_env_values = true)]
    pub(crate) component_secret: String,
    /// Address of the agent
    #[arg(long)]
    pub(crate) agent_jid: String,
    /// Domain of the users; absent: the agent's without its `agents.`
    #[arg(long)]
    pub(crate) user_domain: Option<String>,
    /// Number of the first user; absent: taken from the clock, so that each run has new ones
    #[arg(long)]
    pub(crate) first_user: Option<u64>,
    /// Seconds to wait for the component
    #[arg(long, default_value_t = 60.0)]
    pub(crate) connect_within: f64,
    /// What to call the server in results
    #[arg(long, default_value = "unknown")]
    pub(crate) engine: String,
    /// Process to measure
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Its counters, for instance `http://127.0.0.1:8080/metrics`
    #[arg(long)]
    pub(crate) metrics_url: Option<String>,
    /// A directory on its data's disk, for the fdatasync probe
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Run the mock worker too, against this address: `http://host:port`, or `https://` with `--worker-ca`
    #[arg(long)]
    pub(crate) worker_url: Option<String>,
    /// The server's worker key
    #[arg(long, env = "AIOX_BENCH_WORKER_KEY", hide_env_values = true, default_value = "")]
    pub(crate) worker_key: String,
    /// PEM authority of the server's certificate
    #[arg(long)]
    pub(crate) worker_ca: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

/// `cold-start`.
#[derive(Debug, Args)]
pub(crate) struct ColdStart {
    #[command(flatten)]
    pub(crate) own: Own,
    /// Starts, each with an empty data directory
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// File to which results are appended
    #[arg(long, default_value = "target/bench/main-job.jsonl")]
    pub(crate) out: PathBuf,
}

/// `idle`.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) own: Own,
    /// Seconds without anything to do
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// File to which results are appended
    #[arg(long, default_value = "target/bench/main-job.jsonl")]
    pub(crate) out: PathBuf,
}

/// `self-test`.
#[derive(Debug, Args)]
pub(crate) struct SelfTest {
    /// Messages of each level
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,
    /// Messages per second of the open loop
    #[arg(long, default_value_t = 2000.0)]
    pub(crate) rate: f64,
    /// Seconds until a message counts as lost
    #[arg(long, default_value_t = 1.0)]
    pub(crate) timeout: f64,
    /// File to which results are appended
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    operator::{server, site},
    settings::Configured,
};

/// A hub for AI agents: federated, reachable by XMPP and REST.
#[derive(Debug, Parser)]
#[command(name = "aiox", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start two federated hubs on this machine and show a conversation across them
    ///
    /// Makes keys, starts two hubs (each with a worker and, where Prosody is installed, an XMPP server), makes them peers, seeds
    /// accounts and agents, and sends a message from a user of hub A to an agent of hub B by REST and by XMPP. Running it again
    /// changes nothing that is there.
    #[command(
        after_help = "Examples:\n  aiox up                 two hubs, and what to try next\n  aiox up --verify        the same without a terminal: asserts everything, stops everything, exit code says it\n  OPENAI_API_KEY=… aiox up   agents answer through OpenAI instead of the echo provider"
    )]
    Up(Up),
    /// Stop what `aiox up` started; data stays
    #[command(after_help = "Example:\n  aiox down")]
    Down(Place),
    /// Show what of the local mesh runs, and where
    #[command(after_help = "Example:\n  aiox status")]
    Status(Place),
    /// Show the last lines of a part's log
    #[command(after_help = "Examples:\n  aiox logs hub-a hub\n  aiox logs hub-b worker --lines 200\n  aiox logs hub-a xmpp --follow")]
    Logs(Logs),
    /// Look for what is wrong with the local mesh, and say what to do about it
    #[command(after_help = "Example:\n  aiox doctor")]
    Doctor(Place),
    /// Run one hub in the foreground
    #[command(
        after_help = "Examples:\n  aiox serve                       the embedded engine, no configuration needed\n  aiox serve --config aiox.toml\n  AIOX__HTTP__PORT=9000 aiox serve"
    )]
    Serve(Configured),
    /// Run one worker in the foreground
    #[command(
        after_help = "Examples:\n  aiox worker                      beside `aiox serve`, sharing its data directory\n  OPENAI_API_KEY=… aiox worker --config aiox.toml"
    )]
    Worker(Configured),
    /// Bring the database up to date and exit
    Migrate(Configured),
    /// Change the keys that prompts and verifiers are sealed with
    #[command(subcommand)]
    Keys(Keys),
    /// Make and look at keys and certificates
    #[command(subcommand)]
    Certs(Certs),
    /// Give workers keys, and take keys and certificates back, at the machine of a hub
    #[command(subcommand)]
    Workers(Workers),
    /// See and change the peer hubs of a hub
    #[command(subcommand)]
    Peer(Peer),
    /// See and change the tenants of a hub and their service tokens
    #[command(subcommand)]
    Tenant(Tenant),
    /// Check the audit log at the machine of a hub
    #[command(subcommand)]
    Audit(Audit),
    /// Make accounts at the machine of a hub
    #[command(subcommand)]
    User(User),
    /// Talk to an agent
    #[command(
        after_help = "Examples:\n  aiox chat assistant \"Hello\"\n  aiox chat assistant@agents.hub-b.example \"Hello over there\"\n  aiox chat --hub hub-b --stream assistant \"Tell me more\""
    )]
    Chat(Chat),
    /// See agents that you can use, on this hub and on its peers
    Agents(Remote),
    /// See your latest runs, or cancel one
    #[command(subcommand)]
    Run(RunCommand),
    /// Judge any hub by the numbered requirements of the specification
    ///
    /// Works from outside, over the public API alone, with accounts and agents that it makes for itself and takes away again.
    /// Exit code: 0 the hub conforms, 1 it does not, 2 it could not be judged.
    #[command(
        after_help = "Examples:\n  aiox conformance --local                                  hub A of the local mesh, with hub B as its peer\n  aiox conformance --target https://hub.hub-a.example --profile core\n  aiox conformance --target https://hub.hub-a.example --admin-email operator@hub-a.example \\\n      --report junit --out report.xml < password.txt\n\nThe administrator's password is read from standard input. Without an administrator, requirements on tenants are not run."
    )]
    Conformance(Box<Conformance>),
    /// Tell XMPP servers on this machine where each other's listeners are (started by `aiox up`)
    #[command(hide = true)]
    DevDns(DevDns),
}

/// A local mesh.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory of the mesh
    #[arg(long, default_value = ".aiox", env = "AIOX_HOME")]
    pub dir: PathBuf,
    /// First port of the mesh; about 300 from there are used
    #[arg(long, default_value_t = site::BASE_PORT, env = "AIOX_BASE_PORT")]
    pub base_port: u16,
}

/// `aiox up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Run the whole demonstration without a terminal, assert it, stop everything
    #[arg(long)]
    pub verify: bool,
    /// Leave the XMPP servers out
    #[arg(long)]
    pub no_xmpp: bool,
    /// XMPP server of hub B; chosen once, at the first start
    #[arg(long, value_enum, default_value_t)]
    pub server_b: server::Kind,
    /// Print where everything is as JSON on standard output; everything else goes to standard error
    #[arg(long)]
    pub json: bool,
}

/// `aiox logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// `hub-a` or `hub-b`
    pub hub: String,
    /// `hub`, `worker` or `xmpp`
    #[arg(default_value = "hub")]
    pub part: String,
    /// How many lines
    #[arg(long, default_value_t = 50)]
    pub lines: usize,
    /// Go on showing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// `aiox keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a new data key for every tenant and seal everything with it anew; a running hub goes on, and seals with the new key after its next start
    #[command(after_help = "Example:\n  aiox keys rotate --config aiox.toml")]
    Rotate(Configured),
}

/// `aiox workers`.
#[derive(Debug, Subcommand)]
pub enum Workers {
    /// Make a key that is good for one worker alone, and print it; it is not shown again
    #[command(after_help = "Example:\n  aiox workers key worker-1 --config /etc/aiox/aiox.toml > worker-1.key")]
    Key {
        /// The worker's `worker.id`
        worker: String,
        /// Settings of the hub
        #[command(flatten)]
        configured: Configured,
    },
    /// Take every key of a worker back, or with --certificate that certificate; a running hub ends its session within seconds
    #[command(
        after_help = "Examples:\n  aiox workers revoke worker-1 --config /etc/aiox/aiox.toml\n  aiox workers revoke worker-1 --certificate worker-1.pem"
    )]
    Revoke {
        /// The worker's `worker.id`
        worker: String,
        /// PEM file with its certificate
        #[arg(long)]
        certificate: Option<PathBuf>,
        /// Settings of the hub
        #[command(flatten)]
        configured: Configured,
    },
    /// Show the keys of single workers and the revoked certificates
    List(Configured),
}

/// `aiox certs`.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Make every key and certificate of a hub, with an authority of its own
    #[command(after_help = "Example:\n  aiox certs create --dir data/certs --domain hub-a.example --host hub.hub-a.example")]
    Create {
        /// Directory to write to
        #[arg(long)]
        dir: PathBuf,
        /// The hub's domain
        #[arg(long)]
        domain: String,
        /// Name of the node inside its domain
        #[arg(long, default_value = "main")]
        node: String,
        /// Further DNS names and addresses of its listeners
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Make a certificate for a worker, with the authority of `create`: `worker-<name>.pem` and `.key`
    #[command(after_help = "Example:\n  aiox certs worker --dir data/certs --domain hub-a.example worker-1")]
    Worker {
        /// The worker's `worker.id`
        worker: String,
        /// Directory with `authority.pem` and `authority.key`, and to write to
        #[arg(long)]
        dir: PathBuf,
        /// Domain of the hub that it works for
        #[arg(long)]
        domain: String,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Show names, purposes, lifetime and fingerprint of certificates
    Show {
        /// PEM files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// How to reach a hub as a client.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Hub of the local mesh whose credentials are used
    #[arg(long, default_value = "hub-a")]
    pub hub: String,
    /// Another hub: its base URL (with --key)
    #[arg(long, env = "AIOX_URL")]
    pub url: Option<String>,
    /// API key or access token for it
    #[arg(long, env = "AIOX_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// PEM authority of its certificate
    #[arg(long, env = "AIOX_CA")]
    pub ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// `aiox peer`.
#[derive(Debug, Subcommand)]
pub enum Peer {
    /// Print this hub's own fingerprint, for the operator of the other hub
    Fingerprint(Remote),
    /// Fetch another hub's trust document; with --fingerprint accept it at once
    #[command(after_help = "Example:\n  aiox peer add hub-b.example https://hub.hub-b.example --fingerprint 3f2a…")]
    Add {
        /// The other hub's domain
        domain: String,
        /// Base URL where its trust document is
        #[arg(value_name = "URL")]
        trust_url: String,
        /// The fingerprint that its operator told you by another way
        #[arg(long)]
        fingerprint: Option<String>,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Accept a proposed peer by the fingerprint that its operator told you by another way
    Confirm {
        /// The other hub's domain
        domain: String,
        /// Its fingerprint
        fingerprint: String,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// List peers with their state and what waits for them
    List(Remote),
    /// Show one peer
    Show {
        /// The other hub's domain
        domain: String,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Stop all traffic with a peer at once; what waits for it stays
    Suspend {
        /// The other hub's domain
        domain: String,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Go on with a suspended peer
    Resume {
        /// The other hub's domain
        domain: String,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Talk with a peer only while it publishes a signed conformance result that satisfies this
    #[command(
        after_help = "Examples:\n  aiox peer require hub-b.example --profile core --profile federation --max-age-days 30\n  aiox peer require hub-b.example --nothing\n\nThe other operator publishes a result with: aiox conformance --target https://hub.hub-b.example --admin-email … --publish"
    )]
    Require {
        /// The other hub's domain
        domain: String,
        /// A profile of which every judged MUST has passed; may be given again
        #[arg(long, value_parser = ["core", "federation", "xmpp", "models"], required_unless_present = "nothing")]
        profile: Vec<String>,
        /// Most days since the judgement
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
        max_age_days: u16,
        /// Ask for no result any more
        #[arg(long, conflicts_with = "profile")]
        nothing: bool,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a plain AgentOS node in that speaks no mutual TLS; not in production
    ///
    /// At the machine of the hub, on its database, whether or not the hub runs. Runs are forwarded to it over HTTP, and it believes the
    /// tenant and the principal that this hub names.
    #[command(after_help = "Example:\n  aiox peer allow-insecure stk_local_node_b --url http://127.0.0.1:8084")]
    AllowInsecure {
        /// Its id
        stack_id: String,
        /// Base URL where its runs are made; absent = as the peers file says
        #[arg(long)]
        url: Option<String>,
        /// Where the settings come from.
        #[command(flatten)]
        configured: Configured,
    },
    /// Talk no more with a plain AgentOS node
    RemoveInsecure {
        /// Its id
        stack_id: String,
        /// Where the settings come from.
        #[command(flatten)]
        configured: Configured,
    },
    /// Forget a peer
    Remove {
        /// The other hub's domain
        domain: String,
        /// The own hub.
        #[command(flatten)]
        remote: Remote,
    },
}

/// `aiox tenant`. Needs a platform admin's credential, or a tenant admin's for the own tenant.
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// List tenants with their status
    List(Remote),
    /// Make a tenant
    #[command(after_help = "Example:\n  aiox tenant create tnt_acme --name \"Acme\" --max-concurrent-runs 10 --run-create-qps 5")]
    Create {
        /// Its id: `tnt_` and 1 to 60 of A-Z a-z 0-9 _ -; a new one if absent
        id: Option<String>,
        /// Its name, for people
        #[arg(long)]
        name: Option<String>,
        /// Name of what its users pay for
        #[arg(long)]
        plan_tier: Option<String>,
        /// Most runs that have not ended
        #[arg(long)]
        max_concurrent_runs: Option<u32>,
        /// New runs in a second
        #[arg(long)]
        run_create_qps: Option<f64>,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one tenant
    Show {
        /// Its id
        id: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Let the credentials of a tenant work again
    Enable {
        /// Its id
        id: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Refuse the credentials of a tenant at every door
    Disable {
        /// Its id
        id: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Delete a tenant; its data stays in the database, and nobody reaches it
    Delete {
        /// Its id
        id: String,
        /// Without this nothing is deleted
        #[arg(long)]
        yes_really: bool,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Credentials of programs that act in a tenant
    #[command(subcommand)]
    Token(Token),
}

/// `aiox tenant token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// List the living tokens of a tenant
    List {
        /// The tenant
        tenant: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a token and print its secret, once
    #[command(after_help = "Example:\n  aiox tenant token issue tnt_acme --name ci --scope runs:create --scope runs:read > ci.token")]
    Issue {
        /// The tenant
        tenant: String,
        /// What it is for
        #[arg(long)]
        name: Option<String>,
        /// `tenant_service`, `tenant_user` or `tenant_admin`
        #[arg(long)]
        role: Option<String>,
        /// What it may do; everything that its role may, if none is given
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Give a token a new secret and print it, once; the old one is dead
    Rotate {
        /// The tenant
        tenant: String,
        /// The token's id
        token: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// End a token
    Revoke {
        /// The tenant
        tenant: String,
        /// The token's id
        token: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
}

/// `aiox audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Read every chain of audit records and say whether anything was changed or taken out
    ///
    /// The hub may run meanwhile. Exit code: 0 every record is as it was written, 1 one is not, or the database cannot be read.
    #[command(after_help = "Example:\n  aiox audit verify --config aiox.toml")]
    Verify {
        /// Where the settings come from.
        #[command(flatten)]
        configured: Configured,
        /// Also check the lines of an audit sink's file against the database
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
}

/// `aiox user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Make an account directly in the hub's database, whatever the sign-up policy
    #[command(
        after_help = "Example (the password is read from standard input):\n  aiox user add --config aiox.toml --email operator@hub-a.example --role platform_admin operator < password.txt"
    )]
    Add {
        /// Name on XMPP and REST
        username: String,
        /// E-mail address
        #[arg(long)]
        email: String,
        /// `platform_admin`, `tenant_admin`, `manager`, `operator`, `viewer`, `user` or `service`
        #[arg(long, default_value = "user")]
        role: String,
        /// The hub's settings.
        #[command(flatten)]
        configured: Configured,
    },
}

/// `aiox chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// Handle, id or address of the agent, on this hub or on a peer
    pub agent: String,
    /// What to say
    pub message: String,
    /// Print the answer as it comes
    #[arg(long)]
    pub stream: bool,
    /// The hub.
    #[command(flatten)]
    pub remote: Remote,
}

/// `aiox run`.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Your latest runs
    List(Remote),
    /// One run
    Show {
        /// Its id
        id: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
    /// Cancel a run
    Cancel {
        /// Its id
        id: String,
        /// The hub.
        #[command(flatten)]
        remote: Remote,
    },
}

/// `aiox dev-dns`.
#[derive(Debug, Args)]
pub struct DevDns {
    /// Loopback address to answer on
    #[arg(long)]
    pub listen: std::net::SocketAddr,
    /// `domain=address:port` of an XMPP server
    #[arg(long = "server", required = true)]
    pub servers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportForm {
    /// What is no pass, in words
    Terminal,
    /// For CI systems
    Junit,
    /// Everything, with requests and answers
    Json,
    /// One page for a browser
    Html,
}

/// `aiox conformance`.
#[derive(Debug, Args)]
pub struct Conformance {
    /// URL of the hub's product listener
    #[arg(long, required_unless_present = "local", conflicts_with = "local")]
    pub target: Option<url::Url>,
    /// Judge hub A of the local mesh (`aiox up`), with everything that is known of it
    #[arg(long)]
    pub local: bool,
    /// URL of a hub that is its peer, for requirements on two hubs
    #[arg(long)]
    pub peer: Option<url::Url>,
    /// E-mail address of an administrator of the hub; the password is read from standard input
    #[arg(long)]
    pub admin_email: Option<String>,
    /// Invitation to register with
    #[arg(long)]
    pub invite: Option<String>,
    /// PEM authorities of the hub's certificates
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Another client-facing port of the same hub; may be given again
    #[arg(long, value_name = "URL")]
    pub also: Vec<url::Url>,
    /// Where XMPP clients log in, as host:port; with --xmpp-domain
    #[arg(long, value_name = "HOST:PORT", requires = "xmpp_domain")]
    pub xmpp: Option<String>,
    /// The hub's domain on XMPP
    #[arg(long)]
    pub xmpp_domain: Option<String>,
    /// Where workers dial in, for instance https://hub.hub-a.example:50051; with --worker-key-file
    #[arg(long, value_name = "URL", requires = "worker_key_file")]
    pub worker_url: Option<String>,
    /// File with a key that is good for workers of any name
    #[arg(long, value_name = "FILE")]
    pub worker_key_file: Option<PathBuf>,
    /// Which requirements; may be given again
    #[arg(long, value_parser = ["core", "federation", "xmpp", "models", "all"], default_value = "all")]
    pub profile: Vec<String>,
    /// Only requirements whose id begins so, for instance RUN or STR-015; may be given again
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Form of the report; may be given again, with an --out for each
    #[arg(long, value_enum, default_value = "terminal")]
    pub report: Vec<ReportForm>,
    /// Write the report here instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// Also write one line of JSON for each requirement here, sorted, without anything that changes from run to run
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Requirements that are known to fail, one line each: ID and reason. One that passes is a failure too
    #[arg(long, value_name = "FILE")]
    pub expected_failures: Option<PathBuf>,
    /// Publish what came of it at the hub, signed by it, for its peers; needs an administrator with the scope peers:admin
    #[arg(long, conflicts_with_all = ["only", "mutants"])]
    pub publish: bool,
    /// The hub is in mode prod: judge what holds there alone
    #[arg(long)]
    pub production: bool,
    /// Cases at once
    #[arg(long, default_value_t = 8)]
    pub parallel: usize,
    /// Stop at the first requirement that fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Test the suite itself: break the hub in many ways, one at a time, behind a proxy; write what the suite noticed here
    #[arg(long, value_name = "FILE")]
    pub mutants: Option<PathBuf>,
    /// The local mesh.
    #[command(flatten)]
    pub place: Place,
}

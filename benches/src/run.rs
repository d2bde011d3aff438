//! The commands.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::{Cli, ColdStart, Command, Idle, Load, MainJob, SelfTest, Shape};
use crate::component::{ComponentServer, Sender};
use crate::hub::{DOMAIN, Place};
use crate::latency::{millis, percentile, round};
use crate::ledger::Ledger;
use crate::measure::{Target, level};
use crate::process::Process;
use crate::report::Report;
use crate::rest::Metrics;
use crate::selftest::{self, Size, listener};
use crate::senders::{Mode, Senders};
use crate::worker::{self, Done, WorkerOptions};

/// Time for a hub's component and workers to be there.
const CONNECT: Duration = Duration::from_secs(20);

/// Runs a command. `false`: some message was not answered exactly once.
pub(crate) async fn run(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::MainJob(args) => main_job(args).await,
        Command::Load(args) => load(args).await,
        Command::ColdStart(args) => cold_start(args).await.map(|()| true),
        Command::Idle(args) => idle(args).await.map(|()| true),
        Command::SelfTest(args) => self_test(args).await.map(|()| true),
    }
}

async fn main_job(args: MainJob) -> Result<bool> {
    let place = Place::create(&args.own.aiox, &args.own.dir, &args.own.set)?;
    main_job_at(&args, &place).await.map_err(|error| error.context(place.last_lines()))
}

async fn main_job_at(args: &MainJob, place: &Place) -> Result<bool> {
    let shape = &args.shape;
    let mut report = Report::new(Some(&shape.out))?;
    let ledger = Arc::new(Ledger::new(tag(), DOMAIN));
    let server = ComponentServer::start(0, &place.component_secret, listener(&ledger)).await?;
    place.configure(Some(server.port()))?;

    let (hub, _) = place.start().await?;
    let made = hub.rest.make_agent(&shape.provider, args.memory).await?;
    hub.stop().await?;
    let users = shape.modes()?.iter().map(|mode| shape.users(*mode)).sum();
    crate::seed::seed(place, made.agent, users, args.agents).await?;

    let (hub, _) = place.start().await?;
    let link = server.connected(CONNECT).await?;
    let options = WorkerOptions { url: place.worker_url(), key: place.worker_key.clone(), ca: None, ..shape.worker() };
    let workers = Workers::start(options, shape.workers).await?;
    let target = Target {
        engine: format!("{:?}", place.settings()?.database.engine).to_lowercase(),
        process: Some(hub.process),
        metrics: Some(hub.rest.metrics()),
        data: Some(place.data()),
        memory: Some(args.memory),
        agents: Some(args.agents + 1),
    };
    let senders = Arc::new(shape.senders(link, ledger, made.jid, 0));
    let exact = levels(shape, &senders, &target, &mut report, &workers).await?;
    workers.stop();
    hub.stop().await?;
    Ok(exact)
}

async fn load(args: Load) -> Result<bool> {
    let shape = &args.shape;
    let mut report = Report::new(Some(&shape.out))?;
    let domain = match &args.user_domain {
        Some(domain) => domain.clone(),
        None => {
            let own = args.agent_jid.split_once("@agents.").map(|(_, domain)| domain);
            own.context("--user-domain is needed: the agent's address has no @agents.")?.to_owned()
        }
    };
    let ledger = Arc::new(Ledger::new(tag(), &domain));
    let server = ComponentServer::start(args.component_port, &args.component_secret, listener(&ledger)).await?;
    let link = server.connected(Duration::from_secs_f64(args.connect_within)).await?;
    let workers = match &args.worker_url {
        Some(url) => {
            let options = WorkerOptions { url: url.clone(), key: args.worker_key.clone(), ca: args.worker_ca.clone(), ..shape.worker() };
            Workers::start(options, shape.workers).await?
        }
        None => Workers::default(),
    };
    let target = Target {
        engine: args.engine.clone(),
        process: args.pid.map(Process),
        metrics: args.metrics_url.as_deref().map(Metrics::new).transpose()?,
        data: args.data_dir.clone(),
        ..Target::default()
    };
    let first = match args.first_user {
        Some(first) => first,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() * 1000,
    };
    let senders = Arc::new(shape.senders(link, ledger, args.agent_jid.clone(), first));
    let exact = levels(shape, &senders, &target, &mut report, &workers).await?;
    workers.stop();
    Ok(exact)
}

async fn levels(shape: &Shape, senders: &Arc<Senders>, target: &Target, report: &mut Report, workers: &Workers) -> Result<bool> {
    let mut rows_exact = true;
    for mode in shape.modes()? {
        let row = level(senders, target, mode, shape.warm_up_of(mode), shape.messages).await?;
        rows_exact &= row.is_exact();
        report.row(&row)?;
        workers.check()?;
    }
    // What came during a later level for an earlier one was in nobody's row.
    let all = senders.ledger.summary(0..senders.ledger.next());
    let exact = all.duplicates + all.lost + all.failed == 0;
    Ok(rows_exact && exact)
}

async fn cold_start(args: ColdStart) -> Result<()> {
    let mut report = Report::new(Some(&args.out))?;
    let mut times = Vec::new();
    for _ in 0..args.runs {
        let place = Place::create(&args.own.aiox, &args.own.dir, &args.own.set)?;
        place.configure(None)?;
        let start_and_stop = async {
            let (hub, took) = place.start().await?;
            hub.stop().await?;
            anyhow::Ok(took)
        };
        times.push(start_and_stop.await.map_err(|error| error.context(place.last_lines()))?);
    }
    times.sort_unstable();
    let at = |percent| percentile(&times, percent).map_or(0.0, |time| round(millis(time)));
    let (median, longest) = (at(50.0), at(100.0));
    let fact = json!({ "measure": "cold-start", "runs": args.runs, "p50_ms": median, "max_ms": longest });
    report.fact(&format!("cold start: median {median} ms, longest {longest} ms of {}", args.runs), &fact)
}

async fn idle(args: Idle) -> Result<()> {
    let mut report = Report::new(Some(&args.out))?;
    let place = Place::create(&args.own.aiox, &args.own.dir, &args.own.set)?;
    place.configure(None)?;
    let rest = async {
        let (hub, _) = place.start().await?;
        let before = hub.process.cpu_seconds()?;
        tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
        let used = (hub.process.rss_mib()?, hub.process.cpu_seconds()? - before);
        hub.stop().await?;
        anyhow::Ok(used)
    };
    let (rss, cpu) = rest.await.map_err(|error| error.context(place.last_lines()))?;
    let (rss, cpu) = (round(rss), round(cpu * 1000.0));
    let fact = json!({ "measure": "idle", "seconds": args.seconds, "rss_mb": rss, "cpu_ms": cpu });
    report.fact(&format!("idle: {rss} MiB resident, {cpu} ms CPU in {} s", args.seconds), &fact)
}

async fn self_test(args: SelfTest) -> Result<()> {
    let mut report = Report::new(args.out.as_deref())?;
    let size = Size { messages: args.messages, rate: args.rate, patience: Duration::from_secs_f64(args.timeout) };
    selftest::run(size, &mut report, Path::new(".")).await?;
    crate::say("the harness counts exactly");
    Ok(())
}

impl Shape {
    fn modes(&self) -> Result<Vec<Mode>> {
        if self.concurrency.contains(&0) || self.rate.iter().any(|rate| !(*rate > 0.0 && rate.is_finite())) {
            bail!("--concurrency and --rate must be above 0");
        }
        let closed = self.concurrency.iter().map(|lanes| Mode::Closed(*lanes));
        Ok(closed.chain(self.rate.iter().map(|rate| Mode::Open(*rate))).collect())
    }

    /// Every lane warms up.
    fn warm_up_of(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Closed(lanes) => self.warm_up.max(lanes.into()),
            Mode::Open(_) => self.warm_up,
        }
    }

    fn users(&self, mode: Mode) -> u64 {
        mode.users(self.warm_up_of(mode), self.per_user) + mode.users(self.messages, self.per_user)
    }

    fn senders(&self, link: Sender, ledger: Arc<Ledger>, agent: String, first_user: u64) -> Senders {
        Senders {
            link,
            ledger,
            agent,
            next_user: AtomicU64::new(first_user),
            per_user: self.per_user,
            body_bytes: self.body_bytes,
            receipts: self.receipts,
            patience: Duration::from_secs_f64(self.timeout),
            max_lost: self.max_lost,
        }
    }

    /// Without the address of the hub and what it wants to see.
    fn worker(&self) -> WorkerOptions {
        WorkerOptions {
            url: String::new(),
            key: String::new(),
            ca: None,
            id: "load".into(),
            slots: self.slots,
            protocol: self.worker_protocol,
            provider: self.provider.clone(),
        }
    }
}

/// The mock workers of a load.
#[derive(Default)]
struct Workers(Vec<tokio::task::JoinHandle<Result<Done>>>);

impl Workers {
    async fn start(options: WorkerOptions, count: u32) -> Result<Self> {
        let mut workers = Self::default();
        let mut waiting = JoinSet::new();
        for number in 0..count {
            let options = WorkerOptions { id: format!("{}-{number}", options.id), ..options.clone() };
            let (registered, told) = oneshot::channel();
            workers.0.push(tokio::spawn(worker::run(options, registered)));
            waiting.spawn(told);
        }
        while let Some(told) = timeout(CONNECT, waiting.join_next()).await? {
            if told?.is_err() {
                workers.failure().await?;
            }
        }
        Ok(workers)
    }

    /// Why a worker has ended.
    async fn failure(&mut self) -> Result<()> {
        for worker in &mut self.0 {
            if worker.is_finished() {
                worker.await?.context("worker")?;
            }
        }
        Err(anyhow!("a worker ended before it was registered"))
    }

    /// A load that lost its worker measures nothing.
    fn check(&self) -> Result<()> {
        match self.0.iter().any(tokio::task::JoinHandle::is_finished) {
            true => bail!("a worker's session ended during the load"),
            false => Ok(()),
        }
    }

    fn stop(self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Keeps the tokens of two runs apart.
fn tag() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

//! `aiox conformance`: judges a hub and tells what came of it.

use std::{path::Path, process::ExitCode};

use aiox_conformance::{Expected, Login, Options, Profile, Progress, Report, Verdict, WorkerAccess, XmppAccess, judge, mutants, report};
use anyhow::{Context as _, Result, bail};

use crate::{
    cli::{Conformance, ReportForm},
    commands,
    operator::{site::Site, up::credentials},
    published_result, say,
};

/// Exit code when nothing could be judged.
const NOT_JUDGED: u8 = 2;

/// Judges, reports, and answers with the exit code of the verdict.
pub async fn conformance(command: Conformance) -> ExitCode {
    match run(command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::from(NOT_JUDGED)
        }
    }
}

async fn run(command: Conformance) -> Result<u8> {
    let expected = match &command.expected_failures {
        Some(file) => Expected::parse(&read(file)?).with_context(|| file.display().to_string())?,
        None => Expected::default(),
    };
    if !command.out.is_empty() && command.out.len() != command.report.len() {
        bail!("--out: give one for each --report, or none");
    }
    let options = options(&command)?;
    if let Some(file) = &command.mutants {
        return hunt(&options, &expected, file).await;
    }
    let report = judge(options.clone(), &expected, progress).await.map_err(anyhow::Error::msg)?;
    if let Some(file) = &command.results {
        write(file, &report::lines(&report))?;
    }
    if command.publish {
        let published = published_result::publish(&options, &report).await?;
        say::done(&format!("published at {}.well-known/aiox-conformance.json, judged at {}", options.target, published.judged_at));
    }
    for (form, file) in command.report.iter().zip(&command.out) {
        write(file, &written(&report, *form))?;
    }
    if command.out.is_empty() {
        command.report.iter().for_each(|form| say::result(written(&report, *form).trim_end()));
    } else {
        say::news(&report.summary());
    }
    Ok(report.exit_code())
}

fn written(report: &Report, form: ReportForm) -> String {
    match form {
        ReportForm::Terminal => report::terminal(report),
        ReportForm::Junit => report::junit(report),
        ReportForm::Json => report::json(report),
        ReportForm::Html => report::html(report),
    }
}

/// Lets the suite judge broken hubs. Exit code 1 when one of them passes for a good one.
async fn hunt(options: &Options, expected: &Expected, file: &Path) -> Result<u8> {
    let began = std::time::Instant::now();
    let hunted = mutants::hunt(options, expected, |fate| {
        let seconds = fate.took.as_secs_f64();
        match (&fate.caught_by, &fate.not_judged) {
            (Some(case), _) => say::news(&format!("{case} caught in {seconds:.1} s: {}", fate.mutant)),
            (None, Some(_)) => say::news(&format!("{} not judged: {}", fate.breaks, fate.mutant)),
            (None, None) => say::news(&format!("{} SURVIVED: {}", fate.breaks, fate.mutant)),
        }
    });
    let fates = hunted.await.map_err(anyhow::Error::msg)?;
    write(file, &format!("{}\n", serde_json::to_string_pretty(&fates)?))?;
    say::result(fates.table().trim_end());
    say::news(&format!("in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(fates.exit_code())
}

fn progress(at: Progress) {
    if at.verdict == Verdict::Pass && !at.done.is_multiple_of(10) && at.done != at.all {
        return;
    }
    say::news(&format!("{:>3}/{} {} {}", at.done, at.all, at.id, at.verdict.as_str()));
}

fn options(command: &Conformance) -> Result<Options> {
    let mut options = if command.local { local(command)? } else { Options::new(command.target.clone().context("--target is missing")?) };
    if let Some(peer) = &command.peer {
        options.peer = Some(peer.clone());
    }
    if let Some(email) = &command.admin_email {
        // The password of an administrator does not belong on a command line, where other users of the machine see it.
        let password = std::io::read_to_string(std::io::stdin()).context("--admin-email needs the password on standard input")?;
        options.admin = Some(Login { email: email.clone(), password: password.trim_end().to_owned() });
    }
    if let Some(file) = &command.ca {
        options.ca = Some(std::fs::read(file).with_context(|| file.display().to_string())?);
    }
    if let (Some(address), Some(domain)) = (&command.xmpp, &command.xmpp_domain) {
        let (host, port) = address.rsplit_once(':').context("--xmpp: must be host:port")?;
        let port = port.parse().context("--xmpp: must be host:port")?;
        options.xmpp = Some(XmppAccess { domain: domain.clone(), host: host.to_owned(), port, ca: command.ca.clone() });
    }
    if let (Some(url), Some(file)) = (&command.worker_url, &command.worker_key_file) {
        options.worker = Some(WorkerAccess { url: url.clone(), ca: options.ca.clone(), key: read(file)?.trim_end().to_owned() });
    }
    if !command.profile.iter().any(|one| one == "all") {
        options.profiles = command.profile.iter().map(|one| one.parse::<Profile>().map_err(anyhow::Error::msg)).collect::<Result<_>>()?;
    }
    options.invite.clone_from(&command.invite);
    options.other_ports.extend(command.also.iter().cloned());
    options.only.clone_from(&command.only);
    options.parallel = command.parallel;
    options.fail_fast = command.fail_fast;
    options.production = command.production;
    Ok(options)
}

/// Hub A of the local mesh, and all that `aiox up` knows of it.
fn local(command: &Conformance) -> Result<Options> {
    let mesh = commands::mesh(&command.place);
    let sites = mesh.sites();
    let url = |site: &Site| site.url().parse::<url::Url>().with_context(|| site.url());
    let login = |site: &Site| -> Result<Login> {
        let admin = credentials(site)?.admin;
        Ok(Login { email: admin.email, password: admin.password })
    };
    if !sites[0].credentials_file().exists() {
        bail!("there is no mesh in {}: start one with `aiox up`, or give --target", mesh.dir.display());
    }
    let mut options = Options::new(url(&sites[0])?);
    options.peer = Some(url(&sites[1])?);
    options.admin = Some(login(&sites[0])?);
    options.peer_admin = Some(login(&sites[1])?);
    options.ca = Some(std::fs::read(mesh.ca()).with_context(|| mesh.ca().display().to_string())?);
    let key = credentials(&sites[0])?.worker_key;
    options.worker = Some(WorkerAccess { url: format!("https://localhost:{}", sites[0].grpc_port()), ca: options.ca.clone(), key });
    // A mesh of an older `aiox up` has no second port.
    if listens(sites[0].second()) {
        options.other_ports.push(sites[0].second_url().parse().with_context(|| sites[0].second_url())?);
    }
    let c2s = sites[0].c2s();
    if listens(c2s) {
        options.xmpp = Some(XmppAccess { domain: sites[0].domain(), host: c2s.ip().to_string(), port: c2s.port(), ca: Some(mesh.ca()) });
    }
    Ok(options)
}

fn listens(address: std::net::SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).is_ok()
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

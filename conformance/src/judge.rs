//! One judgement: which cases, in which order, and what comes of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;

use crate::{
    case::{Case, Outcome, Stop},
    cases,
    document::Documents,
    expected::Expected,
    report::{Judgement, Report, Verdict},
    requirement::{Level, Profile, Requirement, requirements, uncovered},
    scene::{Scene, chain},
    world::{Options, World},
};

/// The requirement that all answers of a judgement are held against.
pub(crate) const DOCUMENTED: &str = "OPS-008";

/// Longest wait for the first answer of a hub.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How far a judgement is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Cases that have ended.
    pub done: usize,
    /// Cases in all.
    pub all: usize,
    /// The one that has just ended.
    pub id: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// Judges a hub. `progress` is called after each case.
///
/// # Errors
/// A text, when nothing can be judged at all: the target cannot be reached, or is no hub.
pub async fn judge(options: Options, expected: &Expected, progress: impl Fn(Progress) + Sync) -> Result<Report, String> {
    let began = Instant::now();
    let target = options.target.to_string();
    let profiles = options.profiles.clone();
    let world = World::new(options).map_err(|error| format!("no HTTP client: {}", chain(&error)))?;
    let hub = look(&world, PATIENCE).await?;
    if profiles.contains(&Profile::Core) && wanted(&world, DOCUMENTED) {
        describe(&world).await?;
    }

    let asked: Vec<&Requirement> = requirements().iter().filter(|one| profiles.contains(&one.profile) && wanted(&world, &one.id)).collect();
    let (mut judged, mut jobs) = (Vec::new(), Vec::new());
    for requirement in asked {
        match cases::all().find(|case| case.id == requirement.id) {
            Some(case) => jobs.push((requirement, case)),
            None => judged.push(left_out(requirement)),
        }
    }
    let (all, done) = (jobs.len(), AtomicUsize::new(0));
    let told = |judgement: Judgement| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress(Progress { done, all, id: judgement.id.clone(), verdict: judgement.verdict });
        judgement
    };
    let stages = [(0, world.options.parallel.max(1)), (1, 2), (2, 1)];
    for (stage, at_once) in stages {
        let mut of_stage: Vec<_> = jobs.iter().filter(|(_, case)| case.stage == stage).copied().collect();
        of_stage.sort_by_key(|(_, case)| !case.slow);
        let running = futures::stream::iter(of_stage).map(|(requirement, case)| run(world.clone(), requirement, *case));
        let ended: Vec<Judgement> = running.buffer_unordered(at_once).map(&told).collect().await;
        judged.extend(ended);
    }
    for (requirement, case) in jobs {
        let Some(first) = judged.iter_mut().find(|one| one.id == requirement.id) else { continue };
        if expected.reason(&requirement.id).is_none() && !world.is_over() {
            *first = once_more(&world, requirement, *case, first.clone()).await;
        }
    }
    let mut left = world.clean().await;
    left.extend(world.close_accounts().await);
    judged.sort_by(|a, b| a.id.cmp(&b.id));
    for one in &mut judged {
        one.expected = expected.reason(&one.id).map(str::to_owned);
    }
    Ok(Report {
        suite: env!("CARGO_PKG_VERSION").to_owned(),
        target,
        hub,
        profiles: profiles.into_iter().collect(),
        judged,
        left,
        took: began.elapsed(),
    })
}

/// Looks again, alone, at a case that did not pass: it may have been disturbed by the others, which change peers, tenants and limits of
/// the same hub. The second verdict counts, and the report tells what the first look said.
async fn once_more(world: &Arc<World>, requirement: &Requirement, case: Case, first: Judgement) -> Judgement {
    if !matches!(first.verdict, Verdict::Fail | Verdict::Error) {
        return first;
    }
    let second = run(world.clone(), requirement, case).await;
    Judgement { first_look: first.reason, ..second }
}

/// Reads the documents that every answer is held against.
pub(crate) async fn describe(world: &Arc<World>) -> Result<(), String> {
    let served = match Scene::new(world.clone()).call(reqwest::Method::GET, "/openapi/node.json").send().await {
        Ok(answer) if answer.status == 200 => Some(answer.bytes),
        _ => None,
    };
    let documents = Documents::new(served.as_deref())?;
    // Whoever was first, the documents are the same.
    let _ = world.documents.set(documents);
    Ok(())
}

fn wanted(world: &World, id: &str) -> bool {
    world.options.only.is_empty() || world.options.only.iter().any(|start| id.starts_with(start.as_str()))
}

/// Whether there is a hub at all, and which.
pub(crate) async fn look(world: &Arc<World>, patience: Duration) -> Result<String, String> {
    let scene = Scene::new(world.clone());
    let target = &world.options.target;
    let asked = tokio::time::timeout(patience, scene.call(reqwest::Method::GET, "/v1/health").send()).await;
    let answer = match asked {
        Err(_) => return Err(format!("{target} does not answer within {patience:?}: is it up, and is it the right port?")),
        Ok(Err(Stop::Harness(text) | Stop::Failed(text) | Stop::NotRun(text))) => {
            return Err(format!("{target} cannot be reached: {text}"));
        }
        Ok(Ok(answer)) => answer,
    };
    if answer.status != 200 || answer.text("/status").is_empty() {
        return Err(format!(
            "{target} is no AIOX hub: GET /v1/health answered {} with {}. Give the URL of the hub's product listener, for instance http://127.0.0.1:8080",
            answer.status,
            crate::exchange::shown(&answer.bytes),
        ));
    }
    Ok(answer.text("/version").to_owned())
}

/// Judges one requirement.
pub(crate) async fn run(world: Arc<World>, requirement: &Requirement, case: Case) -> Judgement {
    let scene = Scene::new(world.clone());
    let began = Instant::now();
    let outcome: Outcome = if world.is_over() {
        Err(Stop::NotRun("the judgement ended at an earlier failure".into()))
    } else {
        let work = tokio::spawn((case.run)(scene.clone()));
        let stop = work.abort_handle();
        match tokio::time::timeout(world.options.case_timeout, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(Stop::Harness(format!("the case ended with a panic: {error}"))),
            Err(_) => {
                stop.abort();
                Err(Stop::Harness(format!("the case did not end within {:?}", world.options.case_timeout)))
            }
        }
    };
    if outcome.is_err() {
        scene.cancel_runs().await;
    }
    let (verdict, reason) = match outcome {
        Ok(()) => (Verdict::Pass, None),
        Err(Stop::Failed(text)) => (Verdict::Fail, Some(text)),
        Err(Stop::NotRun(text)) => (Verdict::NotRun, Some(text)),
        Err(Stop::Harness(text)) => (Verdict::Error, Some(text)),
    };
    if verdict == Verdict::Fail && requirement.level == Level::Must {
        world.over.store(true, Ordering::Relaxed);
    }
    let exchanges = scene.record.lock().map(|mut record| std::mem::take(&mut *record)).unwrap_or_default();
    Judgement {
        took: began.elapsed(),
        exchanges: if verdict == Verdict::Pass { Vec::new() } else { exchanges },
        ..Judgement::of(requirement, verdict, reason)
    }
}

fn left_out(requirement: &Requirement) -> Judgement {
    let reason = uncovered().find(|(id, _)| *id == requirement.id).map_or("there is no case", |(_, reason)| reason);
    Judgement::of(requirement, Verdict::Uncovered, Some(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What is said of something that answers every connection with these bytes; with nothing, it goes on waiting.
    async fn said_of(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        let world = World::new(Options::new(target)).unwrap();
        let said = look(&world, Duration::from_millis(300)).await.unwrap_err();
        server.abort();
        said
    }

    #[tokio::test]
    async fn a_target_that_is_no_hub_is_not_judged() {
        for (answer, words) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", "is no AIOX hub"),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", "is no AIOX hub"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "broke off"),
            ("SSH-2.0-x\r\n", "cannot be reached"),
            ("", "does not answer within"),
        ] {
            let said = said_of(answer).await;
            assert!(said.contains(words), "{answer:?}: {said}");
        }
    }

    #[tokio::test]
    async fn a_target_that_is_down_is_not_judged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let said = judge(Options::new(target.parse().unwrap()), &Expected::default(), |_| {}).await.unwrap_err();
        assert!(said.contains("cannot be reached"), "{said}");
    }
}

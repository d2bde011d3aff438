//! Following a run over the wire (D5): from every position, over cuts, to its end.

use std::{sync::Arc, time::Duration};

use aiox_federation::follow::Follow;
use aiox_model::{RunId, Ts, run::RunEvent};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    doubles::{MemoryRuns, TestIds},
    hub::{Hub, two},
};

const LAST: u64 = 6;

fn events(run: RunId) -> Vec<RunEvent> {
    let kind = |sequence| if sequence == LAST { "run.completed" } else { "run.step" };
    let event = |sequence| RunEvent {
        id: Uuid::now_v7(),
        run_id: run.uuid(),
        sequence,
        kind: kind(sequence).to_owned(),
        time: Ts::from_seconds(1_700_000_000),
        payload: json!({ "text": format!("ü {sequence}\nline") }),
    };
    (1..=LAST).map(event).collect()
}

fn run_of(a: &Hub, b: &Hub) -> (RunId, Vec<RunEvent>) {
    let run = RunId(Uuid::now_v7());
    let events = events(run);
    b.feed.runs.lock().unwrap().insert(run, (a.node.clone(), events.clone()));
    (run, events)
}

/// Follows until the last event has arrived.
async fn followed(a: &Hub, run: RunId, after: u64) -> (Vec<RunEvent>, Arc<MemoryRuns>) {
    let runs = Arc::new(MemoryRuns::new(run, after, LAST));
    let stop = CancellationToken::new();
    let follow = Follow { links: a.links.clone(), runs: runs.clone(), ids: Arc::new(TestIds) };
    let task = tokio::spawn(Arc::new(follow).run(stop.clone()));
    let mut log = runs.log.subscribe();
    let done = log.wait_for(|log| log.last().is_some_and(|event| event.sequence == LAST));
    let log = timeout(Duration::from_secs(20), done).await.unwrap().unwrap().clone();
    stop.cancel();
    task.await.unwrap();
    (log, runs)
}

#[tokio::test]
async fn a_run_can_be_followed_from_every_position() {
    let (a, b) = two().await;
    for after in 0..LAST {
        let (run, events) = run_of(&a, &b);
        let (log, runs) = followed(&a, run, after).await;
        assert_eq!(log, events[usize::try_from(after).unwrap()..], "after {after}");
        assert_eq!(runs.deltas.lock().unwrap()[0].text, "hel\nlo");
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_resumed_without_loss_or_repetition() {
    let (a, b) = two().await;
    for cut in 1..=usize::try_from(LAST).unwrap() {
        let (run, events) = run_of(&a, &b);
        b.feed.cuts.lock().unwrap().push(cut);
        let (log, _) = followed(&a, run, 0).await;
        assert_eq!(log, events, "cut after {cut} items");
    }
    // One item is the delta, so a cut after `n` items leaves `n - 1` events behind it.
    let opened = b.feed.opened.lock().unwrap().clone();
    assert_eq!(opened, [0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5]);
}

#[tokio::test]
async fn a_peer_that_skips_a_number_is_not_believed() {
    let (a, b) = two().await;
    let (run, events) = run_of(&a, &b);
    let mut gap = events.clone();
    gap.remove(2);
    b.feed.runs.lock().unwrap().insert(run, (a.node.clone(), gap));
    let runs = Arc::new(MemoryRuns::new(run, 0, LAST));
    let stop = CancellationToken::new();
    let follow = Follow { links: a.links.clone(), runs: runs.clone(), ids: Arc::new(TestIds) };
    let task = tokio::spawn(Arc::new(follow).run(stop.clone()));
    let mut log = runs.log.subscribe();
    timeout(Duration::from_secs(10), log.wait_for(|log| log.len() == 2)).await.unwrap().unwrap();
    // The peer mends itself: following goes on where it stood.
    b.feed.runs.lock().unwrap().insert(run, (a.node.clone(), events.clone()));
    let log = timeout(Duration::from_secs(20), log.wait_for(|log| log.len() == events.len())).await.unwrap().unwrap().clone();
    assert_eq!(log, events);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_stream_has_ids_on_events_alone_and_others_runs_do_not_exist() {
    let (a, b) = two().await;
    let (run, _) = run_of(&a, &b);
    let mut raw = a.raw(&b).await;
    let path = format!("/fed/v1/runs/{run}/events");
    let mut get = async |path: &str| raw.send("GET", path, Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
    let whole = get(&format!("{path}?after=4")).await;
    assert_eq!(whole.headers["content-type"], "text/event-stream");
    assert!(whole.body.starts_with("retry: 1000\n\n"), "{}", whole.body);
    let ids: Vec<_> = whole.body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["5", "6"]);
    assert_eq!(get(&format!("{path}?after=6")).await.status, 204, "ended and nothing left");
    assert_eq!(get(&format!("{path}?after=x")).await.status, 404);
    let c = Hub::start("hub-c.example").await;
    b.trusts(&c, |_| {});
    let other = c.raw(&b).await.send("GET", &path, Some(&c.bearer(&b, "stream")), vec![]).await.unwrap();
    let unknown = get("/fed/v1/runs/run_00000000000000000000000001/events").await;
    assert_eq!((other.status, other.body), (404, unknown.body));
}

#[tokio::test]
async fn open_streams_are_bounded_and_end_with_the_peer() {
    let (a, b) = two().await;
    let (run, _) = run_of(&a, &b);
    let path = format!("/fed/v1/runs/{run}/events");
    *b.feed.hold.lock().unwrap() = Some(Arc::new(Notify::new()));
    b.trusts(&a, |record| record.quotas.open_streams = 1);
    let mut raw = a.raw(&b).await;
    let mut open = raw.open("GET", &path, Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
    assert_eq!(open.status(), 200);
    let second = raw.send("GET", &path, Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
    assert_eq!((second.status, second.headers["retry-after"].to_str().unwrap()), (429, "5"));
    b.trusts(&a, |record| record.state = aiox_model::federation::PeerState::Suspended);
    let ended = async {
        while let Some(frame) = open.body_mut().frame().await {
            if frame.is_err() {
                return true;
            }
        }
        false
    };
    assert!(timeout(Duration::from_secs(2), ended).await.unwrap(), "F11: the open stream is cut");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_and_its_place_is_free_again() {
    let (a, b) = two().await;
    b.trusts(&a, |record| record.quotas.open_streams = 1);
    let run = RunId(Uuid::now_v7());
    let large = |sequence| RunEvent { sequence, payload: json!("x".repeat(4096)), ..events(run).remove(0) };
    b.feed.runs.lock().unwrap().insert(run, (a.node.clone(), (1..1000).map(large).collect()));
    let path = format!("/fed/v1/runs/{run}/events");
    let mut raw = a.raw(&b).await;
    let open = raw.open("GET", &path, Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
    timeout(Duration::from_secs(10), b.feed.dropped.notified()).await.unwrap();
    let (mut body, mut seen) = (open.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.into_data().map_or(0, |data| data.len());
    }
    assert!(seen > 0 && seen < 4096 * 1000, "{seen} bytes: some, and not all");
    let after = a.raw(&b).await.open("GET", &format!("{path}?after=990"), Some(&a.bearer(&b, "stream")), vec![]).await.unwrap();
    assert_eq!(after.status(), 200);
}

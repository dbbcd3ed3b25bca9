//! Many changes at full speed: every subscriber sees every revision once and in order (G3), and timestamps
//! stay ahead of the wall clock's pace, also across a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_tests::{Script, Server, Subscriber, Worker, stored, within};
use serde_json::json;
use tokio::sync::Notify;

/// The unanswered calls of a writer.
const WINDOW: u64 = 256;
/// How far a subscriber may be behind before the writer waits for it. A subscriber that is starved on a busy
/// machine would be resynchronised, as it should be (G8), and that is not what these tests are about.
const LAG: u64 = 2_048;

/// As many as 20,000 a second for 10 s: the group's clock ends minutes ahead of the wall.
const SETS: usize = 200_000;

/// What a subscriber saw of a group: in these tests its revisions and timestamps.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    revisions: Vec<u64>,
    timestamps: Vec<u64>,
}

/// How far a subscriber has come.
#[derive(Default)]
struct Progress {
    revision: AtomicU64,
    moved: Notify,
}

impl Progress {
    async fn reaches(&self, revision: u64) {
        loop {
            let moved = self.moved.notified();
            if self.revision.load(Ordering::Acquire) >= revision {
                return;
            }
            moved.await;
        }
    }
}

/// Follows the group until the change with the data `"end"`.
async fn follow(mut subscriber: Subscriber, progress: Arc<Progress>) -> Seen {
    let mut seen = Seen { revisions: Vec::new(), timestamps: Vec::new() };
    loop {
        let frame = subscriber.next().await;
        assert_ne!(frame.event.kind, "sync", "resynchronised instead of shown every change: {frame:?}");
        let revision = frame.revision.expect("a change has a revision");
        seen.revisions.push(revision);
        seen.timestamps.push(frame.timestamp);
        progress.revision.store(revision, Ordering::Release);
        progress.moved.notify_one();
        if frame.data_text() == r#""end""# {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_subscribers_see_every_revision_once_and_in_the_same_order() {
    let server = Server::start().await;
    let mut writer = Worker::connect(server.workers()).await;
    let mut followers = Vec::new();
    for _ in 0..2 {
        let (subscriber, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
        assert_eq!(sync.data(), json!([]));
        let progress = Arc::new(Progress::default());
        followers.push((Arc::clone(&progress), tokio::spawn(follow(subscriber, progress))));
    }

    let end = Instant::now() + Duration::from_secs(10);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    while Instant::now() < end {
        while sent - answered >= WINDOW {
            let (_, outcome) = writer.next_outcome().await.expect("the server is alive");
            outcome.expect("a set succeeds");
            answered += 1;
        }
        for (progress, _) in &followers {
            let reached = progress.reaches(sent.saturating_sub(LAG));
            within(headwater_tests::DEADLINE, "a subscriber to keep up", reached).await;
        }
        let id = format!("i{:03}", sent % 500);
        writer.start("stream::set", stored("s", "g", &id, json!({ "id": id, "n": sent }))).await;
        sent += 1;
    }
    while answered < sent {
        let (_, outcome) = writer.next_outcome().await.expect("the server is alive");
        outcome.expect("a set succeeds");
        answered += 1;
    }
    writer.set("s", "g", "end", json!("end")).await;

    let expected: Vec<u64> = (1..=sent + 1).collect();
    for (_, follower) in followers {
        let seen = follower.await.expect("a subscriber does not fail");
        assert!(seen.revisions == expected, "{}", first_difference(&seen.revisions, &expected));
        for pair in seen.timestamps.windows(2) {
            assert!(pair[0] < pair[1], "timestamps strictly increase: {pair:?}");
        }
    }
    println!("{sent} sets in 10 s");
}

fn first_difference(seen: &[u64], expected: &[u64]) -> String {
    let same = seen.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (seen_there, expected_there) = (seen.get(same), expected.get(same));
    format!(
        "{} of {} revisions; at {same} there is {seen_there:?} for {expected_there:?}",
        seen.len(),
        expected.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_high_rate_writes_and_a_restart_every_later_change_is_newer() {
    let mut server = Server::start().await;
    let mut writer = Worker::connect(server.workers()).await;
    let item = |n: usize| json!({ "id": format!("i{:02}", n % 20), "n": n });
    let set = |n: usize| stored("s", "g", &format!("i{:02}", n % 20), item(n));

    // A published client that has seen the high timestamps.
    writer.pipeline("stream::set", 20, (0..20).map(set)).await;
    let mut follower = Script::node(&server, "follow.mjs", &["node", "s", "g", "i07"]);
    follower.ask(&format!("item {}", item(7))).await;

    let start = Instant::now();
    let sent = 20 + writer.pipeline("stream::set", 1_024, (20..20 + SETS).map(set)).await;
    println!("{SETS} sets in {:?}", start.elapsed());
    let mut list: Vec<_> = (0..20).map(|n| item((sent - 1) - (sent - 1 + 20 - n) % 20)).collect();
    assert_eq!(writer.list("s", "g").await, list);
    follower.ask(&format!("group {}", json!(list))).await;
    let (mut subscriber, before) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert_eq!(before.data(), json!(list));
    writer.set("s", "g", "i00", json!({ "id": "i00", "n": "last before" })).await;
    let before = subscriber.next_of("update").await;

    server.kill9().await;
    let server = server.restart().await;

    let mut writer = Worker::connect(server.workers()).await;
    let (mut subscriber, after) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert!(after.timestamp > before.timestamp, "{} > {}", after.timestamp, before.timestamp);
    let mut last = after;
    for n in [0, 7, 13] {
        list[n] = json!({ "id": format!("i{n:02}"), "n": "later" });
        writer.set("s", "g", &format!("i{n:02}"), &list[n]).await;
        let frame = subscriber.next_of("update").await;
        assert!(frame.timestamp > last.timestamp, "{} > {}", frame.timestamp, last.timestamp);
        assert!(frame.revision > before.revision, "{:?} > {:?}", frame.revision, before.revision);
        last = frame;
    }
    follower.ask(&format!("group {}", json!(list))).await;
    follower.ask(&format!("item {}", list[7])).await;
    follower.finish().await;
}

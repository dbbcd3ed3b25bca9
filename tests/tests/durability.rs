//! What was acknowledged or seen survives `kill -9` (guarantees G1 and G2).

use headwater_tests::{Server, Subscriber, Worker, item, stored};
use serde_json::{Value, json};

const SETS: usize = 1_000;
const WINDOW: usize = 64;

fn value(n: usize) -> Value {
    json!({ "id": format!("i{n:05}"), "n": n, "text": "some text, as values have it" })
}

fn set(n: usize) -> String {
    stored("s", "g", &format!("i{n:05}"), value(n))
}

#[tokio::test]
async fn a_thousand_acknowledged_sets_survive_kill_9_in_their_order() {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert_eq!(sync.data(), json!([]));

    worker.pipeline("stream::set", WINDOW, (0..SETS).map(set)).await;
    let expected: Vec<Value> = (0..SETS).map(value).collect();
    let mut last = sync;
    for value in &expected {
        let frame = subscriber.next_of("create").await;
        assert_eq!(frame.data(), *value);
        assert!(frame.timestamp > last.timestamp, "{frame:?} comes after {last:?}");
        last = frame;
    }

    server.kill9().await;
    let server = server.restart().await;

    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.list("s", "g").await, expected);
    let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert_eq!(sync.data(), json!(expected));
    assert!(sync.timestamp > last.timestamp, "the sync is newer than all before: {sync:?}");
    worker.set("s", "g", "later", json!("later")).await;
    let later = subscriber.next_of("create").await;
    assert!(later.timestamp > sync.timestamp, "{} > {}", later.timestamp, sync.timestamp);
    assert!(later.revision > last.revision, "a revision is never given twice: {later:?}");
}

#[tokio::test]
async fn kill_9_between_writes_loses_nothing_that_was_acknowledged_or_seen() {
    let mut server = Server::start().await;
    let mut written = 0;
    let mut last_timestamp = 0;
    for round in 1..=6 {
        let mut worker = Worker::connect(server.workers()).await;
        let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
        assert!(sync.timestamp > last_timestamp, "{} > {last_timestamp}", sync.timestamp);
        last_timestamp = sync.timestamp;

        // Kills it with a full window of writes under way.
        let mut acknowledged = written;
        for n in written..written + WINDOW {
            worker.start("stream::set", set(n)).await;
        }
        let mut sent = written + WINDOW;
        for _ in 0..37 * round {
            let (_, outcome) = worker.next_outcome().await.expect("the server is alive");
            outcome.expect("a set succeeds");
            acknowledged += 1;
            worker.start("stream::set", set(sent)).await;
            sent += 1;
        }
        server.kill9().await;

        // What it said before it died counts.
        while let Some((_, outcome)) = worker.next_outcome().await {
            outcome.expect("a set succeeds");
            acknowledged += 1;
        }
        let mut seen = written;
        while let Some(frame) = subscriber.next_or_end().await {
            assert_eq!(frame.data(), value(seen));
            last_timestamp = frame.timestamp;
            seen += 1;
        }

        server = server.restart().await;
        let mut worker = Worker::connect(server.workers()).await;
        let list = worker.list("s", "g").await;
        assert!(list.len() >= acknowledged, "acknowledged {acknowledged}, held {}", list.len());
        assert!(list.len() >= seen, "seen {seen}, held {}", list.len());
        assert!(list.len() <= sent, "sent {sent}, held {}", list.len());
        let expected: Vec<Value> = (0..list.len()).map(value).collect();
        assert_eq!(list, expected, "a prefix of what was written, in its order");
        written = list.len();
    }
}

#[tokio::test]
async fn updates_deletes_and_emptied_groups_survive_kill_9() {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "emptied").await;
    for n in 0..3 {
        worker.set("s", "g", &format!("i{n}"), json!({ "n": n })).await;
        worker.set("s", "emptied", &format!("i{n}"), json!(n)).await;
    }
    let mut update = item("s", "g", "i1");
    update["ops"] = json!([{ "type": "increment", "path": "n", "by": 41 }]);
    worker.result_of("stream::update", update).await;
    worker.result_of("stream::delete", item("s", "g", "i0")).await;
    for n in 0..3 {
        worker.result_of("stream::delete", item("s", "emptied", &format!("i{n}"))).await;
    }
    let mut last = subscriber.next_of("create").await;
    for _ in 1..6 {
        last = subscriber.next().await;
    }
    assert_eq!(last.event.kind, "delete");

    server.kill9().await;
    let server = server.restart().await;

    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.list("s", "g").await, [json!({ "n": 42 }), json!({ "n": 2 })]);
    assert_eq!(worker.call("stream::get", item("s", "g", "i0")).await, Ok(None));
    let groups = worker.result_of("stream::list_groups", json!({ "stream_name": "s" })).await;
    assert_eq!(groups, Some(json!(["g"])));
    let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "s", "emptied").await;
    assert_eq!(sync.data(), json!([]));
    worker.set("s", "emptied", "new", json!(1)).await;
    let created = subscriber.next_of("create").await;
    assert_eq!(created.revision, last.revision.map(|revision| revision + 1), "revisions go on");
    assert!(created.timestamp > sync.timestamp && sync.timestamp > last.timestamp, "timestamps go on");
}

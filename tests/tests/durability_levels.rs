//! What each level of durability promises, as far as a process alone can show it.

use std::time::Duration;

use headwater_tests::{DEADLINE, Server, Setup, Subscriber, Worker, stored};
use serde_json::{Value, json};
use tokio::time::timeout;

const SETS: usize = 1_000;

fn set(n: usize) -> String {
    stored("s", "g", &format!("i{n}"), json!({ "n": n }))
}

/// Syncs nothing by itself within the time of a test.
fn interval() -> Setup {
    Setup::new().store(json!({ "durability": "interval", "save_interval_ms": 3_600_000 }))
}

async fn values(server: &Server) -> Vec<Value> {
    Worker::connect(server.workers()).await.list("s", "g").await
}

/// The name of the store's history, as subscribers are told it.
async fn epoch(server: &Server) -> String {
    let (_, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    sync.epoch.expect("a sync tells it")
}

#[tokio::test]
async fn with_an_interval_changes_are_acknowledged_before_they_are_synced_and_survive_kill_9() {
    let mut server = interval().count_syncs().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let before = server.syncs();
    for n in 0..SETS {
        worker.call("stream::set", set(n)).await.expect("a set succeeds");
    }
    // A new file of the log takes a few.
    assert!(server.syncs() < before + 10, "{} syncs for {SETS} sets, one after the other", server.syncs());
    server.kill9().await;
    let server = server.restart().await;
    assert_eq!(values(&server).await.len(), SETS);
}

#[tokio::test]
async fn with_an_interval_what_was_acknowledged_is_synced_when_that_is_over() {
    let settings = json!({ "durability": "interval", "save_interval_ms": 50 });
    let server = Setup::new().store(settings).count_syncs().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.call("stream::set", set(0)).await.expect("a set succeeds");
    let before = server.syncs();
    worker.call("stream::set", set(1)).await.expect("a set succeeds");
    let synced = async {
        while server.syncs() <= before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, synced).await.expect("the change is synced");
}

#[tokio::test]
async fn with_an_interval_the_epoch_tells_whether_something_may_have_been_lost() {
    let mut server = interval().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.pipeline("stream::set", 64, (0..SETS).map(set)).await;
    let first = epoch(&server).await;
    assert_eq!(server.terminate().await, Some(0));
    let mut server = server.restart().await;
    assert_eq!(values(&server).await.len(), SETS);
    assert_eq!(epoch(&server).await, first, "it was stopped in good order");

    let mut worker = Worker::connect(server.workers()).await;
    worker.call("stream::set", set(SETS)).await.expect("a set succeeds");
    server.kill9().await;
    let server = server.restart().await;
    assert_eq!(values(&server).await.len(), SETS + 1);
    assert_ne!(epoch(&server).await, first, "nobody knows that it was not the machine");
}

#[tokio::test]
async fn in_memory_everything_is_gone_with_the_process() {
    let setup = Setup::new().store(json!({ "store_method": "in_memory", "durability": "in_memory" }));
    let mut server = setup.start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.pipeline("stream::set", 64, (0..SETS).map(set)).await;
    let first = epoch(&server).await;
    assert_eq!(server.terminate().await, Some(0));
    let server = server.restart().await;
    assert!(values(&server).await.is_empty());
    assert_ne!(epoch(&server).await, first);
}

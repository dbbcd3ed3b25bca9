//! How often the real binary syncs its files: never less than it acknowledges, and once for many writes that
//! come together. Counted by strace.

use headwater_tests::{Setup, Worker, stored};
use serde_json::json;

const SETS: usize = 40;
const MANY: usize = 1_280;
const WINDOW: usize = 64;

fn set(n: usize) -> String {
    stored("s", "g", &format!("i{n}"), json!({ "n": n }))
}

/// The syncs of a server that makes these sets with so many of them unanswered at a time.
async fn syncs_of(sets: usize, window: usize) -> usize {
    let mut server = Setup::new().count_syncs().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.pipeline("stream::set", window, (0..sets).map(set)).await, sets);
    drop(worker);
    assert_eq!(server.terminate().await, Some(0));
    server.syncs()
}

#[tokio::test]
async fn every_acknowledged_set_is_synced_and_sets_that_come_together_share_a_sync() {
    let idle = syncs_of(0, 1).await;
    let sequential = syncs_of(SETS, 1).await - idle;
    assert!(sequential >= SETS, "{SETS} sets one after the other, but only {sequential} syncs");
    let together = syncs_of(MANY, WINDOW).await - idle;
    assert!(together > 0, "no sync at all");
    assert!(together <= MANY / 4, "{MANY} sets, {WINDOW} at a time, took {together} syncs: no group commit");
    println!("{SETS} sets: {sequential} syncs; {MANY} sets, {WINDOW} at a time: {together} syncs");
}

//! Much at once: who reads gets everything, however much waits.

use headwater_tests::{Server, Setup, Worker, item};
use serde_json::json;

#[tokio::test]
async fn a_worker_that_asks_for_much_at_once_and_reads_gets_every_answer() {
    // A hundredth of what the answers are together.
    let server = Setup::new().limits(json!({ "worker_outbox_bytes": 1 << 20 })).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", "i", json!("x".repeat(64 << 10))).await;
    let calls = (0..1_600).map(|_| item("s", "g", "i"));
    assert_eq!(worker.pipeline("stream::get", 1_600, calls).await, 1_600);
}

#[tokio::test]
async fn a_worker_that_reads_no_answers_costs_no_more_memory_than_it_may() {
    const MIB: usize = 1 << 20;
    const UPDATES: u64 = 500;
    let server = Server::start().await;
    let mut greedy = Worker::connect(server.workers()).await;
    greedy.set("s", "large", "i", json!({ "n": 0, "text": "x".repeat(1 << 20) })).await;
    let before = server.memory();
    let ops = json!([{ "type": "increment", "path": "n", "by": 1 }]);
    let update = json!({ "stream_name": "s", "group_id": "large", "item_id": "i", "ops": ops });
    for _ in 0..UPDATES {
        // The answer is 2 MiB: the value before and after.
        greedy.start("stream::update", &update).await;
    }
    // Others are served as ever, and the server gets round to all that was sent before.
    let mut other = Worker::connect(server.workers()).await;
    for n in 0..200 {
        other.set("s", "small", "i", json!(n)).await;
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 192 * MIB, "grown by {} MiB", grown / MIB);
    // And nothing of it was lost.
    for _ in 0..UPDATES {
        let (_, outcome) = greedy.next_outcome().await.expect("the connection lives");
        outcome.expect("an update succeeds");
    }
    assert_eq!(
        other.result_of("stream::get", item("s", "large", "i")).await.expect("it is there")["n"],
        UPDATES
    );
}

//! Much at once: who reads gets everything, however much waits.

use headwater_tests::{Setup, Worker, item};
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

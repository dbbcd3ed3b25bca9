//! The published Rust SDK as a worker.

use headwater_tests::{Script, Server, Worker};

#[tokio::test]
async fn the_rust_sdk_gets_the_exact_results_of_all_functions() {
    let server = Server::start().await;
    Script::rust(&server, "functions", &[]).succeeds().await;
}

#[tokio::test]
async fn a_value_that_the_rust_sdk_cannot_read_costs_it_that_call_alone() {
    let server = Server::start().await;
    let mut writer = Worker::connect(server.workers()).await;
    writer.set("odd", "odd", "huge", "1e400").await;
    Script::rust(&server, "limits", &[]).succeeds().await;
}

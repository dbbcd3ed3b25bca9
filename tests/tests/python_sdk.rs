//! The published Python SDK as a worker.

use headwater_tests::{Script, Server, Worker};
use serde_json::json;

#[tokio::test]
async fn the_python_sdk_gets_the_exact_results_of_all_functions() {
    let server = Server::start().await;
    Script::python(&server, "functions.py", &[]).succeeds().await;
}

#[tokio::test]
async fn a_function_of_a_python_worker_is_called_by_another_worker() {
    let server = Server::start().await;
    let mut python = Script::python(&server, "serve.py", &[]);
    python.wait_for("ready").await;
    let mut caller = Worker::connect(server.workers()).await;

    let input = json!({ "deep": [{ "value": null }], "text": "😀" });
    let result = caller.result_of("python::echo", &input).await;
    assert_eq!(result, Some(json!({ "echo": input })));
    let refusal = caller.refusal_of("python::fails", json!({})).await;
    assert_eq!(refusal.code, "invocation_failed");
    assert!(refusal.message.contains("no such luck"), "{refusal:?}");

    python.finish().await;
    // The worker is gone, and its functions with it.
    let refusal = caller.refusal_of("python::echo", json!({})).await;
    assert_eq!(refusal.code, "function_not_found");
}

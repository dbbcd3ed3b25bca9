//! The published Node SDK as a worker.

use headwater_tests::{Script, Server, Worker};
use serde_json::json;

#[tokio::test]
async fn the_node_sdk_gets_the_exact_results_of_all_functions() {
    let server = Server::start().await;
    Script::node(&server, "functions.mjs", &[]).succeeds().await;
}

#[tokio::test]
async fn a_node_worker_survives_kill_9_and_finds_what_was_acknowledged() {
    let mut server = Server::start().await;
    let mut survivor = Script::node(&server, "survive.mjs", &[]);
    let mut values = Vec::new();
    for n in 0..20 {
        let data = json!({ "id": format!("i{n}"), "n": n });
        let item_id = format!("i{n}");
        let payload = json!({ "stream_name": "s", "group_id": "g", "item_id": item_id, "data": data });
        let request = json!({ "function_id": "stream::set", "payload": payload });
        survivor.ask(&format!("call {request}")).await;
        values.push(data);
    }

    server.kill9().await;
    let server = server.restart().await;

    // The SDK queues the call until it is connected again.
    let list = json!({ "function_id": "stream::list", "payload": { "stream_name": "s", "group_id": "g" } });
    let held: serde_json::Value =
        serde_json::from_str(&survivor.ask(&format!("call {list}")).await).expect("an answer is JSON");
    assert_eq!(held, json!(values));
    // It has registered its function again, too.
    let mut other = Worker::connect(server.workers()).await;
    assert_eq!(other.result_of("survive::echo", json!(7)).await, Some(json!({ "echo": 7 })));
    survivor.finish().await;
}

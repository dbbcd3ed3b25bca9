//! Changes that expect something of their item, from the published clients at once.

use headwater_tests::{Script, Server, Worker, item};
use serde_json::json;

/// How many times each caller counts.
const TIMES: u64 = 50;

#[tokio::test]
async fn callers_of_all_clients_that_compare_and_set_lose_no_count() {
    let server = Server::start().await;
    let times = TIMES.to_string();
    let node = Script::node(&server, "compare_and_set.mjs", &[&times]);
    let python = Script::python(&server, "compare_and_set.py", &[&times]);
    let rust = Script::rust(&server, "compare_and_set", &[&times]);
    node.succeeds().await;
    python.succeeds().await;
    rust.succeeds().await;

    // Two callers of the Node script, one of the Python script, two of the Rust SDK.
    let counted = 5 * TIMES;
    let mut worker = Worker::connect(server.workers()).await;
    let mut counter = item("expect", "shared", "counter");
    counter["revision"] = true.into();
    let found = worker.result_of("stream::get", &counter).await;
    assert_eq!(found, Some(json!({ "value": counted, "revision": counted })));
}

#[tokio::test]
async fn a_conflict_on_the_wire_has_what_there_is_beside_code_and_message() {
    let server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", "i", r#"{ "big": 12345678901234567890123, "n": 1.0 }"#).await;
    let call = r#"{"type":"invokefunction","invocation_id":"1","function_id":"streams.set",
                   "data":{"stream_name":"s","group_id":"g","item_id":"i","data":1,"expect":{"revision":0}}}"#;
    worker.socket().send(call).await;
    let answer = worker.socket().next_text("the conflict").await;
    let error = concat!(
        r#""error":{"code":"STREAM_CONFLICT","#,
        r#""message":"the item is at revision 1, expected revision 0 (absent): read it again and decide","#,
        r#""revision":1,"value":{ "big": 12345678901234567890123, "n": 1.0 }}}"#,
    );
    assert!(answer.ends_with(error), "{answer}");
}

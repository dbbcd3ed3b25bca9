//! The published Rust SDK as a worker.

use headwater_tests::{Script, Server, Setup, Subscriber, Worker, item, stored};
use serde_json::{Value, json};

#[tokio::test]
async fn the_rust_sdk_gets_the_exact_results_of_all_functions() {
    let server = Server::start().await;
    Script::rust(&server, "functions", &[]).succeeds().await;
}

#[tokio::test]
async fn the_rust_sdk_finds_all_functions_from_a_namespace_too() {
    let server = Server::start().await;
    Script::rust(&server, "functions", &["orders"]).succeeds().await;
}

#[tokio::test]
async fn what_the_rust_sdk_cannot_read_costs_it_that_call_or_that_event_alone() {
    let server = Setup::new().timeouts(json!({ "call_ms": 500 })).start().await;
    let mut writer = Worker::connect(server.workers()).await;
    writer.set("odd", "odd", "huge", "1e400").await;
    Script::rust(&server, "limits", &[]).succeeds().await;
}

#[tokio::test]
async fn what_workers_ask_about_each_other_reads_as_the_rust_sdks_own_types() {
    let server = Server::start().await;
    Script::rust(&server, "discovery", &[]).succeeds().await;
}

#[tokio::test]
async fn handlers_get_what_the_rust_sdks_own_types_read() {
    let server = Setup::new().streams(json!({ "auth_function": "typed::auth" })).start().await;
    let mut typed = Script::rust(&server, "typed", &[]);
    typed.wait_for("ready").await;

    let mut stranger = Subscriber::connect(server.streams()).await;
    let input = said(&mut typed, "auth").await;
    assert_eq!((&input["path"], &input["query_params"]), (&json!("/"), &json!({})));
    assert_eq!(input["headers"]["upgrade"], "websocket");
    assert!(input["addr"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.1:")), "{input}");
    stranger.send_join("s", "typed", "g", None).await;
    stranger.next_of("unauthorized").await;
    let join = json!({
        "subscription_id": "s", "stream_name": "typed", "group_id": "g", "id": null, "context": null,
    });
    assert_eq!(said(&mut typed, "join").await, join);
    drop(stranger);

    let address = format!("{}/a/b?user=ada&user=bob&x=%C3%A9%20", server.streams());
    let mut user = Subscriber::connect(&address).await;
    let input = said(&mut typed, "auth").await;
    let query = json!({ "user": ["ada", "bob"], "x": ["é "] });
    assert_eq!((&input["path"], &input["query_params"]), (&json!("/a/b"), &query));
    user.join("u", "typed", "g", Some("i")).await;
    let join = json!({
        "subscription_id": "u", "stream_name": "typed", "group_id": "g", "id": "i", "context": { "user": "ada" },
    });
    assert_eq!(said(&mut typed, "join").await, join);

    let mut writer = Worker::connect(server.workers()).await;
    writer.set("typed", "g", "i", 1).await;
    writer.set("typed", "g", "i", 2).await;
    writer.result_of("stream::delete", item("typed", "g", "i")).await;
    for (kind, data) in [("create", 1), ("update", 2), ("delete", 2)] {
        let frame = user.next_of(kind).await;
        let change = json!({
            "type": "stream", "timestamp": frame.timestamp, "streamName": "typed", "groupId": "g", "id": "i",
            "event": { "type": kind, "data": data },
        });
        assert_eq!(said(&mut typed, "change").await, change);
    }

    // A refused join has no leave.
    drop(user);
    assert_eq!(said(&mut typed, "leave").await, join);
    typed.finish().await;
}

#[tokio::test]
async fn a_stream_that_the_rust_sdk_creates_is_kept_by_its_worker() {
    let server = Server::start().await;
    let mut custom = Script::rust(&server, "custom_stream", &[]);
    custom.wait_for("ready").await;
    let mut worker = Worker::connect(server.workers()).await;

    worker.set("custom", "g", "b", 1).await;
    worker.set("custom", "g", "a", 2).await;
    // In the order in which that worker has it.
    assert_eq!(worker.list("custom", "g").await, [2, 1]);
    let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "custom", "g").await;
    assert_eq!(sync.data(), json!([2, 1]));
    assert_eq!(worker.result_of("stream::get", item("custom", "g", "a")).await, Some(json!(2)));
    // The SDK has null for nothing.
    assert_eq!(worker.result_of("stream::get", item("custom", "g", "c")).await, Some(Value::Null));
    let groups = worker.result_of("stream::list_groups", json!({ "stream_name": "custom" })).await;
    assert_eq!(groups, Some(json!(["g"])));

    let refusal = worker.refusal_of("stream::set", stored("custom", "g", "a", r#""refused""#)).await;
    assert_eq!(refusal.code, "invocation_failed");
    // It has no `update`: the server gets, applies and sets.
    let mut update = item("custom", "g", "a");
    update["ops"] = json!([{ "type": "increment", "path": "", "by": 5 }]);
    let updated = worker.result_of("stream::update", update).await;
    assert_eq!(updated, Some(json!({ "old_value": 2, "new_value": 7 })));
    let removed = worker.result_of("stream::delete", item("custom", "g", "b")).await;
    assert_eq!(removed, Some(json!({ "old_value": 1 })));
    // The refused value is nowhere.
    for (kind, id, data) in [("update", "a", 7), ("delete", "b", 1)] {
        let frame = subscriber.next_of(kind).await;
        assert_eq!((frame.id.as_deref(), frame.data()), (Some(id), json!(data)));
    }

    custom.finish().await;
    let refusal = worker.refusal_of("stream::get", item("custom", "g", "a")).await;
    assert_eq!(refusal.code, "function_not_found");
}

/// What a role says next of this kind.
async fn said(role: &mut Script, what: &str) -> Value {
    serde_json::from_str(&role.wait_for(&format!("{what} ")).await).expect("it is JSON")
}

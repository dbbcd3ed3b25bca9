//! Streams that a worker keeps itself.

use headwater_tests::{Puppet, Sdk, Server, Subscriber, Worker, item, stored};
use serde_json::{Value, json};

pub(crate) async fn a_stream_of_a_worker_is_read_from_it_written_to_it_and_followed(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    let (one, two) = (json!({ "id": "a", "n": 1 }), json!({ "id": "a", "n": 2 }));
    let set = json!({ "old_value": one, "new_value": two });
    for (function, does) in [
        ("stream::list(kept)", json!({ "kind": "gives", "value": [one] })),
        ("stream::list_groups(kept)", json!({ "kind": "gives", "value": ["g"] })),
        ("stream::get(kept)", json!({ "kind": "gives", "value": one })),
        ("stream::set(kept)", json!({ "kind": "gives", "value": set })),
        ("stream::delete(kept)", json!({ "kind": "gives", "value": { "old_value": two } })),
        ("changed", json!({ "kind": "nothing" })),
    ] {
        puppet.registers(function, does).await;
    }
    puppet.binds("changed", "stream", json!({ "stream_name": "kept" })).await;
    puppet.is_ready().await;

    let mut worker = Worker::connect(server.workers()).await;
    let (mut subscriber, sync) = Subscriber::of_group(server.streams(), "kept", "g").await;
    assert_eq!(sync.data(), json!([one]));
    let of_group = json!({ "stream_name": "kept", "group_id": "g" });
    assert_eq!(puppet.heard_of("stream::list(kept)").await, of_group);

    // Calls go to it with what they came with, and come back with what it gave.
    assert_eq!(worker.list("kept", "g").await, std::slice::from_ref(&one));
    assert_eq!(puppet.heard_of("stream::list(kept)").await, of_group);
    let groups = worker.result_of("stream::list_groups", json!({ "stream_name": "kept" })).await;
    assert_eq!(groups, Some(json!(["g"])));
    assert_eq!(worker.result_of("stream::get", item("kept", "g", "a")).await, Some(one.clone()));
    assert_eq!(puppet.heard_of("stream::get(kept)").await, item("kept", "g", "a"));
    let call = stored("kept", "g", "a", &two);
    assert_eq!(worker.result_of("stream::set", &call).await, Some(set));
    let heard = puppet.heard_of("stream::set(kept)").await;
    assert_eq!(heard, serde_json::from_str::<Value>(&call).expect("a call is JSON"));

    // What changes is told as of any other stream.
    assert_eq!(subscriber.next_of("update").await.data(), two);
    assert_eq!(puppet.heard_of("changed").await["event"], json!({ "type": "update", "data": two }));

    // It has no function to update: its value is read, changed and set.
    let mut update = item("kept", "g", "a");
    update["ops"] = json!([{ "type": "increment", "path": "n", "by": 1 }]);
    worker.result_of("stream::update", update).await;
    assert_eq!(puppet.heard_of("stream::get(kept)").await, item("kept", "g", "a"));
    assert_eq!(puppet.heard_of("stream::set(kept)").await["data"], two);
    assert_eq!(subscriber.next_of("update").await.data(), two);

    let removed = worker.result_of("stream::delete", item("kept", "g", "a")).await;
    assert_eq!(removed, Some(json!({ "old_value": two })));
    assert_eq!(subscriber.next_of("delete").await.data(), two);

    // Other streams are the server's, and without its worker the stream is nobody's.
    worker.set("not-kept", "g", "a", json!(1)).await;
    puppet.finishes().await;
    let refusal = worker.refusal_of("stream::get", item("kept", "g", "a")).await;
    assert_eq!(refusal.code, "function_not_found");
    assert_eq!(worker.list("not-kept", "g").await, [json!(1)]);
}

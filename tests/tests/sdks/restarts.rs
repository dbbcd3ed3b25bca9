//! Workers whose server goes away and comes back.

use headwater_tests::{Puppet, Sdk, Server, Setup, Subscriber, Worker};
use serde_json::{Value, json};

/// Starts a server and a puppet that offers a function, hears changes and leaves, and gates.
async fn start(sdk: Sdk) -> (Server, Puppet) {
    let server = Setup::new().streams(json!({ "join_gate": "fail_closed" })).start().await;
    let mut puppet = Puppet::start(&server, sdk);
    for (function, does) in [
        ("echo", json!({ "kind": "echo" })),
        ("changed", json!({ "kind": "nothing" })),
        (
            "gate",
            json!({ "kind": "if", "path": ["id"], "is": null, "then": {}, "else": { "unauthorized": true } }),
        ),
        ("left", json!({ "kind": "nothing" })),
    ] {
        puppet.registers(function, does).await;
    }
    puppet.binds("changed", "stream", json!({ "stream_name": "s" })).await;
    puppet.binds("gate", "stream:join", json!({})).await;
    puppet.binds("left", "stream:leave", json!({})).await;
    puppet.is_ready().await;
    (server, puppet)
}

/// Everything works, with these values and this name for the subscription.
async fn works(server: &Server, puppet: &mut Puppet, subscription: &str) -> Subscriber {
    let mut subscriber = Subscriber::connect(server.streams()).await;
    subscriber.join(subscription, "s", "g", None).await;
    assert_eq!(puppet.heard_of("gate").await["subscription_id"], subscription);
    subscriber.send_join("an item", "s", "g", Some("i")).await;
    subscriber.next_of("unauthorized").await;
    assert_eq!(puppet.heard_of("gate").await["subscription_id"], "an item");

    let mut other = Worker::connect(server.workers()).await;
    assert_eq!(other.result_of("echo", json!(subscription)).await, Some(json!({ "echo": subscription })));
    assert_eq!(puppet.heard_of("echo").await, subscription);
    other.set("s", "g", subscription, json!(subscription)).await;
    let heard = puppet.heard_of("changed").await;
    assert_eq!((&heard["event"]["type"], &heard["event"]["data"]), (&json!("create"), &json!(subscription)));
    assert_eq!(subscriber.next_of("create").await.data(), json!(subscription));

    // What it was told is stored is stored.
    let set =
        json!({ "stream_name": "kept", "group_id": "g", "item_id": subscription, "data": subscription });
    puppet.result_of("stream::set", set).await;
    subscriber
}

/// Waits until the worker is back: its SDK sends what it is asked to call after what it had registered.
async fn is_back(puppet: &mut Puppet) {
    let group = json!({ "stream_name": "kept", "group_id": "g" });
    assert_eq!(puppet.result_of("stream::list", group).await, Some(json!(["before"])));
}

fn left(subscription: &str) -> Value {
    json!({ "subscription_id": subscription, "stream_name": "s", "group_id": "g", "id": null, "context": null })
}

pub(crate) async fn a_worker_finds_back_after_kill_9_and_its_triggers_fire_again(sdk: Sdk) {
    let (mut server, mut puppet) = start(sdk).await;
    let before = works(&server, &mut puppet, "before").await;
    server.kill9().await;
    drop(before);
    let server = server.restart().await;
    is_back(&mut puppet).await;
    let after = works(&server, &mut puppet, "after").await;
    // The subscription that the crash cut off left as well.
    assert_eq!(puppet.heard_of("left").await, left("before"));
    drop(after);
    assert_eq!(puppet.heard_of("left").await, left("after"));
    assert!(puppet.rest().is_empty(), "nothing comes twice: {:?}", puppet.rest());
    puppet.finishes().await;
}

pub(crate) async fn a_worker_finds_back_after_a_stop_in_good_order_that_told_of_all_leaves(sdk: Sdk) {
    let (mut server, mut puppet) = start(sdk).await;
    let _before = works(&server, &mut puppet, "before").await;
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(puppet.heard_of("left").await, left("before"));
    let server = server.restart().await;
    is_back(&mut puppet).await;
    let after = works(&server, &mut puppet, "after").await;
    drop(after);
    assert_eq!(puppet.heard_of("left").await, left("after"));
    assert!(puppet.rest().is_empty(), "nothing comes twice: {:?}", puppet.rest());
    puppet.finishes().await;
}

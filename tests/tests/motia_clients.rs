//! The published stream clients as subscribers.

use headwater_tests::{Puppet, Script, Sdk, Server, Setup, Worker, item, stored};
use serde_json::{Value, json};

#[tokio::test]
async fn the_browser_client_sees_sync_changes_and_events() {
    let server = Server::start().await;
    Script::node(&server, "subscribe.mjs", &["browser"]).succeeds().await;
}

#[tokio::test]
async fn the_node_client_sees_sync_changes_and_events() {
    let server = Server::start().await;
    Script::node(&server, "subscribe.mjs", &["node"]).succeeds().await;
}

#[tokio::test]
async fn the_browser_client_holds_the_same_list_after_kill_9() {
    a_client_holds_the_same_list_after_kill_9("browser").await;
}

#[tokio::test]
async fn the_node_client_holds_the_same_list_after_kill_9() {
    a_client_holds_the_same_list_after_kill_9("node").await;
}

/// The client reconnects 2 s after the connection broke; until then the server must be back, as the Node
/// client does not survive a refused connection.
async fn a_client_holds_the_same_list_after_kill_9(client: &str) {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let mut list = Vec::new();
    for n in 0..20 {
        let data = json!({ "id": format!("i{n}"), "n": n });
        worker.set("s", "g", &format!("i{n}"), &data).await;
        list.push(data);
    }
    let mut follower = Script::node(&server, "follow.mjs", &[client, "s", "g", "i3"]);
    follower.ask(&format!("group {}", json!(list))).await;
    list[3] = json!({ "id": "i3", "n": "before" });
    worker.set("s", "g", "i3", &list[3]).await;
    follower.ask(&format!("item {}", list[3])).await;

    server.kill9().await;
    let server = server.restart().await;

    // What the client held before the crash tells nothing: a change after it tells that it is back. While it is
    // away, an item goes that it held, and one comes.
    let mut worker = Worker::connect(server.workers()).await;
    worker.result_of("stream::delete", item("s", "g", "i7")).await;
    list.remove(7);
    list.push(json!({ "id": "i20", "n": 20 }));
    worker.set("s", "g", "i20", &list[19]).await;
    list[3] = json!({ "id": "i3", "n": "after" });
    worker.set("s", "g", "i3", &list[3]).await;
    follower.ask(&format!("item {}", list[3])).await;
    follower.ask(&format!("group {}", json!(list))).await;
    assert_eq!(worker.list("s", "g").await, list);
    // And it follows what comes.
    list[4] = json!({ "id": "i4", "n": "live" });
    worker.set("s", "g", "i4", &list[4]).await;
    follower.ask(&format!("group {}", json!(list))).await;
    follower.finish().await;
}

#[tokio::test]
async fn the_browser_client_sees_every_change_once_however_fast_they_follow() {
    a_client_sees_every_change_once_however_fast_they_follow("browser").await;
}

#[tokio::test]
async fn the_node_client_sees_every_change_once_however_fast_they_follow() {
    a_client_sees_every_change_once_however_fast_they_follow("node").await;
}

/// Many updates a millisecond, which clients tell apart by their timestamps, of an item that is followed by itself and
/// with its group on one connection.
async fn a_client_sees_every_change_once_however_fast_they_follow(client: &str) {
    const UPDATES: usize = 500;
    let server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let value = |n: usize| json!({ "id": "i", "n": n });
    worker.set("s", "g", "i", value(0)).await;
    let mut follower = Script::node(&server, "follow.mjs", &[client, "s", "g", "i"]);
    follower.ask(&format!("group {}", json!([value(0)]))).await;
    follower.ask(&format!("item {}", value(0))).await;

    let sets = (1..=UPDATES).map(|n| stored("s", "g", "i", value(n)));
    worker.pipeline("stream::set", UPDATES, sets).await;
    let mut typing = json!({ "stream_name": "s", "group_id": "g", "type": "typing", "data": "in the group" });
    worker.result_of("stream::send", &typing).await;
    typing["data"] = "at the item".into();
    typing["id"] = "i".into();
    worker.result_of("stream::send", &typing).await;
    worker.result_of("stream::delete", item("s", "g", "i")).await;

    follower.ask("item null").await;
    follower.ask("group []").await;
    let seen: Value = serde_json::from_str(&follower.ask("seen").await).expect("an answer is JSON");
    let changes: Vec<Option<usize>> = (0..=UPDATES).map(Some).chain([None]).collect();
    assert_eq!(seen["group"], json!(changes));
    assert_eq!(seen["item"], json!(changes));
    let mut heard = seen["typing"].as_array().expect("a list").clone();
    heard.sort_by_key(Value::to_string);
    let expected = [["group", "at the item"], ["group", "in the group"], ["item", "at the item"]];
    assert_eq!(heard, expected.map(|pair| json!(pair)));
    follower.finish().await;
}

#[tokio::test]
async fn a_refused_join_of_the_browser_client_stays_empty() {
    a_refused_join_stays_empty("browser").await;
}

#[tokio::test]
async fn a_refused_join_of_the_node_client_stays_empty() {
    a_refused_join_stays_empty("node").await;
}

/// Also over a restart of the server, after which clients join again by themselves.
async fn a_refused_join_stays_empty(client: &str) {
    let settings = json!({ "auth_function": "authenticate", "join_gate": "fail_closed" });
    let mut server = Setup::new().streams(settings).start().await;
    let mut gate = Puppet::start(&server, Sdk::Node);
    let tokens = json!({ "token-of-alice": { "sees": "secret" }, "token-of-bob": { "sees": "little" } });
    gate.registers("authenticate", json!({ "kind": "authenticates", "tokens": tokens })).await;
    gate.registers("may see all", json!({
        "kind": "if", "path": ["context", "sees"], "is": "secret", "then": {}, "else": { "unauthorized": true },
    })).await;
    gate.registers(
        "is it secret",
        json!({
            "kind": "if", "path": ["group_id"], "is": "secret", "then": true, "else": false,
        }),
    )
    .await;
    gate.binds("may see all", "stream:join", json!({ "condition_function_id": "is it secret" })).await;
    // Fail closed: who is not refused must be let in by somebody.
    gate.registers("all may", json!({ "kind": "nothing" })).await;
    gate.binds("all may", "stream:join", json!({})).await;
    gate.is_ready().await;

    let mut worker = Worker::connect(server.workers()).await;
    let value = |n: usize| json!({ "id": "i", "n": n });
    worker.set("s", "secret", "i", value(0)).await;
    worker.set("s", "open", "i", value(0)).await;
    let arguments = |token| [client, "s", "secret", "i", token];
    let mut alice = Script::node(&server, "follow.mjs", &arguments("token-of-alice"));
    let mut bob = Script::node(&server, "follow.mjs", &arguments("token-of-bob"));
    alice.ask(&format!("group {}", json!([value(0)]))).await;
    // What comes on one connection comes in order: after this, bob has what was to come of the secret group.
    bob.ask("also open").await;

    let nothing = json!({ "group": [], "item": [], "typing": [] });
    for n in 1..=2 {
        worker.set("s", "secret", "i", value(n)).await;
        let typing =
            json!({ "stream_name": "s", "group_id": "secret", "id": "i", "type": "typing", "data": n });
        worker.result_of("stream::send", typing).await;
        worker.set("s", "open", "i", value(n)).await;
        alice.ask(&format!("group {}", json!([value(n)]))).await;
        alice.ask(&format!("item {}", value(n))).await;
        bob.ask("also open").await;
        let seen: Value = serde_json::from_str(&bob.ask("seen").await).expect("an answer is JSON");
        assert_eq!(seen, nothing);
        bob.ask("group []").await;
        bob.ask("item null").await;
        if n == 1 {
            server.kill9().await;
            server = server.restart().await;
            gate.is_ready().await;
            worker = Worker::connect(server.workers()).await;
        }
    }
    alice.finish().await;
    bob.finish().await;
}

//! The published stream clients as subscribers.

use headwater_tests::{Script, Server, Worker};
use serde_json::json;

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

    // What the client held before the crash tells nothing: a change after it tells that it is back.
    let mut worker = Worker::connect(server.workers()).await;
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

//! The README's tour and its configuration work as they are printed there.

use std::path::Path;

use headwater_tests::{Script, Server, Subscriber, run_to_exit};
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");

/// The code block of this language after the first mention of `name`.
fn block(name: &str, language: &str) -> String {
    let (_, after) = README.split_once(name).unwrap_or_else(|| panic!("the README names {name}"));
    let fence = format!("```{language}\n");
    let (_, code) = after.split_once(&fence).unwrap_or_else(|| panic!("{name} is followed by a block"));
    let (code, _) = code.split_once("```").expect("a block ends");
    code.to_owned()
}

/// Writes a script of the tour, with the ports of this server.
fn save(folder: &Path, name: &str, language: &str, server: &Server) {
    let code = block(&format!("`{name}`"), language)
        .replace("ws://127.0.0.1:49134", server.workers())
        .replace("ws://127.0.0.1:3112", server.streams());
    std::fs::write(folder.join(name), code).expect("a script can be written");
}

#[tokio::test]
async fn the_tour_does_what_it_says() {
    let mut server = Server::start().await;
    let folder = TempDir::with_prefix("headwater-tour-").expect("a temporary folder can be made");
    let folder = folder.path();
    for (name, language) in [("subscriber.mjs", "js"), ("writer.mjs", "js"), ("reader.py", "python")] {
        save(folder, name, language, &server);
    }

    let mut subscriber = Script::elsewhere(&server, folder, "subscriber.mjs");
    assert_eq!(subscriber.wait_for("room-1:").await, "[]");
    let mut writer = Script::elsewhere(&server, folder, "writer.mjs");
    let stored = r#"[{"id":"m1","text":"hello","likes":1}]"#;
    assert_eq!(writer.wait_for("stored:").await, stored);
    writer.succeeds().await;
    assert_eq!(subscriber.wait_for("typing:").await, "Alice");
    assert_eq!(subscriber.wait_for("room-1:").await, r#"[{"id":"m1","text":"hello","likes":0}]"#);
    assert_eq!(subscriber.wait_for("room-1:").await, stored);

    server.kill9().await;
    let server = server.restart().await;
    assert_eq!(subscriber.wait_for("room-1:").await, stored);
    let mut reader = Script::elsewhere(&server, folder, "reader.py");
    assert_eq!(reader.wait_for("found:").await, "[{'id': 'm1', 'text': 'hello', 'likes': 1}]");
    reader.succeeds().await;

    save(folder, "door.mjs", "js", &server);
    let mut door = Script::elsewhere(&server, folder, "door.mjs");
    assert_eq!(door.wait_for("watching:").await, "chat");
    let writer = Script::elsewhere(&server, folder, "writer.mjs");
    for event in ["event", "update", "update"] {
        assert_eq!(door.wait_for("saw:").await, format!("{event} room-1"));
    }
    writer.succeeds().await;
    drop(subscriber);
    assert_eq!(door.wait_for("left:").await, "room-1");
    let mut refused = Subscriber::connect(server.streams()).await;
    refused.send_join("1", "chat", "secret-1", None).await;
    refused.next_of("unauthorized").await;
}

#[tokio::test]
async fn the_seat_is_booked_once() {
    let server = Server::start().await;
    let folder = TempDir::with_prefix("headwater-seat-").expect("a temporary folder can be made");
    save(folder.path(), "seat.mjs", "js", &server);
    let mut seat = Script::elsewhere(&server, folder.path(), "seat.mjs");
    assert_eq!(seat.wait_for("seat:").await, "booked, taken by Alice");
    seat.succeeds().await;
}

#[tokio::test]
async fn the_printed_configuration_is_right() {
    let folder = TempDir::with_prefix("headwater-config-").expect("a temporary folder can be made");
    let file = folder.path().join("headwater.yaml");
    std::fs::write(&file, block("## Configuration", "yaml")).expect("a file can be written");
    let path = file.to_str().expect("a temporary folder has a plain name");
    let (status, stdout, stderr) = run_to_exit(&["check", "--config", path]).await;
    assert!(status.success() && stdout == "ok", "{status}: {stdout}{stderr}");
}

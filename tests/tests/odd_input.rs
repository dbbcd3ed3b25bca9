//! Names and values that look odd and are fine: they come back exactly as they were sent.

use headwater_core::config::Limits;
use headwater_tests::{Bystander, Server, Subscriber, Worker, item, still_works, stored};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[tokio::test]
async fn a_name_may_be_any_text() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let longest = "n".repeat(Limits::default().name_bytes);
    let names = [
        "a/b",
        "/",
        "a:b",
        "stream::set",
        " ",
        "two words",
        "\"quoted\"",
        "it's",
        "line\nline",
        "\r\n\t",
        "nul\u{0}nul",
        "😀",
        "é",
        "e\u{301}",
        "%2F",
        "a?b#c",
        "..",
        "\u{7f}\u{1b}[31m",
        "\u{feff}",
        "__proto__",
        "{}",
        "null",
        &longest,
    ];
    for name in names {
        let (mut subscriber, sync) = Subscriber::of_group(server.streams(), name, name).await;
        assert_eq!((sync.stream_name.as_str(), sync.group_id.as_str(), &sync.id), (name, name, &None));
        worker.set(name, name, name, json!(name)).await;
        let frame = subscriber.next_of("create").await;
        assert_eq!((frame.stream_name.as_str(), frame.id.as_deref()), (name, Some(name)));
        assert_eq!(worker.result_of("stream::get", item(name, name, name)).await, Some(json!(name)));
        assert_eq!(worker.list(name, name).await, [json!(name)]);
        let groups = worker.result_of("stream::list_groups", json!({ "stream_name": name })).await;
        assert_eq!(groups, Some(json!([name])));

        // The same by its path.
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("{}/stream/{encoded}/{encoded}", server.streams().trim_end_matches('/'));
        let mut by_path = Subscriber::connect(&path).await;
        let sync = by_path.next_of("sync").await;
        assert_eq!((sync.stream_name.as_str(), sync.data()), (name, json!([name])));
    }
    let all = worker.result_of("stream::list_all", json!({})).await.expect("a result");
    assert_eq!(all["count"], json!(names.len() + 1));
    bystander.notices_nothing().await;
}

/// The result of `stream::set`, to the letter.
#[derive(Deserialize)]
struct SetResult {
    new_value: Box<RawValue>,
}

#[tokio::test]
async fn a_value_that_json_allows_comes_back_exactly_as_it_was_sent() {
    let mut server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let values = [
        "1e400",
        "-1E+400",
        "12345678901234567890123",
        "1.0",
        "1.10",
        "-0",
        "0.1e1",
        r#"{"a":1,"a":2}"#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\u00e9""#,
        r#""\/""#,
        r#""\u0000""#,
        r#"{"\ud800":1}"#,
        "\"\u{7f}\u{2028}\"",
        r#"{ "b" : [ 1 , 2 ] }"#,
        r#"{"__proto__":{"a":1}}"#,
        r#"[1e400,{"a":1.0}]"#,
    ];
    for (n, value) in values.into_iter().enumerate() {
        let id = format!("i{n}");
        let result = worker.call("stream::set", stored("s", "g", &id, value)).await.expect("a set succeeds");
        let result: SetResult =
            serde_json::from_str(&result.expect("a set has a result")).expect("a result is JSON");
        assert_eq!(result.new_value.get(), value);
        let got = worker.call("stream::get", item("s", "g", &id)).await;
        assert_eq!(got, Ok(Some(value.to_owned())));
        assert_eq!(subscriber.next_of("create").await.data_text(), value);
    }
    let check = async |worker: &mut Worker, streams: &str| {
        let list = worker.call("stream::list", json!({ "stream_name": "s", "group_id": "g" })).await;
        assert_eq!(exact(&list.expect("a list succeeds").expect("a list has a result")), values);
        let (_, sync) = Subscriber::of_group(streams, "s", "g").await;
        assert_eq!(exact(sync.data_text()), values);
    };
    check(&mut worker, server.streams()).await;
    bystander.notices_nothing().await;

    // Also from the disk.
    server.kill9().await;
    let server = server.restart().await;
    check(&mut Worker::connect(server.workers()).await, server.streams()).await;
}

/// The elements of a JSON array, each to the letter.
fn exact(array: &str) -> Vec<String> {
    let elements: Vec<Box<RawValue>> = serde_json::from_str(array).expect("an array");
    elements.iter().map(|raw| raw.get().to_owned()).collect()
}

#[tokio::test]
async fn what_json_does_not_allow_is_no_value() {
    let server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    for value in ["NaN", "01", "'a'", "[1,]", "\"\u{1}\"", "undefined", r#""\x""#, "1 2", ""] {
        // The whole frame is no JSON then, so that nobody knows which call to answer.
        worker.start("stream::set", stored("s", "g", "i", value)).await;
        still_works(&mut worker).await;
    }
    assert_eq!(worker.list("s", "g").await, Vec::<Value>::new());
}

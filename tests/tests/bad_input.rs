//! Whatever comes in, a call gets an error with code and message, a session never dies of somebody else's
//! input, and the server never dies at all.

use headwater_core::config::Limits;
use headwater_tests::{
    Bystander, Incoming, Server, Socket, Subscriber, Worker, item, still_joins, still_works, stored,
};
use serde_json::{Value, json};

const BAD_INPUT: &str = "deserialization_error";

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn text_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// The connection either ends or says that the frame is bad; it does not hang.
async fn is_refused(mut socket: Socket) {
    if let Incoming::Text(text) = socket.next("an error or the end").await {
        assert!(text.contains("bad_frame"), "an error or the end, not {text}");
    }
}

// Frames.

#[tokio::test]
async fn a_worker_frame_that_is_no_frame_is_ignored() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let frames = [
        // Not JSON.
        "",
        " ",
        "not json",
        "{",
        "\u{0}",
        r#"{"type":"invokefunction""#,
        "{'type':'ping'}",
        // JSON of the wrong shape.
        "[]",
        "42",
        "null",
        "\"invokefunction\"",
        "[[]]",
        "{}",
        r#"{"type":42}"#,
        r#"{"type":null}"#,
        r#"{"type":["invokefunction"]}"#,
        r#"{"type":"registerfunction"}"#,
        r#"{"type":"invocationresult"}"#,
        r#"{"type":"registerfunction","id":""}"#,
        r#"{"type":"registerfunction","id":{}}"#,
        r#"{"type":"reattach"}"#,
        r#"{"type":"reattach","previous_worker_id":7}"#,
        r#"{"type":"unregisterfunction","id":"never registered"}"#,
        r#"{"type":"unregistertrigger"}"#,
        r#"{"type":"invocationresult","invocation_id":"nobody asked","function_id":"f","result":1}"#,
        // Unknown frame types.
        r#"{"type":"nonsense"}"#,
        r#"{"type":"join","data":{}}"#,
        r#"{"type":""}"#,
        r#"{"type":"INVOKEFUNCTION"}"#,
    ];
    for frame in frames {
        worker.socket().send(frame).await;
        still_works(&mut worker).await;
    }
    worker.socket().send_binary(b"\xff\x00 no text").await;
    still_works(&mut worker).await;
    // Unknown fields are nothing to worry about.
    let call = r#"{"type":"registerfunction","id":"f","new":{"in":["the",null,"next"]},"version":1e400}"#;
    worker.socket().send(call).await;
    still_works(&mut worker).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_stream_frame_that_is_no_frame_is_answered_with_an_error() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut subscriber = Subscriber::connect(server.streams()).await;
    let bad = [
        // Not JSON.
        "",
        "not json",
        "{",
        "\u{0}",
        r#"{"type":"join""#,
        // JSON of the wrong shape.
        "[]",
        "42",
        "null",
        "\"join\"",
        r#"{"type":"join"}"#,
        r#"{"type":"join","data":null}"#,
        r#"{"type":"join","data":[]}"#,
        r#"{"type":"join","data":{}}"#,
        r#"{"type":"leave"}"#,
        r#"{"type":"join","data":{"subscriptionId":1,"streamName":"s","groupId":"g"}}"#,
        r#"{"type":"join","data":{"subscriptionId":"1","streamName":["s"],"groupId":"g"}}"#,
        r#"{"type":"join","data":{"subscriptionId":"1","streamName":"s","groupId":"g","id":7}}"#,
        // Missing and empty names.
        r#"{"type":"join","data":{"subscriptionId":"1","groupId":"g"}}"#,
        r#"{"type":"join","data":{"subscriptionId":"1","streamName":"s"}}"#,
        r#"{"type":"join","data":{"streamName":"s","groupId":"g"}}"#,
        r#"{"type":"join","data":{"subscriptionId":"1","streamName":"","groupId":"g"}}"#,
        r#"{"type":"join","data":{"subscriptionId":"1","streamName":"s","groupId":""}}"#,
        r#"{"type":"join","data":{"subscriptionId":"","streamName":"s","groupId":"g"}}"#,
    ];
    for frame in bad {
        subscriber.socket().send(frame).await;
        assert_eq!(subscriber.next_error().await, "bad_frame", "{frame}");
    }
    for frame in [r#"{"type":"nonsense"}"#, r#"{"type":"invokefunction","function_id":"stream::list_all"}"#] {
        subscriber.socket().send(frame).await;
        assert_eq!(subscriber.next_error().await, "unknown_frame", "{frame}");
    }
    let long = "n".repeat(Limits::default().name_bytes + 1);
    for (stream, group, id) in [(&*long, "g", None), ("s", &*long, None), ("s", "g", Some(&*long))] {
        subscriber.send_join("1", stream, group, id).await;
        assert_eq!(subscriber.next_error().await, "bad_frame", "a name that is too long");
    }
    still_joins(&mut subscriber).await;
    // Unknown fields are nothing to worry about, and neither is a binary frame: clients send both.
    let join = r#"{"new":[1e400],"data":{"subscriptionId":"b","streamName":"s","groupId":"g","new":1},"type":"join"}"#;
    subscriber.socket().send_binary(join.as_bytes()).await;
    subscriber.next_of("sync").await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn invalid_utf8_in_a_text_frame_harms_nobody_else() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let bytes = b"{\"type\":\"\xff\xfe\"}";

    let mut socket = Worker::connect(server.workers()).await.into_socket();
    socket.send_text_bytes(bytes).await;
    let ping = socket.try_send(r#"{"type":"ping"}"#).await;
    // RFC 6455 lets the server hang up (1007). If it does not, the session goes on.
    match socket.next("an answer or the end").await {
        Incoming::Text(text) => assert!(ping && text.contains("pong"), "{text}"),
        Incoming::Closed(code) => assert!(matches!(code, None | Some(1007)), "{code:?}"),
    }
    let mut socket = Socket::connect(server.streams()).await;
    socket.send_text_bytes(bytes).await;
    is_refused(socket).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_peer_that_vanishes_mid_frame_harms_nobody_else() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;

    let mut worker = Worker::connect(server.workers()).await;
    worker.register("vanishing::function").await;
    // A call that is on its way when the worker vanishes gets an answer.
    let call = bystander.worker.start("vanishing::function", json!({})).await;
    assert_eq!(worker.next_invocation().await.function, "vanishing::function");
    worker.into_socket().vanish_mid_frame().await;
    let refusal = bystander.worker.finish(&call).await.expect_err("nobody is there to answer");
    assert_eq!(refusal.code, "invocation_stopped");
    let refusal = bystander.worker.refusal_of("vanishing::function", json!({})).await;
    assert_eq!(refusal.code, "function_not_found");

    let (subscriber, _) = Subscriber::of_group(server.streams(), "bystander", "g").await;
    subscriber.into_socket().vanish_mid_frame().await;
    // Not even the handshake is complete.
    for (address, half) in
        [(server.workers(), "GET / HT"), (server.streams(), "GET /stream/a/b HTTP/1.1\r\n")]
    {
        use std::io::Write;
        let host = address.trim_start_matches("ws://").trim_end_matches('/');
        let mut tcp = std::net::TcpStream::connect(host).expect("the port is open");
        tcp.write_all(half.as_bytes()).expect("the server reads");
    }
    bystander.notices_nothing().await;
}

// Calls.

#[tokio::test]
async fn a_function_that_does_not_exist_is_not_found() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    for function in
        ["nobody::has-this", "stream::", "stream::nothing", "streams.nothing", "STREAM::SET", "😀"]
    {
        let refusal = worker.refusal_of(function, json!({})).await;
        assert_eq!(refusal.code, "function_not_found", "{function}: {refusal:?}");
        assert!(!refusal.message.is_empty(), "{function}");
        worker.call_void(function, json!({})).await;
    }
    still_works(&mut worker).await;
    bystander.notices_nothing().await;
}

/// The functions of a group, each with input that would do.
fn calls() -> Vec<(&'static str, Value)> {
    let group = json!({ "stream_name": "s", "group_id": "g" });
    let with = |more: Value| {
        let mut input = group.clone();
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        input
    };
    vec![
        ("stream::set", with(json!({ "item_id": "i", "data": 1 }))),
        ("stream::get", with(json!({ "item_id": "i" }))),
        ("stream::delete", with(json!({ "item_id": "i" }))),
        ("stream::update", with(json!({ "item_id": "i", "ops": [] }))),
        ("stream::list", group.clone()),
        ("stream::list_groups", json!({ "stream_name": "s" })),
        ("stream::send", with(json!({ "type": "t", "data": 1 }))),
    ]
}

#[tokio::test]
async fn input_of_the_wrong_shape_is_refused() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    for (function, good) in calls() {
        for data in ["null", "[]", "42", "\"text\"", "{}", "true", "[[[]]]"] {
            let refusal = worker.refusal_of(function, data).await;
            assert_eq!(refusal.code, BAD_INPUT, "{function} {data}: {refusal:?}");
        }
        // Each name missing, empty, of another type, and too long.
        for name in ["stream_name", "group_id", "item_id"] {
            if good.get(name).is_none() {
                continue;
            }
            let mut missing = good.clone();
            missing.as_object_mut().expect("an object").remove(name);
            let too_long = json!("n".repeat(Limits::default().name_bytes + 1));
            let wrong = [json!(""), Value::Null, json!(7), json!(["s"]), json!({}), too_long];
            let with = |value: Value| {
                let mut input = good.clone();
                input[name] = value;
                input
            };
            for input in std::iter::once(missing).chain(wrong.map(with)) {
                let refusal = worker.refusal_of(function, &input).await;
                assert_eq!(refusal.code, BAD_INPUT, "{function} {input}: {refusal:?}");
                assert!(!refusal.message.is_empty(), "{function} {input}");
            }
        }
    }
    // Without `data`, and with an invocation id of their own making.
    let call = r#"{"type":"invokefunction","invocation_id":"mine","function_id":"stream::set"}"#;
    worker.socket().send(call).await;
    let (_, outcome) = worker.next_outcome().await.expect("the session goes on");
    assert_eq!(outcome.expect_err("nothing to set").code, BAD_INPUT);
    assert_eq!(worker.result_of("stream::list_all", json!({})).await.expect("a result")["count"], 1);
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_value_nested_ten_thousand_deep_is_refused() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let deep = nested(10_000);
    let named = r#""stream_name":"s","group_id":"g","item_id":"i""#;
    let calls = [
        ("stream::set", stored("s", "g", "i", &deep)),
        ("stream::set", stored("s", "g", "i", nested(Limits::default().json_depth + 1))),
        ("stream::set", stored("s", "g", "i", "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000))),
        ("stream::send", format!(r#"{{{named},"type":"t","data":{deep}}}"#)),
        ("stream::update", format!(r#"{{{named},"ops":[{{"type":"set","path":"a","value":{deep}}}]}}"#)),
        ("stream::update", format!(r#"{{{named},"ops":{deep}}}"#)),
        ("stream::get", format!(r#"{{{named},"unknown":{deep}}}"#)),
        ("stream::set", deep.clone()),
    ];
    for (function, data) in calls {
        // An unknown field may be passed over, however deep; everything else is refused.
        match worker.call(function, &data).await {
            Ok(None) if function == "stream::get" => {}
            Ok(result) => panic!("{function} was to be refused, but gave {result:?}"),
            Err(refusal) => assert_eq!(refusal.code, BAD_INPUT, "{function}: {refusal:?}"),
        }
    }
    worker.socket().send(&*deep).await;
    worker.socket().send(format!(r#"{{"type":"registerfunction","id":"f","metadata":{deep}}}"#)).await;
    still_works(&mut worker).await;
    let deepest = nested(Limits::default().json_depth);
    worker.set("s", "g", "i", &deepest).await;
    assert_eq!(worker.call("stream::get", item("s", "g", "i")).await, Ok(Some(deepest)));

    let mut subscriber = Subscriber::connect(server.streams()).await;
    subscriber.socket().send(&*deep).await;
    assert_eq!(subscriber.next_error().await, "bad_frame");
    let join = format!(
        r#"{{"type":"join","data":{{"subscriptionId":"1","streamName":"s","groupId":"g","id":{deep}}}}}"#
    );
    subscriber.socket().send(join).await;
    assert_eq!(subscriber.next_error().await, "bad_frame");
    still_joins(&mut subscriber).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_value_of_nine_mebibytes_is_refused() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let huge = text_of(9 << 20);
    let named = r#""stream_name":"s","group_id":"g","item_id":"i""#;
    let calls = [
        ("stream::set", "STREAM_SET_ERROR", stored("s", "g", "i", &huge)),
        ("stream::send", "STREAM_SEND_ERROR", format!(r#"{{{named},"type":"t","data":{huge}}}"#)),
        (
            "stream::update",
            "STREAM_UPDATE_ERROR",
            format!(r#"{{{named},"ops":[{{"type":"set","path":"","value":{huge}}}]}}"#),
        ),
    ];
    for (function, code, data) in calls {
        let refusal = worker.refusal_of(function, data).await;
        assert_eq!(refusal.code, code, "{function}: {refusal:?}");
    }
    assert_eq!(worker.call("stream::get", item("s", "g", "i")).await, Ok(None), "nothing was stored");
    // The largest value that fits goes all the way.
    let largest = text_of(Limits::default().value_bytes);
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    worker.set("s", "g", "i", &largest).await;
    assert!(subscriber.next_of("create").await.data_text() == largest, "the value came as it was sent");

    // Nothing of that size is taken on the stream port.
    let mut socket = Socket::connect(server.streams()).await;
    socket.try_send(huge).await;
    is_refused(socket).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn an_item_id_of_one_mebibyte_is_refused() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    let long = "i".repeat(1 << 20);
    let mut update = item("s", "g", &long);
    update["ops"] = json!([]);
    let calls = [
        ("stream::set", stored("s", "g", &long, 1)),
        ("stream::get", item("s", "g", &long).to_string()),
        ("stream::delete", item("s", "g", &long).to_string()),
        ("stream::update", update.to_string()),
    ];
    for (function, data) in calls {
        let refusal = worker.refusal_of(function, data).await;
        assert_eq!(refusal.code, BAD_INPUT, "{function}");
        assert!(refusal.message.len() < 1_000, "{function} does not repeat what was wrong");
    }
    still_works(&mut worker).await;

    // With such an id a frame is larger than the stream port takes.
    let mut socket = Socket::connect(server.streams()).await;
    let data = json!({ "subscriptionId": "1", "streamName": "s", "groupId": "g", "id": long });
    socket.try_send(json!({ "type": "join", "data": data }).to_string()).await;
    is_refused(socket).await;
    bystander.notices_nothing().await;
}

//! Functions that are called when items change.

use std::time::{Duration, Instant};

use headwater_tests::{Puppet, Sdk, Server, Setup, Subscriber, Worker, item, stored};
use serde_json::{Value, json};

const SETS: usize = 5_000;
const GROUPS: usize = 5;
const WINDOW: usize = 64;

async fn next_frame(subscriber: &mut Subscriber) -> Value {
    let text = subscriber.socket().next_text("a frame").await;
    serde_json::from_str(&text).expect("a frame is JSON")
}

pub(crate) async fn a_trigger_gets_the_frames_that_subscribers_get(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "nothing" })).await;
    let config = json!({ "stream_name": "s", "group_id": "g" });
    puppet.binds_with("f", "stream", config, json!({ "bound": "with" })).await;
    puppet.is_ready().await;

    let mut writer = Worker::connect(server.workers()).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    writer.set("s", "g", "a", json!({ "n": 1 })).await;
    // Of no interest to it.
    writer.set("s", "other", "a", json!(0)).await;
    writer.set("other", "g", "a", json!(0)).await;
    writer.set("s", "g", "a", json!({ "n": 2 })).await;
    let mut update = item("s", "g", "b");
    update["ops"] = json!([{ "type": "increment", "path": "n", "by": 1 }]);
    writer.result_of("stream::update", &update).await;
    writer.result_of("stream::update", &update).await;
    writer.result_of("stream::delete", item("s", "g", "a")).await;
    let mut send = json!({ "stream_name": "s", "group_id": "g", "type": "t", "data": [1] });
    writer.result_of("stream::send", &send).await;
    send["id"] = "b".into();
    writer.result_of("stream::send", &send).await;

    let event = json!({ "type": "event", "event": { "type": "t", "data": [1] } });
    let expected = [
        ("a".into(), json!({ "type": "create", "data": { "n": 1 } })),
        ("a".into(), json!({ "type": "update", "data": { "n": 2 } })),
        ("b".into(), json!({ "type": "create", "data": { "n": 1 } })),
        ("b".into(), json!({ "type": "update", "data": { "n": 2 } })),
        ("a".into(), json!({ "type": "delete", "data": { "n": 2 } })),
        (Value::Null, event.clone()),
        ("b".into(), event),
    ];
    for (id, event) in expected {
        let heard = puppet.heard().await;
        let frame = next_frame(&mut subscriber).await;
        assert_eq!((&heard.data, &heard.metadata), (&frame, &Some(json!({ "bound": "with" }))));
        assert!(frame["timestamp"].is_u64() && frame["revision"].is_u64(), "{frame}");
        let rest = json!({
            "type": "stream", "timestamp": frame["timestamp"], "revision": frame["revision"],
            "streamName": "s", "groupId": "g", "id": id, "event": event,
        });
        assert_eq!(frame, rest);
    }

    // Taken back, it gets nothing; bound again, it gets what comes from then on.
    puppet.unbinds("f").await;
    puppet.is_ready().await;
    writer.set("s", "g", "unheard", json!(0)).await;
    puppet.binds("f", "stream", json!({ "stream_name": "s", "item_id": "heard" })).await;
    puppet.is_ready().await;
    writer.set("s", "g", "still unheard", json!(0)).await;
    writer.set("s", "another", "heard", json!("again")).await;
    assert_eq!(puppet.heard_of("f").await["event"]["data"], "again");
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());
    puppet.finishes().await;
}

pub(crate) async fn a_condition_that_is_false_or_fails_skips_the_handler(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    let go =
        json!({ "kind": "if", "path": ["event", "data", "go"], "is": true, "then": true, "else": false });
    for (function, does) in [
        ("is it to go", go),
        ("says nothing", json!({ "kind": "nothing" })),
        ("fails", json!({ "kind": "throws", "message": "no condition" })),
    ] {
        puppet.registers(function, does).await;
        let handler = format!("if it {function}");
        puppet.registers(&handler, json!({ "kind": "nothing" })).await;
        let config = json!({ "stream_name": "s", "condition_function_id": function });
        puppet.binds(&handler, "stream", config).await;
    }
    puppet.is_ready().await;

    let mut writer = Worker::connect(server.workers()).await;
    for n in 1..=4 {
        writer.set("s", "g", "i", json!({ "n": n, "go": n % 2 == 0 })).await;
    }
    for n in 1..=4 {
        for function in ["is it to go", "says nothing", "if it says nothing", "fails"] {
            assert_eq!(puppet.heard_of(function).await["event"]["data"]["n"], n, "{function}");
        }
        if n % 2 == 0 {
            assert_eq!(puppet.heard_of("if it is it to go").await["event"]["data"]["n"], n);
        }
    }
    // Where its condition was asked for the fourth, a handler is through with the three before.
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());
    puppet.finishes().await;
}

pub(crate) async fn a_handler_that_throws_hurts_neither_the_writer_nor_the_next_event(sdk: Sdk) {
    let mut server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("handler-that-throws", json!({ "kind": "throws", "message": "no such luck" })).await;
    puppet.binds("handler-that-throws", "stream", json!({ "stream_name": "s" })).await;
    puppet.is_ready().await;

    let mut writer = Worker::connect(server.workers()).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "group-of-failures").await;
    for n in 1..=3 {
        writer.set("s", "group-of-failures", "i", json!(n)).await;
        assert_eq!(subscriber.next().await.data(), json!(n));
    }
    for n in 1..=3 {
        assert_eq!(puppet.heard_of("handler-that-throws").await["event"]["data"], n);
    }
    puppet.finishes().await;

    // Who reads the log finds what failed, and for what.
    assert_eq!(server.terminate().await, Some(0));
    let log = server.stderr();
    for revision in 1..=2 {
        let told = log.lines().any(|line| {
            ["handler-that-throws", "group-of-failures", &revision.to_string(), "no such luck"]
                .iter()
                .all(|word| line.contains(word))
        });
        assert!(told, "the log tells of the failure at revision {revision}: {log}");
    }
}

pub(crate) async fn a_handler_that_sleeps_keeps_its_own_group_waiting_and_no_other(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "holds" })).await;
    puppet.binds("f", "stream", json!({ "stream_name": "s" })).await;
    puppet.is_ready().await;

    let start = Instant::now();
    let mut writer = Worker::connect(server.workers()).await;
    for n in 1..=2 {
        writer.set("s", "a", "i", json!(n)).await;
        writer.set("s", "b", "i", json!(n)).await;
    }
    let mut first = [puppet.heard_of("f").await, puppet.heard_of("f").await];
    first.sort_by_key(|frame| frame["groupId"].to_string());
    assert_eq!(first.each_ref().map(|frame| &frame["groupId"]), ["a", "b"]);
    assert_eq!(first.each_ref().map(|frame| &frame["event"]["data"]), [1, 1]);
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());
    puppet.releases("f").await;
    let mut second = [puppet.heard_of("f").await, puppet.heard_of("f").await];
    second.sort_by_key(|frame| frame["groupId"].to_string());
    assert_eq!(second.each_ref().map(|frame| &frame["groupId"]), ["a", "b"]);
    assert_eq!(second.each_ref().map(|frame| &frame["event"]["data"]), [2, 2]);
    // Far below the deadline of a call, 30 s: none of it waited for that.
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    puppet.finishes().await;
}

pub(crate) async fn a_handler_over_its_deadline_gives_way_to_the_next_event(sdk: Sdk) {
    let server = Setup::new().timeouts(json!({ "call_ms": 300 })).start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "holds" })).await;
    puppet.binds("f", "stream", json!({ "stream_name": "s" })).await;
    puppet.is_ready().await;

    let mut writer = Worker::connect(server.workers()).await;
    for n in 1..=4 {
        writer.set("s", "g", "i", json!(n)).await;
    }
    for n in 1..=3 {
        assert_eq!(puppet.heard_of("f").await["event"]["data"], n);
    }
    // Three late answers at once change nothing.
    puppet.releases("f").await;
    assert_eq!(puppet.heard_of("f").await["event"]["data"], 4);
    writer.set("s", "g", "i", json!(5)).await;
    assert_eq!(puppet.heard_of("f").await["event"]["data"], 5);
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());
    puppet.finishes().await;
}

pub(crate) async fn five_thousand_sets_call_a_handler_five_thousand_times_in_order(sdk: Sdk) {
    let server = Server::start().await;
    let mut puppet = Puppet::start(&server, sdk);
    puppet.registers("f", json!({ "kind": "nothing" })).await;
    puppet.binds("f", "stream", json!({ "stream_name": "s" })).await;
    puppet.is_ready().await;

    let mut writer = Worker::connect(server.workers()).await;
    let sets = (0..SETS).map(|n| stored("s", &format!("g{}", n % GROUPS), "i", n / GROUPS));
    assert_eq!(writer.pipeline("stream::set", WINDOW, sets).await, SETS);
    let mut next = [0; GROUPS];
    for _ in 0..SETS {
        let frame = puppet.heard_of("f").await;
        let group = frame["groupId"].as_str().and_then(|name| name[1..].parse::<usize>().ok());
        let next = &mut next[group.expect("a group of this test")];
        assert_eq!(frame["event"]["data"], *next, "in order: {frame}");
        assert!(frame.get("skipped").is_none(), "none is left out: {frame}");
        *next += 1;
    }
    assert_eq!(next, [SETS / GROUPS; GROUPS]);
    // And no more often: what comes next is what is done next.
    writer.set("s", "g0", "i", json!("last")).await;
    assert_eq!(puppet.heard_of("f").await["event"]["data"], "last");
    assert!(puppet.rest().is_empty(), "{:?}", puppet.rest());
    puppet.finishes().await;
}

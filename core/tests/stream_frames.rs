//! The bytes of the stream port: paths, frames, and what is wrong with some of them.

mod driver;

use driver::World;

#[test]
fn a_path_joins_what_it_names() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.call(
        worker,
        "2",
        "stream::set",
        r#"{"stream_name":"a/b","group_id":"ü ?","item_id":"100%","data":2}"#,
    );
    let mut told = String::new();
    for path in [
        "/stream/s/g",
        "/stream/s/g/",
        "/stream/s/g/a",
        "/stream/s/g/a/",
        "/stream/a%2Fb/%C3%BC%20%3F/100%25",
        "/stream/a%2fb/%c3%bc%20?/100%",
        "/stream/%ff/g",
        "/stream//g",
        "/stream/s/g//",
        "/stream/s/g/a/b",
        "/stream/s",
        "/stream/s/",
        "/stream",
        "/",
        "",
        "/streams/s/g",
    ] {
        let session = world.session_at(path);
        told.push_str(&format!("{path} -> {}\n", world.seen(session).join(", ")));
    }
    insta::assert_snapshot!(told, @r#"
    /stream/s/g -> g sync [1] #1 @3
    /stream/s/g/ -> g sync [1] #1 @3
    /stream/s/g/a -> g/a sync 1 #1 @3
    /stream/s/g/a/ -> g/a sync 1 #1 @3
    /stream/a%2Fb/%C3%BC%20%3F/100%25 -> ü ?/100% sync 2 #1 @3
    /stream/a%2fb/%c3%bc%20?/100% -> ü ?/100% sync 2 #1 @3
    /stream/%ff/g -> ! bad_frame
    /stream//g -> ! bad_frame
    /stream/s/g// -> ! bad_frame
    /stream/s/g/a/b -> 
    /stream/s -> 
    /stream/s/ -> 
    /stream -> 
    / -> 
     -> 
    /streams/s/g ->
    "#);
}

#[test]
fn a_path_join_has_a_subscription_of_its_own_beside_those_of_frames() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session_at("/stream/s/g/a"));
    world.join(session, "sub", "g", "");
    world.set(worker, "1", "g", "a", "1");
    world.leave(session, "sub");
    world.set(worker, "2", "g", "a", "2");
    world.set(worker, "3", "g", "b", "3");
    assert_eq!(
        world.seen(session),
        ["g/a sync null #0 @1", "g sync [] #0 @1", "g/a create 1 #1 @2", "g/a update 2 #2 @4"]
    );
}

#[test]
fn frames_on_the_wire_are_what_the_clients_expect() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g\\\"\\n", "");
    world.set(worker, "1", "g\\\"\\n", "a\\u0000", r#"{ "x" : 1e400, "x": "\ud800" }"#);
    world.delete(worker, "2", "g\\\"\\n", "a\\u0000");
    world.set(worker, "3", "g\\\"\\n", "a", "null");
    world.send(worker, "4", "g\\\"\\n", "", "event\\t");
    world.session_says(session, "{}");
    let frames = world.frames(session).join("\n");
    let epoch = frames.split("\"epoch\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    insta::assert_snapshot!(frames.replace(&epoch, "EPOCH"), @r#"
    {"type":"stream","timestamp":1000001,"streamName":"s","groupId":"g\"\n","id":null,"event":{"type":"sync","data":[]},"revision":0,"epoch":"EPOCH"}
    {"type":"stream","timestamp":1000002,"streamName":"s","groupId":"g\"\n","id":"a\u0000","event":{"type":"create","data":{ "x" : 1e400, "x": "\ud800" }},"revision":1}
    {"type":"stream","timestamp":1000004,"streamName":"s","groupId":"g\"\n","id":"a\u0000","event":{"type":"delete","data":{ "x" : 1e400, "x": "\ud800" }},"revision":2}
    {"type":"stream","timestamp":1000006,"streamName":"s","groupId":"g\"\n","id":"a","event":{"type":"sync","data":null},"revision":3,"epoch":"EPOCH"}
    {"type":"stream","timestamp":1000007,"streamName":"s","groupId":"g\"\n","id":null,"event":{"type":"sync","data":[]},"revision":3,"epoch":"EPOCH"}
    {"type":"stream","timestamp":1000008,"streamName":"s","groupId":"g\"\n","id":null,"event":{"type":"event","event":{"type":"event\t","data":{"k":1}}},"revision":3}
    {"type":"stream","timestamp":0,"streamName":"","groupId":"","id":null,"event":{"type":"error","error":{"code":"bad_frame","message":"`type` is missing"}}}
    "#);
}

#[test]
fn bad_frames_get_an_error_that_echoes_the_names_and_end_nothing() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.seen(session);
    let long = "x".repeat(1 << 20);
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let join = |data: &str| format!(r#"{{"type":"join","data":{{{data}}}}}"#);
    let mut told = String::new();
    for frame in [
        String::new(),
        "not JSON".into(),
        "[]".into(),
        "null".into(),
        r#"["join",{"subscriptionId":"1","streamName":"s","groupId":"g"}]"#.into(),
        deep.clone(),
        "{}".into(),
        r#"{"type":7}"#.into(),
        r#"{"type":"subscribe","data":{}}"#.into(),
        r#"{"type":"join"}"#.into(),
        r#"{"type":"join","data":null}"#.into(),
        r#"{"type":"join","data":["1","s","g"]}"#.into(),
        join(r#""streamName":"s","groupId":"g""#),
        join(r#""subscriptionId":"1","groupId":"g""#),
        join(r#""subscriptionId":"1","streamName":"s""#),
        join(r#""subscriptionId":"1","streamName":"s","groupId":7"#),
        join(r#""subscriptionId":"1","streamName":"","groupId":"g""#),
        join(r#""subscriptionId":"","streamName":"s","groupId":"g""#),
        join(r#""subscriptionId":"1","streamName":"\ud800","groupId":"g""#),
        join(&format!(r#""subscriptionId":"1","streamName":"s","groupId":"g","id":"{long}""#)),
        join(&format!(r#""subscriptionId":"1","streamName":"s","groupId":"g","id":{deep}"#)),
        r#"{"type":"leave","data":{}}"#.into(),
    ] {
        world.session_says(session, &frame);
        let frames = world.frames(session);
        assert_eq!(frames.len(), 1, "{frame}");
        assert!(frames[0].len() < 1_000, "{}", frames[0]);
        let value: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(value["timestamp"], 0);
        let names =
            [&value["streamName"], &value["groupId"], &value["id"]].map(ToString::to_string).join(" ");
        let error = &value["event"]["error"];
        told.push_str(&format!(
            "{names} {} {}\n",
            error["code"].as_str().unwrap(),
            error["message"].as_str().unwrap()
        ));
    }
    insta::assert_snapshot!(told, @r#"
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame the frame must be a JSON object
    "" "" null bad_frame `type` is missing
    "" "" null bad_frame `type` must be a string, got a number
    "" "" null unknown_frame a frame's `type` is `join` or `leave`
    "" "" null bad_frame `data` is missing
    "" "" null bad_frame `data` is missing
    "" "" null bad_frame `data` must be a JSON object
    "s" "g" null bad_frame `data.subscriptionId` is missing
    "" "g" null bad_frame `data.streamName` is missing
    "s" "" null bad_frame `data.groupId` is missing
    "s" "" null bad_frame `data.groupId` must be a string, got a number
    "" "g" null bad_frame `data.streamName` must not be empty
    "s" "g" null bad_frame `data.subscriptionId` must not be empty
    "" "g" null bad_frame `data.streamName` has an escape that is no Unicode character
    "s" "g" null bad_frame `data.id` is 1048576 bytes long; the limit is 512 (`name_bytes`)
    "s" "g" null bad_frame `data.id` must be a string, got an array
    "" "" null bad_frame `data.subscriptionId` is missing
    "#);
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.seen(session), ["g/a create 1 #1 @2"]);
}

//! Bad input of workers: a call gets an error with code and message, and nothing else happens.

mod driver;

use driver::{World, call_frame};
use headwater_core::Notice;
use headwater_core::config::CoreConfig;
use serde_json::Value;

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

/// An input of `stream::set` with one member replaced or added.
fn set_input(member: &str, value: &str) -> String {
    let members = [("stream_name", "\"s\""), ("group_id", "\"g\""), ("item_id", "\"i\""), ("data", "1")];
    let members = members.map(|(name, default)| {
        let value = if name == member { value } else { default };
        format!("\"{name}\":{value}")
    });
    format!("{{{}}}", members.join(","))
}

#[test]
fn frames_that_are_none_are_noted_and_the_worker_lives_on() {
    let mut world = World::in_memory();
    let worker = world.worker();
    let frames = [
        String::new(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{".to_owned(),
        "{}".to_owned(),
        r#"{"type":null}"#.to_owned(),
        r#"{"type":["ping"]}"#.to_owned(),
        r#"["invokefunction"]"#.to_owned(),
        nested(1_000_000),
        format!(r#"{{"type":{}}}"#, nested(10_000)),
        r#"{"type":"ping"} trailing"#.to_owned(),
        r#"{"type":"registerfunction"}"#.to_owned(),
        r#"{"type":"registerfunction","id":""}"#.to_owned(),
        r#"{"type":"registerfunction","id":7}"#.to_owned(),
        r#"{"type":"unregisterfunction"}"#.to_owned(),
        r#"{"type":"registertrigger"}"#.to_owned(),
        r#"{"type":"unregistertrigger","id":[]}"#.to_owned(),
        r#"{"type":"invocationresult"}"#.to_owned(),
        r#"{"type":"invocationresult","invocation_id":"not ours","result":1}"#.to_owned(),
        r#"{"type":"invokefunction","function_id":7}"#.to_owned(),
        r#"{"type":"invokefunction","invocation_id":7,"function_id":"f"}"#.to_owned(),
    ];
    for (n, frame) in frames.iter().enumerate() {
        world.says(worker, frame);
        assert_eq!(world.notes.len(), n + 1, "{frame:.100}");
        let Notice::BadWorkerFrame { error, .. } = &world.notes[n] else { panic!("{:?}", world.notes[n]) };
        assert_eq!(error.code, "deserialization_error");
        assert!(error.message.len() < 1_000);
    }
    assert!(world.heard(worker).is_empty());
    world.says(worker, r#"{"type":"ping"}"#);
    assert_eq!(world.heard(worker), [r#"{"type":"pong"}"#]);
}

#[test]
fn unknown_frames_and_fields_are_ignored() {
    let mut world = World::in_memory();
    let worker = world.worker();
    for frame in [
        r#"{"type":"something new","id":7}"#,
        r#"{"type":"pong"}"#,
        r#"{"type":"registertriggertype","id":"t","description":"d"}"#,
        r#"{"type":"unregistertriggertype","id":"t"}"#,
        r#"{"type":"reattach"}"#,
        r#"  {"type":"reattach","previous_worker_id":7,"reattach_token":{}}"#,
    ] {
        world.says(worker, frame);
    }
    assert!(world.heard(worker).is_empty() && world.notes.is_empty(), "{:?}", world.notes);
}

#[test]
fn a_bad_call_is_answered_with_its_code_and_what_is_wrong() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.registers(worker, "f");
    let deep = nested(10_000);
    let large = format!("{:?}", "x".repeat(9 << 20));
    let long = format!("{:?}", "x".repeat(1 << 20));
    let call = |function: &str, data: &str| call_frame("1", function, data);
    let mut told = String::new();
    for frame in [
        r#"{"type":"invokefunction","invocation_id":"1"}"#.to_owned(),
        r#"{"type":"invokefunction","invocation_id":"1","function_id":""}"#.to_owned(),
        r#"{"type":"invokefunction","invocation_id":"1","function_id":"f","action":"void"}"#.to_owned(),
        r#"{"type":"invokefunction","invocation_id":"1","function_path":"f","action":{"type":"x"}}"#
            .to_owned(),
        r#"{"type":"invokefunction","invocation_id":"1","function_id":"f","traceparent":7}"#.to_owned(),
        format!(r#"{{"type":"invokefunction","invocation_id":"1","function_id":"f","metadata":{deep}}}"#),
        r#"{"type":"invokefunction","invocation_id":"1","function_id":"stream::set"}"#.to_owned(),
        call(&"x".repeat(513), "1"),
        call("\\ud800", "1"),
        call("f", &deep),
        call("stream::set", "7"),
        call("stream::set", "[]"),
        call("stream::set", "{}"),
        call("stream::set", r#"{"group_id":"g","item_id":"i","data":1}"#),
        call("stream::set", r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#),
        call("stream::set", &set_input("stream_name", "\"\"")),
        call("stream::set", &set_input("group_id", "null")),
        call("stream::set", &set_input("group_id", "7")),
        call("stream::set", &set_input("item_id", "{}")),
        call("stream::set", &set_input("item_id", r#""\ud800""#)),
        call("stream::set", &set_input("item_id", &long)),
        call("stream::set", &set_input("data", &large)),
        call("stream::set", &set_input("data", &deep)),
        call("stream::set", &set_input("data", &nested(129))),
        call("stream::set", &set_input("item_id", "\"i\",\"item_id\":\"j\"")),
        call("stream::send", r#"{"stream_name":"s","group_id":"g"}"#),
        call("stream::send", r#"{"stream_name":"s","group_id":"g","type":"t","id":7}"#),
        call("stream::list_groups", "null"),
        call("stream::list_all", "[]"),
    ] {
        world.says(worker, &frame);
        let frames = world.heard(worker);
        assert_eq!(frames.len(), 1, "{frame:.100}: {frames:?} {:?}", world.notes.last());
        let value: Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!((&value["type"], &value["invocation_id"]), (&"invocationresult".into(), &"1".into()));
        let function = value["function_id"].as_str().unwrap();
        let (code, message) = (&value["error"]["code"], &value["error"]["message"]);
        told.push_str(&format!("{function:.20} {} {}\n", code.as_str().unwrap(), message.as_str().unwrap()));
    }
    insta::assert_snapshot!(told, @r#"
     deserialization_error `function_id` is missing
     deserialization_error `function_id` must not be empty
    f deserialization_error `action` must be an object with a `type`, such as {"type":"void"}
    f deserialization_error `action` must be of type `void`, or absent
    f deserialization_error `traceparent` must be a string, got a number
    f deserialization_error `metadata` is nested deeper than 128 levels (`json_depth`)
    stream::set deserialization_error the input must be a JSON object
    xxxxxxxxxxxxxxxxxxxx deserialization_error `function_id` is 513 bytes long; the limit is 512 (`name_bytes`)
     deserialization_error `function_id` has an escape that is no Unicode character
    f deserialization_error `data` is nested deeper than 128 levels (`json_depth`)
    stream::set deserialization_error the input must be a JSON object
    stream::set deserialization_error the input must be a JSON object
    stream::set deserialization_error `stream_name` is missing
    stream::set deserialization_error `stream_name` is missing
    stream::set deserialization_error `data` is missing
    stream::set deserialization_error `stream_name` must not be empty
    stream::set deserialization_error `group_id` is missing
    stream::set deserialization_error `group_id` must be a string, got a number
    stream::set deserialization_error `item_id` must be a string, got an object
    stream::set deserialization_error `item_id` has an escape that is no Unicode character
    stream::set deserialization_error `item_id` is 1048576 bytes long; the limit is 512 (`name_bytes`)
    stream::set STREAM_SET_ERROR `data` is 9437186 bytes of JSON; the limit is 8388608 (`value_bytes`)
    stream::set deserialization_error `data` is nested deeper than 128 levels (`json_depth`)
    stream::set deserialization_error `data` is nested deeper than 128 levels (`json_depth`)
    stream::set deserialization_error the input can't be read: duplicate field `item_id` at line 1 column 57
    stream::send deserialization_error `type` is missing
    stream::send deserialization_error `id` must be a string, got a number
    stream::list_groups deserialization_error the input must be a JSON object
    stream::list_all deserialization_error the input must be a JSON object
    "#);
    world.call(worker, "1", "stream::list_all", "{}");
    assert_eq!(world.replies(worker), [r#"1: {"count":0,"stream":[]}"#]);
}

#[test]
fn a_call_frame_with_a_field_twice_is_answered() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.says(
        worker,
        r#"{"type":"invokefunction","invocation_id":"1","function_id":"stream::list_all","data":{},"data":{}}"#,
    );
    assert_eq!(world.heard(worker).len(), 1, "{:?}", world.notes);
}

#[test]
fn any_text_is_a_name_and_any_json_comes_back_as_it_was_sent() {
    let values = [
        "1e400",
        "12345678901234567890123",
        "1.0",
        "-0",
        r#"{"a":1,"a":2}"#,
        r#""\ud800""#,
        r#""\u00e9""#,
        r#"{ "b" : [ ] }"#,
        "\"\u{7f}é🦀\"",
        "true",
        r#""""#,
        "[1.10,\n\t2]",
    ];
    for name in ["a/b", "a:b", "a b", r#"\""#, r"\n", r"\u0000", "🦀", "::", "%2F", "..", r"\\"] {
        let mut world = World::durable();
        let (worker, session) = (world.worker(), world.session());
        world.join(session, "sub", name, name);
        for value in values {
            let input =
                format!(r#"{{"stream_name":"s","group_id":"{name}","item_id":"{name}","data":{value}}}"#);
            world.call(worker, "set", "stream::set", &input);
            world.call(worker, "get", "stream::get", &input);
            world.settle();
            let got = &world.heard(worker)[1];
            assert!(got.ends_with(&format!(r#""result":{value}}}"#)), "{got}");
            let told = world.frames(session).pop().unwrap();
            assert!(told.contains(&format!(r#""data":{value}}}"#)), "{told}");
        }
        world.crash(0);
        let (worker, session) = (world.worker(), world.session());
        let last = values[values.len() - 1];
        world.join(session, "sub", name, name);
        assert!(world.frames(session)[0].contains(&format!(r#""data":{last}}}"#)), "{name}");
        world.list(worker, "list", name);
        assert!(world.heard(worker)[0].ends_with(&format!(r#""result":[{last}]}}"#)), "{name}");
    }
}

#[test]
fn the_depth_limit_is_inclusive_and_values_at_the_size_limit_pass() {
    let mut config = CoreConfig::default();
    config.limits.value_bytes = 1_000;
    config.limits.group_bytes = 8_192 + 3_150;
    let mut world = World::with_config(config);
    let worker = world.worker();
    let text = |len: usize| format!("{:?}", "x".repeat(len - 2));
    world.set(worker, "deepest", "deep", "a", &nested(128));
    world.settle();
    assert!(world.heard(worker)[0].ends_with(&format!(r#""new_value":{}}}}}"#, nested(128))));
    world.set(worker, "largest", "g", "a", &text(1_000));
    world.set(worker, "too large", "g", "b", &text(1_001));
    world.set(worker, "second", "g", "b", &text(1_000));
    world.set(worker, "too many", "g", "c", &text(1_000));
    world.set(worker, "filling", "g", "c", &text(994));
    world.set(worker, "smaller", "g", "a", "1");
    world.send(worker, "sent", "g", "", "t");
    world.settle();
    let told: Vec<_> =
        world.replies(worker).iter().map(|reply| reply.chars().take(90).collect::<String>()).collect();
    insta::assert_snapshot!(told.join("\n").replace("xxxxxxxxxx", ""), @r#"
    too large! STREAM_SET_ERROR: `data` is 1001 bytes of JSON; the limit is 1000 (`value_bytes
    largest: {"new_value":"xxxxxxx
    second: {"new_value":"xxxxxxxx
    too many! STREAM_SET_ERROR: the group's list would be 11348 bytes; the limit is 11342 (`gr
    filling: {"new_value":"xxxxxxx
    smaller: {"new_value":1,"old_value":"xxx
    sent: null
    "#);
}

#[test]
fn a_registration_beyond_the_limit_is_told() {
    let mut config = CoreConfig::default();
    config.limits.registrations = 1;
    let mut world = World::with_config(config);
    let worker = world.worker();
    let trigger = |id: &str| {
        format!(r#"{{"type":"registertrigger","id":"{id}","trigger_type":"stream:join","function_id":"f"}}"#)
    };
    for id in ["1", "1", "2"] {
        world.says(worker, &trigger(id));
    }
    world.says(worker, r#"{"type":"unregistertrigger","id":"1","trigger_type":"stream"}"#);
    world.says(worker, &trigger("2"));
    world.says(worker, r#"{"type":"registertrigger","id":"3","trigger_type":"stream"}"#);
    insta::assert_snapshot!(world.heard(worker).join("\n"), @r#"
    {"type":"triggerregistrationresult","id":"2","trigger_type":"stream:join","error":{"code":"trigger_registration_failed","message":"a worker has at most 1 triggers (`registrations`)"}}
    {"type":"triggerregistrationresult","id":"3","trigger_type":"stream","error":{"code":"deserialization_error","message":"`function_id` is missing"}}
    "#);
    world.notes.clear();
    for function in ["f", "f", "g"] {
        world.registers(worker, function);
    }
    assert!(matches!(&world.notes[..], [Notice::TooManyFunctions { .. }]), "{:?}", world.notes);
}

#[test]
fn what_is_too_long_to_be_passed_on_is_refused_and_the_longest_that_is_not_arrives() {
    let mut world = World::in_memory();
    let (caller, callee) = (world.worker(), world.worker());
    world.registers(callee, "f");
    let call = |id: &str, data: &str, more: &str| {
        format!(r#"{{"type":"invokefunction","function_id":"f","invocation_id":"{id}","data":{data}{more}}}"#)
    };
    let mut told = String::new();
    let mut passes_and_does_not = |longest: String, too_long: String| {
        world.says(caller, &longest);
        assert_eq!((world.heard(callee).len(), world.heard(caller).len()), (1, 0), "{longest:.100}");
        world.says(caller, &too_long);
        assert_eq!(world.heard(callee).len(), 0, "{too_long:.100}");
        let reply = world.replies(caller).remove(0);
        told.push_str(reply.split_once("! ").expect("an error").1);
        told.push('\n');
    };
    let id = "i".repeat(513);
    passes_and_does_not(call(&id[1..], "1", ""), call(&id, "1", ""));
    for field in ["traceparent", "baggage"] {
        let context = |len| format!(r#","{field}":"{}""#, "x".repeat(len));
        passes_and_does_not(call("1", "1", &context(8_192)), call("1", "1", &context(8_193)));
    }
    // 63 MiB, of which the rest of the input gets 256 bytes.
    let text = format!("{:?}", "x".repeat((63 << 20) - 256 - 2));
    passes_and_does_not(call("1", &text, ""), call("1", &text, r#","metadata":7"#));
    insta::assert_snapshot!(told, @r"
    deserialization_error: `invocation_id` is 513 bytes long; the limit is 512
    deserialization_error: `traceparent` is 8193 bytes long; the limit is 8192
    deserialization_error: `baggage` is 8193 bytes long; the limit is 8192
    deserialization_error: the input is 66060289 bytes with what goes with it; 66060288 can be passed on
    ");

    // What goes with the input can take more than it counts: `\b` is written with six bytes.
    let context = format!(r#""{}""#, r"\b".repeat(8_192));
    let text = &text[..text.len() - 2 * 8_192 - 1];
    world.says(
        caller,
        &call("1", &format!("{text}\""), &format!(r#","traceparent":{context},"baggage":{context}"#)),
    );
    let frame = world.heard(callee).remove(0);
    assert!(frame.len() <= 64 << 20, "{} bytes are more than clients take", frame.len());
}

#[test]
fn a_trigger_whose_configuration_is_too_long_to_be_kept_is_refused() {
    let mut world = World::in_memory();
    let worker = world.worker();
    for len in [64 << 10, (64 << 10) + 1] {
        let config = format!(r#"{{"stream_name":"s","x":{:?}}}"#, "x".repeat(len - 26));
        let trigger = r#"{"type":"registertrigger","id":"t","trigger_type":"stream","function_id":"f""#;
        world.says(worker, &format!(r#"{trigger},"config":{config}}}"#));
    }
    assert_eq!(world.notes, []);
    insta::assert_snapshot!(world.heard(worker).join("\n"), @r#"{"type":"triggerregistrationresult","id":"t","trigger_type":"stream","error":{"code":"deserialization_error","message":"`config` is 65537 bytes; the limit is 65536"}}"#);
}

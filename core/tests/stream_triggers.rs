//! Functions that are called on changes and sent events: which, with what, in which order.

mod driver;

use driver::World;
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;

const ALL: &str = r#"{"stream_name":"s"}"#;

/// A writer, and a worker with a handler `f` of everything in stream `s`.
fn writer_and_handler(world: &mut World) -> (WorkerKey, WorkerKey) {
    let (writer, handler) = (world.worker(), world.worker());
    world.handles(handler, "stream", "f", ALL);
    assert!(world.heard(handler).is_empty(), "a registration that is taken has no answer");
    (writer, handler)
}

#[test]
fn a_handler_gets_the_frame_of_each_event_and_what_its_trigger_says_of_itself() {
    let mut world = World::durable();
    let (writer, handler) = (world.worker(), world.worker());
    world.registers(handler, "f");
    world.says(
        handler,
        r#"{"config":{"stream_name":"s","more":1},"metadata":{"m":1},"id":"t","function_id":"f",
            "trigger_type":"stream","namespace":"orders","type":"registertrigger"}"#,
    );
    let mut told = String::new();
    world.set(writer, "1", "g", "a", r#"{"v":1.0}"#);
    world.set(writer, "2", "g", "a", "2");
    world.send(writer, "3", "g", "a", "to an item");
    world.send(writer, "4", "g", "", "to the group");
    world.delete(writer, "5", "g", "a");
    world.delete(writer, "6", "g", "a");
    world.settle();
    for _ in 0..5 {
        let call = world.one_call(handler);
        told.push_str(&call.frame.replace(call.id.as_deref().unwrap(), "UUID"));
        told.push('\n');
        world.returns(handler, &call, "");
    }
    insta::assert_snapshot!(told, @r#"
    {"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"type":"stream","timestamp":1000002,"streamName":"s","groupId":"g","id":"a","event":{"type":"create","data":{"v":1.0}},"revision":1},"metadata":{"m":1}}
    {"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"type":"stream","timestamp":1000004,"streamName":"s","groupId":"g","id":"a","event":{"type":"update","data":2},"revision":2},"metadata":{"m":1}}
    {"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"type":"stream","timestamp":1000006,"streamName":"s","groupId":"g","id":"a","event":{"type":"event","event":{"type":"to an item","data":{"k":1}}},"revision":2},"metadata":{"m":1}}
    {"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"type":"stream","timestamp":1000008,"streamName":"s","groupId":"g","id":null,"event":{"type":"event","event":{"type":"to the group","data":{"k":1}}},"revision":2},"metadata":{"m":1}}
    {"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"type":"stream","timestamp":1000010,"streamName":"s","groupId":"g","id":"a","event":{"type":"delete","data":2},"revision":3},"metadata":{"m":1}}
    "#);
    assert!(world.heard(handler).is_empty(), "the removal of nothing is no event");
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_change_to_or_from_null_is_told_as_the_change_that_it_is() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    for value in ["null", "1", "null", "null"] {
        world.set(writer, "1", "g", "a", value);
    }
    world.delete(writer, "2", "g", "a");
    insta::assert_snapshot!(world.returns_to_all(handler, "null").join("\n"), @r#"
    f g/a create null #1 @2
    f g/a update 1 #2 @4
    f g/a update null #3 @6
    f g/a update null #4 @8
    f g/a delete null #5 @10
    "#);
}

#[test]
fn a_trigger_is_for_the_events_that_its_filters_match_exactly() {
    let cases = [
        (r#"{"stream_name":"s"}"#, "g/a g/b h/a g>a g>"),
        (r#"{"stream_name":"s","group_id":"","item_id":""}"#, "g/a g/b h/a g>a g>"),
        (r#"{"stream_name":"s","group_id":null,"item_id":null}"#, "g/a g/b h/a g>a g>"),
        (r#"{"stream_name":"s","group_id":"g"}"#, "g/a g/b g>a g>"),
        (r#"{"stream_name":"s","item_id":"a"}"#, "g/a h/a g>a"),
        (r#"{"stream_name":"s","group_id":"g","item_id":"a"}"#, "g/a g>a"),
        (r#"{"stream_name":"s","group_id":"G"}"#, ""),
        (r#"{"stream_name":"s","group_id":"*"}"#, ""),
        (r#"{"stream_name":"t"}"#, ""),
    ];
    for (config, expected) in cases {
        let mut world = World::in_memory();
        let (writer, handler) = (world.worker(), world.worker());
        world.handles(handler, "stream", "f", config);
        for (group, item) in [("g", "a"), ("g", "b"), ("h", "a")] {
            world.set(writer, "1", group, item, "1");
        }
        world.send(writer, "2", "g", "a", ">");
        world.send(writer, "3", "g", "", ">");
        let mut got = Vec::new();
        loop {
            let calls = world.calls(handler);
            if calls.is_empty() {
                break;
            }
            for call in calls {
                let [group, item] = ["groupId", "id"].map(|key| call.data[key].as_str().unwrap_or_default());
                let sent = if call.data["event"]["type"] == "event" { ">" } else { "/" };
                got.push(format!("{group}{sent}{item}"));
                world.returns(handler, &call, "null");
            }
        }
        got.sort_by_key(|event| expected.find(&**event));
        assert_eq!(got.join(" "), expected, "{config}");
    }
}

#[test]
fn each_of_several_triggers_that_match_gets_the_event() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    world.binds(handler, "again", "stream", "f", ALL);
    world.handles(handler, "stream", "item", r#"{"stream_name":"s","item_id":"a"}"#);
    world.set(writer, "1", "g", "a", "1");
    assert_eq!(
        world.asked(handler),
        ["f g/a create 1 #1 @2", "f g/a create 1 #1 @2", "item g/a create 1 #1 @2"]
    );
}

#[test]
fn a_group_is_handled_one_event_at_a_time_and_in_order_and_groups_at_once() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    for n in ["1", "2", "3"] {
        world.set(writer, n, "g", "a", n);
        world.set(writer, n, "h", "a", n);
    }
    let started = world.calls(handler);
    let [of_g, of_h] = &started[..] else { panic!("one call a group: {started:?}") };
    world.returns(handler, of_h, "null");
    let next_of_h = world.one_call(handler);
    assert_eq!(next_of_h.to_string(), "f h/a update 2 #2 @4");
    world.returns(handler, of_g, "null");
    let next_of_g = world.one_call(handler);
    assert_eq!(next_of_g.to_string(), "f g/a update 2 #2 @4");
    world.returns(handler, of_g, "null");
    assert!(world.heard(handler).is_empty(), "a second answer moves nothing");
    world.returns(handler, &next_of_g, "null");
    world.returns(handler, &next_of_h, "null");
    assert_eq!(world.asked(handler), ["f g/a update 3 #3 @6", "f h/a update 3 #3 @6"]);
}

#[test]
fn a_writer_waits_for_no_handler() {
    let mut world = World::durable();
    let (writer, handler) = writer_and_handler(&mut world);
    world.trace.clear();
    world.set(writer, "w", "g", "a", "1");
    world.settle();
    let at = |what: &str| world.trace.iter().position(|effect| effect.starts_with(what)).expect(what);
    assert!(at("Reply") > 0 && at("ToWorker") > 0);
    assert_eq!(world.replies(writer), [r#"w: {"new_value":1,"old_value":null}"#]);
    for n in 0..100 {
        world.set(writer, "more", "g", "a", &n.to_string());
    }
    world.settle();
    assert_eq!(world.replies(writer).len(), 100);
    assert_eq!(world.heard(handler).len(), 1, "the handler is still at the first");
}

#[test]
fn only_what_is_durable_is_handled() {
    let mut world = World::durable();
    let (writer, handler) = writer_and_handler(&mut world);
    world.set(writer, "1", "g", "a", "1");
    world.set(writer, "2", "g", "a", "2");
    world.send(writer, "3", "g", "", "sent");
    assert!(world.heard(handler).is_empty());
    world.persist();
    let call = world.one_call(handler);
    assert_eq!(call.to_string(), "f g/a create 1 #1 @2");
    world.returns(handler, &call, "null");
    assert!(world.heard(handler).is_empty(), "the second waits for its write");
    world.fail();
    world.settle();
    assert!(world.heard(handler).is_empty(), "what was never durable is no event");
    world.set(writer, "4", "g", "a", "4");
    world.settle();
    assert_eq!(world.one_call(handler).to_string(), "f g/a update 4 #2 @4");
}

#[test]
fn five_thousand_changes_are_handled_in_order_each_once() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    for n in 1..=5_000 {
        world.set(writer, "w", "g", &format!("i{}", n % 7), &n.to_string());
    }
    for n in 1..=5_000 {
        let call = world.one_call(handler);
        assert_eq!((call.data["event"]["data"].as_u64(), call.skipped()), (Some(n), None));
        world.returns(handler, &call, "null");
    }
    assert!(world.heard(handler).is_empty());
    assert!(world.notes.is_empty());
}

#[test]
fn a_handler_that_fails_is_noted_with_the_event_and_the_next_goes_on() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    for n in ["1", "2", "3", "4"] {
        world.set(writer, n, "g", "a", n);
    }
    let call = world.one_call(handler);
    world.throws(handler, &call);
    assert_eq!(world.noted(), ["f failed at g #1: E"]);
    let late = world.one_call(handler);
    world.pass(29_999);
    world.tick();
    assert!(world.heard(handler).is_empty());
    world.pass(1);
    world.tick();
    assert_eq!(world.noted(), ["f failed at g #2: TIMEOUT"]);
    world.returns(handler, &late, "null");
    let call = world.one_call(handler);
    assert_eq!(call.to_string(), "f g/a update 3 #3 @6");
    world.says(handler, r#"{"type":"unregisterfunction","id":"f"}"#);
    world.returns(handler, &call, "null");
    assert_eq!(world.noted(), ["f failed at g #4: function_not_found"]);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_condition_that_returns_exactly_false_or_fails_skips_the_handler() {
    let mut world = World::in_memory();
    let (writer, handler, judge) = (world.worker(), world.worker(), world.worker());
    world.registers(judge, "if");
    world.handles(handler, "stream", "f", r#"{"stream_name":"s","condition_function_id":"if"}"#);
    let mut told = String::new();
    for result in
        ["true", "false", "null", "", "0", r#""false""#, "[]", "{}", r#"{"unauthorized":true}"#, "throws"]
    {
        world.set(writer, "1", "g", "a", "1");
        let asked = world.one_call(judge);
        assert!(world.heard(handler).is_empty(), "the condition is asked first");
        match result {
            "throws" => world.throws(judge, &asked),
            result => world.returns(judge, &asked, result),
        }
        let calls = world.calls(handler);
        for call in &calls {
            assert_eq!(call.data, asked.data, "both are given the same");
            world.returns(handler, call, "false");
        }
        told.push_str(&format!("{result} -> {} {:?}\n", calls.len(), world.noted()));
    }
    insta::assert_snapshot!(told, @r#"
    true -> 1 []
    false -> 0 []
    null -> 1 []
     -> 1 []
    0 -> 1 []
    "false" -> 1 []
    [] -> 1 []
    {} -> 1 []
    {"unauthorized":true} -> 1 []
    throws -> 0 ["if failed at g #10: E"]
    "#);
}

#[test]
fn conditions_keep_the_order_of_a_group() {
    let mut world = World::in_memory();
    let (writer, handler) = (world.worker(), world.worker());
    world.registers(handler, "if");
    world.handles(handler, "stream", "f", r#"{"stream_name":"s","condition_function_id":"if"}"#);
    for n in ["1", "2", "3"] {
        world.set(writer, n, "g", "a", n);
    }
    let mut told = Vec::new();
    for answer in ["true", "null", "false", "true", "null"] {
        let call = world.one_call(handler);
        told.push(format!("{call} -> {answer}"));
        world.returns(handler, &call, answer);
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    if g/a create 1 #1 @2 -> true
    f g/a create 1 #1 @2 -> null
    if g/a update 2 #2 @4 -> false
    if g/a update 3 #3 @6 -> true
    f g/a update 3 #3 @6 -> null
    "#);
    assert!(world.heard(handler).is_empty());
}

#[test]
fn a_trigger_that_cannot_be_is_refused_at_once() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.registers(worker, "f");
    let mut told = String::new();
    for (kind, config) in [
        ("stream", ""),
        ("stream", "null"),
        ("stream", "{}"),
        ("stream", r#"{"stream_name":""}"#),
        ("stream", r#"{"stream_name":null}"#),
        ("stream", r#"{"stream_name":7}"#),
        ("stream", r#"{"stream_name":"s","item_id":["a"]}"#),
        ("stream", r#"["s"]"#),
        ("stream:join", r#"{"stream_name":7}"#),
        ("stream:leave", r#"{"condition_function_id":7}"#),
        ("cron", ALL),
        ("streams", ALL),
        ("", ALL),
    ] {
        let config = if config.is_empty() { String::new() } else { format!(r#","config":{config}"#) };
        world.says(
            worker,
            &format!(
                r#"{{"type":"registertrigger","id":"t","trigger_type":"{kind}","function_id":"f"{config}}}"#
            ),
        );
        let frames = world.heard(worker);
        assert_eq!(frames.len(), 1, "{kind} {config}: {frames:?}");
        let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!((&frame["type"], &frame["id"]), (&"triggerregistrationresult".into(), &"t".into()));
        assert_eq!(frame["trigger_type"], kind);
        told.push_str(&format!("{kind}{config}: {}\n", frame["error"]));
    }
    insta::assert_snapshot!(told, @r#"
    stream: {"code":"trigger_registration_failed","message":"`config.stream_name` is missing or empty: say which stream's changes are to be handled"}
    stream,"config":null: {"code":"trigger_registration_failed","message":"`config.stream_name` is missing or empty: say which stream's changes are to be handled"}
    stream,"config":{}: {"code":"trigger_registration_failed","message":"`config.stream_name` is missing or empty: say which stream's changes are to be handled"}
    stream,"config":{"stream_name":""}: {"code":"trigger_registration_failed","message":"`config.stream_name` is missing or empty: say which stream's changes are to be handled"}
    stream,"config":{"stream_name":null}: {"code":"trigger_registration_failed","message":"`config.stream_name` is missing or empty: say which stream's changes are to be handled"}
    stream,"config":{"stream_name":7}: {"code":"trigger_registration_failed","message":"`config.stream_name` must be a string, got a number"}
    stream,"config":{"stream_name":"s","item_id":["a"]}: {"code":"trigger_registration_failed","message":"`config.item_id` must be a string, got an array"}
    stream,"config":["s"]: {"code":"trigger_registration_failed","message":"`config` must be a JSON object"}
    stream:join,"config":{"stream_name":7}: {"code":"trigger_registration_failed","message":"`config.stream_name` must be a string, got a number"}
    stream:leave,"config":{"condition_function_id":7}: {"code":"trigger_registration_failed","message":"`config.condition_function_id` must be a string, got a number"}
    cron,"config":{"stream_name":"s"}: {"code":"trigger_registration_failed","message":"there are triggers of the types `stream`, `stream:join` and `stream:leave` only"}
    streams,"config":{"stream_name":"s"}: {"code":"trigger_registration_failed","message":"there are triggers of the types `stream`, `stream:join` and `stream:leave` only"}
    ,"config":{"stream_name":"s"}: {"code":"trigger_registration_failed","message":"there are triggers of the types `stream`, `stream:join` and `stream:leave` only"}
    "#);
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.replies(worker).len(), 1, "and nobody is called");
}

#[test]
fn a_worker_has_as_many_triggers_as_the_limit_says() {
    let mut config = CoreConfig::default();
    config.limits.registrations = 2;
    let mut world = World::with_config(config);
    let worker = world.worker();
    for id in ["1", "2", "1"] {
        world.binds(worker, id, "stream", "f", ALL);
        assert!(world.heard(worker).is_empty());
    }
    world.binds(worker, "3", "stream", "f", ALL);
    assert!(world.heard(worker)[0].contains("`registrations`"));
    world.unbinds(worker, "2");
    world.binds(worker, "3", "stream", "f", ALL);
    assert!(world.heard(worker).is_empty());
}

#[test]
fn a_trigger_is_replaced_by_its_next_registration_and_ends_with_its_unregistration() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    world.binds(handler, "f", "stream", "f", ALL);
    world.set(writer, "1", "g", "a", "1");
    assert_eq!(world.returns_to_all(handler, "null"), ["f g/a create 1 #1 @2"], "upserted, not doubled");
    world.binds(handler, "f", "stream", "f", r#"{"stream_name":"s","group_id":"h"}"#);
    world.set(writer, "2", "g", "a", "2");
    world.set(writer, "2", "h", "a", "2");
    assert_eq!(world.returns_to_all(handler, "null"), ["f h/a create 2 #1 @2"]);
    world.unbinds(writer, "f");
    world.set(writer, "3", "h", "a", "3");
    assert_eq!(world.returns_to_all(handler, "null"), ["f h/a update 3 #2 @4"], "of this worker only");
    world.unbinds(handler, "f");
    world.unbinds(handler, "f");
    world.set(writer, "4", "h", "a", "4");
    assert!(world.heard(handler).is_empty());
    assert!(world.notes.is_empty(), "{:?}", world.notes);
}

#[test]
fn a_handler_may_write_to_the_group_that_it_handles() {
    let mut world = World::durable();
    let (writer, handler) = writer_and_handler(&mut world);
    world.set(writer, "1", "g", "a", "1");
    world.settle();
    let call = world.one_call(handler);
    world.set(handler, "mine", "g", "b", "2");
    world.settle();
    assert_eq!(world.replies(handler), [r#"mine: {"new_value":2,"old_value":null}"#]);
    world.returns(handler, &call, "null");
    assert_eq!(world.asked(handler), ["f g/b create 2 #2 @4"]);
}

#[test]
fn triggers_are_called_at_most_once_across_a_crash() {
    let mut world = World::durable();
    let (writer, _handler) = writer_and_handler(&mut world);
    world.set(writer, "1", "g", "a", "1");
    world.settle();
    world.set(writer, "2", "g", "a", "2");
    let whole = world.unsynced().len();
    world.crash(whole);
    let (writer, handler) = writer_and_handler(&mut world);
    assert!(world.heard(handler).is_empty(), "what happened before is not told again");
    world.set(writer, "3", "g", "a", "3");
    world.settle();
    let calls = world.asked(handler);
    assert!(calls.len() == 1 && calls[0].starts_with("f g/a update 3 #3"), "{calls:?}");
}

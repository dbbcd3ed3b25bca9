//! What workers learn of each other, and what registering again changes.

mod driver;

use driver::World;
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use serde_json::Value;

/// What a call without input lists.
fn listed(world: &mut World, worker: WorkerKey, function: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&world.ask(worker, function, "{}")).expect("an answer is JSON");
    let list = answer.as_object().and_then(|answer| answer.values().next()).expect("an object with a list");
    list.as_array().expect("a list").clone()
}

fn lines(list: &[Value]) -> String {
    list.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn functions_are_listed_with_what_their_worker_tells_of_them_and_without_the_servers_own() {
    let mut world = World::in_memory();
    let (worker, other) = (world.worker(), world.worker());
    world.says(
        worker,
        r#"{"type":"registerfunction","id":"b","description":"does b","metadata":{"m":[1.0]},
            "request_format":{"type":"object"},"response_format":null,"invocation":{"url":"x"},"unknown":1}"#,
    );
    world.says(other, r#"{"type":"registerfunction","function_path":"a"}"#);
    world.registers(other, "stream::set");
    insta::assert_snapshot!(lines(&listed(&mut world, worker, "engine::functions::list")), @r#"
    {"function_id":"a"}
    {"description":"does b","function_id":"b","metadata":{"m":[1.0]},"request_format":{"type":"object"}}
    "#);
    world.says(worker, r#"{"type":"registerfunction","id":"b","description":"does b again"}"#);
    world.says(other, r#"{"type":"unregisterfunction","function_path":"a"}"#);
    insta::assert_snapshot!(lines(&listed(&mut world, other, "engine::functions::list")), @r#"{"description":"does b again","function_id":"b"}"#);
    world.hangs_up(worker);
    assert!(listed(&mut world, other, "engine::functions::list").is_empty());
}

#[test]
fn a_description_that_is_too_long_to_keep_is_not_listed_and_its_function_is_called() {
    let mut world = World::in_memory();
    let worker = world.worker();
    let long = "x".repeat(64 << 10);
    world.says(worker, &format!(r#"{{"type":"registerfunction","id":"f","description":"{long}"}}"#));
    assert_eq!(lines(&listed(&mut world, worker, "engine::functions::list")), r#"{"function_id":"f"}"#);
    world.call(worker, "1", "f", "1");
    assert_eq!(world.one_call(worker).function, "f");
}

#[test]
fn workers_are_listed_with_what_they_tell_of_themselves() {
    let mut world = World::in_memory();
    let (worker, silent) = (world.worker(), world.worker());
    world.says(
        worker,
        r#"{"type":"invokefunction","function_id":"engine::workers::register","action":{"type":"void"},
            "data":{"runtime":"node","version":"0.22.1","name":"w\"1\"","os":"linux","pid":7,"isolation":null,
                    "telemetry":{"language":"en"},"features":["x"],"namespace":"orders","description":"d"}}"#,
    );
    assert!(world.heard(worker).is_empty(), "void");
    assert_eq!(world.ask(silent, "engine::workers::register", "7"), "nothing");
    world.registers(worker, "f");
    world.registers(worker, "g");
    world.call(silent, "1", "f", "1");
    world.one_call(worker);
    let mut list = listed(&mut world, silent, "engine::workers::list");
    let ids: Vec<Value> =
        list.iter_mut().map(|entry| entry.as_object_mut().unwrap().remove("id").unwrap()).collect();
    assert!(ids.iter().all(|id| id.as_str().unwrap().len() == 36) && ids[0] != ids[1]);
    insta::assert_snapshot!(lines(&list), @r#"
    {"active_invocations":1,"connected_at_ms":1000000,"description":"d","function_count":2,"functions":["f","g"],"name":"w\"1\"","namespace":"orders","os":"linux","runtime":"node","status":"connected","version":"0.22.1"}
    {"active_invocations":0,"connected_at_ms":1000000,"function_count":0,"functions":[],"status":"connected"}
    "#);
    world.hangs_up(worker);
    world.heard(silent);
    assert_eq!(listed(&mut world, silent, "engine::workers::list").len(), 1);
}

#[test]
fn triggers_are_listed_as_they_were_registered_until_they_end() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.binds(worker, "1", "stream", "f", r#"{"stream_name":"s","more":[ 1.0 ]}"#);
    world.says(
        worker,
        r#"{"type":"registertrigger","id":"2","trigger_type":"streams:join","function_id":"g","metadata":{"m":1}}"#,
    );
    world.binds(worker, "3", "cron", "f", "{}");
    world.heard(worker);
    insta::assert_snapshot!(lines(&listed(&mut world, worker, "engine::triggers::list")), @r#"
    {"config":{"more":[1.0],"stream_name":"s"},"function_id":"f","id":"1","trigger_type":"stream"}
    {"config":{},"function_id":"g","id":"2","metadata":{"m":1},"trigger_type":"streams:join"}
    "#);
    world.binds(worker, "1", "stream", "f", r#"{"stream_name":"t"}"#);
    world.unbinds(worker, "2");
    insta::assert_snapshot!(lines(&listed(&mut world, worker, "engine::triggers::list")), @r#"{"config":{"stream_name":"t"},"function_id":"f","id":"1","trigger_type":"stream"}"#);
    let other = world.worker();
    world.hangs_up(worker);
    world.pass(30_000);
    world.tick();
    assert!(listed(&mut world, other, "engine::triggers::list").is_empty());
}

#[test]
fn types_of_triggers_and_other_frames_of_the_clients_need_no_answer() {
    let mut world = World::in_memory();
    let worker = world.worker();
    for frame in [
        r#"{"type":"registertriggertype","id":"stream","description":"d"}"#,
        r#"{"type":"unregistertriggertype","id":"stream"}"#,
        r#"{"type":"something new"}"#,
        r#"{"type":"pong"}"#,
    ] {
        world.says(worker, frame);
        assert!(world.heard(worker).is_empty() && world.notes.is_empty());
    }
    world.says(worker, r#"{"type":"ping"}"#);
    assert_eq!(world.heard(worker), [r#"{"type":"pong"}"#]);
}

#[test]
fn a_worker_that_comes_back_registers_the_same_again_and_is_called() {
    let mut world = World::in_memory();
    let caller = world.worker();
    for _ in 0..3 {
        let worker = world.worker();
        world.registers(worker, "f");
        world.registers(worker, "f");
        assert!(world.heard(worker).is_empty());
        world.call(caller, "1", "f", "1");
        let call = world.one_call(worker);
        world.returns(worker, &call, "1");
        assert_eq!(world.replies(caller), ["1: 1"]);
        world.hangs_up(worker);
        world.call(caller, "2", "f", "1");
        assert!(
            world.replies(caller)[0].starts_with("2! function_not_found: "),
            "a worker's call does not wait"
        );
    }
}

#[test]
fn of_two_workers_the_newer_is_refused_a_function_while_the_older_lives_and_keeps_its_others() {
    let mut world = World::in_memory();
    let (older, newer, caller) = (world.worker(), world.worker(), world.worker());
    world.registers(older, "f");
    world.registers(newer, "f");
    world.registers(newer, "g");
    assert_eq!(world.heard(newer).len(), 1);
    world.says(newer, r#"{"type":"unregisterfunction","id":"f"}"#);
    world.call(caller, "1", "f", "1");
    world.call(caller, "2", "g", "1");
    assert_eq!((world.calls(older).len(), world.calls(newer).len()), (1, 1));
    world.hangs_up(older);
    world.registers(newer, "f");
    assert!(world.heard(newer).is_empty());
}

#[test]
fn a_worker_calls_its_own_functions_however_deep() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.registers(worker, "f");
    let mut calls = Vec::new();
    for n in 0..100 {
        world.call(worker, &n.to_string(), "f", &n.to_string());
        calls.push(world.one_call(worker));
    }
    for (n, call) in calls.iter().enumerate().rev() {
        assert_eq!(call.data, n);
        world.returns(worker, call, &n.to_string());
        assert_eq!(world.replies(worker), [format!("{n}: {n}")]);
    }
}

#[test]
fn a_worker_runs_1024_calls_and_the_next_is_overloaded_at_once_but_not_a_void_one() {
    let mut world = World::in_memory();
    let (caller, worker) = (world.worker(), world.worker());
    world.registers(worker, "f");
    for n in 0..1_024 {
        world.call(caller, &n.to_string(), "f", "1");
    }
    let calls = world.calls(worker);
    assert_eq!((calls.len(), world.heard(caller).len()), (1_024, 0));
    world.call(caller, "one more", "f", "1");
    assert!(world.replies(caller)[0].starts_with("one more! overloaded: "));
    world.says(caller, r#"{"type":"invokefunction","function_id":"f"}"#);
    assert_eq!(world.calls(worker).len(), 1);
    world.set(worker, "mine", "g", "a", "1");
    assert_eq!(world.replies(worker).len(), 1, "it may call the server as before");
    world.returns(worker, &calls[7], "1");
    world.call(caller, "again", "f", "1");
    assert_eq!(world.calls(worker).len(), 1);
}

#[test]
fn how_long_a_call_may_take_is_configured() {
    let mut config = CoreConfig::default();
    config.timeouts.call_ms = 7;
    let mut world = World::with_config(config);
    let worker = world.worker();
    world.registers(worker, "f");
    world.call(worker, "1", "f", "1");
    world.one_call(worker);
    world.pass(7);
    world.tick();
    assert_eq!(world.replies(worker), ["1! TIMEOUT: `f` did not answer within 7 ms (`call_ms`)"]);
}

#[test]
fn a_namespace_hides_nothing() {
    let mut world = World::in_memory();
    let worker = world.worker();
    for (id, function) in [("1", "stream::list_all"), ("2", "engine::functions::list")] {
        world.says(
            worker,
            &format!(
                r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function}","namespace":"orders"}}"#
            ),
        );
    }
    let replies = world.replies(worker);
    assert_eq!(replies, [r#"1: {"count":0,"stream":[]}"#, r#"2: {"functions":[]}"#]);
}

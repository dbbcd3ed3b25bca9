//! Calls: between workers, and of the server's own functions.

mod driver;

use driver::World;
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use headwater_core::rng::Uuid;
use headwater_core::time::Mono;
use headwater_core::{Input, Notice};
use serde_json::{Value, json};

/// Two workers; the second one runs `f`.
fn caller_and_callee(world: &mut World) -> (WorkerKey, WorkerKey) {
    let (caller, callee) = (world.worker(), world.worker());
    world.registers(callee, "f");
    assert!(world.heard(callee).is_empty(), "a registration that is taken has no answer");
    (caller, callee)
}

/// The one frame that a worker got.
#[track_caller]
fn only_frame(world: &mut World, worker: WorkerKey) -> Value {
    let frames = world.heard(worker);
    assert_eq!(frames.len(), 1, "{frames:?}");
    serde_json::from_str(&frames[0]).expect("frames are JSON")
}

/// The server's id of the call that a worker got.
#[track_caller]
fn invocation(world: &mut World, worker: WorkerKey) -> String {
    let frame = only_frame(world, worker);
    assert_eq!(frame["type"], "invokefunction");
    frame["invocation_id"].as_str().expect("an id").to_owned()
}

fn answer(world: &mut World, worker: WorkerKey, invocation: &str, members: &str) {
    world.says(
        worker,
        &format!(
            r#"{{"type":"invocationresult","invocation_id":"{invocation}","function_id":"f"{members}}}"#
        ),
    );
}

#[test]
fn a_call_reaches_the_worker_that_registered_the_function_and_its_answer_the_caller() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.says(
        caller,
        r#"{"type":"invokefunction","invocation_id":"mine","function_id":"f","data":{"x":1.0},
            "traceparent":"00-1","baggage":"k=v","metadata":{"m":1},"namespace":"orders","unknown":[]}"#,
    );
    assert!(world.heard(caller).is_empty());
    let frame = world.heard(callee).remove(0);
    let invocation =
        serde_json::from_str::<Value>(&frame).unwrap()["invocation_id"].as_str().unwrap().to_owned();
    assert_ne!(invocation, "mine");
    insta::assert_snapshot!(frame.replace(&invocation, "UUID"), @r#"{"type":"invokefunction","invocation_id":"UUID","function_id":"f","data":{"x":1.0},"traceparent":"00-1","baggage":"k=v","metadata":{"m":1}}"#);
    answer(&mut world, callee, &invocation, r#","result":{ "y": 2.0 }"#);
    insta::assert_snapshot!(world.heard(caller).join("\n"), @r#"{"type":"invocationresult","invocation_id":"mine","function_id":"f","result":{ "y": 2.0 }}"#);
    answer(&mut world, callee, &invocation, r#","result":"again""#);
    assert!(world.heard(caller).is_empty(), "a call has one answer");
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_call_without_data_has_null_and_an_answer_without_result_has_none() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.says(caller, r#"{"type":"invokefunction","invocation_id":"1","function_id":"f"}"#);
    let frame = only_frame(&mut world, callee);
    assert_eq!(
        frame.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["data", "function_id", "invocation_id", "type"]
    );
    assert_eq!(frame["data"], Value::Null);
    let id = frame["invocation_id"].as_str().unwrap().to_owned();
    answer(&mut world, callee, &id, "");
    assert_eq!(
        only_frame(&mut world, caller),
        json!({"type":"invocationresult","invocation_id":"1","function_id":"f"})
    );
    world.call(caller, "2", "f", "1");
    let id = invocation(&mut world, callee);
    answer(&mut world, callee, &id, r#","result":null,"error":null"#);
    assert_eq!(world.replies(caller), ["2: null"]);
}

#[test]
fn of_a_handlers_error_the_first_64_kib_are_passed_on_and_no_half_character() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    for text in ["é".repeat(32 << 10), "x".to_owned() + &"é".repeat(32 << 10)] {
        world.call(caller, "1", "f", "1");
        let id = invocation(&mut world, callee);
        let error = json!({ "code": text, "message": text, "stacktrace": text });
        answer(&mut world, callee, &id, &format!(r#","error":{error}"#));
        let whole = text.len() <= 64 << 10;
        let expected = if whole { text } else { "x".to_owned() + &"é".repeat((32 << 10) - 1) + "…" };
        let frame = only_frame(&mut world, caller);
        for part in ["code", "message", "stacktrace"] {
            assert!(frame["error"][part] == expected, "{part}: {:.50}", frame["error"][part]);
        }
    }
}

#[test]
fn a_handlers_error_is_passed_on_with_a_code_and_without_a_null_stacktrace() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    let mut told = String::new();
    for error in [
        r#"{"code":"E","message":"m"}"#,
        r#"{"code":"E","message":"m","stacktrace":null}"#,
        r#"{"code":"E","message":"m","stacktrace":"at x","more":[1]}"#,
        r#"{"message":"m"}"#,
        r#"{"code":"E"}"#,
        r#"{"code":7,"message":"m"}"#,
        r#""just a text""#,
        r#"["E","m","s"]"#,
        "false",
    ] {
        world.call(caller, "1", "f", "1");
        let id = invocation(&mut world, callee);
        answer(&mut world, callee, &id, &format!(r#","error":{error}"#));
        let frame = only_frame(&mut world, caller);
        assert!(frame.get("result").is_none());
        told.push_str(&format!("{error} -> {}\n", frame["error"]));
    }
    insta::assert_snapshot!(told, @r#"
    {"code":"E","message":"m"} -> {"code":"E","message":"m"}
    {"code":"E","message":"m","stacktrace":null} -> {"code":"E","message":"m"}
    {"code":"E","message":"m","stacktrace":"at x","more":[1]} -> {"code":"E","message":"m","stacktrace":"at x"}
    {"message":"m"} -> {"code":"invocation_failed","message":"m"}
    {"code":"E"} -> {"code":"E","message":"{\"code\":\"E\"}"}
    {"code":7,"message":"m"} -> {"code":"invocation_failed","message":"{\"code\":7,\"message\":\"m\"}"}
    "just a text" -> {"code":"invocation_failed","message":"just a text"}
    ["E","m","s"] -> {"code":"invocation_failed","message":"[\"E\",\"m\",\"s\"]"}
    false -> {"code":"invocation_failed","message":"false"}
    "#);
}

#[test]
fn a_void_call_is_run_and_has_no_answer() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    for ids in [r#""invocation_id":null,"#, "", r#""invocation_id":"1","action":{"type":"void"},"#] {
        world.says(caller, &format!(r#"{{"type":"invokefunction",{ids}"function_id":"f","data":1}}"#));
        assert!(only_frame(&mut world, callee).get("invocation_id").is_none());
        world.says(caller, &format!(r#"{{"type":"invokefunction",{ids}"function_id":"nobody","data":1}}"#));
        world.says(
            caller,
            &format!(
                r#"{{"type":"invokefunction",{ids}"function_id":"stream::set",
                     "data":{{"stream_name":"s","group_id":"g","item_id":"i","data":1}}}}"#
            ),
        );
    }
    assert_eq!(world.core.next_deadline(), None, "nothing is waited for");
    assert!(world.heard(caller).is_empty());
    world.get(caller, "get", "g", "i");
    assert_eq!(world.replies(caller), ["get: 1"]);
}

#[test]
fn a_function_is_there_from_its_registration_to_its_end() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "missing", "1");
    world.says(caller, r#"{"type":"unregisterfunction","id":"f"}"#);
    world.call(caller, "2", "f", "1");
    world.call(caller, "list", "engine::functions::list", "{}");
    assert_eq!(world.heard(callee).len(), 1, "only the owner unregisters");
    world.says(callee, r#"{"type":"unregisterfunction","id":"f"}"#);
    world.call(caller, "3", "f", "1");
    world.says(callee, r#"{"type":"registerfunction","function_path":"f"}"#);
    world.says(caller, r#"{"type":"invokefunction","invocation_id":"4","function_path":"f"}"#);
    assert_eq!(world.heard(callee).len(), 1);
    world.hangs_up(callee);
    let mut replies = world.replies(caller);
    replies.sort();
    insta::assert_snapshot!(replies.join("\n"), @r#"
    1! function_not_found: no connected worker has registered `missing`: start the worker that does, or check the spelling
    2! invocation_stopped: the worker that ran `f` disconnected before it answered
    3! function_not_found: no connected worker has registered `f`: start the worker that does, or check the spelling
    4! invocation_stopped: the worker that ran `f` disconnected before it answered
    list: {"functions":[{"function_id":"f"}]}
    "#);
}

#[test]
fn a_function_of_the_servers_own_stays_the_servers_whoever_registers_it() {
    let mut world = World::in_memory();
    let workers = [world.worker(), world.worker()];
    for worker in workers {
        for function in ["stream::set", "streams.getGroup", "engine::functions::list"] {
            world.registers(worker, function);
            let Some(Notice::ReservedFunction { function: noted, .. }) = world.notes.pop() else {
                panic!("{function} was not noted")
            };
            assert_eq!(noted.as_str(), function);
        }
        assert!(world.heard(worker).is_empty(), "no conflict, which would end a client");
    }
    for worker in workers {
        world.set(worker, "set", "g", "a", "1");
        world.call(worker, "list", "engine::functions::list", "{}");
        let replies = world.replies(worker);
        assert!(replies[0].starts_with(r#"set: {"new_value":1"#), "{replies:?}");
        assert_eq!(replies[1..], [r#"list: {"functions":[]}"#]);
    }
}

#[test]
fn a_call_that_cannot_be_delivered_is_overloaded_and_the_others_go_on() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    let delivered = invocation(&mut world, callee);
    world.call(caller, "2", "f", "1");
    let refused = Uuid::parse(&invocation(&mut world, callee)).expect("the server's ids are UUIDs");
    for (worker, invocation_id) in [(caller, refused), (callee, refused), (callee, refused)] {
        world.input(Input::CallNotDelivered { worker, invocation_id });
    }
    answer(&mut world, callee, &refused.to_string(), r#","result":"late""#);
    answer(&mut world, callee, &delivered, r#","result":"done""#);
    insta::assert_snapshot!(world.replies(caller).join("\n"), @r#"
    2! overloaded: too many bytes wait to be read by the worker of `f`; try again later
    1: "done"
    "#);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn calls_that_a_worker_ran_end_at_once_when_it_goes() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    world.call(caller, "2", "f", "1");
    world.hangs_up(callee);
    let replies = world.replies(caller);
    assert_eq!(replies.len(), 2);
    assert!(replies.iter().all(|reply| reply.contains("! invocation_stopped: ")), "{replies:?}");
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_caller_that_goes_harms_nobody() {
    let mut world = World::durable();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    world.set(caller, "2", "g", "a", "1");
    let id = invocation(&mut world, callee);
    world.hangs_up(caller);
    answer(&mut world, callee, &id, r#","result":1"#);
    world.settle();
    world.get(callee, "3", "g", "a");
    assert_eq!(world.replies(callee), ["3: 1"]);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_call_that_takes_too_long_ends_at_its_deadline() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    let first = invocation(&mut world, callee);
    world.pass(10_000);
    world.set_wall(u64::MAX / 2);
    world.call(caller, "2", "f", "1");
    let second = invocation(&mut world, callee);
    assert_eq!(world.core.next_deadline(), Some(Mono(30_000)));
    world.pass(19_999);
    world.tick();
    assert!(world.heard(caller).is_empty());
    world.pass(1);
    world.tick();
    assert_eq!(world.replies(caller), ["1! TIMEOUT: `f` did not answer within 30000 ms (`call_ms`)"]);
    answer(&mut world, callee, &first, r#","result":"late""#);
    assert!(world.heard(caller).is_empty());
    assert_eq!(world.core.next_deadline(), Some(Mono(40_000)));
    answer(&mut world, callee, &second, r#","result":"in time""#);
    assert_eq!(world.replies(caller), [r#"2: "in time""#]);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_worker_runs_as_many_calls_as_the_limit_says() {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = 1;
    let mut world = World::with_config(config);
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    let id = invocation(&mut world, callee);
    world.call(caller, "2", "f", "1");
    assert_eq!(
        world.replies(caller),
        ["2! overloaded: the worker of `f` is running 1 calls already; try again later"]
    );
    answer(&mut world, callee, &id, r#","result":1"#);
    world.call(caller, "3", "f", "1");
    assert_eq!(world.replies(caller), ["1: 1"]);
    assert_eq!(world.heard(callee).len(), 1);
}

#[test]
fn only_the_worker_that_runs_a_call_answers_it() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    let id = invocation(&mut world, callee);
    answer(&mut world, caller, &id, r#","result":"forged""#);
    answer(&mut world, callee, "00000000-0000-4000-8000-000000000000", r#","result":"of nothing""#);
    assert!(world.heard(caller).is_empty());
    answer(&mut world, callee, &id, r#","result":"true""#);
    assert_eq!(world.replies(caller), [r#"1: "true""#]);
}

#[test]
fn a_function_belongs_to_the_worker_that_has_it_for_as_long_as_it_lives() {
    let mut world = World::in_memory();
    let owner = world.connect();
    let id = only_frame(&mut world, owner)["worker_id"].as_str().unwrap().to_owned();
    let other = world.worker();
    world.registers(owner, "f");
    world.registers(owner, "f");
    assert!(world.heard(owner).is_empty(), "the owner may register again");
    world.registers(other, "f");
    insta::assert_snapshot!(world.heard(other).join("\n").replace(&id, "OWNER"), @r#"{"type":"registrationrejected","code":"FUNCTION_NAMESPACE_CONFLICT","function_id":"f","owner_worker_id":"OWNER","message":"another connected worker has registered this function; stop that worker or use another id"}"#);
    world.call(other, "1", "f", "1");
    assert_eq!(world.heard(owner).len(), 1);
    world.hangs_up(owner);
    world.heard(other);
    world.registers(other, "f");
    assert!(world.heard(other).is_empty());
    world.call(other, "2", "f", "1");
    assert_eq!(world.heard(other).len(), 1, "a worker may call itself");
}

#[test]
fn a_worker_that_is_back_retires_its_old_connection_with_the_right_token_only() {
    let mut world = World::in_memory();
    let old = world.connect();
    let greeting = only_frame(&mut world, old);
    let (id, token) = (greeting["worker_id"].as_str().unwrap(), greeting["reattach_token"].as_str().unwrap());
    let caller = world.worker();
    world.registers(old, "f");
    world.call(caller, "1", "f", "1");
    let back = world.worker();
    for (id, token) in [
        (id, "\"wrong\""),
        (id, "\"\""),
        (id, "null"),
        ("no uuid", &format!("{token:?}")[..]),
        ("00000000-0000-4000-8000-000000000000", &format!("{token:?}")),
    ] {
        world.says(
            back,
            &format!(r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":{token}}}"#),
        );
        assert!(world.closed.is_empty(), "{id} {token}");
    }
    let reattach = format!(r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":"{token}"}}"#);
    world.says(old, &reattach);
    assert!(world.closed.is_empty(), "nobody retires itself");
    world.says(back, &reattach);
    assert_eq!(world.closed, [old]);
    assert!(world.replies(caller)[0].starts_with("1! invocation_stopped: "));
    world.registers(back, "f");
    world.hangs_up(old);
    world.call(caller, "2", "f", "1");
    assert_eq!(
        world.heard(back).len(),
        1,
        "the late end of the old connection takes nothing from the new one"
    );
}

#[test]
fn a_call_that_asks_for_a_queue_is_refused() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    for function in ["f", "stream::list_all"] {
        world.says(
            caller,
            &format!(
                r#"{{"type":"invokefunction","invocation_id":"1","function_id":"{function}","data":{{}},
                     "action":{{"type":"enqueue","queue":"q"}}}}"#
            ),
        );
        assert!(world.replies(caller)[0].starts_with("1! unsupported: "));
    }
    assert!(world.heard(callee).is_empty());
}

#[test]
fn a_stop_answers_what_is_under_way_and_refuses_what_is_new() {
    let mut world = World::durable();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "call", "f", "1");
    let id = invocation(&mut world, callee);
    world.set(caller, "write", "g", "a", "1");
    world.input(Input::Stop);
    world.pass(1_000);
    world.input(Input::Stop);
    assert_eq!(world.core.next_deadline(), Some(Mono(10_000)), "asking again gains no time");
    world.set(caller, "new", "g", "a", "2");
    world.call(caller, "new", "f", "2");
    for reply in world.replies(caller) {
        assert!(reply.starts_with("new! server_stopping: "), "{reply}");
    }
    assert!(world.heard(callee).is_empty());
    world.persist();
    assert!(!world.stopped, "a call is under way");
    answer(&mut world, callee, &id, r#","result":"done""#);
    assert!(world.stopped);
    assert_eq!(world.replies(caller), [r#"write: {"new_value":1,"old_value":null}"#, r#"call: "done""#]);
    assert_eq!(world.core.next_deadline(), None);
    world.tick();
    world.input(Input::Stop);
}

#[test]
fn a_stop_waits_for_the_disk_and_an_idle_server_stops_at_once() {
    let mut world = World::durable();
    world.input(Input::Stop);
    assert!(world.stopped);

    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.set(worker, "2", "g", "a", "2");
    world.input(Input::Stop);
    world.persist();
    assert!(!world.stopped);
    world.persist();
    assert!(world.stopped);
    assert_eq!(world.replies(worker).len(), 2);
}

#[test]
fn a_stop_waits_for_no_call_beyond_its_deadline() {
    let mut world = World::in_memory();
    let (caller, callee) = caller_and_callee(&mut world);
    world.call(caller, "1", "f", "1");
    world.heard(callee);
    world.input(Input::Stop);
    world.pass(10_000);
    world.tick();
    assert!(world.stopped);
    assert_eq!(
        world.replies(caller),
        ["1! invocation_stopped: the server stopped before the function answered"]
    );
}

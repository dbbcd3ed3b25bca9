//! Streams that a worker keeps itself: what it is asked, in which order, and what others see of its answers.

mod driver;

use driver::{Call, Seen, World};
use headwater_core::Input;
use headwater_core::config::{CoreConfig, JoinGate};
use headwater_core::key::{SessionKey, WorkerKey};

const ALL: [&str; 6] = ["set", "get", "delete", "update", "list", "list_groups"];

/// A worker that keeps stream `s` with these functions.
fn keeper(world: &mut World, functions: &[&str]) -> WorkerKey {
    let worker = world.worker();
    serves(world, worker, functions);
    worker
}

fn serves(world: &mut World, worker: WorkerKey, functions: &[&str]) {
    for function in functions {
        world.registers(worker, &format!("stream::{function}(s)"));
    }
}

fn withdraws(world: &mut World, worker: WorkerKey, functions: &[&str]) {
    for function in functions {
        world.says(worker, &format!(r#"{{"type":"unregisterfunction","id":"stream::{function}(s)"}}"#));
    }
}

/// A world with a caller and a worker that keeps stream `s`.
fn kept() -> (World, WorkerKey, WorkerKey) {
    kept_in(World::in_memory(), &ALL)
}

fn kept_in(mut world: World, functions: &[&str]) -> (World, WorkerKey, WorkerKey) {
    let caller = world.worker();
    let keeper = keeper(&mut world, functions);
    // The log knows that the stream is a worker's.
    world.settle();
    (world, caller, keeper)
}

fn limited(calls_in_flight: usize) -> World {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = calls_in_flight;
    World::with_config(config)
}

/// The keeper answers its only call.
#[track_caller]
fn answers(world: &mut World, keeper: WorkerKey, function: &str, result: &str) -> Call {
    let call = world.one_call(keeper);
    assert_eq!(call.function, format!("stream::{function}(s)"));
    world.returns(keeper, &call, result);
    call
}

/// A session that has joined a group, or with a non-empty `item` an item, and knows what it starts from.
#[track_caller]
fn subscriber(world: &mut World, keeper: WorkerKey, group: &str, item: &str, state: &str) -> SessionKey {
    let session = world.session();
    world.join(session, "sub", group, item);
    answers(world, keeper, if item.is_empty() { "list" } else { "get" }, state);
    assert_eq!(world.seen(session).len(), 1);
    session
}

fn update(world: &mut World, caller: WorkerKey, id: &str, ops: &str) {
    let data = format!(r#"{{"stream_name":"s","group_id":"g","item_id":"a","ops":{ops}}}"#);
    world.call(caller, id, "stream::update", &data);
}

// Calls.

#[test]
fn a_call_goes_to_the_worker_with_the_input_that_it_came_with_and_its_answer_comes_back() {
    let item = r#""stream_name":"s","group_id":"g \"1\"","item_id":"ä""#;
    let inputs = [
        ("set", "set", format!(r#"{{{item},"data":{{"id":1.50,"a":[null]}}}}"#)),
        ("get", "get", format!("{{{item}}}")),
        ("delete", "delete", format!("{{{item}}}")),
        (
            "update",
            "update",
            format!(r#"{{{item},"ops":[{{"by": 1, "path":"n","type":"increment","note":1.50}}]}}"#),
        ),
        ("list", "getGroup", r#"{"stream_name":"s","group_id":"g"}"#.to_owned()),
        ("list_groups", "listGroups", r#"{"stream_name":"s"}"#.to_owned()),
    ];
    let (mut world, caller, keeper) = kept();
    for (name, older, input) in inputs {
        for spelled in [format!("stream::{name}"), format!("streams.{older}")] {
            world.call(caller, "c", &spelled, &input);
            let call = world.one_call(keeper);
            assert_eq!(call.function, format!("stream::{name}(s)"));
            assert!(call.frame.contains(&format!(r#""data":{input}"#)), "{} is not {input}", call.frame);
            assert!(world.heard(caller).is_empty(), "the worker has not answered");
            world.returns(keeper, &call, r#"{"any":[1.50]}"#);
            let answer = world.heard(caller).join("");
            assert!(answer.contains(r#""result":{"any":[1.50]}"#), "{answer}");
            assert!(answer.contains(&format!(r#""function_id":"{spelled}""#)), "{answer}");
            // It did not tell what was before, or what is now.
            world.returns_to_all(keeper, "[]");
        }
    }
}

#[test]
fn no_result_stays_no_result_null_stays_null_and_errors_pass_through() {
    let (mut world, caller, keeper) = kept();
    for (result, reply) in [("", "c: nothing"), ("null", "c: null"), ("[]", "c: []")] {
        world.get(caller, "c", "g", "a");
        answers(&mut world, keeper, "get", result);
        assert_eq!(world.replies(caller), [reply]);
    }
    for function in ["set", "get", "delete", "list"] {
        let data = r#"{"stream_name":"s","group_id":"g","item_id":"a","data":1}"#;
        world.call(caller, "c", &format!("stream::{function}"), data);
        let call = world.one_call(keeper);
        world.throws(keeper, &call);
        assert_eq!(world.replies(caller), ["c! E: it broke"]);
    }
}

#[test]
fn bad_input_and_revisions_are_refused_before_the_worker_hears_of_them() {
    let (mut world, caller, keeper) = kept();
    let item = r#""stream_name":"s","group_id":"g","item_id":"a""#;
    let refused = [
        ("set", format!("{{{item}}}"), "deserialization_error"),
        ("set", format!(r#"{{{item},"data":1,"expect":{{"revision":0}}}}"#), "unsupported"),
        ("set", format!(r#"{{{item},"data":1,"revision":true}}"#), "unsupported"),
        ("update", format!(r#"{{{item},"ops":[],"expect":{{"value":1}}}}"#), "unsupported"),
        ("delete", format!(r#"{{{item},"expect":{{"revision":1}}}}"#), "unsupported"),
        ("get", format!(r#"{{{item},"revision":true}}"#), "unsupported"),
        ("list", format!(r#"{{{item},"revision":true}}"#), "unsupported"),
    ];
    for (function, input, code) in refused {
        world.call(caller, "c", &format!("stream::{function}"), &input);
        let replies = world.replies(caller);
        assert!(replies[0].starts_with(&format!("c! {code}: ")), "{function} {input}: {replies:?}");
        assert!(world.heard(keeper).is_empty());
    }
}

#[test]
fn calls_of_a_group_go_one_at_a_time_in_the_order_in_which_they_came_and_those_of_others_meanwhile() {
    let (mut world, caller, keeper) = kept();
    let other = world.worker();
    world.set(caller, "1", "g", "a", "1");
    world.get(other, "2", "g", "b");
    world.list(caller, "3", "g");
    world.set(caller, "4", "h", "a", "4");
    world.call(caller, "5", "stream::list_groups", r#"{"stream_name":"s"}"#);
    let first = world.calls(keeper);
    let told: Vec<_> = first.iter().map(|call| call.function.as_str()).collect();
    assert_eq!(told, ["stream::set(s)", "stream::set(s)", "stream::list_groups(s)"]);
    for call in first.iter().rev() {
        world.returns(keeper, call, "{}");
    }
    assert_eq!(world.replies(caller), ["5: {}", "4: {}", "1: {}"]);
    // The two sets said nothing of what was before.
    let mut told = Vec::new();
    while let [call, more @ ..] = &world.calls(keeper)[..] {
        for call in more.iter().chain([call]) {
            told.push(format!("{} {}", call.function, call.data["group_id"]));
            world.returns(keeper, call, "[]");
        }
    }
    told.sort();
    assert_eq!(
        told,
        [
            r#"stream::get(s) "g""#,
            r#"stream::list(s) "g""#,
            r#"stream::list(s) "g""#,
            r#"stream::list(s) "h""#
        ]
    );
    assert_eq!(world.replies(other), ["2: []"]);
    assert_eq!(world.replies(caller), ["3: []"]);
}

#[test]
fn other_streams_stay_the_servers_own() {
    let (mut world, caller, keeper) = kept();
    let item = r#""stream_name":"o","group_id":"g","item_id":"a""#;
    world.ask(caller, "stream::set", &format!(r#"{{{item},"data":1}}"#));
    assert_eq!(world.ask(caller, "stream::get", &format!("{{{item}}}")), "1");
    assert_eq!(
        world.ask(caller, "stream::list_all", "{}"),
        r#"{"count":1,"stream":[{"groups":["g"],"id":"o"}]}"#
    );
    assert!(world.heard(keeper).is_empty());
}

#[test]
fn what_a_worker_keeps_is_nobodys_while_it_is_gone_and_never_the_servers() {
    let (mut world, caller, first) = kept();
    let session = world.session();
    world.set(caller, "1", "g", "a", "1");
    world.get(caller, "2", "g", "a");
    world.hangs_up(first);
    let missing = |id: &str, function: &str| {
        format!(
            "{id}! function_not_found: no connected worker has registered `stream::{function}(s)`: start the \
             worker that does, or check the spelling"
        )
    };
    let replies = world.replies(caller);
    assert!(replies[0].starts_with("1! invocation_stopped: "), "{replies:?}");
    assert_eq!(replies[1], missing("2", "get"));
    world.set(caller, "3", "g", "a", "3");
    world.list(caller, "4", "g");
    world.call(caller, "5", "stream::list_groups", r#"{"stream_name":"s"}"#);
    assert_eq!(
        world.replies(caller),
        [missing("3", "set"), missing("4", "list"), missing("5", "list_groups")]
    );
    world.pass(1_000_000);
    world.tick();
    world.get(caller, "6", "g", "a");
    world.join(session, "sub", "g", "");
    assert_eq!(world.replies(caller), [missing("6", "get")]);
    assert_eq!(world.seen(session), ["! stream_unavailable"]);
    let second = keeper(&mut world, &["get"]);
    world.get(caller, "7", "g", "a");
    answers(&mut world, second, "get", "7");
    world.delete(caller, "8", "g", "a");
    assert_eq!(world.replies(caller), ["7: 7".to_owned(), missing("8", "delete")]);
}

#[test]
fn a_stream_without_a_function_left_is_the_servers_again() {
    let (mut world, caller, keeper) = kept();
    withdraws(&mut world, keeper, &ALL[1..]);
    world.get(caller, "1", "g", "a");
    assert!(world.replies(caller)[0].starts_with("1! function_not_found: "));
    withdraws(&mut world, keeper, &["set"]);
    world.set(caller, "2", "g", "a", "2");
    assert_eq!(world.replies(caller), [r#"2: {"new_value":2,"old_value":null}"#]);
    assert!(world.heard(keeper).is_empty());
}

#[test]
fn a_call_that_wants_no_answer_has_its_turn_too() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[]");
    let data = r#"{"stream_name":"s","group_id":"g","item_id":"a","data":1}"#;
    world.says(caller, &format!(r#"{{"type":"invokefunction","function_id":"stream::set","data":{data}}}"#));
    answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    assert_eq!(world.seen(session), ["g/a create 1 #0 @2"]);
    assert!(world.heard(caller).is_empty());
}

#[test]
fn a_call_of_a_worker_that_is_gone_still_has_its_turn() {
    let (mut world, caller, keeper) = kept();
    world.set(caller, "1", "g", "a", "1");
    world.set(caller, "2", "g", "a", "2");
    world.hangs_up(caller);
    for _ in 0..2 {
        answers(&mut world, keeper, "set", r#"{"old_value":0}"#);
    }
    assert!(world.heard(keeper).is_empty());
}

#[test]
fn when_too_many_calls_wait_for_a_group_more_are_overloaded_and_other_groups_are_not() {
    let (mut world, caller, keeper) = kept_in(limited(2), &ALL);
    for id in ["1", "2", "3", "4"] {
        world.get(caller, id, "g", "a");
    }
    assert_eq!(
        world.replies(caller),
        ["4! overloaded: 2 calls wait for this group already; try again later"]
    );
    world.get(caller, "5", "h", "a");
    assert_eq!(world.returns_to_all(keeper, "0").len(), 4);
    assert_eq!(world.replies(caller).len(), 4);
}

#[test]
fn a_call_that_has_waited_too_long_fails_and_the_worker_never_hears_of_it() {
    let (mut world, caller, keeper) = kept();
    world.get(caller, "1", "g", "a");
    world.get(caller, "2", "g", "b");
    world.pass(1);
    world.get(caller, "3", "g", "c");
    let first = world.one_call(keeper);
    assert_eq!(world.core.next_deadline().map(|due| due.0), Some(30_000));
    world.pass(29_999);
    world.tick();
    assert_eq!(
        world.replies(caller),
        [
            "1! TIMEOUT: `stream::get(s)` did not answer within 30000 ms (`call_ms`)",
            "2! TIMEOUT: the calls before it took too long (`call_ms`)"
        ]
    );
    world.returns(keeper, &first, r#""late""#);
    let third = answers(&mut world, keeper, "get", r#""in time""#);
    assert_eq!(third.data["item_id"], "c");
    assert_eq!(world.replies(caller), [r#"3: "in time""#]);
    assert_eq!(world.core.next_deadline(), None);
}

// Updates.

/// What an update of `before` answers, once by the server itself and once by a worker that has no function for it;
/// with what that worker is asked.
fn updated_both_ways(before: &str, ops: &str) -> (String, String, Vec<String>) {
    let mut world = World::in_memory();
    let caller = world.worker();
    if !before.is_empty() {
        world.set(caller, "s", "g", "a", before);
        world.heard(caller);
    }
    update(&mut world, caller, "u", ops);
    let own = world.replies(caller).join("");
    let (mut world, caller, keeper) = kept_in(World::in_memory(), &["get", "set"]);
    update(&mut world, caller, "u", ops);
    let mut asked = Vec::new();
    for call in world.calls(keeper) {
        asked.push(call.to_string());
        world.returns(keeper, &call, before);
    }
    for call in world.calls(keeper) {
        asked.push(call.to_string());
        world.returns(keeper, &call, r#"{"old_value":"whatever","new_value":"whatever"}"#);
    }
    (own, world.replies(caller).join(""), asked)
}

#[test]
fn without_a_function_for_updates_the_value_is_read_changed_and_set_with_the_same_answer() {
    let cases = [
        ("", r#"[{"type":"increment","path":"n","by":3}]"#),
        (r#"{"n":1.50}"#, r#"[{"type":"increment","path":"n","by":3}]"#),
        (
            r#"{"s":"x"}"#,
            r#"[{"type":"increment","path":"s","by":1},{"type":"set","path":"t","value":null}]"#,
        ),
        (r#""text""#, r#"[{"type":"set","path":"a","value":1}]"#),
        (r#"{"a":1}"#, r#"[{"type":"merge","path":["__proto__"],"value":{}}]"#),
        (r#"{"a":1}"#, r#"[{"type":"remove","path":""}]"#),
        ("[1]", "[]"),
    ];
    for (before, ops) in cases {
        let (own, kept, asked) = updated_both_ways(before, ops);
        assert_eq!(kept, own, "{before} {ops}");
        let new = own.split_once(r#""new_value":"#).expect("a new value").1;
        let set = asked[1].split_once(r#""data":"#).expect("the value to set").1;
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked[0].starts_with("stream::get(s) ") && asked[1].starts_with("stream::set(s) "));
        let set = set.split_once(r#","group_id""#).expect("members in byte order").0;
        assert!(new.starts_with(set), "{set} was set for {own}");
    }
}

#[test]
fn an_update_in_two_steps_has_one_turn_and_one_event() {
    let (mut world, caller, keeper) = kept_in(World::in_memory(), &["get", "set", "list"]);
    let session = subscriber(&mut world, keeper, "g", "", r#"[{"n":1}]"#);
    let increment = r#"[{"type":"increment","path":"n","by":1}]"#;
    update(&mut world, caller, "1", increment);
    update(&mut world, caller, "2", increment);
    for (before, after) in [(r#"{"n":1}"#, 2), (r#"{"n":2}"#, 3)] {
        answers(&mut world, keeper, "get", before);
        let set = answers(&mut world, keeper, "set", "");
        assert_eq!(set.data["data"]["n"], after);
    }
    assert_eq!(
        world.replies(caller),
        [
            r#"1: {"new_value":{"n":2},"old_value":{"n":1}}"#,
            r#"2: {"new_value":{"n":3},"old_value":{"n":2}}"#
        ]
    );
    assert_eq!(world.seen(session), [r#"g/a update {"n":2} #0 @2"#, r#"g/a update {"n":3} #0 @4"#]);
}

#[test]
fn an_update_in_two_steps_fails_with_the_step_that_fails_and_sets_nothing_that_is_beyond_a_limit() {
    let increment = r#"[{"type":"increment","path":"n","by":1}]"#;
    let (mut world, caller, keeper) = kept_in(World::in_memory(), &["get", "set"]);
    update(&mut world, caller, "1", increment);
    let get = world.one_call(keeper);
    world.throws(keeper, &get);
    update(&mut world, caller, "2", increment);
    answers(&mut world, keeper, "get", "");
    let set = world.one_call(keeper);
    world.throws(keeper, &set);
    assert_eq!(world.replies(caller), ["1! E: it broke", "2! E: it broke"]);
    update(&mut world, caller, "3", increment);
    answers(&mut world, keeper, "get", "");
    world.hangs_up(keeper);
    assert!(world.replies(caller)[0].starts_with("3! invocation_stopped: "));

    let mut config = CoreConfig::default();
    config.limits.value_bytes = 50;
    let (mut world, caller, keeper) = kept_in(World::with_config(config), &["get", "set"]);
    update(&mut world, caller, "4", r#"[{"type":"append","path":"","value":"0123456789"}]"#);
    answers(&mut world, keeper, "get", &format!("{:?}", "x".repeat(45)));
    assert!(world.replies(caller)[0].starts_with("4! STREAM_UPDATE_ERROR: the new value "));
    assert!(world.heard(keeper).is_empty());
}

// Subscribers.

#[test]
fn a_join_is_sent_the_workers_list_without_nulls_nothing_before_and_what_comes_meanwhile_after() {
    let (mut world, caller, keeper) = kept();
    let session = world.session();
    world.set(caller, "1", "g", "a", "1");
    world.join(session, "sub", "g", "");
    world.set(caller, "2", "g", "b", "2");
    world.send(caller, "3", "g", "", "sent");
    answers(&mut world, keeper, "set", r#"{"old_value":null,"new_value":1}"#);
    assert!(world.frames(session).is_empty());
    let list = answers(&mut world, keeper, "list", r#"[{"id":"a"}, null,1.50 ,null]"#);
    assert_eq!(list.data.to_string(), r#"{"group_id":"g","stream_name":"s"}"#);
    assert_eq!(world.seen(session), [r#"g sync [{"id":"a"},1.5] #0 @3"#]);
    answers(&mut world, keeper, "set", r#"{"old_value":null,"new_value":2}"#);
    assert_eq!(world.seen(session), ["g/b create 2 #0 @4", r#"g sent {"k":1} #0 @6"#]);
}

#[test]
fn a_subscription_to_an_item_is_sent_what_the_worker_gets_and_then_the_items_events_alone() {
    for (got, value) in [("1.50", "1.5"), ("null", "null"), ("", "null")] {
        let (mut world, caller, keeper) = kept();
        let session = world.session();
        world.join(session, "sub", "g", "a");
        let get = answers(&mut world, keeper, "get", got);
        assert_eq!(get.data.to_string(), r#"{"group_id":"g","item_id":"a","stream_name":"s"}"#);
        assert_eq!(world.seen(session), [format!("g/a sync {value} #0 @1")]);
        for (id, item) in [("1", "b"), ("2", "a")] {
            world.set(caller, id, "g", item, "2");
            answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
        }
        assert_eq!(world.seen(session), ["g/a update 2 #0 @4"]);
    }
}

#[test]
fn what_is_no_list_is_sent_to_nobody() {
    for list in ["", "null", "{}", "1", r#""[]""#] {
        let (mut world, _, keeper) = kept();
        let session = world.session();
        world.join(session, "sub", "g", "");
        answers(&mut world, keeper, "list", list);
        assert_eq!(world.seen(session), ["! stream_unavailable"], "{list}");
        assert_eq!(world.channels(session), 0);
    }
}

#[test]
fn what_could_not_be_loaded_is_loaded_when_the_worker_registers_again() {
    let (mut world, caller, first) = kept();
    let [early, late, left, gone] = [(); 4].map(|()| world.session());
    world.join(early, "sub", "g", "");
    world.hangs_up(first);
    for session in [late, left, gone] {
        world.join(session, "sub", "g", if session == late { "a" } else { "" });
    }
    for session in [early, late, left, gone] {
        assert_eq!(world.seen(session), ["! stream_unavailable"]);
    }
    world.leave(left, "sub");
    world.leaves(gone);
    let second = keeper(&mut world, &ALL);
    let asked = world.returns_to_all(second, "[1]");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(world.seen(early), ["g sync [1] #0 @1"]);
    assert_eq!(world.seen(late), ["g/a sync [1] #0 @1"]);
    assert_eq!(world.frames(left).len(), 0);
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, second, "set", r#"{"old_value":0}"#);
    assert_eq!([early, late, left].map(|session| world.frames(session).len()), [1, 1, 0]);
}

#[test]
fn a_list_that_fails_is_loaded_when_its_function_registers_again_and_by_no_other() {
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    let list = world.one_call(keeper);
    world.throws(keeper, &list);
    assert_eq!(world.seen(session), ["! stream_unavailable"]);
    serves(&mut world, keeper, &["set", "get", "update"]);
    assert!(world.heard(keeper).is_empty(), "none of these gives a list");
    serves(&mut world, keeper, &["list"]);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @1"]);
    serves(&mut world, keeper, &["list"]);
    assert!(world.heard(keeper).is_empty(), "nobody waits any more");
}

#[test]
fn a_subscription_that_is_left_while_it_loads_is_sent_nothing() {
    let (mut world, caller, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.leave(session, "sub");
    answers(&mut world, keeper, "list", "[1]");
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, keeper, "set", r#"{"old_value":0}"#);
    assert_eq!(world.frames(session).len(), 0);
    assert_eq!(world.channels(session), 0);
    // The same id for something else.
    world.join(session, "sub", "g", "");
    world.leave(session, "sub");
    world.join(session, "sub", "g", "a");
    let first = world.one_call(keeper);
    world.throws(keeper, &first);
    assert_eq!(world.seen(session), Vec::<String>::new(), "nobody waits for the list any more");
    answers(&mut world, keeper, "get", "2");
    assert_eq!(world.seen(session), ["g/a sync 2 #0 @3"]);
}

#[test]
fn a_session_that_hangs_up_while_it_loads_leaves_nothing_behind() {
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.join(session, "sub 2", "g", "a");
    world.leaves(session);
    let list = world.one_call(keeper);
    world.returns(keeper, &list, "[1]");
    assert!(world.heard(keeper).is_empty(), "nobody wants to know the item");
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn joining_again_is_answered_with_a_fresh_list() {
    let (mut world, _, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[1]");
    world.join(session, "sub", "g", "");
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(session), ["g sync [2] #0 @1"]);
    assert_eq!(world.channels(session), 1);
}

#[test]
fn however_many_wait_for_the_same_state_it_is_asked_for_once() {
    let (mut world, caller, keeper) = kept_in(limited(2), &ALL);
    world.get(caller, "1", "g", "a");
    let get = world.one_call(keeper);
    let sessions = [(); 5].map(|()| world.session());
    for session in sessions {
        for _ in 0..3 {
            world.join(session, "sub", "g", "");
        }
    }
    world.get(caller, "2", "g", "a");
    world.returns(keeper, &get, "0");
    let list = world.one_call(keeper);
    // Whoever comes now may know of more than what is being listed.
    let late = world.session();
    world.join(late, "sub", "g", "");
    world.returns(keeper, &list, "[1]");
    for session in sessions {
        assert_eq!(world.seen(session), ["g sync [1] #0 @1"]);
    }
    assert!(world.frames(late).is_empty());
    answers(&mut world, keeper, "get", "0");
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(late), ["g sync [2] #0 @1"]);
    assert_eq!(world.replies(caller), ["1: 0", "2: 0"], "joins cost a caller no place");
    assert!(world.heard(keeper).is_empty());
}

#[test]
fn joins_that_are_left_again_cost_the_worker_nothing_when_it_comes_back() {
    let (mut world, _, first) = kept();
    world.hangs_up(first);
    let session = world.session();
    for n in 0..10 {
        world.join(session, &n.to_string(), &n.to_string(), "");
        world.leave(session, &n.to_string());
    }
    let second = keeper(&mut world, &ALL);
    assert!(world.heard(second).is_empty());
}

#[test]
fn who_falls_behind_is_sent_the_workers_list_once_it_has_caught_up() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[1]");
    world.overflow(session);
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.channels(session), 0);
    world.drained(session);
    world.set(caller, "2", "g", "a", "3");
    assert_eq!(world.channels(session), 0, "what it is sent starts with the list");
    answers(&mut world, keeper, "list", "[2]");
    answers(&mut world, keeper, "set", r#"{"old_value":2}"#);
    assert_eq!(world.seen(session), ["g sync [2] #0 @3", "g/a update 3 #0 @4"]);
}

#[test]
fn who_falls_behind_while_a_list_loads_gets_one_in_the_end_whatever_comes_first() {
    // Behind and caught up before the list is there.
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.overflow(session);
    world.drained(session);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @1"]);
    assert_eq!(world.channels(session), 1);
    assert!(world.heard(keeper).is_empty());
    // The list is there while it is behind.
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.overflow(session);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.channels(session), 0);
    world.drained(session);
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(session), ["g sync [2] #0 @1"]);
    assert_eq!(world.channels(session), 1);
    // It is behind twice.
    world.overflow(session);
    world.drained(session);
    world.overflow(session);
    answers(&mut world, keeper, "list", "[3]");
    world.drained(session);
    answers(&mut world, keeper, "list", "[4]");
    assert_eq!(world.seen(session), ["g sync [4] #0 @1"]);
    world.leave(session, "sub");
    assert_eq!(world.channels(session), 0);
}

#[test]
fn a_session_with_a_group_and_its_items_is_sent_each_event_once() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "a", "1");
    world.join(session, "whole", "g", "");
    world.join(session, "other", "g", "b");
    assert_eq!(world.channels(session), 1);
    world.returns_to_all(keeper, "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @1", "g/b sync [1] #0 @1"]);
    assert_eq!(world.channels(session), 1);
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.seen(session), ["g/a update 2 #0 @2"]);
    world.leave(session, "whole");
    assert_eq!(world.channels(session), 2);
}

// When a stream changes hands.

#[test]
fn a_stream_that_becomes_the_servers_starts_its_subscribers_afresh() {
    let (mut world, caller, keeper) = kept();
    let loaded = subscriber(&mut world, keeper, "g", "", "[1]");
    let [loading, behind] = [(); 2].map(|()| world.session());
    world.join(loading, "sub", "g", "");
    world.join(behind, "sub", "g", "");
    world.overflow(behind);
    let list = world.one_call(keeper);
    withdraws(&mut world, keeper, &ALL);
    assert_eq!(world.seen(loaded), ["g sync [] #0 @1"]);
    assert_eq!(world.seen(loading), ["g sync [] #0 @1"]);
    world.returns(keeper, &list, "[2]");
    world.drained(behind);
    assert_eq!(world.seen(behind), ["g sync [] #0 @1"]);
    world.set(caller, "1", "g", "a", "1");
    for session in [loaded, loading, behind] {
        assert_eq!(world.seen(session), ["g/a create 1 #1 @2"]);
        world.leave(session, "sub");
        assert_eq!(world.channels(session), 0);
    }
}

#[test]
fn a_stream_that_becomes_a_workers_starts_its_subscribers_afresh() {
    let mut world = World::in_memory();
    let (caller, session, behind) = (world.worker(), world.session(), world.session());
    for session in [session, behind] {
        world.join(session, "sub", "g", "");
        world.frames(session);
    }
    world.overflow(behind);
    let keeper = world.worker();
    serves(&mut world, keeper, &["set", "get"]);
    assert!(world.heard(keeper).is_empty());
    assert!(world.frames(session).is_empty());
    serves(&mut world, keeper, &["list"]);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @1"]);
    world.drained(behind);
    answers(&mut world, keeper, "list", "[1]");
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.seen(session), ["g/a update 2 #0 @2"]);
    assert_eq!(world.seen(behind), ["g sync [1] #0 @1", "g/a update 2 #0 @2"]);
}

#[test]
fn a_worker_that_comes_back_without_a_function_for_updates_has_its_values_read_changed_and_set() {
    let (mut world, caller, first) = kept();
    world.hangs_up(first);
    let second = keeper(&mut world, &["get", "set"]);
    // It may be about to register it.
    update(&mut world, caller, "1", "[]");
    assert!(world.replies(caller)[0].starts_with("1! function_not_found: "));
    world.pass(30_000);
    world.tick();
    update(&mut world, caller, "2", "[]");
    answers(&mut world, second, "get", "{}");
    answers(&mut world, second, "set", "");
    assert_eq!(world.replies(caller), [r#"2: {"new_value":{},"old_value":{}}"#]);
}

// What is told of changes.

#[test]
fn what_a_worker_says_of_a_change_decides_what_is_told_of_it() {
    let cases = [
        ("set", r#"{"old_value":null,"new_value":2}"#),
        ("set", r#"{"old_value":null}"#),
        ("set", r#"{"old_value":1,"new_value":2}"#),
        ("set", r#"{"new_value":2}"#),
        ("set", r#"{"old_value":1,"new_value":null}"#),
        ("set", ""),
        ("set", "7"),
        ("update", r#"{"old_value":null,"new_value":2}"#),
        ("update", r#"{"old_value":1,"new_value":2,"errors":[]}"#),
        ("update", r#"{"new_value":2}"#),
        ("update", ""),
        ("delete", r#"{"old_value":1}"#),
        ("delete", r#"{"old_value":null}"#),
        ("delete", ""),
    ];
    let mut told = String::new();
    for (function, result) in cases {
        let (mut world, caller, keeper) = kept();
        let whole = subscriber(&mut world, keeper, "g", "", "[1]");
        let item = subscriber(&mut world, keeper, "g", "a", "1");
        let data = r#"{"stream_name":"s","group_id":"g","item_id":"a","data":3,"ops":[]}"#;
        world.call(caller, "c", &format!("stream::{function}"), data);
        answers(&mut world, keeper, function, result);
        told.push_str(&format!("{function} {result}\n"));
        for call in world.calls(keeper) {
            let is_list = call.function == "stream::list(s)";
            world.returns(keeper, &call, if is_list { "[4]" } else { "4" });
            told.push_str(&format!("  asks {}\n", call.function));
        }
        for call in world.calls(keeper) {
            world.returns(keeper, &call, "[4]");
            told.push_str(&format!("  asks {}\n", call.function));
        }
        assert_eq!(world.replies(caller).len(), 1);
        told.push_str(&format!("  group: {}\n", world.seen(whole).join(", ")));
        told.push_str(&format!("  item:  {}\n", world.seen(item).join(", ")));
    }
    insta::assert_snapshot!(told, @r#"
    set {"old_value":null,"new_value":2}
      group: g/a create 2 #0 @2
      item:  g/a create 2 #0 @2
    set {"old_value":null}
      group: g/a create 3 #0 @2
      item:  g/a create 3 #0 @2
    set {"old_value":1,"new_value":2}
      group: g/a update 2 #0 @2
      item:  g/a update 2 #0 @2
    set {"new_value":2}
      asks stream::list(s)
      group: g/a update 2 #0 @2, g sync [4] #0 @3
      item:  g/a update 2 #0 @2
    set {"old_value":1,"new_value":null}
      asks stream::list(s)
      group: g/a sync null #0 @2, g sync [4] #0 @3
      item:  g/a sync null #0 @2
    set 
      asks stream::list(s)
      group: g/a update 3 #0 @2, g sync [4] #0 @3
      item:  g/a update 3 #0 @2
    set 7
      asks stream::list(s)
      group: g/a update 3 #0 @2, g sync [4] #0 @3
      item:  g/a update 3 #0 @2
    update {"old_value":null,"new_value":2}
      group: g/a create 2 #0 @2
      item:  g/a create 2 #0 @2
    update {"old_value":1,"new_value":2,"errors":[]}
      group: g/a update 2 #0 @2
      item:  g/a update 2 #0 @2
    update {"new_value":2}
      asks stream::list(s)
      group: g/a update 2 #0 @2, g sync [4] #0 @3
      item:  g/a update 2 #0 @2
    update 
      asks stream::get(s)
      asks stream::list(s)
      group: g/a update 4 #0 @2, g sync [4] #0 @3
      item:  g/a update 4 #0 @2
    delete {"old_value":1}
      group: g/a delete 1 #0 @2
      item:  g/a delete 1 #0 @2
    delete {"old_value":null}
      group: 
      item:  
    delete 
      asks stream::list(s)
      group: g/a sync null #0 @2, g sync [4] #0 @3
      item:  g/a sync null #0 @2
    "#);
}

#[test]
fn the_list_after_a_change_that_was_told_only_in_part_comes_before_the_next_call() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[]");
    world.set(caller, "1", "g", "a", "1");
    world.set(caller, "2", "g", "b", "2");
    answers(&mut world, keeper, "set", "");
    answers(&mut world, keeper, "list", "[1]");
    answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    assert_eq!(world.seen(session), ["g/a update 1 #0 @2", "g sync [1] #0 @3", "g/b create 2 #0 @4"]);
}

#[test]
fn gates_leaves_and_triggers_work_as_for_any_other_stream() {
    let mut config = CoreConfig::default();
    config.access.join_gate = JoinGate::FailClosed;
    let (mut world, caller, keeper) = kept_in(World::with_config(config), &ALL);
    let watcher = world.worker();
    world.handles(watcher, "stream:join", "may", "{}");
    world.handles(watcher, "stream:leave", "bye", "{}");
    world.handles(watcher, "stream", "on", r#"{"stream_name":"s","group_id":"g"}"#);
    let [refused, allowed] = [(); 2].map(|()| world.session());
    for (session, id) in [(refused, "no"), (allowed, "yes")] {
        world.join(session, id, "g", "");
    }
    assert!(world.heard(keeper).is_empty(), "the worker is not asked before the gate has answered");
    for (call, answer) in world.calls(watcher).iter().zip([r#"{"unauthorized":true}"#, "null"]) {
        world.returns(watcher, call, answer);
    }
    assert_eq!(world.seen(refused), ["! unauthorized"]);
    answers(&mut world, keeper, "list", "[]");
    assert_eq!(world.seen(allowed), ["g sync [] #0 @1"]);
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), ["on g/a create 1 #0 @2"]);
    world.send(caller, "2", "g", "", "sent");
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), [r#"on g sent {"k":1} #0 @4"#]);
    // One that is still loading was allowed as well.
    world.join(allowed, "loading", "g", "a");
    assert_eq!(world.returns_to_all(watcher, "null"), ["may loading"]);
    world.leave(allowed, "loading");
    world.leave(allowed, "yes");
    world.settle();
    assert_eq!(world.returns_to_all(watcher, "null"), ["bye loading", "bye yes"]);
}

// Time, the disk and the end.

#[test]
fn events_in_one_millisecond_have_stamps_of_their_own_also_after_a_restart() {
    let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
    let session = subscriber(&mut world, keeper, "g", "", "[]");
    let mut last = 0;
    let mut see = |world: &mut World, session| {
        world.settle();
        for frame in world.frames(session) {
            let seen = Seen::read(&frame);
            assert!(seen.stamp > last, "{seen} is not after {last}");
            last = seen.stamp;
        }
    };
    for id in ["1", "2", "3"] {
        world.set(caller, id, "g", "a", id);
        answers(&mut world, keeper, "set", r#"{"old_value":0}"#);
        see(&mut world, session);
    }
    world.crash(0);
    let (mut world, caller, keeper) = kept_in(world, &ALL);
    let session = world.session();
    world.join(session, "sub", "g", "");
    answers(&mut world, keeper, "list", "[]");
    see(&mut world, session);
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, keeper, "set", r#"{"old_value":0}"#);
    see(&mut world, session);
}

#[test]
fn a_list_never_overtakes_the_events_before_it_that_wait_for_the_disk() {
    let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
    let early = subscriber(&mut world, keeper, "g", "", "[]");
    for (id, item, result) in
        [("1", "a", r#"{"old_value":null}"#), ("2", "b", r#"{"old_value":null}"#), ("3", "b", "")]
    {
        world.set(caller, id, "g", item, id);
        answers(&mut world, keeper, "set", result);
    }
    answers(&mut world, keeper, "list", "[1,3]");
    let late = world.session();
    world.join(late, "sub", "g", "");
    answers(&mut world, keeper, "list", "[1,3]");
    world.set(caller, "4", "g", "a", "4");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert!(world.in_flight.is_some(), "stamps ahead of the clock are reserved first");
    assert!(world.frames(early).is_empty() && world.frames(late).is_empty());
    world.settle();
    assert_eq!(
        world.seen(early),
        [
            "g/a create 1 #0 @2",
            "g/b create 2 #0 @4",
            "g/b update 3 #0 @6",
            "g sync [1,3] #0 @7",
            "g/a update 4 #0 @8"
        ]
    );
    assert_eq!(world.seen(late), ["g sync [1,3] #0 @7", "g/a update 4 #0 @8"]);
}

#[test]
fn a_list_that_waits_for_the_disk_is_sent_to_nobody_who_has_left_and_also_if_the_disk_fails() {
    let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
    for id in ["1", "2"] {
        world.set(caller, id, "g", id, id);
        answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
    }
    let [left, stays] = [(); 2].map(|()| world.session());
    for session in [left, stays] {
        world.join(session, "sub", "g", "");
    }
    world.returns_to_all(keeper, "[1,2]");
    world.leave(left, "sub");
    world.fail();
    assert!(world.frames(left).is_empty());
    assert_eq!(world.seen(stays).len(), 1);
    assert_eq!((world.channels(left), world.channels(stays)), (0, 1));
}

#[test]
fn after_a_failed_write_changes_and_sent_events_are_refused_as_for_any_other_stream() {
    let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
    let other = r#"{"stream_name":"o","group_id":"g","item_id":"a","data":1}"#;
    world.call(caller, "1", "stream::set", other);
    world.fail();
    world.heard(caller);
    world.send(caller, "2", "g", "", "sent");
    assert!(world.replies(caller)[0].starts_with("2! STREAM_SEND_ERROR: the store takes no writes: "));
    // The worker could make a change, but nobody could be told of it.
    world.set(caller, "3", "g", "a", "3");
    assert!(world.replies(caller)[0].starts_with("3! STREAM_SET_ERROR: the store takes no writes: "));
    world.get(caller, "4", "g", "a");
    answers(&mut world, keeper, "get", "1");
    assert_eq!(world.replies(caller), ["4: 1"]);
}

#[test]
fn an_event_that_is_sent_has_its_turn_among_the_calls_of_its_group() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[]");
    world.set(caller, "1", "g", "a", "1");
    world.send(caller, "2", "g", "a", "sent");
    world.set(caller, "3", "g", "a", "3");
    world.send(caller, "4", "h", "", "sent");
    assert_eq!(world.replies(caller), ["4: null"], "nothing is before it in its own group");
    for _ in 0..2 {
        answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    }
    assert_eq!(
        world.seen(session),
        ["g/a update 1 #0 @4", r#"g/a sent {"k":1} #0 @6"#, "g/a update 3 #0 @8"]
    );
    assert_eq!(world.replies(caller), [r#"1: {"old_value":1}"#, "2: null", r#"3: {"old_value":1}"#]);
}

#[test]
fn a_stop_waits_for_the_calls_that_wait_for_their_turn() {
    let (mut world, caller, keeper) = kept();
    for id in ["1", "2"] {
        world.get(caller, id, "g", "a");
    }
    world.input(Input::Stop);
    world.get(caller, "3", "g", "a");
    assert!(!world.stopped);
    assert_eq!(world.returns_to_all(keeper, "0").len(), 2);
    assert!(world.stopped);
    let replies = world.replies(caller);
    assert!(replies[0].starts_with("3! server_stopping: "), "{replies:?}");
    assert_eq!(replies[1..], ["1: 0", "2: 0"]);
}

#[test]
fn a_stop_that_waits_no_longer_answers_every_call_also_those_that_wait_for_their_turn() {
    let (mut world, caller, _) = kept();
    let session = world.session();
    world.set(caller, "1", "g", "a", "1");
    world.get(caller, "2", "g", "a");
    world.join(session, "sub", "g", "");
    update(&mut world, caller, "3", "[]");
    world.get(caller, "4", "h", "a");
    world.get(caller, "5", "h", "a");
    world.input(Input::Stop);
    world.pass(10_000);
    world.tick();
    assert!(world.stopped);
    let mut stopped = world.replies(caller);
    stopped.sort();
    for (reply, id) in stopped.iter().zip(["1", "2", "3", "4", "5"]) {
        assert!(reply.starts_with(&format!("{id}! invocation_stopped: ")), "{stopped:?}");
    }
    assert_eq!(stopped.len(), 5);
}

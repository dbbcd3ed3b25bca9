//! Calls of a stream that a worker keeps.

use super::*;

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
    assert_eq!(world.seen(session), ["g/a create 1 #0 @12"]);
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
    assert_eq!(world.seen(session), [r#"g/a update {"n":2} #0 @12"#, r#"g/a update {"n":3} #0 @14"#]);
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

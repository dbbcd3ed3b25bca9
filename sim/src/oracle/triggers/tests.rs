use serde_json::{Value, json};

use super::Triggers;
use crate::oracle::script::{Script, answer, call, failure};
use crate::oracle::{Law, Violation};
use crate::trace::Who;

/// A world with a worker that handles all events of the stream with `f`, and a subscriber to `g0`.
fn world(tells_server: bool, config: &Value) -> Script {
    let mut script = Script::new(tells_server, |rules| Box::new(Triggers::new(rules)));
    script.connects(&subscriber());
    registers(&mut script, &worker(1), config);
    script
}

fn all() -> Value {
    json!({"stream_name": "world"})
}

fn worker(connection: u64) -> Who {
    Who::new("worker0", connection)
}

fn subscriber() -> Who {
    Who::new("subscriber0", 1)
}

fn closer() -> Who {
    Who::new("closer", 1)
}

fn registers(script: &mut Script, who: &Who, config: &Value) {
    script.connects(who);
    for function in ["c", "f"] {
        script.says(who, json!({"type": "registerfunction", "id": function}));
    }
    binds(script, who, config);
    // What is answered afterwards proves that all of it was taken.
    let proof = format!("proof{}", who.connection);
    script.says(who, call(&proof, "stream::list_all", json!({})));
    script.hears(who, answer(&proof, "stream::list_all", json!({})));
}

fn binds(script: &mut Script, who: &Who, config: &Value) {
    script.says(
        who,
        json!({"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "f", "config": config}),
    );
}

/// The change with this revision, of item `a` in `g0`.
fn change(revision: u64) -> Value {
    json!({
        "type": "stream", "timestamp": revision * 10, "streamName": "world", "groupId": "g0", "id": "a",
        "event": {"type": "update", "data": {"n": revision}}, "revision": revision,
    })
}

/// Somebody sets the item, everybody hears of it, and the answer tells the revision.
fn happens(script: &mut Script, revision: u64) {
    let id = format!("closer:{revision}");
    let data = json!({"stream_name": "world", "group_id": "g0", "item_id": "a", "revision": true});
    script.says(&closer(), call(&id, "stream::set", data));
    script.hears(&closer(), answer(&id, "stream::set", json!({"revision": revision})));
    script.hears(&subscriber(), change(revision));
}

fn is_called(script: &mut Script, who: &Who, function: &str, event: Value) {
    let id = format!("{function}{}", event["revision"]);
    script.hears(who, call(&id, function, event));
}

fn returns(script: &mut Script, who: &Who, function: &str, revision: u64, result: Value) {
    script.says(who, answer(&format!("{function}{revision}"), function, result));
}

fn handles(script: &mut Script, who: &Who, event: Value) {
    let revision = event["revision"].as_u64().expect("a revision");
    is_called(script, who, "f", event);
    returns(script, who, "f", revision, Value::Null);
}

fn judged(script: Script) -> Result<u64, Violation> {
    script.ended().check().map(|checked| checked.handled)
}

#[track_caller]
fn broken(script: Script, law: Law, how: &str) {
    let violation = judged(script).expect_err(how);
    assert!(violation.law == law && violation.how.contains(how), "{violation}");
}

#[test]
fn a_handler_gets_all_events_in_order_also_if_it_fails() {
    for tells_server in [true, false] {
        let mut script = world(tells_server, &all());
        (1..4).for_each(|revision| happens(&mut script, revision));
        handles(&mut script, &worker(1), change(1));
        is_called(&mut script, &worker(1), "f", change(2));
        script.says(&worker(1), failure("f2", "f", json!({"code": "E", "message": "failed"})));
        handles(&mut script, &worker(1), change(3));
        assert_eq!(judged(script), Ok(3));
    }
}

#[test]
fn an_event_that_is_handled_twice_is_seen_also_across_a_crash() {
    for tells_server in [true, false] {
        let mut script = world(tells_server, &all());
        happens(&mut script, 1);
        handles(&mut script, &worker(1), change(1));
        let mut crashed = script.clone();
        handles(&mut script, &worker(1), change(1));
        broken(script, Law::HandledInOrder, "is called again");
        if tells_server {
            crashed.crashes();
            registers(&mut crashed, &worker(2), &all());
            handles(&mut crashed, &worker(2), change(1));
            broken(crashed, Law::HandledInOrder, "is called");
        }
    }
}

#[test]
fn events_out_of_order_are_seen() {
    let mut script = world(true, &all());
    (1..3).for_each(|revision| happens(&mut script, revision));
    handles(&mut script, &worker(1), change(2));
    handles(&mut script, &worker(1), change(1));
    broken(script, Law::HandledInOrder, "got what is stamped 20 before this");
}

#[test]
fn the_next_event_of_a_group_waits_until_the_handler_has_answered_or_its_time_is_up() {
    for (waits, fits) in [(1, false), (1_000, true)] {
        let mut script = world(true, &all());
        (1..3).for_each(|revision| happens(&mut script, revision));
        is_called(&mut script, &worker(1), "f", change(1));
        script.waits(waits);
        handles(&mut script, &worker(1), change(2));
        match fits {
            true => assert_eq!(judged(script), Ok(2)),
            false => broken(script, Law::HandledInOrder, "neither been answered nor failed"),
        }
    }
}

#[test]
fn at_the_clients_edge_a_call_may_have_been_made_long_before_it_comes() {
    let mut script = world(false, &all());
    (1..3).for_each(|revision| happens(&mut script, revision));
    script.waits(1_000);
    is_called(&mut script, &worker(1), "f", change(1));
    is_called(&mut script, &worker(1), "f", change(2));
    returns(&mut script, &worker(1), "f", 2, Value::Null);
    assert_eq!(judged(script), Ok(2));
}

#[test]
fn only_what_a_trigger_asks_for_is_handled() {
    for config in [
        json!({"stream_name": "other"}),
        json!({"stream_name": "world", "group_id": "g1"}),
        json!({"stream_name": "world", "item_id": "b"}),
    ] {
        let mut script = world(true, &config);
        happens(&mut script, 1);
        let quiet = script.clone();
        handles(&mut script, &worker(1), change(1));
        broken(script, Law::HandledInOrder, "no trigger of it asks for");
        assert_eq!(judged(quiet), Ok(0), "and nothing else is missing");
    }
}

#[test]
fn a_handler_is_called_only_for_what_its_condition_lets_pass() {
    let config = json!({"stream_name": "world", "condition_function_id": "c"});
    for (result, passes) in [(json!(true), true), (Value::Null, true), (json!(false), false)] {
        for is_handled in [true, false] {
            let mut script = world(true, &config);
            happens(&mut script, 1);
            is_called(&mut script, &worker(1), "c", change(1));
            returns(&mut script, &worker(1), "c", 1, result.clone());
            if is_handled {
                handles(&mut script, &worker(1), change(1));
            }
            match (passes, is_handled) {
                (true, false) => broken(script, Law::HandledInOrder, "`f` did not get it"),
                (false, true) => broken(script, Law::HandledInOrder, "does not let pass"),
                _ => assert_eq!(judged(script), Ok(u64::from(is_handled))),
            }
        }
    }
}

#[test]
fn a_condition_is_asked_about_the_next_event_after_the_handler_is_done_with_the_last() {
    let mut script = world(true, &json!({"stream_name": "world", "condition_function_id": "c"}));
    (1..3).for_each(|revision| happens(&mut script, revision));
    is_called(&mut script, &worker(1), "c", change(1));
    returns(&mut script, &worker(1), "c", 1, json!(true));
    is_called(&mut script, &worker(1), "f", change(1));
    is_called(&mut script, &worker(1), "c", change(2));
    broken(script, Law::HandledInOrder, "neither been answered nor failed");
}

#[test]
fn an_event_that_a_handler_never_gets_is_missed() {
    for tells_server in [true, false] {
        let mut script = world(tells_server, &all());
        (1..3).for_each(|revision| happens(&mut script, revision));
        handles(&mut script, &worker(1), change(1));
        broken(script, Law::HandledInOrder, "did not get [\"Change(2) of g0\"]");
    }
}

#[test]
fn a_gap_between_events_is_seen_when_the_next_one_comes() {
    let mut script = world(true, &all());
    for revision in [1, 3] {
        handles(&mut script, &worker(1), change(revision));
    }
    let violation = script.check().expect_err("a gap");
    assert!(violation.how.contains("1 changes were left out"), "{violation}");
}

#[test]
fn what_was_dropped_is_told_with_the_next_event_and_not_more_than_that() {
    for (skipped, fits) in [(0, false), (1, true), (2, false)] {
        let mut script = world(true, &all());
        script.rules.limits.trigger_events = 1;
        (1..4).for_each(|revision| happens(&mut script, revision));
        handles(&mut script, &worker(1), change(1));
        let mut next = change(3);
        next["skipped"] = json!(skipped);
        handles(&mut script, &worker(1), next);
        match fits {
            true => assert_eq!(judged(script), Ok(2)),
            false => {
                broken(script, Law::HandledInOrder, if skipped == 0 { "told of 0" } else { "at most 3" })
            }
        }
    }
}

#[test]
fn a_worker_that_is_back_soon_gets_what_happened_meanwhile_and_a_late_one_nothing() {
    for (away, owed) in [(100, true), (600, false)] {
        let mut script = world(true, &all());
        happens(&mut script, 1);
        handles(&mut script, &worker(1), change(1));
        script.loses(&worker(1)).waits(away);
        happens(&mut script, 2);
        registers(&mut script, &worker(2), &all());
        let quiet = script.clone();
        handles(&mut script, &worker(2), change(2));
        match owed {
            true => {
                assert_eq!(judged(script), Ok(2));
                broken(quiet, Law::HandledInOrder, "did not get");
            }
            false => {
                assert_eq!(judged(quiet), Ok(1));
                broken(script, Law::HandledInOrder, "no trigger of it asks for");
            }
        }
    }
}

#[test]
fn two_triggers_of_one_function_may_both_be_called_for_an_event() {
    for (times, fits) in [(2, true), (3, false)] {
        let mut script = world(true, &all());
        // The server still has the old connection, and whoever has the function runs it for both.
        script.connects(&worker(2));
        binds(&mut script, &worker(2), &all());
        happens(&mut script, 1);
        (0..times).for_each(|_| handles(&mut script, &worker(1), change(1)));
        match fits {
            true => assert_eq!(judged(script), Ok(2)),
            false => broken(script, Law::HandledInOrder, "is called again"),
        }
    }
}

#[test]
fn nothing_is_handled_for_a_trigger_that_was_taken_back() {
    let mut script = world(true, &all());
    happens(&mut script, 1);
    script.says(&worker(1), json!({"type": "unregistertrigger", "id": "t"}));
    assert_eq!(judged(script.clone()), Ok(0));
    handles(&mut script, &worker(1), change(1));
    broken(script, Law::HandledInOrder, "no trigger of it asks for");
}

#[test]
fn what_is_handled_is_what_everybody_sees() {
    let mut script = world(true, &all());
    happens(&mut script, 1);
    let mut other = change(1);
    other["event"]["data"]["n"] = json!(7);
    handles(&mut script, &worker(1), other);
    broken(script, Law::SeenIsDurable, "was told as");
}

#[test]
fn a_trigger_that_is_taken_back_and_asked_for_again_is_another_and_waits_for_no_call_of_the_first() {
    for tells_server in [true, false] {
        let mut script = world(tells_server, &all());
        happens(&mut script, 1);
        is_called(&mut script, &worker(1), "f", change(1));
        script.says(&worker(1), json!({"type": "unregistertrigger", "id": "t"}));
        binds(&mut script, &worker(1), &all());
        happens(&mut script, 2);
        handles(&mut script, &worker(1), change(2));
        returns(&mut script, &worker(1), "f", 1, Value::Null);
        assert_eq!(judged(script), Ok(2));
    }
}

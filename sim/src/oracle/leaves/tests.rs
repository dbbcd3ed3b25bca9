use serde_json::{Value, json};

use super::Leaves;
use crate::oracle::script::{Script, answer, call};
use crate::oracle::{Law, Violation};
use crate::trace::{What, Who};

/// A world with a worker whose function `bye` handles leaves.
fn world(tells_server: bool) -> Script {
    let mut script = Script::new(tells_server, |rules| Box::new(Leaves::new(rules)));
    registers(&mut script, &worker(1), "bye", "stream:leave");
    script
}

/// One with a gate `may` as well.
fn gated() -> Script {
    let mut script = world(true);
    binds(&mut script, &worker(1), "may", "stream:join");
    script
}

fn worker(connection: u64) -> Who {
    Who::new("worker0", connection)
}

fn subscriber(connection: u64) -> Who {
    Who::new("subscriber0", connection)
}

fn registers(script: &mut Script, who: &Who, function: &str, kind: &str) {
    script.connects(who);
    binds(script, who, function, kind);
    // What is answered afterwards proves that all of it was taken.
    let proof = format!("proof{}", who.connection);
    script.says(who, call(&proof, "stream::list_all", json!({})));
    script.hears(who, answer(&proof, "stream::list_all", json!({})));
}

fn binds(script: &mut Script, who: &Who, function: &str, kind: &str) {
    script.says(who, json!({"type": "registerfunction", "id": function}));
    script.says(
        who,
        json!({"type": "registertrigger", "id": function, "trigger_type": kind, "function_id": function}),
    );
}

fn frame(kind: &str, id: &str) -> Value {
    let data = json!({"subscriptionId": id, "streamName": "world", "groupId": "g0", "id": null});
    json!({"type": kind, "data": data})
}

fn told(kind: &str) -> Value {
    json!({"type": "stream", "streamName": "world", "groupId": "g0", "id": null, "event": {"type": kind, "data": []}})
}

fn about(id: &str) -> Value {
    json!({"subscription_id": id, "stream_name": "world", "group_id": "g0", "id": null, "context": null})
}

/// Somebody joins, and is there.
fn joins(script: &mut Script, who: &Who, id: &str) {
    script.says(who, frame("join", id)).hears(who, told("sync"));
}

/// Somebody joins a group with a gate, which answers.
fn asks(script: &mut Script, who: &Who, id: &str, result: Value) {
    script.says(who, frame("join", id));
    script.hears(&worker(1), call(&format!("may {id}"), "may", about(id)));
    script.says(&worker(1), answer(&format!("may {id}"), "may", result));
}

/// The handler is told of a leave.
fn hears(script: &mut Script, who: &Who, data: Value) {
    let id = format!("call {}", script.trace.len());
    script.hears(who, call(&id, "bye", data));
    script.says(who, answer(&id, "bye", Value::Null));
}

fn judged(script: Script) -> Result<u64, Violation> {
    script.ended().check().map(|checked| checked.leaves)
}

#[track_caller]
fn broken(script: Script, how: &str) {
    let violation = judged(script).expect_err(how);
    assert!(violation.law == Law::OneLeave && violation.how.contains(how), "{violation}");
}

#[test]
fn a_join_has_one_leave_however_it_ends() {
    for tells_server in [true, false] {
        for times in 0..3 {
            let mut script = world(tells_server);
            script.connects(&subscriber(1));
            joins(&mut script, &subscriber(1), "s");
            script.says(&subscriber(1), frame("leave", "s"));
            (0..times).for_each(|_| hears(&mut script, &worker(1), about("s")));
            match times {
                0 => broken(script, "was never told"),
                1 => assert_eq!(judged(script), Ok(1)),
                _ => broken(script, "that no join has"),
            }
        }
    }
    for is_told in [true, false] {
        let mut script = world(true);
        script.connects(&subscriber(1));
        joins(&mut script, &subscriber(1), "s");
        script.loses(&subscriber(1));
        if is_told {
            hears(&mut script, &worker(1), about("s"));
            assert_eq!(judged(script), Ok(1));
        } else {
            broken(script, "was never told");
        }
    }
}

#[test]
fn a_leave_is_told_as_its_join_was() {
    for (key, value) in [
        ("subscription_id", json!("other")),
        ("group_id", json!("g1")),
        ("id", json!("a")),
        ("context", json!({"user": 1})),
    ] {
        let mut script = world(true);
        script.connects(&subscriber(1));
        joins(&mut script, &subscriber(1), "s");
        script.loses(&subscriber(1));
        let mut data = about("s");
        data[key] = value;
        hears(&mut script, &worker(1), data);
        broken(script, "that no join has");
    }
}

#[test]
fn a_leave_has_the_context_that_was_told_of_its_connection() {
    for (addr, fits) in [("subscriber0#1:1", true), ("subscriber0#2:1", false)] {
        let mut script = world(true);
        let data = json!({"headers": {}, "addr": "subscriber0#1:1"});
        script.connects(&subscriber(1)).hears(&worker(1), call("auth", "auth", data));
        script.says(&worker(1), answer("auth", "auth", json!({"context": {"addr": "subscriber0#1:1"}})));
        joins(&mut script, &subscriber(1), "s");
        script.loses(&subscriber(1));
        let mut data = about("s");
        data["context"] = json!({"addr": addr});
        hears(&mut script, &worker(1), data);
        match fits {
            true => assert_eq!(judged(script), Ok(1)),
            false => broken(script, "that no join has"),
        }
    }
}

#[test]
fn a_join_that_was_refused_has_no_leave() {
    for is_told in [true, false] {
        let mut script = gated();
        script.connects(&subscriber(1));
        asks(&mut script, &subscriber(1), "s", json!({"unauthorized": true}));
        script.hears(&subscriber(1), told("unauthorized")).loses(&subscriber(1));
        if is_told {
            hears(&mut script, &worker(1), about("s"));
            broken(script, "that no join has");
        } else {
            assert_eq!(judged(script), Ok(0));
        }
    }
}

#[test]
fn a_refusal_is_that_of_the_join_that_was_denied() {
    let mut script = gated();
    script.connects(&subscriber(1)).says(&subscriber(1), frame("join", "s"));
    asks(&mut script, &subscriber(1), "denied", json!({"unauthorized": true}));
    script.hears(&subscriber(1), told("unauthorized"));
    script.hears(&worker(1), call("may s", "may", about("s")));
    script.says(&worker(1), answer("may s", "may", Value::Null)).hears(&subscriber(1), told("sync"));
    script.loses(&subscriber(1));
    hears(&mut script, &worker(1), about("s"));
    assert_eq!(judged(script), Ok(1));
}

#[test]
fn a_leave_comes_after_its_gate_has_decided_also_if_nobody_waits_for_that() {
    for is_early in [true, false] {
        let mut script = gated();
        script.connects(&subscriber(1)).says(&subscriber(1), frame("join", "s"));
        script.hears(&worker(1), call("may", "may", about("s"))).loses(&subscriber(1));
        if is_early {
            hears(&mut script, &worker(1), about("s"));
            broken(script, "before its gate has decided");
            continue;
        }
        script.says(&worker(1), answer("may", "may", Value::Null));
        broken(script.clone(), "was never told");
        hears(&mut script, &worker(1), about("s"));
        assert_eq!(judged(script), Ok(1));
    }
}

#[test]
fn nobody_leaves_who_is_still_there_unless_the_server_stops() {
    for stops in [true, false] {
        let mut script = world(true);
        script.connects(&subscriber(1));
        joins(&mut script, &subscriber(1), "s");
        hears(&mut script, &worker(1), about("s"));
        if stops {
            script.note(&Who::server(), What::Stopped).note(&Who::server(), What::Restarted);
            assert_eq!(judged(script), Ok(1));
        } else {
            broken(script, "of somebody who has not left");
        }
    }
}

#[test]
fn a_server_that_takes_joins_does_not_stop() {
    let mut script = world(true);
    script.connects(&subscriber(1));
    joins(&mut script, &subscriber(1), "s");
    hears(&mut script, &worker(1), about("s"));
    script.connects(&subscriber(2));
    joins(&mut script, &subscriber(2), "t");
    script.note(&Who::server(), What::Stopped);
    broken(script, "of somebody who has not left");
}

#[test]
fn a_stop_that_takes_less_than_it_may_has_told_all_leaves() {
    for (takes, owed) in [(0, true), (300, false)] {
        let mut script = world(true);
        script.connects(&subscriber(1));
        joins(&mut script, &subscriber(1), "s");
        script.waits(takes).note(&Who::server(), What::Stopped).note(&Who::server(), What::Restarted);
        match owed {
            true => broken(script, "was never told"),
            false => assert_eq!(judged(script), Ok(0)),
        }
    }
}

#[test]
fn across_a_crash_a_leave_is_told_at_most_once() {
    for (before, after, fits) in [(0, 0, true), (0, 1, true), (1, 0, true), (1, 1, false), (0, 2, false)] {
        let mut script = world(true);
        script.connects(&subscriber(1));
        joins(&mut script, &subscriber(1), "s");
        if before > 0 {
            script.says(&subscriber(1), frame("leave", "s"));
        }
        (0..before).for_each(|_| hears(&mut script, &worker(1), about("s")));
        script.crashes();
        registers(&mut script, &worker(2), "bye", "stream:leave");
        (0..after).for_each(|_| hears(&mut script, &worker(2), about("s")));
        match fits {
            true => assert_eq!(judged(script), Ok(before + after)),
            false => broken(script, "that no join has"),
        }
    }
}

#[test]
fn a_handler_is_owed_only_the_leaves_of_joins_that_came_after_it() {
    let mut script = Script::new(true, |rules| Box::new(Leaves::new(rules)));
    script.connects(&subscriber(1));
    joins(&mut script, &subscriber(1), "s");
    registers(&mut script, &worker(1), "bye", "stream:leave");
    script.loses(&subscriber(1));
    assert_eq!(judged(script), Ok(0));
}

#[test]
fn a_name_that_comes_again_on_another_connection_has_a_leave_of_its_own() {
    for times in 1..4 {
        let mut script = world(true);
        for connection in 1..3 {
            script.connects(&subscriber(connection));
            joins(&mut script, &subscriber(connection), "s");
            script.loses(&subscriber(connection));
        }
        (0..times).for_each(|_| hears(&mut script, &worker(1), about("s")));
        match times {
            1 => broken(script, "was never told"),
            2 => assert_eq!(judged(script), Ok(2)),
            _ => broken(script, "that no join has"),
        }
    }
}

#[test]
fn who_joins_the_same_again_has_not_joined_twice() {
    let mut script = world(true);
    script.connects(&subscriber(1));
    joins(&mut script, &subscriber(1), "s");
    joins(&mut script, &subscriber(1), "s");
    script.loses(&subscriber(1));
    hears(&mut script, &worker(1), about("s"));
    hears(&mut script, &worker(1), about("s"));
    broken(script, "that no join has");
}

#[test]
fn what_a_path_joins_has_the_name_that_handlers_are_told() {
    for is_same in [true, false] {
        let mut script = gated();
        script.note(&subscriber(1), What::Connected("/stream/world/g0?token=1".to_owned()));
        script.note(&subscriber(1), What::Opened);
        script.hears(&worker(1), call("may", "may", about("made up")));
        script.says(&worker(1), answer("may", "may", Value::Null)).hears(&subscriber(1), told("sync"));
        script.loses(&subscriber(1));
        hears(&mut script, &worker(1), about(if is_same { "made up" } else { "another" }));
        match is_same {
            true => assert_eq!(judged(script), Ok(1)),
            false => broken(script, "that no join has"),
        }
    }
}

#[test]
fn a_gate_is_asked_once_about_a_join_unless_its_worker_vanishes() {
    for vanishes in [true, false] {
        let mut script = gated();
        script.connects(&subscriber(1)).says(&subscriber(1), frame("join", "s"));
        script.hears(&worker(1), call("first", "may", about("s")));
        let asked = if vanishes { worker(2) } else { worker(1) };
        if vanishes {
            script.loses(&worker(1));
            registers(&mut script, &asked, "bye", "stream:leave");
            binds(&mut script, &asked, "may", "stream:join");
        }
        script.hears(&asked, call("second", "may", about("s")));
        script.says(&asked, answer("second", "may", Value::Null)).hears(&subscriber(1), told("sync"));
        script.loses(&subscriber(1));
        hears(&mut script, &asked, about("s"));
        match vanishes {
            true => assert_eq!(judged(script), Ok(1)),
            false => broken(script, "is asked about a join that has not to be decided"),
        }
    }
}

#[test]
fn at_the_clients_edge_nobody_knows_when_the_server_misses_a_client() {
    let mut script = world(false);
    script.connects(&subscriber(1));
    joins(&mut script, &subscriber(1), "s");
    hears(&mut script, &worker(1), about("s"));
    script.loses(&subscriber(1));
    assert_eq!(judged(script), Ok(1));
}

#[test]
fn a_leave_that_was_taken_for_another_one_of_its_name_counts_for_its_own_join() {
    for (before, after) in [(1, 1), (0, 2), (1, 0), (0, 1)] {
        let mut script = Script::new(true, |rules| Box::new(Leaves::new(rules)));
        // Nobody has to be told of the first.
        for connection in 1..4 {
            script.connects(&subscriber(connection));
            joins(&mut script, &subscriber(connection), "s");
            if connection == 1 {
                registers(&mut script, &worker(1), "bye", "stream:leave");
            }
            if connection == 2 {
                script.loses(&worker(1));
            }
            script.loses(&subscriber(connection));
            if connection == 2 {
                // What waited for the function comes before the trigger is taken up: it may be any one's.
                script.connects(&worker(2));
                script.says(&worker(2), json!({"type": "registerfunction", "id": "bye"}));
                (0..before).for_each(|_| hears(&mut script, &worker(2), about("s")));
                binds(&mut script, &worker(2), "bye", "stream:leave");
            }
        }
        (0..after).for_each(|_| hears(&mut script, &worker(2), about("s")));
        match before + after {
            2 => assert_eq!(judged(script), Ok(2)),
            _ => broken(script, "was never told"),
        }
    }
}

#[test]
fn a_leave_stands_for_one_join_of_its_name() {
    for times in 1..3 {
        let mut script = world(true);
        for connection in 1..3 {
            script.connects(&subscriber(connection));
            joins(&mut script, &subscriber(connection), "s");
        }
        script.loses(&worker(1)).loses(&subscriber(1)).loses(&subscriber(2));
        script.connects(&worker(2)).says(&worker(2), json!({"type": "registerfunction", "id": "bye"}));
        (0..times).for_each(|_| hears(&mut script, &worker(2), about("s")));
        binds(&mut script, &worker(2), "bye", "stream:leave");
        match times {
            1 => broken(script, "was never told"),
            _ => assert_eq!(judged(script), Ok(2)),
        }
    }
}

//! Preconditions: a change that is made only if the item is what its caller takes it for.

mod driver;

use driver::World;
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use serde_json::Value;

/// The item `s > g > a` with more fields.
fn at(more: &str) -> String {
    format!(r#"{{"stream_name":"s","group_id":"g","item_id":"a"{more}}}"#)
}

/// Calls a function about the item, and gives the `result` or `error` of the answer as it is on the wire.
fn told(world: &mut World, worker: WorkerKey, function: &str, more: &str) -> String {
    world.call(worker, "q", function, &at(more));
    world.settle();
    let frame = world.heard(worker).pop().expect("an answer");
    let answer = frame.strip_prefix(r#"{"type":"invocationresult","invocation_id":"q","function_id":""#);
    let (_, answer) = answer.expect("an answer to this call").split_once('"').expect("a function");
    match answer {
        "}" => "no result".to_owned(),
        answer => answer.trim_start_matches(',').strip_suffix('}').expect("a frame ends").to_owned(),
    }
}

#[test]
fn only_a_call_that_asks_for_it_is_told_the_revision() {
    let mut world = World::durable();
    let worker = world.worker();
    let mut all = String::new();
    for (function, more) in [
        ("stream::get", ""),
        ("stream::get", r#","revision":true"#),
        ("stream::set", r#","data":1.0"#),
        ("stream::set", r#","data":{"n":1},"revision":true"#),
        ("stream::set", r#","data":{"n":2},"revision":false"#),
        ("stream::set", r#","data":{"n":3},"revision":null,"expect":null"#),
        ("stream::set", r#","data":{"n":4},"expect":{"revision":4}"#),
        ("streams.set", r#","data":{"n":5},"expect":{"value":{"n":4}},"revision":false"#),
        ("stream::update", r#","ops":[{"type":"increment","path":"n","by":1}]"#),
        (
            "stream::update",
            r#","ops":[{"type":"remove","path":""},{"type":"append","path":"n","value":1}],"revision":true"#,
        ),
        ("stream::update", r#","ops":[],"expect":{"value":null}"#),
        ("stream::get", r#","revision":false"#),
        ("streams.get", r#","revision":true"#),
        ("stream::list", ""),
        ("streams.getGroup", r#","revision":true"#),
        ("stream::delete", r#","expect":{"revision":9}"#),
        ("stream::delete", r#","revision":true"#),
        ("stream::delete", ""),
        ("stream::get", r#","revision":true"#),
        ("stream::list", r#","revision":true"#),
        ("stream::send", r#","type":"t","revision":"any""#),
        ("stream::list_groups", r#","revision":7"#),
    ] {
        all += &format!("{function}{more}\n    {}\n", told(&mut world, worker, function, more));
    }
    insta::assert_snapshot!(all, @r#"
    stream::get
        no result
    stream::get,"revision":true
        "result":{"value":null,"revision":0}
    stream::set,"data":1.0
        "result":{"old_value":null,"new_value":1.0}
    stream::set,"data":{"n":1},"revision":true
        "result":{"old_value":1.0,"new_value":{"n":1},"revision":2}
    stream::set,"data":{"n":2},"revision":false
        "result":{"old_value":{"n":1},"new_value":{"n":2}}
    stream::set,"data":{"n":3},"revision":null,"expect":null
        "result":{"old_value":{"n":2},"new_value":{"n":3}}
    stream::set,"data":{"n":4},"expect":{"revision":4}
        "result":{"old_value":{"n":3},"new_value":{"n":4},"revision":5}
    streams.set,"data":{"n":5},"expect":{"value":{"n":4}},"revision":false
        "result":{"old_value":{"n":4},"new_value":{"n":5},"revision":6}
    stream::update,"ops":[{"type":"increment","path":"n","by":1}]
        "result":{"old_value":{"n":5},"new_value":{"n":6}}
    stream::update,"ops":[{"type":"remove","path":""},{"type":"append","path":"n","value":1}],"revision":true
        "result":{"old_value":{"n":6},"new_value":null,"errors":[{"op_index":1,"code":"append.target_not_object","message":"ops[1]: `append`: the path \"n\" needs an object at the root, found null"}],"revision":8}
    stream::update,"ops":[],"expect":{"value":null}
        "result":{"old_value":null,"new_value":null,"revision":9}
    stream::get,"revision":false
        "result":null
    streams.get,"revision":true
        "result":{"value":null,"revision":9}
    stream::list
        "result":[null]
    streams.getGroup,"revision":true
        "result":[{"id":"a","value":null,"revision":9}]
    stream::delete,"expect":{"revision":9}
        "result":{"old_value":null,"revision":10}
    stream::delete,"revision":true
        "result":{"old_value":null,"revision":0}
    stream::delete
        "result":{"old_value":null}
    stream::get,"revision":true
        "result":{"value":null,"revision":0}
    stream::list,"revision":true
        "result":[]
    stream::send,"type":"t","revision":"any"
        "result":null
    stream::list_groups,"revision":7
        "result":[]
    "#);
}

#[test]
fn what_does_not_hold_is_a_conflict_with_what_there_is() {
    let mut world = World::durable();
    let worker = world.worker();
    let mut all = String::new();
    for (function, more) in [
        ("stream::set", r#","data":1,"expect":{"revision":1}"#),
        ("stream::set", r#","data":1,"expect":{"value":null}"#),
        ("stream::update", r#","ops":[],"expect":{"revision":18446744073709551615}"#),
        ("stream::delete", r#","expect":{"revision":1}"#),
        ("stream::set", r#","data":{ "n" : 1.0 },"expect":{"revision":0}"#),
        ("stream::set", r#","data":1,"expect":{"revision":0}"#),
        ("stream::set", r#","data":1,"expect":{"value":{"n":1.1}}"#),
        ("stream::update", r#","ops":[{"type":"set","path":"","value":7}],"expect":{"revision":2}"#),
        ("streams.delete", r#","expect":{"value":null}"#),
        ("stream::get", r#","revision":true"#),
    ] {
        all += &format!("{function}{more}\n    {}\n", told(&mut world, worker, function, more));
    }
    insta::assert_snapshot!(all, @r#"
    stream::set,"data":1,"expect":{"revision":1}
        "error":{"code":"STREAM_CONFLICT","message":"the item is absent (revision 0), expected revision 1: read it again and decide","revision":0,"value":null}
    stream::set,"data":1,"expect":{"value":null}
        "error":{"code":"STREAM_CONFLICT","message":"the item is absent (revision 0), expected a value: read it again and decide","revision":0,"value":null}
    stream::update,"ops":[],"expect":{"revision":18446744073709551615}
        "error":{"code":"STREAM_CONFLICT","message":"the item is absent (revision 0), expected revision 18446744073709551615: read it again and decide","revision":0,"value":null}
    stream::delete,"expect":{"revision":1}
        "error":{"code":"STREAM_CONFLICT","message":"the item is absent (revision 0), expected revision 1: read it again and decide","revision":0,"value":null}
    stream::set,"data":{ "n" : 1.0 },"expect":{"revision":0}
        "result":{"old_value":null,"new_value":{ "n" : 1.0 },"revision":1}
    stream::set,"data":1,"expect":{"revision":0}
        "error":{"code":"STREAM_CONFLICT","message":"the item is at revision 1, expected revision 0 (absent): read it again and decide","revision":1,"value":{ "n" : 1.0 }}
    stream::set,"data":1,"expect":{"value":{"n":1.1}}
        "error":{"code":"STREAM_CONFLICT","message":"the item is at revision 1, expected another value: read it again and decide","revision":1,"value":{ "n" : 1.0 }}
    stream::update,"ops":[{"type":"set","path":"","value":7}],"expect":{"revision":2}
        "error":{"code":"STREAM_CONFLICT","message":"the item is at revision 1, expected revision 2: read it again and decide","revision":1,"value":{ "n" : 1.0 }}
    streams.delete,"expect":{"value":null}
        "error":{"code":"STREAM_CONFLICT","message":"the item is at revision 1, expected another value: read it again and decide","revision":1,"value":{ "n" : 1.0 }}
    stream::get,"revision":true
        "result":{"value":{ "n" : 1.0 },"revision":1}
    "#);
}

#[test]
fn an_expect_that_is_not_understood_is_refused_and_never_ignored() {
    let mut world = World::durable();
    let worker = world.worker();
    let mut all = String::new();
    let deep = format!(r#","data":1,"expect":{{"value":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    for (function, more) in [
        ("stream::set", r#","data":1,"expect":{"revision":1.5}"#),
        ("stream::set", r#","data":1,"expect":{"revision":-1}"#),
        ("stream::set", r#","data":1,"expect":{"revision":1e2}"#),
        ("stream::set", r#","data":1,"expect":{"revision":18446744073709551616}"#),
        ("stream::set", r#","data":1,"expect":{"revision":"1"}"#),
        ("stream::set", r#","data":1,"expect":{"revision":null}"#),
        ("stream::set", r#","data":1,"expect":{}"#),
        ("stream::set", r#","data":1,"expect":{"revision":1,"value":1}"#),
        ("stream::update", r#","ops":[],"expect":{"revison":1}"#),
        ("stream::update", r#","ops":[],"expect":{"revision":1,"Revision":1}"#),
        ("stream::update", r#","ops":[],"expect":{"value":1,"value":1}"#),
        ("stream::delete", r#","expect":[1]"#),
        ("stream::delete", r#","expect":0"#),
        ("stream::delete", r#","expect":"a text that is too long to be shown as a whole in a sentence""#),
        ("stream::delete", r#","expect":{"revision":1},"expect":{"revision":2}"#),
        ("stream::set", &deep),
        ("stream::get", r#","expect":{"revision":1}"#),
        ("stream::list", r#","expect":{}"#),
        ("stream::send", r#","type":"t","expect":{"revision":1}"#),
        ("stream::list_all", r#","expect":{"revision":1}"#),
        ("stream::get", r#","expect":null"#),
        ("stream::set", r#","data":1,"revision":"yes""#),
        ("stream::list", r#","revision":1"#),
    ] {
        let answer = told(&mut world, worker, function, more);
        all += &format!("{function}{:.80}\n    {answer}\n", more);
    }
    insta::assert_snapshot!(all, @r#"
    stream::set,"data":1,"expect":{"revision":1.5}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got 1.5"}
    stream::set,"data":1,"expect":{"revision":-1}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got -1"}
    stream::set,"data":1,"expect":{"revision":1e2}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got 1e2"}
    stream::set,"data":1,"expect":{"revision":18446744073709551616}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got 18446744073709551616"}
    stream::set,"data":1,"expect":{"revision":"1"}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got \"1\""}
    stream::set,"data":1,"expect":{"revision":null}
        "error":{"code":"deserialization_error","message":"`expect.revision` must be a revision: an integer from 0, which means absent; got null"}
    stream::set,"data":1,"expect":{}
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got {}"}
    stream::set,"data":1,"expect":{"revision":1,"value":1}
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got {\"revision\":1,\"value\":1}"}
    stream::update,"ops":[],"expect":{"revison":1}
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got {\"revison\":1}"}
    stream::update,"ops":[],"expect":{"revision":1,"Revision":1}
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got {\"revision\":1,\"Revision\":1}"}
    stream::update,"ops":[],"expect":{"value":1,"value":1}
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got {\"value\":1,\"value\":1}"}
    stream::delete,"expect":[1]
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got [1]"}
    stream::delete,"expect":0
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got 0"}
    stream::delete,"expect":"a text that is too long to be shown as a whole in a sentence"
        "error":{"code":"deserialization_error","message":"`expect` must be {\"revision\": n} or {\"value\": …} and nothing else, got \"a text that is too long to be shown as a whole in a sentenc… (62 bytes)"}
    stream::delete,"expect":{"revision":1},"expect":{"revision":2}
        "error":{"code":"deserialization_error","message":"the input can't be read: duplicate field `expect` at line 1 column 80"}
    stream::set,"data":1,"expect":{"value":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
        "error":{"code":"deserialization_error","message":"`expect.value` is nested deeper than 128 levels (`json_depth`)"}
    stream::get,"expect":{"revision":1}
        "error":{"code":"deserialization_error","message":"`expect` is taken by `stream::set`, `stream::update` and `stream::delete` only"}
    stream::list,"expect":{}
        "error":{"code":"deserialization_error","message":"`expect` is taken by `stream::set`, `stream::update` and `stream::delete` only"}
    stream::send,"type":"t","expect":{"revision":1}
        "error":{"code":"deserialization_error","message":"`expect` is taken by `stream::set`, `stream::update` and `stream::delete` only"}
    stream::list_all,"expect":{"revision":1}
        "error":{"code":"deserialization_error","message":"`expect` is taken by `stream::set`, `stream::update` and `stream::delete` only"}
    stream::get,"expect":null
        no result
    stream::set,"data":1,"revision":"yes"
        "error":{"code":"deserialization_error","message":"`revision` must be true or false, got a string"}
    stream::list,"revision":1
        "error":{"code":"deserialization_error","message":"`revision` must be true or false, got a number"}
    "#);
    assert_eq!(world.ask(worker, "stream::get", &at("")), "nothing");
    assert_eq!(world.writes, 0, "nothing was ever written");
}

#[test]
fn an_expected_value_is_bounded_like_a_stored_one() {
    let mut config = CoreConfig::default();
    config.limits.value_bytes = 20;
    let mut world = World::with_config(config);
    let worker = world.worker();
    let expect = format!(r#","expect":{{"value":"{}"}}"#, "x".repeat(19));
    let refusal = world.ask(worker, "stream::delete", &at(&expect));
    assert_eq!(
        refusal,
        "! STREAM_DELETE_ERROR: `expect.value` is 21 bytes of JSON; the limit is 20 (`value_bytes`)"
    );
}

#[test]
fn a_conflict_changes_nothing_writes_nothing_and_tells_no_subscriber() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.set(worker, "set", "g", "a", "1");
    world.settle();
    world.join(session, "sub", "g", "");
    world.seen(session);
    world.heard(worker);
    for (function, more) in [
        ("stream::set", r#","data":2,"expect":{"revision":0}"#),
        ("stream::update", r#","ops":[{"type":"set","path":"","value":2}],"expect":{"revision":2}"#),
        ("stream::delete", r#","expect":{"value":2}"#),
    ] {
        world.call(worker, "q", function, &at(more));
        assert!(world.in_flight.is_none(), "{function} writes");
        assert!(world.replies(worker)[0].starts_with("q! STREAM_CONFLICT: "), "{function}");
    }
    assert!(world.seen(session).is_empty());
    assert_eq!(world.ask(worker, "stream::get", &at(r#","revision":true"#)), r#"{"revision":1,"value":1}"#);
}

#[test]
fn the_revision_of_an_answer_is_that_of_the_frame_to_subscribers() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.set(worker, "other", "g", "b", "1");
    world.settle();
    world.heard(worker);
    for (function, more, revision) in [
        ("stream::set", r#","data":1,"revision":true"#, 2),
        ("stream::update", r#","ops":[],"revision":true"#, 3),
        ("stream::delete", r#","revision":true"#, 4),
    ] {
        world.frames(session);
        let answer: Value =
            serde_json::from_str(&world.ask(worker, function, &at(more))).expect("a result is JSON");
        let frame: Value = serde_json::from_str(&world.frames(session)[0]).expect("a frame is JSON");
        assert_eq!((&answer["revision"], &frame["revision"]), (&revision.into(), &revision.into()));
    }
}

#[test]
fn of_two_that_create_the_same_item_one_does() {
    let mut world = World::durable();
    let workers = [world.worker(), world.worker()];
    for (n, worker) in workers.into_iter().enumerate() {
        world.call(worker, "q", "stream::set", &at(&format!(r#","data":{n},"expect":{{"revision":0}}"#)));
    }
    world.settle();
    assert_eq!(world.replies(workers[0]), [r#"q: {"new_value":0,"old_value":null,"revision":1}"#]);
    assert_eq!(
        world.replies(workers[1]),
        [
            "q! STREAM_CONFLICT: the item is at revision 1, expected revision 0 (absent): read it again and decide"
        ]
    );
    assert_eq!(world.ask(workers[0], "stream::get", &at("")), "0");
}

#[test]
fn callers_that_read_and_set_lose_no_increment() {
    let mut world = World::durable();
    let workers = [world.worker(), world.worker(), world.worker()];
    world.set(workers[0], "set", "g", "a", "0");
    world.settle();
    let (mut done, mut conflicts) = ([0; 3], 0);
    while done.iter().sum::<u64>() < 30 {
        world.heard(workers[0]);
        let read = workers.map(|worker| {
            let item = world.ask(worker, "stream::get", &at(r#","revision":true"#));
            serde_json::from_str::<Value>(&item).expect("an item")
        });
        for (worker, item) in workers.iter().zip(&read) {
            let n = item["value"].as_u64().expect("a number") + 1;
            let expect = format!(r#","data":{n},"expect":{{"revision":{}}}"#, item["revision"]);
            world.call(*worker, "q", "stream::set", &at(&expect));
        }
        world.settle();
        for (worker, done) in workers.iter().zip(&mut done) {
            match world.replies(*worker).remove(0).starts_with("q: ") {
                true => *done += 1,
                false => conflicts += 1,
            }
        }
    }
    assert_eq!(world.ask(workers[0], "stream::get", &at("")), "30");
    assert_eq!(conflicts, 60, "of three that saw the same, one goes through");
}

#[test]
fn a_revision_is_of_the_item_and_not_of_its_group() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.set(worker, "2", "g", "b", "1");
    world.settle();
    world.heard(worker);
    let set = at(r#","data":2,"expect":{"revision":1}"#);
    assert_eq!(world.ask(worker, "stream::set", &set), r#"{"new_value":2,"old_value":1,"revision":3}"#);
    world.delete(worker, "4", "g", "a");
    world.settle();
    world.heard(worker);
    let create = at(r#","data":3,"expect":{"revision":0}"#);
    assert_eq!(world.ask(worker, "stream::set", &create), r#"{"new_value":3,"old_value":null,"revision":5}"#);
    world.crash(0);
    let worker = world.worker();
    assert_eq!(
        world.ask(worker, "stream::list", &at(r#","revision":true"#)),
        r#"[{"id":"b","revision":2,"value":1},{"id":"a","revision":5,"value":3}]"#
    );
}

#[test]
fn a_conflict_waits_for_the_change_that_it_tells_of() {
    let mut world = World::durable();
    let (writer, late) = (world.worker(), world.worker());
    world.set(writer, "w", "g", "a", "1");
    world.call(late, "c", "stream::set", &at(r#","data":2,"expect":{"revision":0}"#));
    world.call(late, "r", "stream::get", &at(r#","revision":true"#));
    assert!(world.heard(late).is_empty());
    world.persist();
    assert_eq!(
        world.replies(late),
        [
            "c! STREAM_CONFLICT: the item is at revision 1, expected revision 0 (absent): read it again and decide",
            r#"r: {"revision":1,"value":1}"#
        ]
    );
}

#[test]
fn after_a_failed_write_no_conflict_tells_of_what_was_never_there() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "0", "g", "a", "0");
    world.settle();
    world.heard(worker);
    world.set(worker, "in flight", "g", "a", "1");
    world.call(worker, "conflict", "stream::set", &at(r#","data":2,"expect":{"revision":1}"#));
    world.call(worker, "holds", "stream::set", &at(r#","data":3,"expect":{"revision":2}"#));
    world.call(worker, "get", "stream::get", &at(r#","revision":true"#));
    world.call(worker, "list", "stream::list", &at(r#","revision":true"#));
    world.delete(worker, "delete", "g", "nothing");
    world.fail();
    insta::assert_snapshot!(world.replies(worker).join("\n"), @r#"
    get: {"revision":1,"value":0}
    list: [{"id":"a","revision":1,"value":0}]
    "#);
    world.call(worker, "later", "stream::set", &at(r#","data":4,"expect":{"revision":9}"#));
    world.call(worker, "behind", "stream::set", &at(r#","data":5,"expect":{"revision":1}"#));
    world.call(worker, "behind it", "stream::set", &at(r#","data":6,"expect":{"revision":1}"#));
    world.persist();
    insta::assert_snapshot!(world.replies(worker).join("\n"), @r#"
    later! STREAM_CONFLICT: the item is at revision 1, expected revision 9: read it again and decide
    in flight! STREAM_SET_ERROR: nothing was written: disk full
    conflict! STREAM_SET_ERROR: nothing was written: disk full
    holds! STREAM_SET_ERROR: nothing was written: disk full
    delete! STREAM_DELETE_ERROR: nothing was written: disk full
    "#);
    world.fail();
    world.fail();
    world.call(worker, "refused", "stream::set", &at(r#","data":7,"expect":{"revision":9}"#));
    insta::assert_snapshot!(world.replies(worker).join("\n"), @r#"
    behind! STREAM_SET_ERROR: outcome_unknown: the store failed to write, so the change may be there after a restart or not; read before you repeat it. disk full
    behind it! STREAM_SET_ERROR: nothing was written: disk full
    refused! STREAM_SET_ERROR: nothing was written, and the store takes no writes for now: disk full
    "#);
}

#[test]
fn the_longest_list_of_a_full_group_is_within_the_limit() {
    let mut config = CoreConfig::default();
    config.limits.group_bytes = 100_000;
    let mut world = World::with_config(config);
    let worker = world.worker();
    let is_stored = |n: &usize| {
        // Each byte of these takes six in JSON.
        let item = format!("\\u0001\\u0002{n}");
        world.set(worker, "set", "g", &item, "1");
        world.settle();
        !world.replies(worker)[0].starts_with("set! STREAM_SET_ERROR: the group's list would be ")
    };
    let stored = (0..10_000).take_while(is_stored).count();
    assert!((1_001..10_000).contains(&stored), "{stored}");
    world.call(worker, &"i".repeat(512), "stream::list", &at(r#","revision":true"#));
    let frame = world.heard(worker).remove(0);
    assert_eq!(frame.matches(r#""revision":"#).count(), stored);
    assert!(frame.len() <= 100_000, "{}", frame.len());
}

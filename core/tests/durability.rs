//! Nothing is seen before it is safe.

mod driver;

use driver::World;
use headwater_core::Input;
use headwater_core::log::WriteNumber;

#[test]
fn a_change_is_told_only_after_it_is_durable() {
    let mut world = World::durable();
    let (writer, reader) = (world.worker(), world.worker());
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.set(writer, "w", "g", "a", "1");
    world.get(reader, "r", "g", "a");
    world.list(reader, "l", "g");
    let late = world.session();
    world.join(late, "sub", "g", "");
    assert!(world.heard(writer).is_empty());
    assert!(world.heard(reader).is_empty());
    insta::assert_debug_snapshot!(world.seen(session), @r#"
    [
        "g sync [] #0 @1",
    ]
    "#);
    insta::assert_debug_snapshot!(world.seen(late), @r#"
    [
        "g sync [] #0 @1",
    ]
    "#);

    world.persist();
    assert_eq!(world.replies(writer), [r#"w: {"new_value":1,"old_value":null}"#]);
    assert_eq!(world.replies(reader), ["r: 1", "l: [1]"]);
    assert_eq!(world.seen(session), ["g/a create 1 #1 @2"]);
    assert_eq!(world.seen(late), ["g/a create 1 #1 @2"]);
}

#[test]
fn every_answer_that_tells_of_a_dirty_group_waits_for_it() {
    let mut world = World::durable();
    world.config.limits.group_bytes = 8_192 + 60;
    let mut world = World::with_config(world.config);
    let worker = world.worker();
    world.set(worker, "set", "g", "a", "1");
    world.delete(worker, "no-op", "g", "missing");
    world.get(worker, "missing", "g", "missing");
    world.set(worker, "too large", "g", "b", r#""xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx""#);
    world.call(worker, "groups", "stream::list_groups", r#"{"stream_name":"s"}"#);
    world.call(worker, "all", "stream::list_all", "{}");
    world.send(worker, "send", "g", "", "hello");
    assert!(world.heard(worker).is_empty());
    world.persist();
    insta::assert_debug_snapshot!(world.replies(worker), @r#"
    [
        "set: {\"new_value\":1,\"old_value\":null}",
        "no-op: {\"old_value\":null}",
        "missing: nothing",
        "too large! STREAM_SET_ERROR: the group's list would be 8341 bytes; the limit is 8252 (`group_bytes`)",
        "groups: [\"g\"]",
        "all: {\"count\":1,\"stream\":[{\"groups\":[\"g\"],\"id\":\"s\"}]}",
    ]
    "#);
    world.settle();
    assert_eq!(world.replies(worker), ["send: null"]);
}

#[test]
fn bad_input_and_clean_groups_wait_for_nobody() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "a", "clean", "x", "1");
    world.settle();
    world.heard(worker);
    world.set(worker, "w", "dirty", "x", "1");
    world.get(worker, "clean", "clean", "x");
    world.call(worker, "bad", "stream::get", "{}");
    assert_eq!(world.replies(worker), ["clean: 1", "bad! deserialization_error: `stream_name` is missing"]);
    world.settle();
    assert_eq!(world.replies(worker), [r#"w: {"new_value":1,"old_value":null}"#]);
}

#[test]
fn what_arrives_during_a_write_goes_into_the_next_together() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.in_flight.as_ref().unwrap().number, WriteNumber(1));
    for id in ["2", "3", "4"] {
        world.set(worker, id, "g", id, "1");
        world.set(worker, id, "h", id, "1");
    }
    world.persist();
    assert_eq!(world.replies(worker).len(), 1);
    assert_eq!(world.in_flight.as_ref().unwrap().number, WriteNumber(2));
    world.persist();
    assert_eq!(world.replies(worker).len(), 6);
    assert!(world.in_flight.is_none(), "all of it was one write");
}

#[test]
fn a_read_waits_for_no_more_than_it_saw() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.get(worker, "first", "g", "a");
    world.set(worker, "2", "other", "a", "1");
    world.get(worker, "still first", "g", "a");
    world.set(worker, "3", "g", "a", "2");
    world.get(worker, "second", "g", "a");
    world.persist();
    assert_eq!(
        world.replies(worker),
        [r#"1: {"new_value":1,"old_value":null}"#, "first: 1", "still first: 1"]
    );
    world.persist();
    assert_eq!(
        world.replies(worker),
        [r#"2: {"new_value":1,"old_value":null}"#, r#"3: {"new_value":2,"old_value":1}"#, "second: 2"]
    );
}

#[test]
fn releases_keep_the_order_of_commands_and_events_come_before_their_answer() {
    let mut world = World::durable();
    let worker = world.worker();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.trace.clear();
    world.set(worker, "1", "g", "a", "1");
    world.delete(worker, "2", "g", "a");
    world.send(worker, "3", "g", "", "hello");
    world.settle();
    let order: Vec<_> = world.trace.iter().map(|effect| effect.split([' ', '(']).next().unwrap()).collect();
    assert_eq!(
        order,
        ["Persist", "Broadcast", "Reply", "Persist", "Broadcast", "Reply", "Broadcast", "Reply"]
    );
    assert_eq!(
        world.seen(session),
        ["g sync [] #0 @1", "g/a create 1 #1 @2", "g/a delete 1 #2 @4", r#"g hello {"k":1} #2 @6"#]
    );
}

#[test]
fn a_sent_event_follows_the_changes_before_it() {
    let mut world = World::durable();
    let worker = world.worker();
    let session = world.session();
    world.set(worker, "1", "g", "a", "1");
    world.settle();
    world.join(session, "sub", "g", "");
    world.seen(session);
    world.pass(1_000);
    world.set(worker, "2", "g", "a", "2");
    world.pass(1_000);
    world.send(worker, "3", "g", "", "hello");
    assert!(world.seen(session).is_empty());
    world.persist();
    assert_eq!(world.seen(session), ["g/a update 2 #2 @1000", r#"g hello {"k":1} #2 @2000"#]);
    assert!(
        world.in_flight.is_none(),
        "a sent event writes nothing while the clock is not ahead of the wall"
    );
}

#[test]
fn after_a_failed_write_nothing_of_it_was_ever_there() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.set(worker, "0", "g", "a", "0");
    world.settle();
    world.join(session, "sub", "g", "");
    world.seen(session);
    world.heard(worker);

    world.set(worker, "in flight", "g", "a", "1");
    world.get(worker, "read", "g", "a");
    world.set(worker, "gathered", "g", "b", "2");
    world.list(worker, "list", "g");
    world.set(worker, "new group", "h", "b", "2");
    world.call(worker, "groups", "stream::list_groups", r#"{"stream_name":"s"}"#);
    world.send(worker, "send", "h", "", "hello");
    world.fail();
    assert_eq!(world.replies(worker), ["read: 0", "list: [0]", r#"groups: ["g"]"#]);
    assert!(world.seen(session).is_empty());
    world.persist();
    insta::assert_debug_snapshot!(world.replies(worker), @r#"
    [
        "in flight! STREAM_SET_ERROR: nothing was written: disk full",
        "gathered! STREAM_SET_ERROR: nothing was written: disk full",
        "new group! STREAM_SET_ERROR: nothing was written: disk full",
        "send! STREAM_SEND_ERROR: nothing was written: disk full",
    ]
    "#);
    assert!(world.seen(session).is_empty());
    assert!(world.in_flight.is_none());

    let late = world.session();
    world.join(late, "sub", "g", "");
    assert_eq!(world.seen(late), ["g sync [0] #1 @3"]);
}

#[test]
fn an_answer_of_the_disk_that_nobody_waits_for_changes_nothing() {
    let mut world = World::durable();
    let worker = world.worker();
    world.input(Input::Persisted { through: WriteNumber(9) });
    world.set(worker, "1", "g", "a", "1");
    world.input(Input::Persisted { through: WriteNumber(0) });
    assert!(world.heard(worker).is_empty());
    world.persist();
    world.input(Input::Persisted { through: WriteNumber(1) });
    assert_eq!(world.heard(worker).len(), 1);
}

#[test]
fn in_memory_everything_is_told_at_once() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.set(worker, "1", "g", "a", "1");
    world.send(worker, "2", "g", "", "hello");
    world.send(worker, "3", "h", "", "hello");
    world.delete(worker, "4", "g", "a");
    assert_eq!(
        world.replies(worker),
        [r#"1: {"new_value":1,"old_value":null}"#, "2: null", "3: null", r#"4: {"old_value":1}"#]
    );
    assert_eq!(
        world.seen(session),
        ["g sync [] #0 @1", "g/a create 1 #1 @2", r#"g hello {"k":1} #1 @4"#, "g/a delete 1 #2 @6"]
    );
    assert!(world.in_flight.is_none());
    assert_eq!(world.core.backlog_bytes(), 0);
}

#[test]
fn the_backlog_counts_what_waits_and_ends_at_nothing() {
    let mut world = World::durable();
    let worker = world.worker();
    assert_eq!(world.core.backlog_bytes(), 0);
    world.set(worker, "1", "g", "a", &format!("{:?}", "x".repeat(10_000)));
    let in_flight = world.core.backlog_bytes();
    world.set(worker, "2", "g", "b", &format!("{:?}", "x".repeat(10_000)));
    assert!(world.core.backlog_bytes() >= in_flight + 10_000);
    assert_eq!(world.core.log_backlog_bytes(), world.core.backlog_bytes());
    world.settle();
    assert_eq!(world.core.backlog_bytes(), 0);
    world.set(worker, "3", "g", "c", "1");
    world.set(worker, "4", "g", "d", "1");
    world.fail();
    assert_eq!(world.core.backlog_bytes(), 0);
}

/// Reports of what was skipped are memory too: a slow disk must not let them pile up uncounted.
#[test]
fn skipped_operations_count_among_what_waits_for_the_disk() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "first", "g", "a", "1");
    let ops = vec![r#"{"type":"set","path":"__proto__"}"#; 1_000].join(",");
    let before = world.core.backlog_bytes();
    world.call(
        worker,
        "skipped",
        "stream::update",
        &format!(r#"{{"stream_name":"s","group_id":"g","item_id":"a","ops":[{ops}]}}"#),
    );
    let waits = world.core.backlog_bytes() - before;
    world.settle();
    let answer = world.heard(worker).pop().expect("an answer").len();
    assert!(waits > answer / 2, "{waits} bytes are counted for an answer of {answer}");
}

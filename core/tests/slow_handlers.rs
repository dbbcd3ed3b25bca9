//! Handlers of events that are slower than their events come, or whose worker is gone for a while.

mod driver;

use driver::World;
use headwater_core::Input;
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use headwater_core::rng::Uuid;

const ALL: &str = r#"{"stream_name":"s"}"#;

fn bounded(events: usize, bytes: usize) -> World {
    let mut config = CoreConfig::default();
    (config.limits.trigger_events, config.limits.trigger_bytes) = (events, bytes);
    let mut world = World::with_config(config);
    world.trace.clear();
    world
}

/// A writer, and a worker with a handler `f` of everything in stream `s`.
fn writer_and_handler(world: &mut World) -> (WorkerKey, WorkerKey) {
    let (writer, handler) = (world.worker(), world.worker());
    world.handles(handler, "stream", "f", ALL);
    (writer, handler)
}

fn set(world: &mut World, writer: WorkerKey, group: &str, values: std::ops::RangeInclusive<u64>) {
    for n in values {
        world.set(writer, "w", group, "a", &n.to_string());
        world.settle();
    }
}

#[test]
fn when_too_many_events_wait_the_oldest_go_and_the_next_one_tells_how_many() {
    let mut world = bounded(3, 1 << 20);
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "g", 1..=3);
    assert!(world.notes.is_empty(), "three fit");
    set(&mut world, writer, "g", 4..=6);
    assert_eq!(world.noted(), ["f is too slow"], "once a burst");
    insta::assert_snapshot!(world.returns_to_all(handler, "null").join("\n"), @r#"
    f g/a create 1 #1 @2
    f g/a update 5 #5 @10 skipped 3
    f g/a update 6 #6 @12
    "#);
    assert_eq!(world.noted(), ["f lost 3"]);
    set(&mut world, writer, "g", 7..=9);
    assert!(world.notes.is_empty());
    assert_eq!(world.calls(handler).len(), 1, "it has caught up");
    set(&mut world, writer, "g", 10..=10);
    assert_eq!(world.noted(), ["f is too slow"], "another burst");
}

#[test]
fn when_too_many_bytes_wait_the_oldest_go() {
    let mut world = bounded(100, 3 * (256 + 1_002));
    let (writer, handler) = writer_and_handler(&mut world);
    let value = |n: u64| format!("\"{n:01000}\"");
    for n in 1..=5 {
        world.set(writer, "w", "g", "a", &value(n));
        world.settle();
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let call = world.one_call(handler);
        let value = call.data["event"]["data"].as_str().unwrap().trim_start_matches('0').to_owned();
        told.push((value, call.skipped()));
        world.returns(handler, &call, "null");
    }
    assert_eq!(told, [("1".to_owned(), None), ("4".to_owned(), Some(2)), ("5".to_owned(), None)]);
    assert!(world.heard(handler).is_empty());
}

#[test]
fn an_event_that_alone_is_larger_than_all_that_may_wait_is_handled_when_nothing_waits() {
    let mut world = bounded(100, 300);
    let (writer, handler) = writer_and_handler(&mut world);
    let large = format!("\"{}\"", "x".repeat(1_000));
    for _ in 0..2 {
        world.set(writer, "w", "g", "a", &large);
        world.settle();
        let call = world.one_call(handler);
        assert_eq!(call.skipped(), None);
        world.returns(handler, &call, "null");
    }
    assert!(world.notes.is_empty());
}

#[test]
fn what_waits_in_one_group_is_dropped_for_another_oldest_first() {
    let mut world = bounded(4, 1 << 20);
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "g", 1..=1);
    set(&mut world, writer, "h", 1..=3);
    set(&mut world, writer, "g", 2..=3);
    insta::assert_snapshot!(world.returns_to_all(handler, "null").join("\n"), @r#"
    f g/a create 1 #1 @2
    f h/a create 1 #1 @2
    f g/a update 2 #2 @4 skipped 2
    f g/a update 3 #3 @6
    "#);
    assert_eq!(world.noted(), ["f is too slow", "f lost 2"]);
}

#[test]
fn one_triggers_queue_is_no_others() {
    let mut world = bounded(2, 1 << 20);
    let (writer, slow) = writer_and_handler(&mut world);
    let fast = world.worker();
    world.handles(fast, "stream", "fast", ALL);
    for n in 1..=5 {
        set(&mut world, writer, "g", n..=n);
        let call = world.one_call(fast);
        assert_eq!(call.data["event"]["data"], n);
        world.returns(fast, &call, "null");
    }
    assert_eq!(world.noted(), ["f is too slow"]);
    assert_eq!(world.returns_to_all(slow, "null").len(), 2);
}

#[test]
fn a_worker_that_comes_back_gets_the_events_that_came_meanwhile_in_order() {
    for id in ["f", "another id"] {
        let mut world = World::in_memory();
        let (writer, handler) = writer_and_handler(&mut world);
        set(&mut world, writer, "g", 1..=2);
        world.heard(handler);
        world.hangs_up(handler);
        assert_eq!(world.noted(), ["f failed at g #1: invocation_stopped"], "that one is not told again");
        set(&mut world, writer, "g", 3..=3);
        world.pass(29_999);
        world.tick();
        set(&mut world, writer, "g", 4..=4);
        set(&mut world, writer, "h", 4..=4);
        let back = world.worker();
        world.registers(back, "f");
        world.binds(back, id, "stream", "f", ALL);
        set(&mut world, writer, "g", 5..=5);
        assert_eq!(
            world.returns_to_all(back, "null"),
            [
                "f g/a update 2 #2 @4",
                "f h/a create 4 #1 @29999",
                "f g/a update 3 #3 @6",
                "f g/a update 4 #4 @29999",
                "f g/a update 5 #5 @30001",
            ]
        );
        world.pass(30_000);
        world.tick();
        set(&mut world, writer, "g", 6..=6);
        assert_eq!(world.asked(back).len(), 1, "it stays");
        assert!(world.notes.is_empty(), "{:?}", world.notes);
    }
}

#[test]
fn a_function_that_comes_back_before_its_trigger_gets_what_waits_for_it() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    world.hangs_up(handler);
    set(&mut world, writer, "g", 1..=2);
    let back = world.worker();
    world.registers(back, "f");
    assert_eq!(world.asked(back), ["f g/a create 1 #1 @2"]);
    world.binds(back, "new", "stream", "f", ALL);
    set(&mut world, writer, "g", 3..=3);
    assert!(world.heard(back).is_empty(), "the first is being handled");
}

#[test]
fn after_the_grace_the_events_of_a_worker_that_vanished_are_gone_and_that_is_noted() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    world.hangs_up(handler);
    set(&mut world, writer, "g", 1..=2);
    set(&mut world, writer, "h", 1..=1);
    world.pass(30_000);
    world.tick();
    assert_eq!(world.noted(), ["f lost 3"]);
    assert_eq!(world.core.next_deadline(), None);
    let (_, back) = writer_and_handler(&mut world);
    assert!(world.heard(back).is_empty());
    set(&mut world, writer, "g", 3..=3);
    assert_eq!(world.asked(back), ["f g/a update 3 #3 @30000"]);
}

#[test]
fn a_trigger_with_other_filters_takes_up_nothing_of_one_that_vanished() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    world.hangs_up(handler);
    set(&mut world, writer, "g", 1..=1);
    let back = world.worker();
    world.registers(back, "other");
    world.binds(back, "f", "stream", "other", ALL);
    assert!(world.heard(back).is_empty());
    set(&mut world, writer, "g", 2..=2);
    assert_eq!(world.asked(back), ["other g/a update 2 #2 @4"]);
}

#[test]
fn a_worker_that_reattaches_takes_up_its_triggers_and_its_late_frames_bind_nothing() {
    let mut world = World::in_memory();
    let writer = world.worker();
    let old = world.connect();
    let greeting: serde_json::Value = serde_json::from_str(&world.heard(old)[0]).unwrap();
    world.handles(old, "stream", "f", ALL);
    let back = world.worker();
    world.says(
        back,
        &format!(
            r#"{{"type":"reattach","previous_worker_id":{},"reattach_token":{}}}"#,
            greeting["worker_id"], greeting["reattach_token"]
        ),
    );
    assert_eq!(world.closed, [old]);
    // What the old connection had sent before it was closed.
    world.binds(old, "late", "stream", "f", ALL);
    world.binds(old, "later", "stream", "f", r#"{"stream_name":"s","group_id":"g"}"#);
    world.handles(back, "stream", "f", ALL);
    set(&mut world, writer, "g", 1..=1);
    assert_eq!(world.asked(back), ["f g/a create 1 #1 @2"], "once");
    world.hangs_up(old);
    set(&mut world, writer, "h", 1..=1);
    assert_eq!(world.asked(back), ["f h/a create 1 #1 @2"], "once");
}

#[test]
fn how_many_were_dropped_is_told_to_the_handler_also_when_a_condition_skips_the_next_event() {
    let mut world = bounded(3, 1 << 20);
    let (writer, handler) = (world.worker(), world.worker());
    world.registers(handler, "if");
    world.handles(handler, "stream", "f", r#"{"stream_name":"s","condition_function_id":"if"}"#);
    set(&mut world, writer, "g", 1..=5);
    let mut told = Vec::new();
    for answer in ["false", "false", "true", "null"] {
        let call = world.one_call(handler);
        told.push(call.to_string());
        world.returns(handler, &call, answer);
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    if g/a create 1 #1 @2
    if g/a update 4 #4 @8 skipped 2
    if g/a update 5 #5 @10 skipped 2
    f g/a update 5 #5 @10 skipped 2
    "#);
}

#[test]
fn what_waits_for_a_handler_holds_no_state_of_its_group() {
    let mut world = World::in_memory();
    let (writer, handler) = (world.worker(), world.worker());
    world.handles(handler, "stream", "f", r#"{"stream_name":"s","item_id":"a"}"#);
    world.set(writer, "1", "g", "large", r#""not the handler's""#);
    world.trace.clear();
    world.set(writer, "2", "g", "a", "null");
    let invoke = world.trace.iter().find(|effect| effect.contains("Invoke")).expect("a call");
    assert!(!invoke.contains("not the handler's"), "it would not be counted: {invoke}");
}

#[test]
fn a_trigger_that_ends_while_nothing_waits_has_lost_nothing() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "g", 1..=1);
    world.unbinds(handler, "f");
    assert!(world.notes.is_empty(), "{:?}", world.notes);
}

#[test]
fn a_trigger_that_ends_tells_all_that_it_lost() {
    let mut world = bounded(3, 1 << 20);
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "g", 1..=5);
    assert_eq!(world.noted(), ["f is too slow"]);
    world.unbinds(handler, "f");
    assert_eq!(world.noted(), ["f lost 4"], "two before and two with it; the first is being handled");
    let call = world.one_call(handler);
    world.returns(handler, &call, "null");
    assert!(world.heard(handler).is_empty());
    assert!(world.notes.is_empty());
}

#[test]
fn an_event_waits_for_a_busy_worker_as_long_as_it_takes_and_then_has_all_its_time() {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = 1;
    let mut world = World::with_config(config);
    let (writer, handler) = writer_and_handler(&mut world);
    for group in ["1", "2", "3"] {
        set(&mut world, writer, group, 1..=1);
    }
    for _ in 0..3 {
        let call = world.one_call(handler);
        world.pass(29_999);
        world.tick();
        assert!(world.heard(handler).is_empty(), "one at a time");
        world.returns(handler, &call, "null");
    }
    assert!(world.notes.is_empty(), "{:?}", world.notes);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn an_event_counts_as_dropped_when_it_is_dropped_and_not_when_its_trigger_ends() {
    let mut world = bounded(3, 1 << 20);
    let (writer, handler) = writer_and_handler(&mut world);
    world.handles(handler, "stream", "other", r#"{"stream_name":"s","group_id":"h"}"#);
    set(&mut world, writer, "g", 1..=3);
    assert_eq!(world.core.handler_dropped_events(), 0);
    set(&mut world, writer, "g", 4..=5);
    assert_eq!(world.core.handler_dropped_events(), 2, "and its burst goes on");
    set(&mut world, writer, "h", 1..=5);
    assert_eq!(world.core.handler_dropped_events(), 2 + 5 + 2, "of both handlers");
    world.unbinds(handler, "f");
    world.returns_to_all(handler, "null");
    assert_eq!(world.noted(), ["f is too slow", "other is too slow", "f lost 8", "other lost 2"]);
    assert_eq!(world.core.handler_dropped_events(), 9);
}

/// Called for it later, the handler would get it behind the events of the trigger that took its place.
#[test]
fn an_event_that_waits_for_a_busy_worker_is_gone_with_its_trigger() {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = 1;
    let mut world = World::with_config(config);
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "1", 1..=1);
    let call = world.one_call(handler);
    set(&mut world, writer, "2", 1..=1);
    world.unbinds(handler, "f");
    assert_eq!(world.noted(), ["f lost 1"]);
    world.binds(handler, "f", "stream", "f", ALL);
    set(&mut world, writer, "2", 2..=2);
    world.returns(handler, &call, "null");
    assert_eq!(world.asked(handler), ["f 2/a update 2 #2 @4"]);
}

/// It is not known to wait while it is on its way to the worker, which may turn out to have no room for it.
#[test]
fn an_event_that_its_worker_had_no_room_for_is_gone_with_its_trigger() {
    let mut world = World::in_memory();
    let (writer, handler) = writer_and_handler(&mut world);
    set(&mut world, writer, "g", 1..=1);
    let call = world.one_call(handler);
    world.unbinds(handler, "f");
    world.binds(handler, "f", "stream", "f", ALL);
    let invocation_id = call.id.as_deref().and_then(Uuid::parse).expect("the server's ids are UUIDs");
    world.input(Input::CallNotDelivered { worker: handler, invocation_id });
    set(&mut world, writer, "g", 2..=2);
    world.pass(1_000);
    world.tick();
    assert_eq!(world.asked(handler), ["f g/a update 2 #2 @4"]);
    assert_eq!(world.core.next_deadline(), Some(world.now.mono.after(30_000)), "that call's alone");
}

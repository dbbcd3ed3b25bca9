//! Time, the disk, crashes and the end, for a stream that a worker keeps.

use super::*;

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
            "g/a create 1 #0 @12",
            "g/b create 2 #0 @14",
            "g/b update 3 #0 @16",
            "g sync [1,3] #0 @18",
            "g/a update 4 #0 @22"
        ]
    );
    assert_eq!(world.seen(late), ["g sync [1,3] #0 @20", "g/a update 4 #0 @22"]);
}

#[test]
fn a_list_that_waits_for_the_disk_is_sent_to_nobody_who_has_left_and_once_however_often_the_disk_fails() {
    for failures in 0..4 {
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
        world.fail_times(failures);
        assert!(world.frames(stays).is_empty());
        world.settle();
        assert!(world.frames(left).is_empty());
        let seen = world.seen(stays);
        assert!(matches!(&seen[..], [list] if list.starts_with("g sync [1,2] ")), "{seen:?}");
        assert_eq!((world.channels(left), world.channels(stays)), (0, 1));
    }
}

#[test]
fn what_has_happened_at_a_worker_is_seen_in_its_order_however_often_the_disk_fails() {
    for failures in 1..4 {
        let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
        let session = subscriber(&mut world, keeper, "g", "", "[]");
        let ended = |world: &mut World| world.replies(caller);
        for (id, item) in [("1", "a"), ("2", "b")] {
            world.set(caller, id, "g", item, id);
            answers(&mut world, keeper, "set", r#"{"old_value":null}"#);
        }
        world.send(caller, "3", "g", "", "sent");
        world.delete(caller, "4", "g", "a");
        answers(&mut world, keeper, "delete", r#"{"old_value":1}"#);
        assert!(world.frames(session).is_empty(), "its stamps are not reserved yet");
        let mut told = ended(&mut world);
        world.fail_times(failures);
        world.settle();
        told.extend(ended(&mut world));
        let seen: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame)).collect();
        assert!(seen.is_sorted_by(|one, next| one.stamp < next.stamp), "{seen:?}");
        let short = |seen: &Seen| format!("{} {}", seen.item.as_deref().unwrap_or_default(), seen.kind);
        assert_eq!(seen.iter().map(short).collect::<Vec<_>>(), ["a create", "b create", "a delete"]);
        // Of what was sent it was told that nothing came of it.
        let sent: Vec<_> = told.iter().filter(|reply| reply.starts_with('3')).collect();
        assert_eq!(sent, ["3! STREAM_SEND_ERROR: nothing was written: disk full"]);
        assert_eq!(told.len(), 4, "{told:?}");
    }
}

#[test]
fn while_nothing_can_be_written_changes_and_sent_events_are_refused_as_for_any_other_stream() {
    let (mut world, caller, keeper) = kept_in(World::durable(), &ALL);
    let other = r#"{"stream_name":"o","group_id":"g","item_id":"a","data":1}"#;
    world.call(caller, "1", "stream::set", other);
    world.fail();
    world.fail();
    world.heard(caller);
    let refused = "nothing was written, and the store takes no writes for now: disk full";
    world.send(caller, "2", "g", "", "sent");
    assert_eq!(world.replies(caller), [format!("2! STREAM_SEND_ERROR: {refused}")]);
    // The worker could make a change, but nobody could be told of it.
    world.set(caller, "3", "g", "a", "3");
    assert_eq!(world.replies(caller), [format!("3! STREAM_SET_ERROR: {refused}")]);
    world.get(caller, "4", "g", "a");
    answers(&mut world, keeper, "get", "1");
    assert_eq!(world.replies(caller), ["4: 1"]);
    world.pass(1_000);
    world.tick();
    world.settle();
    world.set(caller, "5", "g", "a", "5");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.replies(caller), [r#"5: {"old_value":1}"#]);
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
        ["g/a update 1 #0 @14", r#"g/a sent {"k":1} #0 @16"#, "g/a update 3 #0 @18"]
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

fn set(world: &mut World, worker: WorkerKey) -> String {
    let data = r#"{"stream_name":"todo","group_id":"g","item_id":"a","data":1}"#;
    world.ask(worker, "stream::set", data)
}

#[test]
fn a_stream_that_a_worker_keeps_is_not_the_servers_after_a_crash_also_if_the_disk_failed_before() {
    for failures in 0..4 {
        let mut world = World::durable();
        let keeper = world.worker();
        world.registers(keeper, "stream::set(todo)");
        world.fail_times(failures);
        world.settle();
        world.crash(0);
        let caller = world.worker();
        assert!(set(&mut world, caller).starts_with("! function_not_found"), "its worker is not there yet");
        assert_eq!(world.ask(caller, "stream::list_all", "{}"), r#"{"count":0,"stream":[]}"#);
    }
}

#[test]
fn a_stream_whose_functions_were_taken_back_is_the_servers_also_after_a_crash() {
    let mut world = World::durable();
    let keeper = world.worker();
    for function in ["stream::set(todo)", "stream::get(todo)"] {
        world.registers(keeper, function);
    }
    world.says(keeper, r#"{"type":"unregisterfunction","id":"stream::set(todo)"}"#);
    assert!(set(&mut world, keeper).starts_with("! function_not_found"), "one of its functions is left");
    world.says(keeper, r#"{"type":"unregisterfunction","id":"stream::get(todo)"}"#);
    let stored = r#"{"new_value":1,"old_value":null}"#;
    assert_eq!(set(&mut world, keeper), stored);
    world.crash(0);
    let caller = world.worker();
    assert_eq!(set(&mut world, caller), r#"{"new_value":1,"old_value":1}"#);
}

/// What subscribers saw: each with a stamp of its own, in order.
#[track_caller]
fn in_order(world: &mut World, session: SessionKey) -> Vec<Seen> {
    world.settle();
    let seen: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame)).collect();
    assert!(seen.is_sorted_by(|one, next| one.stamp < next.stamp), "{seen:?}");
    seen
}

#[test]
fn each_state_that_a_worker_tells_and_each_of_the_server_has_a_stamp_of_its_own() {
    let mut world = World::durable();
    let (keeper, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    for list in ["[1]", "[1,2]"] {
        world.pass(1_000);
        serves(&mut world, keeper, &["list"]);
        world.returns_to_all(keeper, list);
        world.overflow(session);
        world.drained(session);
        world.returns_to_all(keeper, list);
        world.settle();
        world.pass(1_000);
        withdraws(&mut world, keeper, &["list"]);
        world.settle();
    }
    let lists: Vec<_> = in_order(&mut world, session).iter().map(|seen| seen.data.to_string()).collect();
    assert_eq!(lists, ["[]", "[1]", "[1]", "[]", "[1,2]", "[1,2]", "[]"]);
}

#[test]
fn a_state_that_waits_for_a_reservation_is_stamped_below_the_changes_after_it() {
    let mut world = World::durable();
    let caller = world.worker();
    // The group is the server's own at first.
    world.set(caller, "0", "g", "a", "1");
    world.settle();
    world.pass(1_000);
    let (mut world, caller, keeper) = kept_in(world, &ALL);
    for old in ["1", "2"] {
        world.set(caller, old, "g", "a", "3");
        answers(&mut world, keeper, "set", &format!(r#"{{"old_value":{old}}}"#));
    }
    let session = world.session();
    world.join(session, "sub", "g", "a");
    answers(&mut world, keeper, "get", "3");
    world.set(caller, "3", "g", "a", "4");
    answers(&mut world, keeper, "set", r#"{"old_value":3}"#);
    let data: Vec<_> = in_order(&mut world, session).iter().map(|seen| seen.data.to_string()).collect();
    assert_eq!(data.last().map(String::as_str), Some("4"));
}

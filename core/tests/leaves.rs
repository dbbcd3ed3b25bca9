//! The handlers of `stream:leave`: every allowed join has its leave, and it is told once.

mod driver;

use driver::World;
use headwater_core::Input;
use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::rng::Uuid;
use headwater_core::time::Mono;

/// A worker with a handler `bye` of all leaves.
fn watched(world: &mut World) -> WorkerKey {
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    worker
}

/// One with a gate `may` as well.
fn gated(world: &mut World) -> WorkerKey {
    let worker = watched(world);
    world.handles(worker, "stream:join", "may", "{}");
    worker
}

/// A subscription to group `g` that its gate allows.
#[track_caller]
fn allowed(world: &mut World, worker: WorkerKey, session: SessionKey, subscription: &str) {
    world.join(session, subscription, "g", "");
    let call = world.one_call(worker);
    assert_eq!(call.to_string(), format!("may {subscription}"));
    world.returns(worker, &call, "null");
    world.seen(session);
}

#[test]
fn a_leave_is_told_what_its_join_was_told() {
    let mut config = CoreConfig::default();
    config.access.auth_function = headwater_core::name::FunctionId::new("auth", &config.limits).ok();
    let mut world = World::with_config(config);
    let worker = gated(&mut world);
    world.registers(worker, "auth");
    let session = world.session();
    let call = world.one_call(worker);
    world.returns(worker, &call, r#"{"context":{"user": 1.0}}"#);
    let mut told = String::new();
    for (subscription, item) in [("of g", ""), ("of a", "a")] {
        world.join(session, subscription, "g", item);
        let join = world.one_call(worker);
        world.returns(worker, &join, "null");
        world.leave(session, subscription);
        assert!(world.heard(worker).is_empty(), "the log is to forget the join first");
        world.settle();
        let leave = world.one_call(worker);
        let data = |frame: &str| frame[frame.find("\"data\"").unwrap()..].to_owned();
        assert_eq!(data(&leave.frame), data(&join.frame));
        told.push_str(&format!("{} {}\n", leave.function, data(&leave.frame)));
        world.returns(worker, &leave, r#"{"unauthorized":true}"#);
    }
    world.hangs_up(worker);
    world.leaves(session);
    assert!(world.notes.is_empty());
    insta::assert_snapshot!(told, @r#"
    bye "data":{"subscription_id":"of g","stream_name":"s","group_id":"g","id":null,"context":{"user": 1.0}}}
    bye "data":{"subscription_id":"of a","stream_name":"s","group_id":"g","id":"a","context":{"user": 1.0}}}
    "#);
}

#[test]
fn each_allowed_join_has_one_leave_however_it_ends() {
    for durable in [false, true] {
        let mut world = if durable { World::durable() } else { World::in_memory() };
        let worker = gated(&mut world);
        let session = world.session();
        for subscription in ["left", "closed", "closed too", "refused"] {
            world.join(session, subscription, "g", "");
        }
        for call in world.calls(worker) {
            let refused = call.subscription() == "refused";
            world.returns(worker, &call, if refused { r#"{"unauthorized":true}"# } else { "null" });
        }
        world.leave(session, "left");
        world.leave(session, "left");
        world.settle();
        assert_eq!(world.asked(worker), ["bye left"]);
        world.leaves(session);
        world.input(Input::SessionDisconnected { session });
        world.settle();
        assert_eq!(world.asked(worker), ["bye closed", "bye closed too"]);
        world.input(Input::Stop);
        world.settle();
        assert!(world.heard(worker).is_empty());
    }
}

#[test]
fn leaves_after_which_a_client_joins_again_are_told_each() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    for _ in 0..3 {
        allowed(&mut world, worker, session, "sub");
        world.join(session, "sub", "g", "");
        assert_eq!(world.seen(session).len(), 1, "a fresh sync");
        world.leave(session, "sub");
        world.settle();
        assert_eq!(world.returns_to_all(worker, "null"), ["bye sub"]);
    }
}

#[test]
fn a_subscription_that_overflows_and_is_resynchronised_has_not_left() {
    let mut world = World::in_memory();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    for _ in 0..2 {
        world.overflow(session);
        world.drained(session);
    }
    world.overflow(session);
    assert!(world.heard(worker).is_empty());
    world.leaves(session);
    assert_eq!(world.asked(worker), ["bye sub"]);
}

#[test]
fn a_leave_is_told_after_its_gate_has_answered_also_when_the_connection_is_gone() {
    for (answer, expected) in
        [("null", &["bye sub"][..]), (r#"{"unauthorized":true}"#, &[]), ("false", &["bye sub"])]
    {
        for closes in [false, true] {
            let mut world = World::durable();
            let worker = gated(&mut world);
            let session = world.session();
            world.join(session, "sub", "g", "");
            let call = world.one_call(worker);
            if closes {
                world.leaves(session);
            } else {
                world.leave(session, "sub");
            }
            world.settle();
            assert!(world.heard(worker).is_empty(), "the gate may still refuse");
            world.returns(worker, &call, answer);
            world.settle();
            assert_eq!(world.asked(worker), expected, "{answer}");
            assert!(world.seen(session).is_empty(), "nobody waits for it");
        }
    }
}

#[test]
fn a_handler_of_leaves_is_for_the_stream_that_it_names_and_under_its_condition() {
    let mut world = World::in_memory();
    let worker = world.worker();
    world.handles(worker, "streams:leave", "of s", r#"{"stream_name":"s"}"#);
    world.handles(worker, "stream:leave", "of t", r#"{"stream_name":"t"}"#);
    world.registers(worker, "if");
    world.handles(worker, "stream:leave", "maybe", r#"{"condition_function_id":"if"}"#);
    for answer in ["false", "true", "throws"] {
        let session = world.session();
        world.join(session, answer, "g", "");
        world.leaves(session);
        let calls = world.calls(worker);
        assert_eq!(
            calls.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("of s {answer}"), format!("if {answer}")]
        );
        match answer {
            "throws" => calls.iter().for_each(|call| world.throws(worker, call)),
            answer => calls.iter().for_each(|call| world.returns(worker, call, answer)),
        }
        let then = world.asked(worker);
        assert_eq!(then, if answer == "true" { vec!["maybe true"] } else { vec![] });
    }
    assert_eq!(
        world.noted(),
        ["of s failed at the leave of throws: E", "if failed at the leave of throws: E"]
    );
}

#[test]
fn a_leave_waits_for_a_handler_whose_worker_has_vanished() {
    let mut world = World::in_memory();
    let worker = gated(&mut world);
    let [one, two] = [world.session(), world.session()];
    allowed(&mut world, worker, one, "one");
    allowed(&mut world, worker, two, "two");
    world.hangs_up(worker);
    world.leaves(one);
    world.pass(29_999);
    world.tick();
    let back = gated(&mut world);
    assert_eq!(world.asked(back), ["bye one"]);
    world.leaves(two);
    world.hangs_up(back);
    let mut noted = world.noted();
    noted.sort();
    assert_eq!(
        noted,
        ["one", "two"].map(|sub| format!("bye failed at the leave of {sub}: invocation_stopped"))
    );
    let back = gated(&mut world);
    assert!(world.heard(back).is_empty(), "what was begun is not told again");
}

#[test]
fn leaves_wait_for_a_busy_worker_as_long_as_it_takes() {
    let mut config = CoreConfig::default();
    config.limits.calls_in_flight = 1;
    let mut world = World::with_config(config);
    let worker = watched(&mut world);
    let session = world.session();
    for subscription in ["1", "2", "3"] {
        world.join(session, subscription, "g", "");
    }
    world.leaves(session);
    world.settle();
    for subscription in ["1", "2", "3"] {
        let call = world.one_call(worker);
        assert_eq!(call.subscription(), subscription);
        world.pass(29_999);
        world.tick();
        world.returns(worker, &call, "null");
    }
    assert!(world.notes.is_empty());
}

#[test]
fn a_leave_is_told_only_after_the_log_has_forgotten_its_join() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.persist();
    assert!(!world.written.is_empty(), "nobody waits for a join's record");
    world.leave(session, "sub");
    assert!(world.in_flight.as_ref().is_some_and(|batch| batch.sync));
    assert!(world.heard(worker).is_empty());
    world.persist();
    assert_eq!(world.asked(worker), ["bye sub"]);
}

#[test]
fn joins_are_written_down_only_while_somebody_wants_to_know_of_leaves() {
    let mut world = World::durable();
    let session = world.session();
    world.join(session, "before", "g", "");
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", r#"{"stream_name":"other"}"#);
    world.join(session, "of another stream", "g", "");
    assert!(world.in_flight.is_none());
    world.handles(worker, "stream:leave", "bye", r#"{"stream_name":"s"}"#);
    world.join(session, "watched", "g", "");
    assert!(world.in_flight.is_some());
    world.settle();
    world.leave(session, "before");
    assert_eq!(world.asked(worker), ["bye before"], "it is told all the same");
}

#[test]
fn after_a_crash_leaves_are_told_once_when_a_handler_registers() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    for subscription in ["left", "told", "lost", "open"] {
        allowed(&mut world, worker, session, subscription);
        world.settle();
    }
    world.leave(session, "left");
    world.settle();
    assert_eq!(world.returns_to_all(worker, "null"), ["bye left"]);
    world.leave(session, "told");
    let whole = world.unsynced().len();
    world.crash(whole);
    assert!(world.in_flight.is_none());

    let worker = world.worker();
    let session = world.session();
    world.join(session, "new", "g", "");
    world.handles(worker, "stream:leave", "other", r#"{"stream_name":"t"}"#);
    world.settle();
    assert!(world.heard(worker).is_empty());
    world.handles(worker, "stream:leave", "bye", "{}");
    assert!(world.heard(worker).is_empty(), "the log is to forget them first");
    world.settle();
    let calls = world.calls(worker);
    assert_eq!(
        calls.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["bye lost", "bye open"],
        "the record of the other was in the log: it may have been told"
    );
    world.handles(worker, "stream:leave", "bye", r#"{"stream_name":"s"}"#);
    world.binds(worker, "again", "stream:leave", "bye", "{}");
    world.settle();
    assert!(world.heard(worker).is_empty(), "each function once");
    world.handles(worker, "stream:leave", "another", r#"{"stream_name":"s"}"#);
    assert_eq!(world.asked(worker), ["another lost", "another open"], "one that comes later");

    let whole = world.unsynced().len();
    world.crash(whole);
    let worker = watched(&mut world);
    world.settle();
    assert!(world.heard(worker).is_empty(), "nothing is owed any more");
}

#[test]
fn what_a_crash_takes_of_the_log_is_told_later_or_never_but_not_twice() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.settle();
    world.crash(0);
    let worker = watched(&mut world);
    world.settle();
    assert!(world.heard(worker).is_empty(), "the join was not synced: a power loss takes it");

    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.set(worker, "sync", "g", "a", "1");
    world.settle();
    world.heard(worker);
    world.crash(0);
    for _ in 0..3 {
        let worker = watched(&mut world);
        assert!(world.in_flight.as_ref().is_some_and(|batch| batch.sync));
        assert!(world.heard(worker).is_empty());
        world.crash(0);
    }
    let worker = watched(&mut world);
    world.settle();
    assert_eq!(world.asked(worker), ["bye sub"]);
}

#[test]
fn a_handler_that_is_back_within_the_grace_of_a_restart_is_told_and_the_rest_is_forgotten() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.settle();
    let whole = world.unsynced().len();
    world.crash(whole);
    let worker = watched(&mut world);
    world.settle();
    assert_eq!(world.returns_to_all(worker, "null"), ["bye sub"]);
    assert_eq!(world.core.next_deadline(), Some(Mono(30_000)));
    world.pass(30_000);
    world.tick();
    world.handles(worker, "stream:leave", "late", "{}");
    world.settle();
    assert!(world.heard(worker).is_empty());
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_stop_tells_all_leaves_and_their_handlers_may_write() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    for subscription in ["one", "two"] {
        allowed(&mut world, worker, session, subscription);
    }
    world.join(session, "waits", "g", "");
    let gate = world.one_call(worker);
    world.input(Input::Stop);
    world.settle();
    let calls = world.calls(worker);
    assert_eq!(calls.iter().map(ToString::to_string).collect::<Vec<_>>(), ["bye one", "bye two"]);
    world.set(worker, "mine", "g", "a", "1");
    world.settle();
    assert_eq!(world.replies(worker), [r#"mine: {"new_value":1,"old_value":null}"#]);
    assert_eq!(world.seen(session), ["g/a create 1 #1 @2"], "who has not gone sees it");
    calls.iter().for_each(|call| world.returns(worker, call, "null"));
    assert!(!world.stopped, "a gate may still allow a join");
    world.leaves(session);
    world.returns(worker, &gate, "null");
    assert!(!world.stopped);
    assert_eq!(world.returns_to_all(worker, "null"), ["bye waits"]);
    assert!(world.stopped);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_server_that_stops_takes_no_joins() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.input(Input::Stop);
    world.join(session, "late", "g", "");
    world.leave(session, "sub");
    world.leaves(session);
    let late = world.session_at("/stream/s/g");
    world.settle();
    assert_eq!(world.returns_to_all(worker, "null"), ["bye sub"]);
    assert!(world.stopped && world.seen(late).is_empty());
}

#[test]
fn a_graceful_stop_owes_no_leaves_after_the_next_start() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.input(Input::Stop);
    world.settle();
    assert_eq!(world.returns_to_all(worker, "null"), ["bye sub"]);
    world.crash(0);
    let worker = watched(&mut world);
    world.settle();
    assert!(world.heard(worker).is_empty());
}

#[test]
fn a_leave_whose_write_fails_is_told_once_another_has_written_it() {
    for failures in 1..4 {
        let mut world = World::durable();
        let worker = gated(&mut world);
        let session = world.session();
        for subscription in ["one", "two"] {
            allowed(&mut world, worker, session, subscription);
            world.settle();
        }
        world.leave(session, "one");
        world.fail_times(failures);
        world.leave(session, "two");
        world.join(session, "later", "h", "");
        // Once it is known that nothing can be written for a while, joins don't wait for that.
        let (early, late): (&[&str], &[&str]) = match failures {
            1 => (&[], &["bye one", "bye two", "may later"]),
            _ => (&["may later"], &["bye one", "bye two"]),
        };
        assert_eq!(world.returns_to_all(worker, "null"), early);
        world.persist();
        assert!(
            world.heard(worker).is_empty(),
            "a new start makes nothing durable but what was written before"
        );
        world.persist();
        assert_eq!(world.returns_to_all(worker, "null"), late);
        world.leave(session, "later");
        world.settle();
        assert_eq!(world.returns_to_all(worker, "null"), ["bye later"]);
        assert_eq!(world.noted(), Vec::<String>::new());
        world.crash(0);
        let worker = watched(&mut world);
        world.settle();
        assert!(world.heard(worker).is_empty(), "none is told again");
    }
}

#[test]
fn a_subscription_that_nobody_could_write_down_has_its_leave_once_the_disk_works_again() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    world.set(worker, "1", "g", "a", "1");
    world.fail();
    world.fail();
    world.heard(worker);
    for subscription in ["one", "two"] {
        allowed(&mut world, worker, session, subscription);
    }
    world.leave(session, "one");
    assert_eq!(world.returns_to_all(worker, "null"), ["bye one"], "no log knows of that one");
    world.pass(1_000);
    world.tick();
    world.settle();
    world.leave(session, "two");
    world.settle();
    assert_eq!(world.returns_to_all(worker, "null"), ["bye two"]);
}

#[test]
fn a_stop_waits_for_a_leave_that_can_not_be_written_no_longer_than_its_deadline() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    allowed(&mut world, worker, session, "sub");
    world.settle();
    world.input(Input::Stop);
    world.fail();
    for _ in 0..9 {
        world.fail();
        world.pass(1_000);
        world.tick();
        assert!(!world.stopped);
    }
    world.fail();
    world.pass(1_000);
    world.tick();
    assert!(world.stopped && world.heard(worker).is_empty());
    // It was not told, so it is owed: the last new start has written the join again, and not the leave.
    let whole = world.most_kept();
    world.crash(whole);
    let worker = watched(&mut world);
    world.settle();
    assert_eq!(world.asked(worker), ["bye sub"]);
}

#[test]
fn a_stop_waits_for_no_leave_beyond_its_deadline_and_nobody_is_called_after_it() {
    let mut world = World::durable();
    let worker = gated(&mut world);
    let session = world.session();
    world.handles(worker, "stream", "slow", r#"{"stream_name":"s"}"#);
    allowed(&mut world, worker, session, "sub");
    world.join(session, "waits", "g", "");
    world.set(worker, "1", "g", "a", "1");
    world.set(worker, "2", "g", "a", "2");
    world.settle();
    world.heard(worker);
    world.input(Input::Stop);
    world.settle();
    assert_eq!(world.asked(worker), ["bye sub"]);
    world.pass(9_999);
    world.tick();
    assert!(!world.stopped);
    world.pass(1);
    world.tick();
    assert!(world.stopped);
    assert!(world.heard(worker).is_empty());
    assert_eq!(world.trace.last().map(String::as_str), Some("Stopped"));
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn joins_that_are_given_up_at_their_gate_do_not_pile_up_without_bound() {
    let mut world = World::in_memory();
    let worker = gated(&mut world);
    let session = world.session();
    let mut refused = None;
    for n in 0..100_100 {
        world.join(session, "sub", "g", "");
        world.leave(session, "sub");
        world.trace.clear();
        if n % 1_000 == 0 {
            world.heard(worker);
        }
        if refused.is_none() && world.seen(session).iter().any(|frame| frame == "! overloaded") {
            refused = Some(n);
        }
    }
    assert_eq!(refused, Some(100_001));
}

#[test]
fn a_leave_that_its_worker_had_no_room_for_is_told_later() {
    let mut world = World::in_memory();
    let worker = watched(&mut world);
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.leaves(session);
    let call = world.one_call(worker);
    let invocation_id = call.id.as_deref().and_then(Uuid::parse).expect("the server's ids are UUIDs");
    world.input(Input::CallNotDelivered { worker, invocation_id });
    for _ in 0..2 {
        world.pass(1_000);
        world.tick();
    }
    assert_eq!(world.asked(worker), ["bye sub"]);
    assert!(world.notes.is_empty(), "{:?}", world.notes);
}

/// The function of a trigger may be another worker's, which is back a moment later.
#[test]
fn a_leave_that_a_crashed_server_owes_waits_for_its_function_and_not_only_for_its_trigger() {
    let mut world = World::durable();
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    let session = world.session();
    world.join(session, "1", "g", "");
    world.settle();
    let keep = world.unsynced().len();
    world.crash(keep);
    let (binds, runs) = (world.worker(), world.worker());
    world.binds(binds, "t", "stream:leave", "bye", "{}");
    world.settle();
    world.registers(runs, "bye");
    world.settle();
    assert_eq!(world.noted(), Vec::<String>::new());
    assert_eq!(world.asked(runs), ["bye 1"]);
}

/// A client that gives up a subscription and joins again at once is there in the end; a handler that keeps who is there
/// must not be told so the other way round.
#[test]
fn handlers_hear_of_a_leave_before_they_hear_of_the_join_that_came_after_it() {
    for durable in [false, true] {
        for again in ["1", "2"] {
            let mut world = if durable { World::durable() } else { World::in_memory() };
            let worker = world.worker();
            world.handles(worker, "stream:leave", "bye", "{}");
            world.handles(worker, "stream:join", "may", "{}");
            let session = world.session();
            world.join(session, "1", "g", "");
            let call = world.one_call(worker);
            world.returns(worker, &call, "null");
            world.settle();
            world.leave(session, "1");
            world.join(session, again, "g", "");
            world.settle();
            assert_eq!(
                world.asked(worker),
                ["bye 1".to_owned(), format!("may {again}")],
                "durable: {durable}"
            );
        }
    }
}

#[test]
fn a_join_that_was_given_up_while_it_waited_for_a_leave_asks_nobody() {
    let mut world = World::durable();
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    world.handles(worker, "stream:join", "may", "{}");
    let session = world.session();
    world.join(session, "1", "g", "");
    let call = world.one_call(worker);
    world.returns(worker, &call, "null");
    world.settle();
    world.leave(session, "1");
    world.join(session, "2", "g", "");
    world.leave(session, "2");
    world.join(session, "2", "h", "");
    world.settle();
    assert_eq!(world.asked(worker), ["bye 1", "may 2"]);
}

#[test]
fn while_nothing_can_be_written_nobody_waits_for_leaves_to_join() {
    for left_before in [true, false] {
        let mut world = World::durable();
        let worker = watched(&mut world);
        let (session, late) = (world.session(), world.session());
        world.join(session, "sub", "g", "");
        world.settle();
        world.set(worker, "set", "g", "a", "1");
        if left_before {
            world.leave(session, "sub");
            world.join(late, "late", "g", "");
            assert!(world.seen(late).is_empty(), "the leave is on its way to the disk");
        }
        world.fail();
        world.fail();
        if !left_before {
            world.leave(session, "sub");
            world.join(late, "late", "g", "");
        }
        assert_eq!(world.seen(late).len(), 1, "left before the disk failed: {left_before}");
        assert_eq!(world.replies(worker).len(), 1, "of the set");
        world.pass(1_000);
        world.tick();
        world.settle();
        assert_eq!(world.asked(worker), ["bye sub"], "it is told when that can be written down");
    }
}

/// The join goes on with the very write that also holds changes: it starts behind them.
#[test]
fn a_join_that_waited_for_a_leave_starts_from_a_state_and_gets_what_comes_after_it() {
    let mut world = World::durable();
    let worker = watched(&mut world);
    let session = world.session();
    world.join(session, "1", "g", "");
    world.settle();
    world.set(worker, "1", "g", "a", "1");
    world.leave(session, "1");
    world.join(session, "2", "g", "");
    world.set(worker, "2", "g", "a", "2");
    world.settle();
    world.set(worker, "3", "g", "a", "3");
    world.settle();
    let seen = world.seen(session);
    let behind_the_leave: Vec<_> = seen.iter().skip_while(|frame| !frame.contains("sync [2]")).collect();
    assert!(
        matches!(&behind_the_leave[..], [sync, event] if sync.contains("#2") && event.contains("#3")),
        "{seen:#?}"
    );
}

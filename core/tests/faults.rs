//! A disk that fails, and what is told, kept and done about it.

mod driver;

use driver::{Also, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;

/// The items of group `g`.
fn list(world: &mut World) -> String {
    let worker = world.worker();
    world.ask(worker, "stream::list", r#"{"stream_name":"s","group_id":"g"}"#)
}

fn small(segment: usize) -> CoreConfig {
    let mut config = CoreConfig::default();
    config.storage.segment_bytes = segment;
    config
}

/// Two items are there; a third is being written, a fourth gathers.
fn world(segment: usize) -> (World, WorkerKey) {
    let mut world = World::with_config(small(segment));
    let worker = world.worker();
    for value in ["1", "2"] {
        world.set(worker, value, "g", value, value);
        world.settle();
    }
    world.heard(worker);
    world.set(worker, "3", "g", "3", "3");
    world.set(worker, "4", "g", "4", "4");
    (world, worker)
}

/// For each segment size, each place where the first write fails, each number of fences that fail, and each place
/// where the last one of them does.
fn any_fault(mut look: impl FnMut(World, WorkerKey, usize)) {
    for segment in [100, 1 << 20] {
        let places = world(segment).0.places();
        for fails_at in 0..=places {
            for fences in 0..3 {
                let (mut world, worker) = world(segment);
                world.fail_at(fails_at);
                for _ in 0..fences {
                    let place = fails_at % (world.places() + 1);
                    world.fail_at(place);
                    world.pass(1_000);
                    world.tick();
                }
                look(world, worker, fences);
            }
        }
    }
}

#[test]
fn when_the_fence_is_there_writers_are_told_that_nothing_was_written_and_it_never_comes_back() {
    any_fault(|mut world, worker, fences| {
        if fences == 0 {
            assert!(world.heard(worker).is_empty(), "nobody knows yet");
        }
        world.persist();
        let told = world.replies(worker);
        assert_eq!(told.len(), 2);
        let first = match fences {
            0 => "3! STREAM_SET_ERROR: nothing was written: disk full",
            _ => "3! STREAM_SET_ERROR: outcome_unknown",
        };
        assert!(told[0].starts_with(first), "{told:?}");
        assert_eq!(told[1], "4! STREAM_SET_ERROR: nothing was written: disk full");
        world.set(worker, "5", "g", "5", "5");
        world.persist();
        assert_eq!(world.replies(worker), [r#"5: {"new_value":5,"old_value":null}"#]);
        world.crash_at(0, Also::default());
        assert_eq!(list(&mut world), "[1,2,5]");
    });
}

#[test]
fn a_crash_before_the_fence_is_there_leaves_what_was_acknowledged_and_at_most_what_the_disk_was_given() {
    any_fault(|mut world, _, _| {
        let place = world.places();
        world.crash_at(place, Also::default());
        let found = list(&mut world);
        assert!(["[1,2]", "[1,2,3]"].contains(&found.as_str()), "{found}");
    });
}

/// After the fence, every crash leaves what was acknowledged, and of the write under way all or nothing.
#[test]
fn a_crash_at_any_place_after_any_fault_leaves_what_was_acknowledged() {
    for segment in [100, 1 << 20] {
        let places = world(segment).0.places();
        for fails_at in (0..=places).step_by(7) {
            for dies_at in 0.. {
                let (mut world, worker) = world(segment);
                world.fail_at(fails_at);
                world.persist();
                world.set(worker, "5", "g", "5", "5");
                world.persist();
                world.set(worker, "6", "g", "6", "6");
                if dies_at > world.places() {
                    break;
                }
                let all = dies_at == world.places();
                world.crash_at(dies_at, Also { zeros: true, ..Also::default() });
                assert_eq!(list(&mut world), if all { "[1,2,5,6]" } else { "[1,2,5]" });
                // And it goes on from there, also if that is cut off again.
                let worker = world.worker();
                world.set(worker, "7", "g", "7", "7");
                world.persist();
                world.crash_at(0, Also::default());
                assert_eq!(list(&mut world), if all { "[1,2,5,6,7]" } else { "[1,2,5,7]" });
            }
        }
    }
}

#[test]
fn a_fence_is_tried_each_second_and_meanwhile_writes_are_refused_and_reads_answered() {
    let (mut world, worker) = world(1 << 20);
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.fail_at(0);
    world.fail_at(0);
    world.heard(worker);
    for _ in 0..5 {
        assert_eq!(world.core.next_deadline(), Some(world.now.mono.after(1_000)));
        world.pass(999);
        world.tick();
        assert!(world.in_flight.is_none());
        world.set(worker, "set", "g", "5", "5");
        world.send(worker, "send", "g", "", "hello");
        world.list(worker, "list", "g");
        let told = world.replies(worker);
        let refused = "nothing was written, and the store takes no writes for now: disk full";
        assert_eq!(told[0], format!("set! STREAM_SET_ERROR: {refused}"));
        assert_eq!(told.last().expect("an answer"), "list: [1,2]");
        world.pass(1);
        world.tick();
        world.fail_at(0);
    }
    world.pass(1_000);
    world.tick();
    world.persist();
    world.set(worker, "set", "g", "5", "5");
    world.settle();
    assert_eq!(world.replies(worker), [r#"set: {"new_value":5,"old_value":null}"#]);
    let seen = world.seen(session);
    assert_eq!(seen.iter().filter(|seen| seen.contains("create")).count(), 1, "{seen:?}");
    assert!(seen.last().expect("a change").contains("create 5 #3"), "revisions have no gap: {seen:?}");
}

/// What the store itself has to remember is in the log after a fault as if there had been none.
#[test]
fn streams_that_workers_keep_and_joins_are_remembered_through_a_fault() {
    for fences in 0..3 {
        let mut world = World::durable();
        let worker = world.worker();
        world.handles(worker, "stream:leave", "bye", "{}");
        world.set(worker, "1", "g", "a", "1");
        for operation in ["get", "set", "delete", "list", "list_groups"] {
            world.registers(worker, &format!("stream::{operation}(kept)"));
        }
        let session = world.session();
        world.join(session, "sub", "g", "");
        for _ in 0..=fences {
            world.fail_at(0);
            world.pass(1_000);
            world.tick();
        }
        world.settle();
        world.set(worker, "2", "g", "a", "2");
        world.settle();
        world.crash_at(0, Also::default());
        let worker = world.worker();
        world.handles(worker, "stream:leave", "bye", "{}");
        world.settle();
        let heard = world.heard(worker);
        assert!(heard.iter().any(|frame| frame.contains(r#""sub""#)), "its leave is told: {heard:?}");
        let answer =
            world.ask(worker, "stream::get", r#"{"stream_name":"kept","group_id":"g","item_id":"a"}"#);
        assert!(answer.contains("no_worker") || answer.starts_with('!'), "{answer}");
    }
}

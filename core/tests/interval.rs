//! Where changes are acknowledged once they are written, and synced some time later.

mod driver;

use driver::{Also, World};
use headwater_core::Input;
use headwater_core::config::{CoreConfig, Durability};
use serde_json::Value;

fn interval() -> CoreConfig {
    let mut config = CoreConfig::default();
    config.storage.durability = Durability::Interval(200);
    config
}

/// The store's epoch, as subscribers are told it.
fn epoch(world: &mut World) -> String {
    let session = world.session();
    world.join(session, "epoch", "none", "");
    let frames = world.frames(session);
    let frame: Value = serde_json::from_str(frames.last().expect("a sync")).expect("JSON");
    let epoch = frame["epoch"].as_str().or_else(|| frame["event"]["epoch"].as_str());
    epoch.expect("a sync tells the epoch").to_owned()
}

/// The items of group `g`.
fn list(world: &mut World) -> String {
    let worker = world.worker();
    world.ask(worker, "stream::list", r#"{"stream_name":"s","group_id":"g"}"#)
}

#[test]
fn a_change_is_acknowledged_once_it_is_written_and_synced_after_the_interval_also_if_nothing_else_happens() {
    let mut world = World::with_config(interval());
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    assert!(world.heard(worker).is_empty());
    assert!(!world.in_flight.as_ref().expect("a write").sync);
    world.persist();
    assert_eq!(world.replies(worker).len(), 1);
    assert_eq!(world.core.next_deadline(), Some(world.now.mono.after(200)));
    world.pass(150);
    world.set(worker, "2", "g", "a", "2");
    world.persist();
    assert_eq!(world.core.next_deadline(), Some(world.now.mono.after(50)), "counted from the first");
    world.pass(50);
    world.tick();
    assert!(world.in_flight.as_ref().expect("a write").sync);
    world.persist();
    assert!(world.written.is_empty());
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn a_power_cut_leaves_the_first_of_the_acknowledged_changes_and_a_new_epoch() {
    let mut ends = Vec::new();
    for place in 0.. {
        let mut world = World::with_config(interval());
        let worker = world.worker();
        let before = epoch(&mut world);
        for value in ["1", "2", "3"] {
            world.set(worker, value, "g", value, value);
            world.persist();
        }
        assert_eq!(world.replies(worker).len(), 3);
        if place > world.places() {
            break;
        }
        world.crash_at(place, Also::default());
        assert_ne!(epoch(&mut world), before);
        ends.push(list(&mut world));
    }
    ends.dedup();
    assert_eq!(ends, ["[]", "[1]", "[1,2]", "[1,2,3]"]);
}

#[test]
fn a_stop_syncs_everything_and_keeps_the_epoch() {
    let mut world = World::with_config(interval());
    let worker = world.worker();
    let before = epoch(&mut world);
    world.set(worker, "1", "g", "a", "1");
    world.persist();
    world.input(Input::Stop);
    assert!(!world.stopped);
    world.settle();
    assert!(world.stopped);
    world.crash_at(0, Also::default());
    assert_eq!(epoch(&mut world), before);
    assert_eq!(list(&mut world), "[1]");
    world.crash_at(0, Also::default());
    assert_eq!(epoch(&mut world), before, "nothing was written since");
}

/// Who stops while the disk fails gets the same end, if the disk is well again in time.
#[test]
fn a_stop_while_a_write_fails_says_in_the_log_that_it_ended_well_once_it_can() {
    for fence_fails in [false, true] {
        let mut world = World::with_config(interval());
        let worker = world.worker();
        let before = epoch(&mut world);
        world.set(worker, "1", "g", "a", "1");
        world.persist();
        world.set(worker, "2", "g", "b", "2");
        world.input(Input::Stop);
        let all = world.places();
        world.fail_at(all);
        if fence_fails {
            world.fail_at(0);
            world.pass(1_000);
            world.tick();
        }
        assert!(!world.stopped);
        world.settle();
        assert!(world.stopped);
        world.crash_at(0, Also::default());
        assert_eq!(epoch(&mut world), before);
        assert_eq!(list(&mut world), "[1]");
    }
}

/// Whatever the disk has of a write or a sync that failed: what was acknowledged before is written again.
#[test]
fn what_was_acknowledged_is_written_again_after_a_write_or_a_sync_fails() {
    for syncs in [false, true] {
        for segment in [100, 1 << 20] {
            for place in 0.. {
                let mut config = interval();
                config.storage.segment_bytes = segment;
                let mut world = World::with_config(config);
                let worker = world.worker();
                for value in ["1", "2", "3"] {
                    world.set(worker, value, "g", value, value);
                    world.persist();
                }
                world.pass(if syncs { 200 } else { 10 });
                world.set(worker, "4", "g", "4", "4");
                assert_eq!(world.in_flight.as_ref().expect("a write").sync, syncs);
                if place > world.places() {
                    break;
                }
                world.fail_at(place);
                world.persist();
                assert_eq!(world.replies(worker).len(), 4);
                world.set(worker, "5", "g", "5", "5");
                world.settle();
                world.crash_at(0, Also::default());
                assert_eq!(list(&mut world), "[1,2,3]");
            }
        }
    }
}

#[test]
fn a_checkpoint_holds_nothing_that_is_not_synced() {
    let mut config = interval();
    config.storage.checkpoint_log_bytes = 300;
    let mut world = World::with_config(config);
    let worker = world.worker();
    let mut saves = 0;
    for n in 0..100 {
        world.set(worker, "w", "g", "a", &n.to_string());
        world.persist();
        if world.saving.is_some() {
            assert!(world.written.is_empty());
            saves += 1;
            world.save();
        }
        world.pass(20);
    }
    assert!(saves >= 5, "{saves}");
}

#[test]
fn a_disk_that_can_neither_write_nor_save_is_tried_again_at_its_times_and_not_in_between() {
    let mut config = interval();
    config.storage.checkpoint_log_bytes = 300;
    let mut world = World::with_config(config);
    let worker = world.worker();
    while world.saving.is_none() {
        world.set(worker, "w", "g", "a", "1");
        world.settle_writes();
        world.pass(200);
        world.tick();
        world.settle_writes();
    }
    world.set(worker, "w", "g", "a", "1");
    world.persist();
    world.set(worker, "w", "g", "a", "1");
    let all = world.places();
    world.fail_at(all);
    world.fail_save();
    let mut tries = 0;
    for _ in 0..200 {
        if world.in_flight.is_some() {
            tries += 1;
            world.fail_at(0);
        }
        world.pass(100);
        if world.core.next_deadline().is_some_and(|deadline| deadline <= world.now.mono) {
            world.tick();
        }
        assert!(world.core.next_deadline().is_none_or(|deadline| deadline > world.now.mono));
    }
    assert!((19..=22).contains(&tries), "{tries} tries in 20 s");
}

#[test]
fn nothing_is_due_once_the_log_was_ended_also_if_the_last_save_had_failed() {
    let mut config = interval();
    config.storage.checkpoint_log_bytes = 1;
    let mut world = World::with_config(config);
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.persist();
    world.pass(200);
    world.tick();
    world.persist();
    world.fail_save();
    world.input(Input::Stop);
    world.settle();
    assert!(world.stopped);
    world.pass(5_000);
    world.tick();
    let due = world.core.next_deadline().filter(|deadline| *deadline <= world.now.mono);
    assert_eq!(due, None, "it would be due for ever");
}

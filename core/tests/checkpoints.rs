//! What goes into the checkpoint, and when; and that nothing is lost in between.

mod driver;

use driver::{Also, Disk, Seen, World};
use headwater_core::Input;
use headwater_core::config::CoreConfig;
use headwater_core::store::Save;

fn config(segment: usize, checkpoint: usize) -> CoreConfig {
    let mut config = CoreConfig::default();
    config.storage.segment_bytes = segment;
    config.storage.checkpoint_log_bytes = checkpoint;
    config
}

/// About how many bytes a save writes.
fn size(save: &Save) -> usize {
    let items = save.groups.iter().flat_map(|group| {
        group
            .changed
            .iter()
            .map(|created| group.snapshot.created(*created).map_or(0, |item| item.value.as_str().len()))
    });
    items.map(|value| value + 40).sum()
}

/// What is in these groups.
fn lists(world: &mut World, groups: &[&str]) -> Vec<String> {
    let worker = world.worker();
    let list = |group: &&str| {
        short(&world.ask(worker, "stream::list", &format!(r#"{{"stream_name":"s","group_id":"{group}"}}"#)))
    };
    groups.iter().map(list).collect()
}

/// A list without what makes it long.
fn short(list: &str) -> String {
    format!("{} bytes: {}", list.len(), list.replace('x', ""))
}

#[test]
fn a_checkpoint_is_made_when_the_log_is_long_enough_and_then_its_files_are_discarded() {
    let mut world = World::with_config(config(500, 2_000));
    let worker = world.worker();
    let mut saves = Vec::new();
    for n in 0..300 {
        world.set(worker, "w", "g", "a", &n.to_string());
        world.persist();
        if world.saving.is_some() {
            saves.push(world.disk.log_len());
            world.save();
            assert!(world.disk.log_len() <= 1_100, "{}", world.disk.log_len());
        }
    }
    assert!(saves.len() >= 2, "{saves:?}");
    assert!(saves.iter().all(|len| (2_000..3_200).contains(len)), "{saves:?}");
}

/// A value that takes a save of its own.
fn large(n: usize) -> String {
    format!("\"{n}{}\"", "x".repeat(7 << 20))
}

const GROUPS: [&str; 6] = ["g0", "g1", "g2", "g3", "g4", "g5"];

/// A checkpoint takes several saves; before each of them, groups that are saved and groups that are not change.
fn fuzzy(mut look: impl FnMut(&World, &[String])) {
    let mut world = World::with_config(config(1 << 20, 5 << 20));
    let worker = world.worker();
    for (n, group) in GROUPS.iter().enumerate() {
        world.set(worker, "w", group, "a", &large(n));
        world.settle_writes();
    }
    let mut steps = 0;
    while world.saving.is_some() {
        steps += 1;
        for (n, group) in GROUPS.iter().enumerate() {
            world.set(worker, "w", group, &format!("b{steps}"), &(10 * steps + n).to_string());
            world.settle_writes();
        }
        world.delete(worker, "w", "g0", "a");
        world.settle_writes();
        let items = |n: usize| {
            let first = if n == 0 { None } else { Some(large(n)) };
            first.into_iter().chain((1..=steps).map(move |step| (10 * step + n).to_string()))
        };
        let now: Vec<String> = (0..GROUPS.len())
            .map(|n| short(&format!("[{}]", items(n).collect::<Vec<_>>().join(","))))
            .collect();
        look(&world, &now);
        world.save();
        look(&world, &now);
    }
    assert!(steps >= 2, "{steps} saves");
}

fn as_it_is(world: &World) -> Disk {
    world.torn_at(0)
}

#[test]
fn a_crash_between_any_two_saves_loses_nothing_and_takes_nothing_twice() {
    fuzzy(|world, now| {
        for saved in [false, true] {
            let mut disk = as_it_is(world);
            if let (Some(save), true) = (&world.saving, saved) {
                disk.checkpoint.apply(save.clone());
            }
            let mut copy = World::on_disk(world.config.clone(), world.now.wall.0, disk);
            assert_eq!(lists(&mut copy, &GROUPS), now);
        }
    });
}

#[test]
fn a_save_that_fails_is_made_again_after_five_seconds_and_loses_nothing() {
    let mut world = World::with_config(config(500, 1_000));
    let worker = world.worker();
    let mut n = 0;
    while world.saving.is_none() {
        n += 1;
        world.set(worker, "w", "g", &format!("i{n}"), &n.to_string());
        world.persist();
    }
    for _ in 0..3 {
        let before = size(world.saving.as_ref().expect("a save"));
        world.fail_save();
        assert_eq!(world.core.next_deadline(), Some(world.now.mono.after(5_000)));
        world.pass(4_999);
        world.tick();
        assert!(world.saving.is_none());
        world.pass(1);
        world.tick();
        assert_eq!(size(world.saving.as_ref().expect("another try")), before);
    }
    world.save();
    let before = lists(&mut world, &["g"]);
    world.crash_at(0, Also::default());
    assert_eq!(lists(&mut world, &["g"]), before);
}

#[test]
fn files_that_were_discarded_are_never_needed_and_never_harm_however_many_of_them_are_there_again() {
    for not_discarded in 0..6 {
        let mut world = World::with_config(config(150, 600));
        let worker = world.worker();
        for n in 0..40 {
            world.set(worker, "w", ["g", "h"][n % 2], &format!("i{}", n % 5), &n.to_string());
            if n % 3 == 0 {
                world.delete(worker, "w", "g", &format!("i{}", n % 4));
            }
            world.settle_writes();
            if world.saving.is_some() {
                world.save();
                let mut copy = World::on_disk(world.config.clone(), world.now.wall.0, as_it_is(&world));
                let expected = lists(&mut copy, &["g", "h"]);
                let mut disk = as_it_is(&world);
                disk.bring_back(not_discarded);
                let mut copy = World::on_disk(world.config.clone(), world.now.wall.0, disk);
                assert_eq!(lists(&mut copy, &["g", "h"]), expected);
            }
        }
    }
}

#[test]
fn overwriting_the_same_items_again_and_again_writes_little_beside_the_log() {
    let mut world = World::with_config(config(4_000, 20_000));
    let worker = world.worker();
    let (mut logged, mut saved) = (0, 0);
    for n in 0..3_000 {
        let value = format!("\"{n}{}\"", "x".repeat(100));
        world.set(worker, "w", "g", &format!("i{}", n % 20), &value);
        logged += world.in_flight.as_ref().expect("a write").bytes.len();
        world.settle_writes();
        if let Some(save) = &world.saving {
            saved += size(save);
            world.save();
        }
    }
    assert!(saved > 0 && saved < logged / 3, "{saved} bytes saved, {logged} logged");
}

#[test]
fn joins_and_the_streams_that_workers_keep_are_in_the_checkpoint_and_in_the_log_behind_it() {
    let mut world = World::with_config(config(200, 600));
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    for function in ["get", "set", "delete", "list"] {
        world.registers(worker, &format!("stream::{function}(kept)"));
    }
    let early = world.session();
    world.join(early, "early", "g", "");
    let gone = world.session();
    world.join(gone, "gone", "g", "");
    world.leave(gone, "gone");
    let mut saves = 0;
    for n in 0..30 {
        world.set(worker, "w", "g", "a", &n.to_string());
        world.settle_writes();
        if world.saving.is_some() {
            world.save();
            saves += 1;
        }
    }
    assert!(saves >= 2);
    let late = world.session();
    world.join(late, "late", "g", "");
    world.set(worker, "w", "h", "a", "1");
    world.settle_writes();
    world.crash_at(0, Also::default());
    let worker = world.worker();
    world.handles(worker, "stream:leave", "bye", "{}");
    world.settle();
    let told = world.heard(worker).join("\n");
    for (subscription, leaves) in [("early", 1), ("late", 1), ("gone", 0)] {
        let times = told.matches(&format!(r#""{subscription}""#)).count();
        assert_eq!(times, leaves, "{subscription}: {told}");
    }
    let answer = world.ask(worker, "stream::get", r#"{"stream_name":"kept","group_id":"g","item_id":"a"}"#);
    assert!(answer.starts_with('!'), "{answer}");
}

/// Nothing is saved after the log was ended, or the next start would take its end for a crash.
#[test]
fn a_checkpoint_at_the_very_end_of_a_run_does_not_hide_that_it_ended_well() {
    let mut config = config(150, 200);
    config.storage.durability = headwater_core::config::Durability::Interval(200);
    let mut world = World::with_config(config);
    let worker = world.worker();
    let session = world.session();
    world.join(session, "sub", "g", "");
    let epoch = |frame: &str| frame.split(r#""epoch":""#).nth(1).expect("an epoch")[..36].to_owned();
    let before = epoch(&world.frames(session)[0]);
    for n in 0..10 {
        world.set(worker, "w", "g", "a", &n.to_string());
        world.persist();
    }
    world.input(Input::Stop);
    world.settle();
    assert!(world.stopped);
    world.crash_at(0, Also::default());
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.settle();
    assert_eq!(epoch(&world.frames(session)[0]), before);
}

/// Two reservations of the clock of groups without a change may be on their way, in two writes: the second fails.
#[test]
fn a_checkpoint_knows_every_reservation_that_is_durable() {
    let mut world = World::with_config(config(2_000, 3_000));
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "never", "");
    world.set(worker, "under way", "g", "a", "1");
    for _ in 0..2 {
        for _ in 0..1_500 {
            world.send(worker, "s", "never", "", "hello");
        }
        world.persist();
    }
    let told = world.frames(session).iter().map(|frame| Seen::read(frame).stamp).max();
    world.fail();
    for n in 0..50 {
        world.set(worker, "w", "g", "a", &format!("{:?}", "x".repeat(100 + n)));
        world.settle();
    }
    assert!(world.disk.checkpoint.state.is_some(), "the log of the first is gone");
    world.pass(1_000);
    world.crash(0);
    let session = world.session();
    world.join(session, "sub", "never", "");
    world.settle();
    let after = Some(Seen::read(&world.frames(session)[0]).stamp);
    assert!(after >= told, "{after:?} after {told:?}");
}

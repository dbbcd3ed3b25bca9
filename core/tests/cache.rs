//! Groups are let go of and read again, and nobody can tell.

mod driver;

use driver::{Seen, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::store::Load;

/// Memory for about one group; everything is saved soon.
fn small() -> CoreConfig {
    let mut config = CoreConfig::default();
    config.storage.cache_bytes = 700;
    config.storage.checkpoint_log_bytes = 200;
    config.storage.segment_bytes = 1_000;
    config.storage.load_ms = 5_000;
    config
}

/// A world with `groups` groups `g0`, `g1`, … of one item each, all saved, and most of them let go of.
fn filled(groups: usize) -> (World, WorkerKey) {
    let mut world = World::with_config(small());
    let worker = world.worker();
    for n in 0..groups {
        world.set(worker, "w", &format!("g{n}"), "a", &n.to_string());
        world.settle();
        world.pass(10);
    }
    world.tick();
    world.settle();
    world.heard(worker);
    (world, worker)
}

/// What has to be read for this call: nothing, if its group is in memory.
fn is_away(world: &mut World, worker: WorkerKey, group: &str) -> bool {
    world.get(worker, "away", group, "a");
    let away = !world.loading.is_empty();
    world.settle();
    world.heard(worker);
    away
}

/// The first group of those that is not in memory; it is being read when this returns.
fn reading(world: &mut World, worker: WorkerKey, groups: usize) -> String {
    for n in 0..groups {
        world.get(worker, "probe", &format!("g{n}"), "a");
        if !world.loading.is_empty() {
            return format!("g{n}");
        }
        world.heard(worker);
    }
    panic!("all groups are in memory");
}

#[test]
fn groups_that_do_not_fit_are_let_go_of_and_read_again() {
    let (mut world, worker) = filled(20);
    let away = (0..20).filter(|n| is_away(&mut world, worker, &format!("g{n}"))).count();
    assert!(away >= 15, "{away}");
    for n in 0..20 {
        let data = format!(r#"{{"stream_name":"s","group_id":"g{n}","item_id":"a"}}"#);
        assert_eq!(world.ask(worker, "stream::get", &data), n.to_string());
    }
}

#[test]
fn groups_are_read_also_while_the_clock_stands_still_and_nothing_is_written() {
    let (mut world, worker) = filled(3);
    for id in ["1", "2", "3"] {
        for group in ["g0", "g1", "g2"] {
            world.list(worker, id, group);
            world.settle();
            assert_eq!(world.replies(worker).len(), 1, "{group} is read");
        }
    }
}

/// Events that are sent in one millisecond have stamps ahead of the wall clock, and groups with such stamps stay.
#[test]
fn groups_that_can_not_go_for_a_moment_go_later_without_a_write() {
    let (mut world, worker) = filled(5);
    for n in 0..5 {
        world.send(worker, "s", &format!("g{n}"), "", "hello");
        world.settle();
    }
    for n in 0..5 {
        world.get(worker, "r", &format!("g{n}"), "a");
    }
    for _ in 0..20 {
        world.settle();
        world.pass(100);
        if world.core.next_deadline().is_some_and(|deadline| deadline <= world.now.mono) {
            world.tick();
        }
    }
    let replies = world.replies(worker);
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("r: ")).count(), 5, "{replies:?}");
}

#[test]
fn groups_are_let_go_of_also_after_the_wall_clock_was_set_back() {
    let (mut world, worker) = filled(5);
    for n in 0..5 {
        world.send(worker, "s", &format!("g{n}"), "", "hello");
        world.settle();
        world.pass(5);
    }
    let session = world.session();
    world.join(session, "g0", "g0", "");
    world.settle();
    let before = world.frames(session);
    assert_eq!(before.len(), 1, "{before:?}");
    world.set_wall(world.now.wall.0 - 900_000);
    world.heard(worker);
    for round in 0..3 {
        for n in 0..5 {
            world.get(worker, "r", &format!("g{n}"), "a");
            for _ in 0..5 {
                world.settle();
                world.pass(100);
                world.tick();
            }
            assert_eq!(world.replies(worker), [format!("r: {n}")], "round {round}");
        }
    }
    world.send(worker, "s", "g0", "", "again");
    world.settle();
    let stamp = |frame: &str| Seen::read(frame).stamp;
    let after = world.frames(session);
    assert!(stamp(&after[0]) > stamp(&before[0]), "{before:?} {after:?}");
}

/// The state that a join is sent, once all that it asks for is read.
fn state(world: &mut World, group: &str) -> Seen {
    let session = world.session();
    world.join(session, "state", group, "a");
    read_all(world);
    let frames = world.frames(session);
    let [state] = &frames[..] else { panic!("one state, not {frames:?}") };
    world.leaves(session);
    Seen::read(state)
}

/// Uses other groups until this one is let go of.
fn let_go(world: &mut World, worker: WorkerKey, group: &str) {
    for _ in 0..30 {
        for n in 0..5 {
            let other = format!("g{n}");
            if other != group {
                world.get(worker, "other", &other, "a");
                read_all(world);
            }
        }
        world.pass(10);
        world.tick();
        let in_memory = world.core.groups_in_memory();
        if in_memory.iter().all(|(path, _)| path.group.as_str() != group) {
            return;
        }
    }
    panic!("{group} stays");
}

fn read_all(world: &mut World) {
    while !world.loading.is_empty() {
        world.load();
    }
}

#[test]
fn a_state_after_a_restart_is_stamped_above_another_that_was_shown_when_its_group_was_read_again() {
    let (mut world, worker) = filled(5);
    // The second is ahead of the wall clock, so stamps are reserved.
    for id in ["1", "2"] {
        world.send(worker, id, "g0", "", "hello");
    }
    world.settle();
    world.set(worker, "lost", "g0", "a", "9");
    read_all(&mut world);
    world.fail();
    world.heard(worker);
    // It is let go of while the disk fails.
    let_go(&mut world, worker, "g0");
    let before = state(&mut world, "g0");
    assert_eq!(before.data, 0);
    // All of it is on the disk, and the new file that was to make sure that it never comes back is not.
    let fence = world.in_flight.as_ref().expect("a new file").bytes.len();
    world.crash(world.unsynced().len() - fence);
    let after = state(&mut world, "g0");
    assert_eq!(after.data, 9, "what had failed is there after all");
    assert!(after.stamp > before.stamp, "{after} after {before}");
}

#[test]
fn a_group_that_is_read_again_shows_no_stamp_that_only_a_write_under_way_would_reserve() {
    for fails in [false, true] {
        let (mut world, worker) = filled(5);
        let_go(&mut world, worker, "g0");
        // That there is no such group has to be read, too.
        world.get(worker, "never", "never", "a");
        world.settle();
        for _ in 0..1_000 {
            world.send(worker, "s", "never", "", "hello");
        }
        assert!(world.in_flight.is_some(), "the clock of groups without a change runs ahead of the wall");
        if fails {
            world.fail();
            world.settle_writes();
        }
        let before = state(&mut world, "g0");
        world.pass(1_000);
        world.crash(0);
        let after = state(&mut world, "g0");
        assert!(after.stamp >= before.stamp, "{after} after {before}, fails: {fails}");
    }
}

#[test]
fn what_a_worker_tells_of_a_stream_that_was_ordinary_is_stamped_no_lower_than_what_was_told_before() {
    let (mut world, worker) = filled(5);
    let before = state(&mut world, "g0");
    let_go(&mut world, worker, "g0");
    world.heard(worker);
    world.registers(worker, "stream::get(s)");
    world.settle();
    let session = world.session();
    world.join(session, "after", "g0", "a");
    let call = world.one_call(worker);
    world.returns(worker, &call, "1");
    world.settle();
    let after = Seen::read(&world.frames(session)[0]);
    assert!(after.stamp >= before.stamp, "{after} after {before}");
}

#[test]
fn a_subscriber_of_a_group_that_is_read_gets_its_state_before_events_that_were_sent_meanwhile() {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    let session = world.session();
    world.join(session, "sub", &group, "");
    world.send(worker, "send", &group, "", "hello");
    world.settle();
    let seen = world.frames(session);
    let kinds: Vec<_> =
        seen.iter().map(|frame| Seen::read(frame)).map(|seen| (seen.kind, seen.stamp)).collect();
    assert_eq!(kinds.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["sync", "hello"]);
    assert!(kinds[0].1 < kinds[1].1, "{kinds:?}");
}

#[test]
fn an_event_on_its_way_is_not_told_before_the_state_also_when_the_first_group_is_saved_meanwhile() {
    let mut world = World::with_config(small());
    let worker = world.worker();
    world.set(worker, "1", "h", "a", "1");
    world.settle();
    world.set(worker, "2", "h", "a", &format!("{:?}", "x".repeat(300)));
    world.persist();
    assert!(world.saving.is_some());
    world.set(worker, "3", "h", "a", "1");
    // Ahead of the wall clock: it waits for a reservation, behind the write under way.
    world.send(worker, "4", "g", "", "first");
    world.send(worker, "5", "g", "", "second");
    world.save();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.settle();
    let kinds: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame).kind).collect();
    assert_eq!(kinds, ["sync", "first", "second"]);
}

#[test]
fn commands_for_a_group_that_is_read_keep_their_order_and_see_each_other() {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    let n = &group[1..];
    world.set(worker, "set", &group, "b", "2");
    world.list(worker, "list", &group);
    world.delete(worker, "delete", &group, "a");
    world.get(worker, "get", &group, "a");
    assert!(world.heard(worker).is_empty());
    world.settle();
    assert_eq!(
        world.replies(worker),
        [
            format!("probe: {n}"),
            r#"set: {"new_value":2,"old_value":null}"#.to_owned(),
            format!("list: [{n},2]"),
            format!(r#"delete: {{"old_value":{n}}}"#),
            "get: nothing".to_owned(),
        ]
    );
}

#[test]
fn what_waits_too_long_for_its_group_is_answered_and_never_done() {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    world.pass(1);
    world.set(worker, "set", &group, "b", "2");
    assert_eq!(world.core.next_deadline().map(|at| at.0), Some(world.now.mono.0 + 4_999));
    world.pass(4_999);
    world.tick();
    assert_eq!(world.replies(worker), ["probe! STREAM_GET_ERROR: reading it from disk took too long"]);
    world.pass(1);
    world.tick();
    assert_eq!(
        world.replies(worker),
        ["set! STREAM_SET_ERROR: nothing was written: reading it from disk took too long"]
    );
    world.list(worker, "list", &group);
    world.settle();
    assert_eq!(world.replies(worker), [format!("list: [{}]", &group[1..])]);
}

#[test]
fn a_group_that_can_not_be_read_is_said_so_and_tried_again_for_its_subscribers() {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    let session = world.session();
    world.join(session, "sub", &group, "");
    world.set(worker, "set", &group, "b", "2");
    world.fail_load();
    assert_eq!(
        world.replies(worker),
        [
            "probe! STREAM_GET_ERROR: the group can't be read: bad sector",
            "set! STREAM_SET_ERROR: nothing was written: the group can't be read: bad sector",
        ]
    );
    assert!(world.frames(session).is_empty());
    world.pass(1_000);
    world.tick();
    assert_eq!(world.loading.len(), 1);
    world.settle();
    assert_eq!(world.frames(session).len(), 1);
}

/// Joins, and what may come of it while the group is read.
fn joins_meanwhile(meanwhile: impl Fn(&mut World, SessionKey, &str)) -> Vec<String> {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    let session = world.session();
    world.join(session, "sub", &group, "");
    meanwhile(&mut world, session, &group);
    world.set(worker, "set", &group, "b", "2");
    world.settle();
    world.frames(session).iter().map(|frame| Seen::read(frame).kind).collect()
}

#[test]
fn a_subscriber_gets_one_state_however_often_it_joins_leaves_and_overflows_while_the_group_is_read() {
    assert_eq!(joins_meanwhile(|_, _, _| {}), ["sync", "create"]);
    assert_eq!(
        joins_meanwhile(|world, session, group| {
            world.join(session, "sub", group, "");
            world.join(session, "sub", group, "");
        }),
        ["sync", "create"]
    );
    assert_eq!(
        joins_meanwhile(|world, session, group| {
            world.leave(session, "sub");
            world.join(session, "sub", group, "");
        }),
        ["sync", "create"]
    );
    assert_eq!(
        joins_meanwhile(|world, session, _| {
            world.overflow(session);
            world.drained(session);
        }),
        ["sync", "create"]
    );
    assert_eq!(joins_meanwhile(|world, session, _| world.leave(session, "sub")), Vec::<String>::new());
    assert_eq!(joins_meanwhile(|world, session, _| world.leaves(session)), Vec::<String>::new());
    assert_eq!(
        joins_meanwhile(|world, session, group| {
            world.leave(session, "sub");
            world.join(session, "sub", group, "a");
        }),
        ["sync"]
    );
}

#[test]
fn names_are_those_of_groups_in_memory_and_on_the_disk_as_they_are_now() {
    let (mut world, worker) = filled(4);
    world.call(worker, "names", "stream::list_groups", r#"{"stream_name":"s"}"#);
    assert!(matches!(world.loading[0], Load::Names(Some(_))));
    // While they are being read, one is created and one is emptied.
    world.set(worker, "new", "new", "a", "1");
    assert_eq!(world.loading.len(), 2);
    world.load_at(1, true);
    world.persist();
    world.load_at(0, true);
    let replies = world.replies(worker);
    assert_eq!(replies[1], r#"names: ["g0","g1","g2","g3","new"]"#);
    world.settle();
    world.delete(worker, "gone", "g1", "a");
    world.settle();
    world.heard(worker);
    assert_eq!(
        world.ask(worker, "stream::list_groups", r#"{"stream_name":"s"}"#),
        r#"["g0","g2","g3","new"]"#
    );
    assert_eq!(
        world.ask(worker, "stream::list_all", "{}"),
        r#"{"count":1,"stream":[{"groups":["g0","g2","g3","new"],"id":"s"}]}"#
    );
}

/// What waits behind a deadline stays in memory for as long.
#[test]
fn the_deadline_of_a_command_goes_with_it_also_while_others_wait() {
    let (mut world, worker) = filled(3);
    world.call(worker, "names", "stream::list_groups", r#"{"stream_name":"s"}"#);
    world.pass(10);
    let later = world.now.mono.after(5_000);
    for n in 0..3 {
        world.get(worker, "probe", &format!("g{n}"), "a");
    }
    assert!(world.loading.len() >= 2);
    world.load();
    assert_eq!(world.core.next_deadline(), Some(later), "after names were read");
    world.pass(10);
    world.list(worker, "again", "new");
    let last = world.now.mono.after(5_000);
    while world.loading.len() > 1 {
        world.load();
    }
    assert_eq!(world.core.next_deadline(), Some(last), "after groups were read");
}

#[test]
fn commands_for_names_that_wait_too_long_are_answered_and_those_after_them_are_read_for() {
    let (mut world, worker) = filled(3);
    let names = r#"{"stream_name":"s"}"#;
    for id in ["1", "2", "3"] {
        world.call(worker, id, "stream::list_groups", names);
        world.pass(10);
    }
    world.pass(4_970);
    world.call(worker, "4", "stream::list_groups", names);
    for late in ["1", "2", "3"] {
        assert_eq!(world.core.next_deadline(), Some(world.now.mono));
        world.tick();
        let error = format!("{late}! STREAM_LIST_GROUPS_ERROR: reading it from disk took too long");
        assert_eq!(world.replies(worker), [error]);
        world.pass(10);
    }
    assert_eq!(world.loading.len(), 1, "what was begun for the first");
    world.settle();
    assert_eq!(world.replies(worker), [r#"4: ["g0","g1","g2"]"#]);
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn so_many_commands_wait_for_groups_and_no_more() {
    let (mut world, worker) = filled(3);
    let group = reading(&mut world, worker, 3);
    let value = format!("{:?}", "x".repeat(1 << 20));
    for id in 0..70 {
        world.set(worker, &id.to_string(), &group, "b", &value);
    }
    let refused = world.replies(worker);
    assert!((5..=7).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|reply| reply.contains("too many calls wait for groups")), "{refused:?}");
    assert!(world.core.backlog_bytes() >= 60 << 20);
    assert_eq!(world.core.log_backlog_bytes(), 0, "they don't wait for the log");
    world.settle();
    assert_eq!(world.core.backlog_bytes(), 0);
}

#[test]
fn what_waits_for_the_log_does_not_grow_while_memory_is_full_and_a_save_is_under_way() {
    let mut world = World::with_config(small());
    let worker = world.worker();
    let is_full = (0..100).any(|n| {
        world.set(worker, "w", &format!("g{n}"), "a", &n.to_string());
        world.persist();
        world.core.backlog_bytes() == usize::MAX
    });
    assert!(is_full && world.saving.is_some() && world.in_flight.is_none());
    assert_eq!(world.core.log_backlog_bytes(), 0);
}

//! What subscribers see: a consistent start, then every change once and in order.

mod driver;

use driver::{START, Seen, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::SessionKey;

#[test]
fn a_sync_at_r_is_followed_by_the_changes_from_r_plus_1() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.set(worker, "1", "g", "a", "1");
    world.set(worker, "2", "g", "b", "2");
    world.settle();
    world.join(session, "sub", "g", "");
    world.set(worker, "3", "g", "a", "3");
    world.delete(worker, "4", "g", "b");
    world.set(worker, "5", "g", "c", "5");
    world.settle();
    insta::assert_snapshot!(world.seen(session).join("\n"), @r#"
    g sync [1,2] #2 @5
    g/a update 3 #3 @6
    g/b delete 2 #4 @8
    g/c create 5 #5 @10
    "#);
}

#[test]
fn a_join_while_changes_are_pending_gets_the_durable_state_and_then_exactly_those() {
    let mut world = World::durable();
    let worker = world.worker();
    world.set(worker, "1", "g", "a", "1");
    world.settle();
    world.set(worker, "2", "g", "a", "2");
    world.set(worker, "3", "g", "b", "3");
    let (whole, item) = (world.session(), world.session());
    world.join(whole, "sub", "g", "");
    world.join(item, "sub", "g", "a");
    world.persist();
    let between = world.session();
    world.join(between, "sub", "g", "");
    world.persist();
    assert_eq!(world.seen(whole), ["g sync [1] #1 @3", "g/a update 2 #2 @4", "g/b create 3 #3 @6"]);
    assert_eq!(world.seen(item), ["g/a sync 1 #1 @3", "g/a update 2 #2 @4"]);
    assert_eq!(world.seen(between), ["g sync [2] #2 @5", "g/b create 3 #3 @6"]);
}

#[test]
fn a_join_while_only_sent_events_are_pending_is_synced_below_them() {
    for then_stored in [false, true] {
        let mut world = World::durable();
        let (worker, session) = (world.worker(), world.session());
        world.send(worker, "1", "g", "", "one");
        if then_stored {
            world.set(worker, "2", "g", "a", "1");
        }
        world.join(session, "sub", "g", "");
        world.persist();
        let between = world.session();
        world.join(between, "sub", "g", "");
        world.settle();
        for session in [session, between] {
            assert_increasing(&mut world, session);
        }
    }
}

#[test]
fn a_sync_after_an_event_is_above_it_also_when_the_group_is_new() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "1", "g", "");
    world.send(worker, "1", "g", "", "one");
    world.set(worker, "2", "g", "a", "1");
    world.persist();
    world.join(session, "2", "g", "");
    world.settle();
    world.join(session, "3", "g", "");
    assert_increasing(&mut world, session);
}

#[track_caller]
fn assert_increasing(world: &mut World, session: SessionKey) -> Vec<Seen> {
    let seen: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame)).collect();
    assert!(seen.is_sorted_by(|a, b| a.stamp < b.stamp), "{seen:#?}");
    seen
}

/// All orders of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(n - 1) {
        for at in 0..n {
            let mut order = shorter.clone();
            order.insert(at, n - 1);
            all.push(order);
        }
    }
    all
}

#[test]
fn a_session_gets_each_event_once_in_all_orders_of_join_and_leave() {
    const TARGETS: [(&str, &str); 4] = [("1", ""), ("2", "a"), ("3", "a"), ("4", "")];
    for joins in orders(TARGETS.len()) {
        for leaves in orders(TARGETS.len()) {
            let mut world = World::in_memory();
            let (worker, session) = (world.worker(), world.session());
            let mut held = [false; 4];
            let steps = joins.iter().map(|n| (*n, true)).chain(leaves.iter().map(|n| (*n, false)));
            for (n, joined) in steps {
                let (subscription, item) = TARGETS[n];
                if joined {
                    world.join(session, subscription, "g", item);
                    let syncs = world.seen(session);
                    assert!(syncs.len() == 1 && syncs[0].contains("sync"), "{syncs:?}");
                } else {
                    world.leave(session, subscription);
                    assert!(world.seen(session).is_empty(), "a leave is silent");
                }
                held[n] = joined;
                let whole = held[0] || held[3];
                let (a, b) = (usize::from(whole || held[1] || held[2]), usize::from(whole));
                world.set(worker, "1", "g", "a", "1");
                assert_eq!(world.seen(session).len(), a, "{joins:?} {leaves:?} {held:?}");
                world.set(worker, "2", "g", "b", "1");
                assert_eq!(world.seen(session).len(), b, "{joins:?} {leaves:?} {held:?}");
                world.set(worker, "3", "elsewhere", "a", "1");
                world.send(worker, "4", "g", "a", "event");
                assert_eq!(world.seen(session).len(), a, "{joins:?} {leaves:?} {held:?}");
                world.send(worker, "5", "g", "", "event");
                assert_eq!(world.seen(session).len(), b, "{joins:?} {leaves:?} {held:?}");
            }
            assert_eq!(world.channels(session), 0);
        }
    }
}

/// Into how many channels sessions were put and out of how many they were taken since this was asked last.
fn moves(world: &mut World) -> (usize, usize) {
    let trace = std::mem::take(&mut world.trace);
    let count = |kind: &str| trace.iter().filter(|effect| effect.starts_with(kind)).count();
    (count("Attach"), count("Detach"))
}

#[test]
fn a_join_or_leave_moves_a_session_between_the_channels_that_it_changes_and_no_others() {
    const ITEMS: usize = 100;
    let mut world = World::in_memory();
    let session = world.session();
    for n in 0..ITEMS {
        world.join(session, &n.to_string(), "g", &format!("i{n}"));
        assert_eq!(moves(&mut world), (1, 0));
    }
    world.join(session, "7 again", "g", "i7");
    world.join(session, "7 again", "g", "i7");
    world.leave(session, "7");
    assert_eq!(moves(&mut world), (0, 0), "the item has a subscription before and after");
    world.leave(session, "7 again");
    assert_eq!(moves(&mut world), (0, 1));
    world.join(session, "7", "g", "i7");
    assert_eq!(moves(&mut world), (1, 0));

    world.join(session, "whole", "g", "");
    assert_eq!(moves(&mut world), (1, ITEMS), "from the items' channels to the group's");
    world.leave(session, "3");
    world.join(session, "new", "g", "new");
    world.join(session, "whole again", "g", "");
    world.leave(session, "whole");
    assert_eq!(moves(&mut world), (0, 0), "the group's channel covers them all");
    world.leave(session, "whole again");
    assert_eq!(moves(&mut world), (ITEMS, 1), "and back");
    assert_eq!(world.channels(session), ITEMS);

    world.leaves(session);
    assert_eq!(moves(&mut world), (0, ITEMS));
}

#[test]
fn the_same_id_for_the_same_target_gets_a_fresh_sync_and_nothing_else() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.join(session, "sub", "g", "");
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.seen(session), ["g sync [] #0 @1", "g sync [] #0 @1", "g/a create 1 #1 @2"]);
    world.leave(session, "sub");
    world.set(worker, "2", "g", "a", "2");
    assert!(world.seen(session).is_empty(), "one leave ends it");
}

#[test]
fn an_id_in_use_for_another_target_is_refused_and_stays_what_it_was() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.seen(session);
    world.join(session, "sub", "g", "a");
    world.join(session, "sub", "h", "");
    assert_eq!(world.seen(session), ["! duplicate_subscription", "! duplicate_subscription"]);
    world.set(worker, "1", "g", "b", "1");
    world.set(worker, "1", "h", "b", "1");
    assert_eq!(world.seen(session), ["g/b create 1 #1 @2"]);
    let other = world.session();
    world.join(other, "sub", "h", "");
    assert_eq!(world.seen(other), ["h sync [1] #1 @3"], "ids are a connection's own");
}

#[test]
fn a_leave_without_a_join_is_an_error_that_harms_nothing() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    world.seen(session);
    world.leave(session, "other");
    world.leave(session, "sub");
    world.leave(session, "sub");
    assert_eq!(world.seen(session), ["! unknown_subscription", "! unknown_subscription"]);
    world.join(session, "sub", "g", "a");
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.seen(session), ["g/a sync null #0 @1", "g/a create 1 #1 @2"]);
}

#[test]
fn a_connection_has_as_many_subscriptions_as_the_limit_says() {
    let mut config = CoreConfig::default();
    config.limits.subscriptions = 2;
    let mut world = World::with_config(config);
    let session = world.session();
    for subscription in ["1", "2", "3", "2"] {
        world.join(session, subscription, "g", "");
    }
    world.leave(session, "1");
    world.join(session, "3", "g", "");
    assert_eq!(
        world.seen(session),
        [
            "g sync [] #0 @1",
            "g sync [] #0 @1",
            "! too_many_subscriptions",
            "g sync [] #0 @1",
            "g sync [] #0 @1"
        ]
    );
}

#[test]
fn a_stored_null_reaches_items_as_a_sync_and_groups_as_a_sync_without_it() {
    let mut world = World::in_memory();
    let (worker, whole, item) = (world.worker(), world.session(), world.session());
    world.join(whole, "sub", "g", "");
    world.join(item, "sub", "g", "a");
    world.set(worker, "1", "g", "b", "7");
    for value in ["null", "null", "1", "null"] {
        world.set(worker, "2", "g", "a", value);
    }
    world.delete(worker, "3", "g", "a");
    let late = world.session();
    world.join(late, "sub", "g", "");
    insta::assert_snapshot!(world.seen(whole).join("\n"), @r#"
    g sync [] #0 @1
    g/b create 7 #1 @2
    g/a sync null #2 @4
    g sync [7] #2 @5
    g/a sync null #3 @6
    g sync [7] #3 @7
    g/a sync 1 #4 @8
    g sync [7,1] #4 @9
    g/a sync null #5 @10
    g sync [7] #5 @11
    g/a sync null #6 @12
    g sync [7] #6 @13
    "#);
    insta::assert_snapshot!(world.seen(item).join("\n"), @r#"
    g/a sync null #0 @1
    g/a sync null #2 @4
    g/a sync null #3 @6
    g/a sync 1 #4 @8
    g/a sync null #5 @10
    g/a sync null #6 @12
    "#);
    assert_eq!(world.seen(late), ["g sync [7] #6 @13"]);
}

#[test]
fn stamps_strictly_increase_for_a_subscriber_also_across_stored_nulls() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "1", "g", "");
    for value in ["null", "1", "null", "2"] {
        world.set(worker, "c", "g", "a", value);
        world.send(worker, "e", "g", "a", "event");
        world.settle();
    }
    world.delete(worker, "c", "g", "a");
    world.settle();
    world.join(session, "2", "g", "a");
    let seen = assert_increasing(&mut world, session);
    assert_eq!(seen.len(), 1 + 3 * 2 + 1 + 4 + 1 + 1 + 1);
}

#[test]
fn syncs_without_an_event_between_share_their_stamp() {
    let mut world = World::durable();
    let (worker, session) = (world.worker(), world.session());
    for n in 0..3 {
        world.set(worker, "c", "g", "a", &n.to_string());
        world.settle();
        for subscription in ["1", "2"] {
            world.join(session, subscription, "g", "");
        }
    }
    let stamps: Vec<_> = world.frames(session).iter().map(|frame| Seen::read(frame).stamp - START).collect();
    assert_eq!(stamps, [1, 1, 2, 3, 3, 4, 5, 5].map(|stamp| stamp + stamps[0] - 1));
}

#[test]
fn events_take_the_wall_clock_unless_it_is_behind_the_group() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "sub", "g", "");
    for wall in [1_000, 1_000, 5_000, 10, 5_001, 5_010] {
        world.set_wall(START + wall);
        world.set(worker, "c", "g", "a", "0");
    }
    let stamps: Vec<_> =
        assert_increasing(&mut world, session).iter().map(|seen| seen.stamp - START).collect();
    assert_eq!(stamps, [1, 1_000, 1_002, 5_000, 5_002, 5_004, 5_010]);
}

#[test]
fn an_overflow_ends_in_a_fresh_sync_of_every_subscription() {
    let mut world = World::in_memory();
    let (worker, slow, fast) = (world.worker(), world.session(), world.session());
    world.join(slow, "whole", "g", "");
    world.join(slow, "item", "h", "a");
    world.join(fast, "sub", "g", "");
    world.seen(slow);
    world.overflow(slow);
    assert_eq!(world.channels(slow), 0);
    world.set(worker, "1", "g", "a", "1");
    world.set(worker, "2", "h", "a", "2");
    world.join(slow, "later", "g", "a");
    world.join(slow, "whole", "g", "");
    world.join(slow, "left", "g", "");
    world.leave(slow, "left");
    world.overflow(slow);
    assert!(world.seen(slow).is_empty());
    world.drained(slow);
    world.drained(slow);
    world.set(worker, "3", "g", "a", "3");
    world.set(worker, "4", "h", "a", "4");
    assert_eq!(
        world.seen(slow),
        [
            "h/a sync 2 #1 @3",
            "g/a sync 1 #1 @3",
            "g sync [1] #1 @3",
            "g/a update 3 #2 @4",
            "h/a update 4 #2 @4"
        ]
    );
    assert_eq!(world.seen(fast), ["g sync [] #0 @1", "g/a create 1 #1 @2", "g/a update 3 #2 @4"]);
    let resumed = world.trace.iter().position(|effect| effect.starts_with("Resume")).unwrap();
    let kinds: Vec<_> =
        world.trace[resumed..resumed + 6].iter().map(|effect| effect.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["Resume", "Attach", "Attach", "Sync", "Sync", "Sync"]);
}

#[test]
fn what_was_sent_while_a_session_was_behind_is_counted_in_its_fresh_sync() {
    let mut world = World::in_memory();
    let (worker, slow) = (world.worker(), world.session());
    world.join(slow, "whole", "g", "");
    world.join(slow, "of whole", "g", "a");
    world.join(slow, "item", "h", "a");
    world.join(slow, "quiet", "i", "");
    world.overflow(slow);
    world.seen(slow);
    for (id, group, item) in
        [("1", "g", ""), ("2", "g", "a"), ("3", "h", "a"), ("4", "h", "b"), ("5", "h", "")]
    {
        world.send(worker, id, group, item, "typing");
    }
    world.drained(slow);
    assert_eq!(
        world.seen(slow),
        [
            "h/a sync null #0 @11 skipped 1",
            "g/a sync null #0 @11 skipped 1",
            "i sync [] #0 @11",
            "g sync [] #0 @11 skipped 1"
        ]
    );
    world.join(slow, "whole", "g", "");
    assert_eq!(world.seen(slow), ["g sync [] #0 @11"], "it was told");
}

#[test]
fn of_what_is_left_while_a_session_is_behind_nothing_is_told_or_kept() {
    let mut world = World::in_memory();
    let (worker, slow) = (world.worker(), world.session());
    world.join(slow, "kept", "g", "kept");
    world.overflow(slow);
    world.frames(slow);
    for n in 0..10 {
        let item = n.to_string();
        world.join(slow, "item", "g", &item);
        world.send(worker, &item, "g", &item, "typing");
        world.join(slow, "whole", "g", "");
        let (first, second) = if n % 2 == 0 { ("item", "whole") } else { ("whole", "item") };
        world.leave(slow, first);
        world.leave(slow, second);
    }
    world.drained(slow);
    let resumed = world.trace.iter().find(|effect| effect.starts_with("Resume")).expect("it has caught up");
    assert_eq!(resumed.matches("Target").count(), 1, "{resumed}");
    world.join(slow, "item", "g", "3");
    world.join(slow, "whole", "g", "");
    let skipped: Vec<_> = world.frames(slow).iter().map(|frame| Seen::read(frame).skipped).collect();
    assert_eq!(skipped, [None; 3]);
}

#[test]
fn a_session_that_ends_while_it_is_behind_leaves_nothing() {
    let mut world = World::in_memory();
    let (worker, slow) = (world.worker(), world.session());
    world.join(slow, "sub", "g", "");
    world.overflow(slow);
    world.leaves(slow);
    world.drained(slow);
    world.trace.clear();
    world.set(worker, "1", "g", "a", "1");
    assert!(!world.trace.iter().any(|effect| effect.starts_with("Broadcast")), "{:?}", world.trace);
}

#[test]
fn nothing_is_broadcast_where_nobody_listens() {
    let mut world = World::in_memory();
    let (worker, session) = (world.worker(), world.session());
    world.join(session, "1", "g", "a");
    world.join(session, "2", "g", "");
    world.leaves(session);
    world.trace.clear();
    world.set(worker, "1", "g", "a", "1");
    assert_eq!(world.trace.len(), 1, "{:?}", world.trace);
}

//! What a stream that a worker keeps sends its subscribers first.

use super::*;

#[test]
fn a_join_is_sent_the_workers_list_without_nulls_nothing_before_and_what_comes_meanwhile_after() {
    let (mut world, caller, keeper) = kept();
    let session = world.session();
    world.set(caller, "1", "g", "a", "1");
    world.join(session, "sub", "g", "");
    world.set(caller, "2", "g", "b", "2");
    world.send(caller, "3", "g", "", "sent");
    answers(&mut world, keeper, "set", r#"{"old_value":null,"new_value":1}"#);
    assert!(world.frames(session).is_empty());
    let list = answers(&mut world, keeper, "list", r#"[{"id":"a"}, null,1.50 ,null]"#);
    assert_eq!(list.data.to_string(), r#"{"group_id":"g","stream_name":"s"}"#);
    assert_eq!(world.seen(session), [r#"g sync [{"id":"a"},1.5] #0 @4"#]);
    answers(&mut world, keeper, "set", r#"{"old_value":null,"new_value":2}"#);
    assert_eq!(world.seen(session), ["g/b create 2 #0 @6", r#"g sent {"k":1} #0 @8"#]);
}

#[test]
fn a_subscription_to_an_item_is_sent_what_the_worker_gets_and_then_the_items_events_alone() {
    for (got, value) in [("1.50", "1.5"), ("null", "null"), ("", "null")] {
        let (mut world, caller, keeper) = kept();
        let session = world.session();
        world.join(session, "sub", "g", "a");
        let get = answers(&mut world, keeper, "get", got);
        assert_eq!(get.data.to_string(), r#"{"group_id":"g","item_id":"a","stream_name":"s"}"#);
        assert_eq!(world.seen(session), [format!("g/a sync {value} #0 @2")]);
        for (id, item) in [("1", "b"), ("2", "a")] {
            world.set(caller, id, "g", item, "2");
            answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
        }
        assert_eq!(world.seen(session), ["g/a update 2 #0 @6"]);
    }
}

#[test]
fn what_is_no_list_is_sent_to_nobody() {
    for list in ["", "null", "{}", "1", r#""[]""#] {
        let (mut world, _, keeper) = kept();
        let session = world.session();
        world.join(session, "sub", "g", "");
        answers(&mut world, keeper, "list", list);
        assert_eq!(world.seen(session), ["! stream_unavailable"], "{list}");
        assert_eq!(world.channels(session), 0);
    }
}

#[test]
fn what_could_not_be_loaded_is_loaded_when_the_worker_registers_again() {
    let (mut world, caller, first) = kept();
    let [early, late, left, gone] = [(); 4].map(|()| world.session());
    world.join(early, "sub", "g", "");
    world.hangs_up(first);
    for session in [late, left, gone] {
        world.join(session, "sub", "g", if session == late { "a" } else { "" });
    }
    for session in [early, late, left, gone] {
        assert_eq!(world.seen(session), ["! stream_unavailable"]);
    }
    world.leave(left, "sub");
    world.leaves(gone);
    let second = keeper(&mut world, &ALL);
    let asked = world.returns_to_all(second, "[1]");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(world.seen(early), ["g sync [1] #0 @4"]);
    assert_eq!(world.seen(late), ["g/a sync [1] #0 @2"]);
    assert_eq!(world.frames(left).len(), 0);
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, second, "set", r#"{"old_value":0}"#);
    assert_eq!([early, late, left].map(|session| world.frames(session).len()), [1, 1, 0]);
}

#[test]
fn a_list_that_fails_is_loaded_when_its_function_registers_again_and_by_no_other() {
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    let list = world.one_call(keeper);
    world.throws(keeper, &list);
    assert_eq!(world.seen(session), ["! stream_unavailable"]);
    serves(&mut world, keeper, &["set", "get", "update"]);
    assert!(world.heard(keeper).is_empty(), "none of these gives a list");
    serves(&mut world, keeper, &["list"]);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @2"]);
    serves(&mut world, keeper, &["list"]);
    assert!(world.heard(keeper).is_empty(), "nobody waits any more");
}

#[test]
fn a_subscription_that_is_left_while_it_loads_is_sent_nothing() {
    let (mut world, caller, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.leave(session, "sub");
    answers(&mut world, keeper, "list", "[1]");
    world.set(caller, "1", "g", "a", "1");
    answers(&mut world, keeper, "set", r#"{"old_value":0}"#);
    assert_eq!(world.frames(session).len(), 0);
    assert_eq!(world.channels(session), 0);
    // The same id for something else.
    world.join(session, "sub", "g", "");
    world.leave(session, "sub");
    world.join(session, "sub", "g", "a");
    let first = world.one_call(keeper);
    world.throws(keeper, &first);
    assert_eq!(world.seen(session), Vec::<String>::new(), "nobody waits for the list any more");
    answers(&mut world, keeper, "get", "2");
    assert_eq!(world.seen(session), ["g/a sync 2 #0 @6"]);
}

#[test]
fn a_session_that_hangs_up_while_it_loads_leaves_nothing_behind() {
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.join(session, "sub 2", "g", "a");
    world.leaves(session);
    let list = world.one_call(keeper);
    world.returns(keeper, &list, "[1]");
    assert!(world.heard(keeper).is_empty(), "nobody wants to know the item");
    assert_eq!(world.core.next_deadline(), None);
}

#[test]
fn joining_again_is_answered_with_a_fresh_list() {
    let (mut world, _, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[1]");
    world.join(session, "sub", "g", "");
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(session), ["g sync [2] #0 @12"]);
    assert_eq!(world.channels(session), 1);
}

#[test]
fn however_many_wait_for_the_same_state_it_is_asked_for_once() {
    let (mut world, caller, keeper) = kept_in(limited(2), &ALL);
    world.get(caller, "1", "g", "a");
    let get = world.one_call(keeper);
    let sessions = [(); 5].map(|()| world.session());
    for session in sessions {
        for _ in 0..3 {
            world.join(session, "sub", "g", "");
        }
    }
    world.get(caller, "2", "g", "a");
    world.returns(keeper, &get, "0");
    let list = world.one_call(keeper);
    // Whoever comes now may know of more than what is being listed.
    let late = world.session();
    world.join(late, "sub", "g", "");
    world.returns(keeper, &list, "[1]");
    world.settle();
    for session in sessions {
        assert_eq!(world.seen(session), ["g sync [1] #0 @2"]);
    }
    assert!(world.frames(late).is_empty());
    answers(&mut world, keeper, "get", "0");
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(late), ["g sync [2] #0 @4"]);
    assert_eq!(world.replies(caller), ["1: 0", "2: 0"], "joins cost a caller no place");
    assert!(world.heard(keeper).is_empty());
}

#[test]
fn joins_that_are_left_again_cost_the_worker_nothing_when_it_comes_back() {
    let (mut world, _, first) = kept();
    world.hangs_up(first);
    let session = world.session();
    for n in 0..10 {
        world.join(session, &n.to_string(), &n.to_string(), "");
        world.leave(session, &n.to_string());
    }
    let second = keeper(&mut world, &ALL);
    assert!(world.heard(second).is_empty());
}

#[test]
fn who_falls_behind_is_sent_the_workers_list_once_it_has_caught_up() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "", "[1]");
    world.overflow(session);
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.channels(session), 0);
    world.drained(session);
    world.set(caller, "2", "g", "a", "3");
    assert_eq!(world.channels(session), 0, "what it is sent starts with the list");
    answers(&mut world, keeper, "list", "[2]");
    answers(&mut world, keeper, "set", r#"{"old_value":2}"#);
    assert_eq!(world.seen(session), ["g sync [2] #0 @14", "g/a update 3 #0 @16"]);
}

#[test]
fn who_falls_behind_while_a_list_loads_gets_one_in_the_end_whatever_comes_first() {
    // Behind and caught up before the list is there.
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.overflow(session);
    world.drained(session);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @2"]);
    assert_eq!(world.channels(session), 1);
    assert!(world.heard(keeper).is_empty());
    // The list is there while it is behind.
    let (mut world, _, keeper) = kept();
    let session = world.session();
    world.join(session, "sub", "g", "");
    world.overflow(session);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.channels(session), 0);
    world.drained(session);
    answers(&mut world, keeper, "list", "[2]");
    assert_eq!(world.seen(session), ["g sync [2] #0 @4"]);
    assert_eq!(world.channels(session), 1);
    // It is behind twice.
    world.overflow(session);
    world.drained(session);
    world.overflow(session);
    answers(&mut world, keeper, "list", "[3]");
    world.drained(session);
    answers(&mut world, keeper, "list", "[4]");
    assert_eq!(world.seen(session), ["g sync [4] #0 @8"]);
    world.leave(session, "sub");
    assert_eq!(world.channels(session), 0);
}

#[test]
fn a_session_with_a_group_and_its_items_is_sent_each_event_once() {
    let (mut world, caller, keeper) = kept();
    let session = subscriber(&mut world, keeper, "g", "a", "1");
    world.join(session, "whole", "g", "");
    world.join(session, "other", "g", "b");
    assert_eq!(world.channels(session), 1);
    world.returns_to_all(keeper, "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @12", "g/b sync [1] #0 @14"]);
    assert_eq!(world.channels(session), 1);
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.seen(session), ["g/a update 2 #0 @16"]);
    world.leave(session, "whole");
    assert_eq!(world.channels(session), 2);
}

#[test]
fn a_stream_that_becomes_the_servers_starts_its_subscribers_afresh() {
    let (mut world, caller, keeper) = kept();
    let loaded = subscriber(&mut world, keeper, "g", "", "[1]");
    let [loading, behind] = [(); 2].map(|()| world.session());
    world.join(loading, "sub", "g", "");
    world.join(behind, "sub", "g", "");
    world.overflow(behind);
    let list = world.one_call(keeper);
    withdraws(&mut world, keeper, &ALL);
    assert_eq!(world.seen(loaded), ["g sync [] #0 @11"]);
    assert_eq!(world.seen(loading), ["g sync [] #0 @11"]);
    world.returns(keeper, &list, "[2]");
    world.drained(behind);
    assert_eq!(world.seen(behind), ["g sync [] #0 @13"]);
    world.set(caller, "1", "g", "a", "1");
    for session in [loaded, loading, behind] {
        assert_eq!(world.seen(session), ["g/a create 1 #1 @14"]);
        world.leave(session, "sub");
        assert_eq!(world.channels(session), 0);
    }
}

#[test]
fn a_stream_that_becomes_a_workers_starts_its_subscribers_afresh() {
    let mut world = World::in_memory();
    let (caller, session, behind) = (world.worker(), world.session(), world.session());
    for session in [session, behind] {
        world.join(session, "sub", "g", "");
        world.frames(session);
    }
    world.overflow(behind);
    let keeper = world.worker();
    serves(&mut world, keeper, &["set", "get"]);
    assert!(world.heard(keeper).is_empty());
    assert!(world.frames(session).is_empty());
    serves(&mut world, keeper, &["list"]);
    answers(&mut world, keeper, "list", "[1]");
    assert_eq!(world.seen(session), ["g sync [1] #0 @2"]);
    world.drained(behind);
    answers(&mut world, keeper, "list", "[1]");
    world.set(caller, "1", "g", "a", "2");
    answers(&mut world, keeper, "set", r#"{"old_value":1}"#);
    assert_eq!(world.seen(session), ["g/a update 2 #0 @6"]);
    assert_eq!(world.seen(behind), ["g sync [1] #0 @4", "g/a update 2 #0 @6"]);
}

#[test]
fn a_worker_that_comes_back_without_a_function_for_updates_has_its_values_read_changed_and_set() {
    let (mut world, caller, first) = kept();
    world.hangs_up(first);
    let second = keeper(&mut world, &["get", "set"]);
    // It may be about to register it.
    update(&mut world, caller, "1", "[]");
    assert!(world.replies(caller)[0].starts_with("1! function_not_found: "));
    world.pass(30_000);
    world.tick();
    update(&mut world, caller, "2", "[]");
    answers(&mut world, second, "get", "{}");
    answers(&mut world, second, "set", "");
    assert_eq!(world.replies(caller), [r#"2: {"new_value":{},"old_value":{}}"#]);
}

use serde_json::{Value, json};

use crate::oracle::Law;
use crate::oracle::testing::{Tale, change, sent, sync, unauthorized, value};
use crate::trace::What;

const S: &str = "subscriber0#1";
const OTHER: &str = "subscriber1#1";

/// Two that follow the group.
fn two(tale: Tale) -> Tale {
    [S, OTHER].into_iter().fold(tale, |tale, who| {
        let tale = tale.connects(who, "/").joins(who, &format!("of-{who}"), None);
        tale.gets(who, sync(None, 0, 1, &json!([])))
    })
}

/// One that is too slow.
fn overflows(tale: Tale) -> Tale {
    tale.note(S, What::Queued(sent(None, 0, 2, 1))).note(S, What::Overflowed)
}

#[test]
fn an_event_is_queued_for_all_at_one_moment() {
    two(Tale::of_core()).all_get(&[S, OTHER], sent(None, 0, 2, 1)).holds();
    two(Tale::of_core()).all_get(&[S], sent(None, 0, 2, 1)).breaks(Law::SlowIsResynced);
    let late = two(Tale::of_core()).all_get(&[S], sent(None, 0, 2, 1)).all_get(&[OTHER], sent(None, 0, 2, 1));
    late.breaks(Law::SlowIsResynced);
}

#[test]
fn who_left_and_who_follows_another_item_gets_no_event() {
    let tale = two(Tale::of_core()).leaves(OTHER, "of-subscriber1#1", None).joins(OTHER, "i", Some("b"));
    let tale = tale.gets(OTHER, sync(Some("b"), 0, 1, &Value::Null));
    let tale = tale.all_get(&[S], change("create", "a", 1, 2, &value("a", 1)));
    let tale = tale.all_get(&[S, OTHER], change("create", "b", 2, 4, &value("b", 1)));
    tale.all_get(&[S], change("delete", "b", 3, 6, &value("b", 1))).breaks(Law::SlowIsResynced);
}

#[test]
fn no_sent_event_is_skipped_that_anybody_got() {
    let got = |one: &[u64], other: &[u64]| {
        let events = |tale: Tale, who, all: &[u64]| {
            all.iter().fold(tale, |tale, n| tale.gets(who, sent(None, 0, 2 * n, *n)))
        };
        events(events(two(Tale::of_clients()), S, one), OTHER, other)
    };
    got(&[1, 2, 3], &[1, 2, 3]).holds();
    // What came last may be on its way.
    got(&[1, 2], &[1, 2, 3]).holds();
    got(&[1, 3], &[1, 2, 3]).breaks(Law::SlowIsResynced);
}

#[test]
fn who_has_missed_sent_events_is_told_how_many() {
    let resynced = |tale: Tale, told: u64| {
        let mut tale = two(tale);
        for n in [1, 2, 3] {
            tale = tale.calls("worker0#1", "stream::send", json!({}), Value::Null);
            tale = tale.all_get(if n == 1 { &[S, OTHER] } else { &[OTHER] }, sent(None, 0, 2 * n, n));
        }
        let mut state = sync(None, 0, 7, &json!([]));
        state["skipped"] = told.into();
        tale.gets(S, state).gets(S, sent(None, 0, 8, 4))
    };
    resynced(Tale::of_clients(), 2).holds();
    resynced(Tale::of_clients(), 1).breaks(Law::SlowIsResynced);
    resynced(Tale::of_clients(), 3).breaks(Law::SlowIsResynced);
}

#[test]
fn a_slow_subscriber_gets_notices_and_then_the_state() {
    let tale = || overflows(two(Tale::of_core()).leaves(OTHER, "of-subscriber1#1", None));
    let tale = || tale().joins(S, "deny", Some("a")).gets(S, unauthorized(Some("a"))).note(S, What::Resumed);
    let checked = tale().gets(S, sync(None, 0, 3, &json!([]))).closes_with(json!([])).holds();
    assert_eq!(checked.overflows, 1);
    tale().closes_with(json!([])).breaks(Law::SlowIsResynced);
    tale().gets(S, sent(None, 0, 4, 2)).breaks(Law::SlowIsResynced);
}

#[test]
fn nothing_of_a_group_is_queued_for_who_is_not_served_again() {
    let tale =
        || overflows(Tale::of_core().connects(S, "/stream/world/g0").gets(S, sync(None, 0, 1, &json!([]))));
    tale().gets(S, sync(None, 0, 3, &json!([]))).breaks(Law::SlowIsResynced);
    tale().closes_with(json!([])).breaks(Law::SlowIsResynced);
}

#[test]
fn all_that_was_joined_is_told_afresh_before_the_next_event() {
    let tale = || {
        let tale = two(Tale::of_core()).leaves(OTHER, "of-subscriber1#1", None).joins(S, "i", Some("a"));
        overflows(tale.gets(S, sync(Some("a"), 0, 1, &Value::Null))).note(S, What::Resumed)
    };
    let whole = || tale().gets(S, sync(None, 0, 3, &json!([])));
    whole().gets(S, sync(Some("a"), 0, 3, &Value::Null)).gets(S, sent(None, 0, 4, 2)).holds();
    whole().gets(S, sent(None, 0, 4, 2)).breaks(Law::SlowIsResynced);
    whole().leaves(S, "i", Some("a")).gets(S, sent(None, 0, 4, 2)).holds();
}

#[test]
fn what_is_queued_is_got_in_order() {
    let queued = || {
        let tale = two(Tale::of_core()).leaves(OTHER, "of-subscriber1#1", None);
        tale.note(S, What::Queued(sent(None, 0, 2, 1))).note(S, What::Queued(sent(None, 0, 4, 2)))
    };
    let got = |tale: Tale, n| tale.note(S, What::Got(sent(None, 0, 2 * n, n)));
    got(got(queued(), 1), 2).closes_with(json!([])).holds();
    got(queued(), 2).breaks(Law::SlowIsResynced);
    got(queued(), 3).breaks(Law::SlowIsResynced);
    got(queued(), 1).closes_with(json!([])).breaks(Law::Converges);
}

#[test]
fn an_overflow_drops_all_that_waits_or_nothing() {
    let dropped = || {
        let tale = two(Tale::of_core()).leaves(OTHER, "of-subscriber1#1", None);
        let send = |tale: Tale, n| {
            let tale = tale.calls("worker0#1", "stream::send", json!({}), Value::Null);
            tale.note(S, What::Queued(sent(None, 0, 2 * n, n)))
        };
        [1, 2, 3].into_iter().fold(tale, send).note(S, What::Overflowed)
    };
    let got = |tale: Tale, n| tale.note(S, What::Got(sent(None, 0, 2 * n, n)));
    // What had left comes.
    got(got(dropped(), 1), 2).holds();
    got(dropped(), 2).breaks(Law::SlowIsResynced);
    got(got(dropped(), 1), 3).breaks(Law::SlowIsResynced);
    let resumed = || got(dropped(), 1).note(S, What::Resumed);
    resumed().gets(S, sync(None, 0, 7, &json!([]))).holds();
    got(resumed(), 2).breaks(Law::SlowIsResynced);
}

#[test]
fn a_newer_state_takes_the_place_of_one_that_waits() {
    let waits = |message: Value| {
        let tale = Tale::of_core().connects(S, "/").joins(S, "s1", None);
        let tale = tale.note(S, What::Queued(sync(None, 0, 1, &json!([]))));
        let tale = tale.note(S, What::Queued(change("create", "a", 1, 2, &value("a", 1))));
        let tale = tale.note(S, What::Queued(sync(None, 1, 3, &json!([value("a", 1)]))));
        tale.note(S, What::Got(message))
    };
    waits(sync(None, 0, 1, &json!([]))).holds();
    waits(change("create", "a", 1, 2, &value("a", 1))).holds();
    waits(sync(None, 1, 3, &json!([value("a", 1)]))).breaks(Law::SlowIsResynced);
}

#[test]
fn no_more_waits_than_may() {
    // The bound of a tale is 600 bytes.
    let queues = |sizes: &[usize]| {
        let tale = Tale::of_core().connects(S, "/stream/world/g0").gets(S, sync(None, 0, 1, &json!([])));
        sizes.iter().zip(1..).fold(tale, |tale, (size, n)| {
            let mut event = sent(None, 0, 2 * n, n);
            event["event"]["event"]["data"] = json!("x".repeat(*size));
            tale.note(S, What::Queued(event))
        })
    };
    queues(&[100, 100]).holds();
    queues(&[1_000]).holds();
    queues(&[200, 200]).breaks(Law::SlowIsResynced);
}

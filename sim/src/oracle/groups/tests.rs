use serde_json::{Value, json};

use crate::oracle::Law;
use crate::oracle::testing::{Tale, change, sent, sync, sync_of, value};
use crate::trace::{Loss, What};

const S: &str = "subscriber0#1";
const OTHER: &str = "subscriber1#1";
const W: &str = "worker0#1";

/// A subscriber of the group from the beginning.
fn follows(tale: Tale) -> Tale {
    tale.connects(S, "/").joins(S, "s1", None).gets(S, sync(None, 0, 1, &json!([])))
}

fn both() -> [Tale; 2] {
    [Tale::of_core(), Tale::of_clients()]
}

fn a_and_b(tale: Tale) -> Tale {
    let tale = follows(tale).gets(S, change("create", "a", 1, 2, &value("a", 1)));
    tale.gets(S, change("create", "b", 2, 4, &value("b", 2)))
}

#[test]
fn what_is_replayed_is_the_list() {
    for tale in both() {
        let tale = a_and_b(tale).gets(S, change("update", "a", 3, 6, &value("a", 3)));
        let tale = tale.gets(S, change("delete", "b", 4, 8, &value("b", 2)));
        let checked = tale.closes_with(json!([value("a", 3)])).holds();
        assert_eq!((checked.syncs, checked.events), (1, 4));
    }
    for tale in both() {
        a_and_b(tale).closes_with(json!([value("b", 2), value("a", 1)])).breaks(Law::ReplayIsList);
    }
    for tale in both() {
        a_and_b(tale).closes_with(json!([value("a", 1)])).breaks(Law::ReplayIsList);
    }
}

#[test]
fn groups_are_named_that_hold_something() {
    let named = |tale: Tale, values: Value, groups: Value, streams: Value| {
        let closer = "closer#1";
        let tale = tale.closes_with(values).calls(closer, "stream::list_groups", json!({}), groups);
        tale.calls(closer, "stream::list_all", json!({}), json!({"stream": streams, "count": 1}))
    };
    let world = |groups: Value| json!([{"id": "kept", "groups": ["g7"]}, {"id": "world", "groups": groups}]);
    let (some, none) = (json!([value("a", 1)]), json!([]));
    for (values, groups, streams, is_so) in [
        (&some, json!(["g0"]), world(json!(["g0"])), true),
        (&none, json!([]), json!([]), true),
        (&none, json!(["g0"]), json!([]), false),
        (&none, json!([]), world(json!(["g0"])), false),
        (&some, json!([]), world(json!(["g0"])), false),
        (&some, json!(["g0", "g0"]), world(json!(["g0"])), false),
        (&some, json!(["g0", "g1"]), world(json!(["g0"])), false),
        (&some, json!(["g0"]), json!([]), false),
    ] {
        for tale in both() {
            let tale = named(tale, values.clone(), groups.clone(), streams.clone());
            match is_so {
                true => assert_eq!(tale.holds().names, 2),
                false => tale.breaks(Law::Linearizable),
            }
        }
    }
}

#[test]
fn who_follows_an_item_holds_what_the_list_has_of_it() {
    let item = |tale: Tale| {
        let tale = tale.connects(S, "/stream/world/g0/a").gets(S, sync(Some("a"), 0, 1, &Value::Null));
        tale.gets(S, change("create", "a", 3, 4, &value("a", 1)))
    };
    for tale in both() {
        item(tale).closes_with(json!([value("b", 2), value("a", 1)])).holds();
    }
    for tale in both() {
        item(tale).closes_with(json!([value("b", 2)])).breaks(Law::ReplayIsList);
    }
}

#[test]
fn every_revision_comes_once() {
    for (revision, stamp) in [(2, 6), (4, 6), (1, 6)] {
        for tale in both() {
            a_and_b(tale)
                .gets(S, change("update", "a", revision, stamp, &value("a", 3)))
                .breaks(Law::OneOrder);
        }
    }
    for tale in both() {
        a_and_b(tale).gets(S, sent(None, 2, 6, 1)).gets(S, sent(None, 2, 8, 2)).holds();
    }
    for tale in both() {
        a_and_b(tale).gets(S, sent(None, 1, 6, 1)).breaks(Law::OneOrder);
    }
}

#[test]
fn no_change_of_an_item_is_skipped_that_others_see() {
    let both_follow = |tale: Tale| {
        let tale = follows(tale).connects(OTHER, "/").joins(OTHER, "i", Some("a"));
        tale.gets(OTHER, sync(Some("a"), 0, 1, &Value::Null))
    };
    let tale = both_follow(Tale::of_clients()).gets(S, change("create", "a", 1, 2, &value("a", 1)));
    let tale = tale.gets(S, change("update", "a", 2, 4, &value("a", 2)));
    tale.gets(OTHER, change("update", "a", 2, 4, &value("a", 2))).breaks(Law::OneOrder);
    // Also if it turns out later.
    let tale = both_follow(Tale::of_clients()).gets(OTHER, change("update", "a", 2, 4, &value("a", 2)));
    let tale = tale.gets(S, change("create", "a", 1, 2, &value("a", 1)));
    tale.gets(S, change("update", "a", 2, 4, &value("a", 2))).breaks(Law::OneOrder);
}

#[test]
fn a_revision_is_the_same_change_for_everybody() {
    let changed = |tale: Tale, result| {
        let tale = a_and_b(tale).connects(W, "/");
        tale.calls(W, "stream::get", json!({"item_id": "b", "revision": true}), result)
    };
    for tale in both() {
        changed(tale, json!({"value": value("b", 2), "revision": 2})).holds();
    }
    for tale in both() {
        changed(tale, json!({"value": value("b", 9), "revision": 2})).breaks(Law::OneOrder);
    }
    for tale in both() {
        changed(tale, json!({"value": value("b", 2), "revision": 1})).breaks(Law::OneOrder);
    }
}

#[test]
fn handlers_get_the_changes_that_subscribers_get() {
    let handled = |tale: Tale, n| {
        let event = change("create", "b", 2, 4, &value("b", n));
        a_and_b(tale).connects(W, "/").asks("events", event, json!({}))
    };
    handled(Tale::of_core(), 2).holds();
    handled(Tale::of_core(), 3).breaks(Law::OneOrder);
}

#[test]
fn a_sync_is_the_state_after_the_changes_before_it() {
    let joins = |tale: Tale, revision, stamp, data: Value| {
        let tale = a_and_b(tale).connects(OTHER, "/").joins(OTHER, "o", None);
        tale.gets(OTHER, sync(None, revision, stamp, &data))
    };
    for tale in both() {
        joins(tale, 2, 5, json!([value("a", 1), value("b", 2)])).holds();
    }
    for data in [json!([value("a", 1)]), json!([value("b", 2), value("a", 1)])] {
        for tale in both() {
            joins(tale, 2, 5, data.clone()).breaks(Law::ReplayIsList);
        }
    }
    for tale in both() {
        joins(tale, 1, 3, json!([value("a", 1)])).breaks(Law::OneOrder);
    }
    // What nobody has seen may have changed as many items as there are revisions.
    joins(Tale::of_clients(), 3, 7, json!([value("a", 1), value("b", 2), value("c", 3)])).holds();
    joins(Tale::of_clients(), 3, 7, json!([value("c", 3)])).breaks(Law::ReplayIsList);
}

#[test]
fn a_sync_is_judged_again_when_the_changes_before_it_are_known() {
    let late = |data: Value| {
        let tale = follows(Tale::of_clients()).connects(OTHER, "/").joins(OTHER, "o", None);
        let tale = tale.gets(OTHER, sync(None, 1, 3, &data));
        tale.gets(S, change("create", "a", 1, 2, &value("a", 1)))
    };
    late(json!([value("a", 1)])).holds();
    late(json!([value("a", 2)])).breaks(Law::ReplayIsList);
}

#[test]
fn an_item_without_its_name_in_its_value_is_found_by_what_is_told_of_it() {
    let unnamed = |kind, data: Value| {
        let tale = Tale::of_core().connects(S, "/").joins(S, "s1", None);
        let tale = tale.gets(S, sync(None, 5, 9, &json!([{"n": 1}, value("b", 2)])));
        tale.gets(S, change(kind, "a", 6, 10, &data))
    };
    unnamed("update", json!({"n": 4})).closes_with(json!([{"n": 4}, value("b", 2)])).holds();
    unnamed("delete", json!({"n": 1})).closes_with(json!([value("b", 2)])).holds();
    unnamed("delete", json!({"n": 2})).breaks(Law::ReplayIsList);
    unnamed("create", json!({"n": 4}))
        .closes_with(json!([{"n": 4}, value("b", 2)]))
        .breaks(Law::ReplayIsList);
}

#[test]
fn what_happens_to_an_item_fits_what_it_was() {
    for tale in both() {
        a_and_b(tale).gets(S, change("create", "a", 3, 6, &value("a", 3))).breaks(Law::ReplayIsList);
    }
    for tale in both() {
        a_and_b(tale).gets(S, change("update", "c", 3, 6, &value("c", 3))).breaks(Law::ReplayIsList);
    }
    for tale in both() {
        a_and_b(tale).gets(S, change("delete", "a", 3, 6, &value("a", 3))).breaks(Law::ReplayIsList);
    }
}

#[test]
fn nothing_comes_before_the_state() {
    for tale in both() {
        let tale = tale.connects(S, "/").joins(S, "s1", None);
        tale.gets(S, change("create", "a", 1, 2, &value("a", 1))).breaks(Law::ReplayIsList);
    }
}

#[test]
fn who_waits_for_its_state_gets_it_in_the_end() {
    for tale in both() {
        let tale = tale.connects(S, "/").joins(S, "s1", None).connects(OTHER, "/").joins(OTHER, "o", None);
        let tale = tale.gets(OTHER, sync(None, 0, 1, &json!([])));
        tale.closes_with(json!([])).breaks(Law::Converges);
    }
}

#[test]
fn a_read_is_no_older_than_what_was_seen_before() {
    let reads = |tale: Tale, result: Value| {
        let tale = a_and_b(tale).gets(S, change("update", "a", 3, 6, &value("a", 3))).connects(W, "/");
        tale.calls(W, "stream::get", json!({"item_id": "a", "revision": true}), result)
    };
    for tale in both() {
        reads(tale, json!({"value": value("a", 3), "revision": 3})).holds();
    }
    for tale in both() {
        reads(tale, json!({"value": value("a", 1), "revision": 1})).breaks(Law::OneOrder);
    }
    let gone = json!({"value": null, "revision": 0});
    let listed = json!([value("a", 3), value("b", 2)]);
    reads(Tale::of_core(), gone).closes_with(listed).breaks(Law::OneOrder);
}

#[test]
fn a_list_is_a_state_of_the_group_after_what_was_seen_before() {
    let lists = |tale: Tale, values: Value| {
        let tale = a_and_b(tale).connects(W, "/").calls(W, "stream::list", json!({}), values);
        tale.closes_with(json!([value("a", 1), value("b", 2)]))
    };
    for tale in both() {
        lists(tale, json!([value("a", 1), value("b", 2)])).holds();
    }
    for values in [json!([value("a", 1)]), json!([value("b", 2), value("a", 1)])] {
        for tale in both() {
            lists(tale, values.clone()).breaks(Law::ReplayIsList);
        }
    }
}

#[test]
fn a_change_comes_after_what_was_seen_before_its_call() {
    let changes = |tale: Tale, revision| {
        let data = json!({"item_id": "c", "data": value("c", 3), "revision": true});
        let result = json!({"old_value": null, "new_value": value("c", 3), "revision": revision});
        a_and_b(tale).connects(W, "/").calls(W, "stream::set", data, result)
    };
    for tale in both() {
        changes(tale, 3).holds();
    }
    for tale in both() {
        changes(tale, 2).breaks(Law::OneOrder);
    }
}

#[test]
fn a_conflict_tells_what_is_there() {
    let conflicts = |revision, n| {
        let conflict =
            json!({"code": "STREAM_CONFLICT", "message": "", "revision": revision, "value": value("b", n)});
        let data = json!({"item_id": "b", "data": value("b", 3), "expect": {"revision": 0}});
        a_and_b(Tale::of_core()).connects(W, "/").calls(W, "stream::set", data, conflict)
    };
    conflicts(2, 2).holds();
    conflicts(2, 1).breaks(Law::OneOrder);
}

#[test]
fn what_was_seen_survives_a_crash() {
    let after = |tale: Tale, revision, data: Value| {
        let tale =
            a_and_b(tale).note("server#0", What::Crashed(Loss::Power)).note("server#0", What::Restarted);
        let tale = tale.note(S, What::Lost).connects("subscriber0#2", "/stream/world/g0");
        tale.gets("subscriber0#2", sync(None, revision, 9, &data))
    };
    for tale in both() {
        after(tale, 2, json!([value("a", 1), value("b", 2)])).holds();
    }
    for tale in both() {
        after(tale, 1, json!([value("a", 1)])).breaks(Law::SeenIsDurable);
    }
    for tale in both() {
        after(tale, 2, json!([value("a", 1), value("b", 3)])).breaks(Law::SeenIsDurable);
    }
}

#[test]
fn a_revision_is_the_same_change_after_a_crash() {
    let tale = a_and_b(Tale::of_core()).crashes().note(S, What::Lost).connects(W, "/");
    let result = json!({"value": value("b", 3), "revision": 2});
    let tale = tale.calls(W, "stream::get", json!({"item_id": "b", "revision": true}), result);
    tale.breaks(Law::SeenIsDurable);
}

#[test]
fn what_the_closer_lists_is_there_after_the_last_crash() {
    let tale =
        || a_and_b(Tale::of_core()).closes_with(json!([value("a", 1), value("b", 2)])).ends(S).crashes();
    let tale = || tale().connects("closer#1", "/");
    tale().closes_with(json!([value("a", 1), value("b", 2)])).holds();
    tale().closes_with(json!([value("a", 1)])).breaks(Law::SeenIsDurable);
}

#[test]
fn stamps_increase() {
    for stamp in [3, 4] {
        let tale = a_and_b(Tale::of_clients());
        tale.gets(S, change("update", "a", 3, stamp, &value("a", 3))).breaks(Law::StampsIncrease);
    }
    // Two things never share one, whoever is told of them, and a later change is stamped later.
    let two = |stamp| {
        let tale = a_and_b(Tale::of_core()).connects(W, "/");
        tale.asks("events", change("create", "c", 3, stamp, &value("c", 3)), json!({}))
    };
    two(6).holds();
    two(4).breaks(Law::StampsIncrease);
    two(3).breaks(Law::StampsIncrease);
    // A sync is stamped after the event before it.
    for tale in both() {
        let tale = a_and_b(tale).joins(S, "s2", None);
        tale.gets(S, sync(None, 2, 4, &json!([value("a", 1), value("b", 2)]))).breaks(Law::StampsIncrease);
    }
}

#[test]
fn the_epoch_changes_with_the_history_only() {
    let after = |tale: Tale, epoch, revision, values: Value| {
        let tale = tale.crashes().note(S, What::Lost).connects("subscriber0#2", "/");
        let tale = tale.joins("subscriber0#2", "s1", None);
        tale.gets("subscriber0#2", sync_of(epoch, revision, 5, &values))
    };
    let changed = |tale: Tale, epoch| after(a_and_b(tale), epoch, 2, json!([value("a", 1), value("b", 2)]));
    let written = |tale: Tale, epoch| {
        let data = json!({"item_id": "a", "data": value("a", 1)});
        let result = json!({"old_value": null, "new_value": value("a", 1)});
        let tale = follows(tale).connects(W, "/").calls(W, "stream::set", data, result);
        after(tale, epoch, 1, json!([value("a", 1)]))
    };
    for tale in both() {
        changed(tale, "e").holds();
    }
    for tale in both() {
        changed(tale, "f").breaks(Law::EpochNamesHistory);
    }
    for tale in both() {
        changed(tale.with_new_epochs(), "f").holds();
    }
    for tale in both() {
        changed(tale.with_new_epochs(), "e").breaks(Law::EpochNamesHistory);
    }
    for tale in both() {
        written(tale.with_new_epochs(), "e").breaks(Law::EpochNamesHistory);
    }
    for tale in both() {
        // Nothing was written: there is nothing that could have been lost.
        after(follows(tale.with_new_epochs()), "e", 0, json!([])).holds();
    }
}

#[test]
fn a_stop_in_good_order_keeps_the_epoch() {
    let stops = |epoch| {
        let tale = follows(Tale::of_core().with_new_epochs());
        let tale = tale.note("server#0", What::Stopped).note("server#0", What::Restarted).note(S, What::Lost);
        let tale = tale.connects("subscriber0#2", "/").joins("subscriber0#2", "s1", None);
        tale.gets("subscriber0#2", sync_of(epoch, 0, 1, &json!([])))
    };
    stops("e").holds();
    stops("f").breaks(Law::EpochNamesHistory);
}

#[test]
fn a_server_that_dies_while_it_stops_may_have_closed_its_log() {
    let dies = |tale: Tale| {
        let data = json!({"item_id": "a", "data": value("a", 1)});
        let result = json!({"old_value": null, "new_value": value("a", 1)});
        let tale = tale.calls(W, "stream::set", data, result).crashes().note(S, What::Lost);
        let tale = tale.connects("subscriber0#2", "/").joins("subscriber0#2", "s1", None);
        tale.gets("subscriber0#2", sync_of("e", 1, 5, &json!([value("a", 1)])))
    };
    let begins = || follows(Tale::of_core().with_new_epochs()).connects(W, "/");
    dies(begins().note("server#0", What::Stops("it is told".to_owned()))).holds();
    dies(begins().note("server#0", What::Did("step 1: stop".to_owned()))).breaks(Law::EpochNamesHistory);
}

#[test]
fn after_a_disk_failed_a_stop_may_lose_the_epoch() {
    let stops = |what| {
        let tale = follows(Tale::of_core().with_new_epochs()).note("server#0", what);
        let tale = tale.note("server#0", What::Stopped).note("server#0", What::Restarted).note(S, What::Lost);
        let tale = tale.connects("subscriber0#2", "/").joins("subscriber0#2", "s1", None);
        tale.gets("subscriber0#2", sync_of("f", 0, 1, &json!([])))
    };
    stops(What::DiskFailed).holds();
    stops(What::Did("has a failing disk".to_owned())).breaks(Law::EpochNamesHistory);
}

#[test]
fn who_leaves_the_group_goes_on_with_its_items() {
    let left = |tale: Tale| {
        let tale = a_and_b(tale).joins(S, "i", Some("a"));
        tale.gets(S, sync(Some("a"), 2, 5, &value("a", 1))).leaves(S, "s1", None)
    };
    for tale in both() {
        left(tale).gets(S, change("update", "a", 4, 8, &value("a", 4))).holds();
    }
    // It had this before.
    left(Tale::of_core()).gets(S, change("update", "a", 2, 8, &value("a", 4))).breaks(Law::OneOrder);
}

#[test]
fn the_first_of_two_states_may_be_replaced_by_the_second() {
    let tale = || Tale::of_clients().connects(S, "/").joins(S, "s1", None).joins(S, "s1", None);
    let tale = || tale().gets(S, change("create", "a", 1, 2, &value("a", 1)));
    tale().gets(S, sync(None, 1, 3, &json!([value("a", 1)]))).holds();
    tale().gets(S, sync(None, 1, 3, &json!([value("a", 2)]))).breaks(Law::ReplayIsList);
}

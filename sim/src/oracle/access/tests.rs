use serde_json::{Value, json};

use crate::oracle::Law;
use crate::oracle::testing::{Tale, change, error, sent, sync, unauthorized, value};
use crate::trace::What;

const S: &str = "subscriber0#1";
const W: &str = "worker0#1";

fn both() -> [Tale; 2] {
    [Tale::of_core(), Tale::of_clients()]
}

fn empty() -> Value {
    sync(None, 0, 1, &json!([]))
}

/// A worker whose function decides about joins.
fn guarded(tale: Tale) -> Tale {
    let trigger = json!({
        "type": "registertrigger", "id": "t", "trigger_type": "stream:join", "function_id": "gate", "config": {},
    });
    tale.connects(W, "/").sends(W, trigger).connects(S, "/")
}

fn gate_says(tale: Tale, id: &str, item: Option<&str>, result: Value) -> Tale {
    let data =
        json!({"subscription_id": id, "stream_name": "world", "group_id": "g0", "id": item, "context": null});
    tale.asks("gate", data, result)
}

/// A worker that says who may connect.
fn auth_says(tale: Tale, result: Value) -> Tale {
    let data = json!({"headers": {}, "path": "/", "query_params": {}, "addr": format!("{S}:1")});
    tale.connects(W, "/").connects(S, "/").asks("auth", data, result).joins(S, "s1", None)
}

#[test]
fn nobody_gets_what_it_has_not_joined() {
    for tale in both() {
        tale.connects(S, "/").gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        let tale = tale.connects(S, "/").joins(S, "s1", Some("a"));
        tale.gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        tale.connects(S, "/").gets(S, sent(None, 0, 2, 1)).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        tale.connects(S, "/stream/world/g0?token=good").gets(S, empty()).holds();
    }
    for tale in both() {
        tale.connects(S, "/").gets(S, error("bad_frame", None)).holds();
    }
}

#[test]
fn who_follows_an_item_gets_nothing_else_of_the_group() {
    let follows = |tale: Tale| {
        let tale = tale.connects(S, "/stream/world/g0/a");
        tale.gets(S, sync(Some("a"), 0, 1, &Value::Null))
    };
    for tale in both() {
        follows(tale).gets(S, change("create", "a", 1, 2, &value("a", 1))).holds();
    }
    for tale in both() {
        follows(tale).gets(S, change("create", "b", 1, 2, &value("b", 1))).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        follows(tale).gets(S, sent(None, 0, 2, 1)).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        follows(tale).gets(S, sync(Some("b"), 0, 1, &Value::Null)).breaks(Law::OnlyWhatIsAllowed);
    }
}

#[test]
fn nothing_comes_after_the_leave() {
    let left = |tale: Tale| {
        let tale = tale.connects(S, "/").joins(S, "s1", None).gets(S, empty());
        tale.leaves(S, "s1", None)
    };
    left(Tale::of_core()).gets(S, sent(None, 0, 2, 1)).breaks(Law::OnlyWhatIsAllowed);
    // It may have been sent before the leave was heard.
    left(Tale::of_clients()).gets(S, sent(None, 0, 2, 1)).holds();
    let other = Tale::of_core().connects(S, "/").joins(S, "s1", None).gets(S, empty());
    let other = other.joins(S, "s2", None).gets(S, empty()).leaves(S, "s1", None);
    other.gets(S, sent(None, 0, 2, 1)).holds();
}

#[test]
fn nothing_comes_for_who_is_gone() {
    let gone = Tale::of_core().connects(S, "/").joins(S, "s1", None).note(S, What::Gone);
    gone.note(S, What::Queued(empty())).breaks(Law::OnlyWhatIsAllowed);
}

#[test]
fn a_refused_join_gets_unauthorized_and_no_more() {
    let refused = |tale: Tale| tale.connects(S, "/").joins(S, "s1", None).gets(S, unauthorized(None));
    for tale in both() {
        assert_eq!(refused(tale).holds().unauthorized, 1);
    }
    for tale in both() {
        refused(tale).gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        refused(tale).gets(S, unauthorized(None)).breaks(Law::OnlyWhatIsAllowed);
    }
    for tale in both() {
        refused(tale).joins(S, "s1", None).gets(S, empty()).holds();
    }
}

#[test]
fn an_open_subscription_is_not_refused() {
    let open = || Tale::of_core().connects(S, "/").joins(S, "s1", None).gets(S, empty());
    open().gets(S, unauthorized(None)).breaks(Law::OnlyWhatIsAllowed);
    open().joins(S, "s2", None).gets(S, unauthorized(None)).gets(S, sent(None, 0, 2, 1)).holds();
}

#[test]
fn what_a_gate_has_denied_is_not_served() {
    let decided = |result: Value| {
        let tale = guarded(Tale::of_core()).joins(S, "s1", None);
        gate_says(tale, "s1", None, result)
    };
    decided(json!({})).gets(S, empty()).holds();
    decided(json!({"unauthorized": true})).gets(S, unauthorized(None)).holds();
    decided(json!({"unauthorized": true})).gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
    let again = decided(json!({"unauthorized": true})).gets(S, unauthorized(None)).joins(S, "s1", None);
    gate_says(again, "s1", None, json!({})).gets(S, empty()).holds();
}

#[test]
fn a_gate_decides_about_one_subscription() {
    let two = || guarded(Tale::of_core()).joins(S, "s1", None).joins(S, "s2", Some("a"));
    let denied = || gate_says(two(), "s2", Some("a"), json!({"unauthorized": true}));
    denied().gets(S, unauthorized(Some("a"))).gets(S, empty()).holds();
    denied().gets(S, sync(Some("a"), 0, 1, &Value::Null)).breaks(Law::OnlyWhatIsAllowed);
}

#[test]
fn who_is_not_vouched_for_gets_unauthorized_alone() {
    let said = |result| auth_says(Tale::of_core(), result);
    said(json!({"context": {}})).gets(S, empty()).holds();
    for refusal in [json!({"unauthorized": true}), json!("good")] {
        said(refusal.clone()).gets(S, unauthorized(None)).holds();
        said(refusal).gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
    }
}

#[test]
fn where_somebody_has_to_vouch_nobody_is_served_before() {
    let early = || Tale::of_core().connects("subscriber1#1", "/stream/world/g0");
    let early = || early().gets("subscriber1#1", empty());
    early().holds();
    auth_says(early(), json!({"context": {}})).breaks(Law::OnlyWhatIsAllowed);
}

#[test]
fn a_join_that_is_one_too_many_is_none() {
    let tale = || Tale::of_core().connects(S, "/").joins(S, "s1", Some("a")).joins(S, "s2", None);
    let tale = || tale().gets(S, error("too_many_subscriptions", None));
    tale().gets(S, sync(Some("a"), 0, 1, &Value::Null)).holds();
    tale().gets(S, empty()).breaks(Law::OnlyWhatIsAllowed);
}

#[test]
fn who_was_refused_under_a_name_may_use_it_for_something_else() {
    let two = || Tale::of_core().connects(S, "/").joins(S, "s1", None).joins(S, "s2", None);
    // It is not known which of the two was refused.
    let refused = || two().gets(S, unauthorized(None));
    let state = || sync(Some("a"), 0, 1, &Value::Null);
    refused().joins(S, "s1", Some("a")).gets(S, state()).holds();
    refused().leaves(S, "s2", None).joins(S, "s1", Some("a")).gets(S, state()).holds();
    let beside = refused().joins(S, "s1", Some("a")).joins(S, "s3", Some("a")).leaves(S, "s3", Some("a"));
    beside.gets(S, unauthorized(Some("a"))).holds();
    two().leaves(S, "s2", None).joins(S, "s1", Some("a")).gets(S, state()).breaks(Law::OnlyWhatIsAllowed);
}

#[test]
fn a_gate_that_allows_one_join_says_nothing_of_the_next_refusal() {
    let two = guarded(Tale::of_core()).joins(S, "s1", None).joins(S, "s2", None);
    // The gate's time was up for the second.
    let refused = gate_says(two, "s1", None, json!({})).gets(S, unauthorized(None));
    refused.leaves(S, "s2", None).gets(S, empty()).holds();
}

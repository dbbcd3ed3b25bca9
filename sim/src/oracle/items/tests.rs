use serde_json::{Value, json};

use super::Items;
use crate::oracle::script::{Script, answer, call, failure};
use crate::oracle::{Checked, Law, Violation};
use crate::trace::{What, Who};

mod random;

fn a() -> Who {
    Who::new("worker0", 1)
}

fn b() -> Who {
    Who::new("worker1", 1)
}

/// What is asked of the item `r` in the group `g0`.
fn data(more: &Value) -> Value {
    let mut data = json!({"stream_name": "world", "group_id": "g0", "item_id": "r"});
    for (key, value) in more.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    data
}

fn value(n: u64) -> Value {
    json!({"id": "r", "n": n})
}

fn set(id: &str, n: u64) -> Value {
    call(id, "stream::set", data(&json!({"data": value(n)})))
}

fn was_set(id: &str, old: Value, n: u64) -> Value {
    let mut result = json!({"new_value": value(n)});
    result["old_value"] = old;
    answer(id, "stream::set", result)
}

fn add(id: &str, by: i64) -> Value {
    call(id, "stream::update", data(&json!({"ops": [{"type": "increment", "path": "n", "by": by}]})))
}

fn was_added(id: &str, old: u64, new: u64) -> Value {
    answer(id, "stream::update", json!({"old_value": value(old), "new_value": value(new)}))
}

fn get(id: &str) -> Value {
    call(id, "stream::get", data(&json!({})))
}

fn found(id: &str, n: u64) -> Value {
    answer(id, "stream::get", value(n))
}

fn found_nothing(id: &str) -> Value {
    json!({"type": "invocationresult", "invocation_id": id, "function_id": "stream::get"})
}

fn unknown(id: &str) -> Value {
    let error = json!({"code": "STREAM_SET_ERROR", "message": "outcome_unknown: the store failed to write"});
    failure(id, "stream::set", error)
}

fn refused(id: &str) -> Value {
    failure(
        id,
        "stream::set",
        json!({"code": "STREAM_SET_ERROR", "message": "nothing was written: it is full"}),
    )
}

fn law(checked: Result<Checked, Violation>) -> Option<Law> {
    checked.err().map(|violation| violation.law)
}

/// A trace for this oracle.
fn script(tells_server: bool) -> Script {
    Script::new(tells_server, |rules| Box::new(Items::new(rules)))
}

/// Both kinds of traces, in which both workers are connected.
fn scripts() -> [Script; 2] {
    [true, false].map(|tells_server| {
        let mut script = script(tells_server);
        script.connects(&a()).connects(&b());
        script
    })
}

#[test]
fn what_was_written_is_read() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), was_set("1", Value::Null, 5));
        script.says(&b(), get("2")).hears(&b(), found("2", 5));
        assert_eq!(script.check().map(|checked| checked.histories), Ok(1));
        script.says(&b(), get("3")).hears(&b(), found_nothing("3"));
        assert_eq!(law(script.check()), Some(Law::Linearizable));
    }
}

#[test]
fn an_acknowledged_write_survives_a_crash() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), was_set("1", Value::Null, 5));
        script.crashes().loses(&a()).connects(&Who::new("worker0", 2));
        script.says(&Who::new("worker0", 2), get("2"));
        let kept = script.clone().hears(&Who::new("worker0", 2), found("2", 5)).check();
        assert_eq!(kept.map(|checked| checked.histories), Ok(1));
        let lost = script.hears(&Who::new("worker0", 2), found_nothing("2")).check();
        assert_eq!(law(lost), Some(Law::AcknowledgedSurvives));
    }
}

#[test]
fn an_answer_that_only_the_server_knows_of_is_binding() {
    let mut script = script(true);
    script.connects(&a()).says(&a(), set("1", 5));
    script.note(&a(), What::Queued(was_set("1", Value::Null, 5))).crashes();
    script.says(&b(), get("2")).hears(&b(), found_nothing("2"));
    assert_eq!(law(script.check()), Some(Law::AcknowledgedSurvives));
}

#[test]
fn a_write_whose_connection_was_lost_may_have_happened_or_not() {
    for script in scripts() {
        for (happened, then) in [(true, 5), (false, 1)] {
            let mut script = script.clone();
            script.says(&a(), set("0", 1)).hears(&a(), was_set("0", Value::Null, 1));
            script.says(&a(), set("1", 5)).loses(&a());
            script.says(&b(), get("2")).hears(&b(), found("2", then));
            assert_eq!(law(script.check()), None);
            // Once it was seen, it stays.
            script.says(&b(), get("3")).hears(&b(), found("3", 1));
            assert_eq!(law(script.check()), happened.then_some(Law::Linearizable));
        }
    }
}

#[test]
fn a_write_from_before_a_crash_does_not_happen_after_it() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).crashes().loses(&a());
        let (mut late, b) = (script.clone(), Who::new("worker1", 2));
        script.connects(&b).says(&b, get("2")).hears(&b, found("2", 5));
        assert_eq!(law(script.check()), None);
        late.connects(&b).says(&b, get("2")).hears(&b, found_nothing("2"));
        late.says(&b, get("3")).hears(&b, found("3", 5));
        assert_eq!(law(late.check()), Some(Law::Linearizable));
    }
}

#[test]
fn a_write_that_was_never_taken_has_not_happened() {
    let mut script = script(true);
    script.connects(&a()).sends(&a(), set("1", 5)).loses(&a());
    script.says(&b(), get("2"));
    assert_eq!(law(script.clone().hears(&b(), found_nothing("2")).check()), None);
    assert_eq!(law(script.hears(&b(), found("2", 5)).check()), Some(Law::Linearizable));
}

#[test]
fn a_write_sent_to_a_process_that_is_gone_has_not_happened() {
    let mut script = script(false);
    script.connects(&a()).crashes().sends(&a(), set("1", 5)).note(&a(), What::Lost);
    script.says(&b(), get("2")).hears(&b(), found("2", 5));
    assert_eq!(law(script.check()), Some(Law::Linearizable));
}

#[test]
fn a_write_that_was_refused_has_not_happened() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), refused("1")).says(&b(), get("2"));
        assert_eq!(law(script.clone().hears(&b(), found_nothing("2")).check()), None);
        assert_eq!(law(script.hears(&b(), found("2", 5)).check()), Some(Law::Linearizable));
    }
}

#[test]
fn a_write_that_failed_on_the_disk_may_surface_until_another_succeeds() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), unknown("1"));
        let mut other = script.clone();
        script.crashes().loses(&b());
        let late = Who::new("worker1", 2);
        script.connects(&late).says(&late, get("2")).hears(&late, found("2", 5));
        assert_eq!(law(script.check()), None);

        let elsewhere = json!({"stream_name": "world", "group_id": "g1", "item_id": "q", "data": {"n": 9}});
        other.says(&b(), call("8", "stream::set", elsewhere));
        other.hears(&b(), answer("8", "stream::set", json!({"old_value": null, "new_value": {"n": 9}})));
        other.crashes().loses(&b()).connects(&late).says(&late, get("2")).hears(&late, found("2", 5));
        assert_eq!(law(other.check()), Some(Law::Linearizable));
    }
}

#[test]
fn increments_from_everywhere_add_up() {
    for mut script in scripts() {
        script.says(&a(), set("0", 10)).hears(&a(), was_set("0", Value::Null, 10));
        script.says(&a(), add("1", 1)).says(&b(), add("2", 2));
        script.hears(&b(), was_added("2", 10, 12)).says(&b(), add("3", 3)).loses(&b());
        let mut lost = script.clone();
        script.hears(&a(), was_added("1", 12, 13)).says(&a(), get("4"));
        for sum in 10..20 {
            let judged = script.clone().hears(&a(), found("4", sum)).check();
            assert_eq!(law(judged), (![13, 16].contains(&sum)).then_some(Law::Linearizable), "{sum}");
        }
        assert_eq!(law(lost.hears(&a(), was_added("1", 10, 11)).check()), Some(Law::Linearizable));
    }
}

fn set_expecting(id: &str, n: u64, expect: &Value) -> Value {
    call(id, "stream::set", data(&json!({"data": value(n), "expect": expect})))
}

fn was_set_at(id: &str, old: Value, n: u64, revision: u64) -> Value {
    let mut answer = was_set(id, old, n);
    answer["result"]["revision"] = json!(revision);
    answer
}

fn conflict(id: &str, n: u64, revision: u64) -> Value {
    let error = json!({"code": "STREAM_CONFLICT", "message": "no", "revision": revision, "value": value(n)});
    failure(id, "stream::set", error)
}

#[test]
fn a_conflict_tells_the_item_as_it_is_and_is_one() {
    for mut script in scripts() {
        script.says(&a(), set_expecting("1", 5, &json!({"revision": 0})));
        script.hears(&a(), was_set_at("1", Value::Null, 5, 3));
        script.says(&b(), set_expecting("2", 6, &json!({"revision": 2})));
        assert_eq!(law(script.clone().hears(&b(), conflict("2", 5, 3)).check()), None);
        for told in [conflict("2", 5, 2), conflict("2", 4, 3), was_set_at("2", value(5), 6, 4)] {
            assert!(law(script.clone().hears(&b(), told.clone()).check()).is_some(), "{told}");
        }
        let mut met = script.clone();
        met.says(&a(), set_expecting("3", 7, &json!({"value": value(5)})));
        assert_eq!(law(met.clone().hears(&a(), was_set_at("3", value(5), 7, 4)).check()), None);
        assert_eq!(law(met.hears(&a(), conflict("3", 5, 3)).check()), Some(Law::Linearizable));
    }
}

#[test]
fn the_revisions_of_an_item_increase() {
    for mut script in scripts() {
        let get_at = |id| call(id, "stream::get", data(&json!({"revision": true})));
        let found_at = |id, n, at: u64| answer(id, "stream::get", json!({"value": value(n), "revision": at}));
        script.says(&a(), set_expecting("1", 5, &json!({"revision": 0})));
        script.hears(&a(), was_set_at("1", Value::Null, 5, 3));
        script.says(&a(), set("2", 6)).hears(&a(), was_set("2", value(5), 6)).says(&b(), get_at("3"));
        assert_eq!(law(script.clone().hears(&b(), found_at("3", 6, 4)).check()), None);
        assert_eq!(law(script.clone().hears(&b(), found_at("3", 6, 9)).check()), None);
        assert!(law(script.clone().hears(&b(), found_at("3", 6, 3)).check()).is_some());
        script.hears(&b(), found_at("3", 6, 9)).says(&a(), set_expecting("4", 7, &json!({"revision": 9})));
        assert_eq!(law(script.clone().hears(&a(), was_set_at("4", value(6), 7, 10)).check()), None);
        assert!(law(script.hears(&a(), was_set_at("4", value(6), 7, 9)).check()).is_some());
    }
}

#[test]
fn what_was_deleted_is_gone() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), was_set("1", Value::Null, 5));
        script.says(&a(), call("2", "stream::delete", data(&json!({}))));
        script
            .hears(&a(), answer("2", "stream::delete", json!({"old_value": value(5)})))
            .says(&b(), get("3"));
        assert_eq!(law(script.clone().hears(&b(), found_nothing("3")).check()), None);
        assert_eq!(law(script.hears(&b(), found("3", 5)).check()), Some(Law::Linearizable));
    }
}

fn list(id: &str, revision: bool) -> Value {
    call(id, "stream::list", json!({"stream_name": "world", "group_id": "g0", "revision": revision}))
}

#[test]
fn a_list_reads_every_item() {
    for mut script in scripts() {
        script.says(&a(), set("1", 5)).hears(&a(), was_set("1", Value::Null, 5)).says(&b(), list("2", false));
        let is_so =
            |listed: Value| law(script.clone().hears(&b(), answer("2", "stream::list", listed)).check());
        assert_eq!(is_so(json!([value(5)])), None);
        for wrong in [
            json!([]),
            json!([value(4)]),
            json!([value(5), value(5)]),
            json!([value(5), {"id": "other", "n": 1}]),
            json!([{"n": 5}]),
        ] {
            assert_eq!(is_so(wrong.clone()), Some(Law::Linearizable), "{wrong}");
        }
    }
}

#[test]
fn a_list_may_show_a_value_without_an_id() {
    for mut script in scripts() {
        let number = |n| json!({"n": n});
        script.says(&a(), add("1", 4));
        script.hears(&a(), answer("1", "stream::update", json!({"old_value": null, "new_value": number(4)})));
        script.says(&b(), list("2", false));
        let is_so = |listed| law(script.clone().hears(&b(), answer("2", "stream::list", listed)).check());
        assert_eq!(is_so(json!([number(4)])), None);
        assert_eq!(is_so(json!([number(3)])), Some(Law::Linearizable));
        assert_eq!(is_so(json!([])), Some(Law::Linearizable));
    }
}

#[test]
fn a_list_is_of_one_moment() {
    for mut script in scripts() {
        let to = |id: &str, item: &str, n: u64| {
            let data = json!({"stream_name": "world", "group_id": "g0", "item_id": item, "revision": true,
                "data": {"id": item, "n": n}});
            call(id, "stream::set", data)
        };
        let done = |id: &str, item: &str, old: Value, n: u64, revision: u64| {
            let new = json!({"id": item, "n": n});
            answer(id, "stream::set", json!({"old_value": old, "new_value": new, "revision": revision}))
        };
        script.says(&a(), to("1", "p", 1)).hears(&a(), done("1", "p", Value::Null, 1, 1));
        script.says(&a(), to("2", "q", 2)).hears(&a(), done("2", "q", Value::Null, 2, 2));
        let entry =
            |item: &str, n: u64, at: u64| json!({"id": item, "value": {"id": item, "n": n}, "revision": at});
        script.says(&b(), list("5", true));
        script.says(&a(), to("3", "p", 3)).hears(&a(), done("3", "p", json!({"id": "p", "n": 1}), 3, 3));
        script.says(&a(), to("4", "q", 4)).hears(&a(), done("4", "q", json!({"id": "q", "n": 2}), 4, 4));
        let is_so = |p: Value, q: Value| {
            law(script.clone().hears(&b(), answer("5", "stream::list", json!([p, q]))).check())
        };
        assert_eq!(is_so(entry("p", 1, 1), entry("q", 2, 2)), None);
        assert_eq!(is_so(entry("p", 3, 3), entry("q", 2, 2)), None);
        assert_eq!(is_so(entry("p", 3, 3), entry("q", 4, 4)), None);
        assert_eq!(is_so(entry("p", 1, 1), entry("q", 4, 4)), Some(Law::Linearizable));
    }
}

#[test]
fn a_revision_is_one_change_of_one_item() {
    for mut script in scripts() {
        script.says(&a(), set_expecting("1", 5, &json!({"revision": 0})));
        script.hears(&a(), was_set_at("1", Value::Null, 5, 3));
        let other =
            json!({"stream_name": "world", "group_id": "g0", "item_id": "q", "data": {}, "revision": true});
        script.says(&b(), call("2", "stream::set", other));
        let told = json!({"old_value": null, "new_value": {}, "revision": 3});
        assert_eq!(
            law(script.hears(&b(), answer("2", "stream::set", told)).check()),
            Some(Law::Linearizable)
        );
    }
}

#[test]
fn what_a_worker_keeps_itself_is_not_judged() {
    for mut script in scripts() {
        let mut kept = get("1");
        kept["data"]["stream_name"] = json!("kept");
        script.says(&a(), kept).hears(&a(), found("1", 5));
        assert_eq!(script.check().map(|checked| checked.histories), Ok(0));
    }
}

#[test]
fn what_nobody_can_judge_is_counted() {
    for mut script in scripts() {
        let ops = json!([{"type": "unheard-of", "path": "n"}]);
        let other = call("1", "stream::update", data(&json!({"ops": ops})));
        script.says(&a(), other).loses(&a()).says(&b(), get("2")).hears(&b(), found("2", 5));
        let checked = script.check().map(|checked| (checked.histories, checked.undecided));
        assert_eq!(checked, Ok((0, 1)));
    }
}

#[test]
fn a_call_that_wants_no_answer_may_have_happened() {
    for mut script in scripts() {
        let mut void = set("1", 5);
        void["invocation_id"] = Value::Null;
        script.says(&a(), void).says(&b(), get("2")).hears(&b(), found_nothing("2"));
        script.says(&b(), get("3")).hears(&b(), found("3", 5));
        assert_eq!(law(script.check()), None);
        script.says(&b(), get("4")).hears(&b(), found_nothing("4"));
        assert_eq!(law(script.check()), Some(Law::Linearizable));
    }
}

#[test]
fn a_violation_shows_what_led_to_it() {
    let mut script = script(true);
    script.says(&a(), set("1", 5)).hears(&a(), was_set("1", Value::Null, 5));
    script.says(&b(), get("2")).hears(&b(), found_nothing("2"));
    let how = script.check().expect_err("a stale read").how;
    for part in [r#"g0 r may have been {"id":"r","n":5}"#, "worker1#1", "read: found nothing", "null became"]
    {
        assert!(how.contains(part), "{how}");
    }
}

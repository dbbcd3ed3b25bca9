use serde_json::{Value, json};

use super::Calls;
use crate::oracle::script::{Script, answer, call, failure};
use crate::oracle::{CLOSER, Law};
use crate::trace::{What, Who};

fn caller() -> Who {
    Who::new("worker0", 1)
}

fn runner() -> Who {
    Who::new("worker1", 1)
}

/// A trace for this oracle.
fn script(tells_server: bool) -> Script {
    Script::new(tells_server, |rules| Box::new(Calls::new(rules)))
}

/// Both kinds of traces, in which both workers are connected.
fn scripts() -> [Script; 2] {
    [true, false].map(|tells_server| {
        let mut script = script(tells_server);
        script.connects(&caller()).connects(&runner());
        script
    })
}

fn law(script: &Script) -> Option<Law> {
    script.check().err().map(|violation| violation.law)
}

fn send(id: &str) -> Value {
    call(id, "stream::send", json!({"stream_name": "world", "group_id": "g0", "type": "t", "data": 1}))
}

fn was_sent(id: &str) -> Value {
    answer(id, "stream::send", Value::Null)
}

fn error(code: &str) -> Value {
    json!({"code": code, "message": "it is so"})
}

#[test]
fn a_call_is_answered_once() {
    for mut script in scripts() {
        script.says(&caller(), send("1")).hears(&caller(), was_sent("1"));
        assert_eq!(script.check().map(|checked| checked.answers), Ok(1));
        let twice = script.clone().hears(&caller(), was_sent("1")).clone();
        let of_another = script.clone().says(&caller(), send("2")).hears(&runner(), was_sent("2")).clone();
        let of_none = script.hears(&caller(), was_sent("3"));
        assert_eq!([&twice, &of_another, of_none].map(law), [Some(Law::CallsAnswered); 3]);
    }
}

#[test]
fn a_call_is_answered_before_the_end_unless_its_connection_is_lost() {
    for mut script in scripts() {
        script.says(&caller(), send("1"));
        assert_eq!(law(&script), Some(Law::CallsAnswered));
        let mut crashed = script.clone();
        assert_eq!(crashed.crashes().check().map(|checked| checked.refused), Ok(1));
        assert_eq!(script.loses(&caller()).check().map(|checked| checked.refused), Ok(1));
    }
}

#[test]
fn a_call_is_answered_before_the_closer_lists() {
    for mut script in scripts() {
        let closer = Who::new(CLOSER, 1);
        script.says(&caller(), send("1")).note(&Who::server(), What::Healed).connects(&closer);
        let list = call("9", "stream::list", json!({"stream_name": "world", "group_id": "g0"}));
        script.says(&closer, list).hears(&closer, answer("9", "stream::list", json!([])));
        assert_eq!(law(&script.clone().hears(&caller(), was_sent("1")).clone()), Some(Law::CallsAnswered));
        let mut excused = script.clone();
        excused.trace.retain(|entry| entry.who != caller() || matches!(entry.what, What::Connected(_)));
        assert_eq!(law(&excused), None);
    }
}

#[test]
fn an_answer_has_the_form_that_clients_read() {
    let item = |more: Value| {
        let mut data = json!({"stream_name": "world", "group_id": "g0", "item_id": "r"});
        for (key, value) in more.as_object().into_iter().flatten() {
            data[key] = value.clone();
        }
        data
    };
    let (set, get) = ("stream::set", "stream::get");
    let plain = || call("1", set, item(json!({"data": {"n": 1}})));
    let telling = || call("1", set, item(json!({"data": {"n": 1}, "revision": true})));
    let getting = || call("1", get, item(json!({"revision": true})));
    let changed = |more: Value| {
        let mut result = json!({"old_value": null, "new_value": {"n": 1}});
        for (key, value) in more.as_object().into_iter().flatten() {
            result[key] = value.clone();
        }
        answer("1", set, result)
    };
    let failed = |error: Value| failure("1", set, error);
    for (call, answer, is_good) in [
        (plain(), changed(json!({})), true),
        (plain(), changed(json!({"revision": 1})), false),
        (plain(), changed(json!({"new_value": {"n": 2}})), false),
        (plain(), answer("1", set, json!({"new_value": {"n": 1}})), false),
        (plain(), answer("1", get, json!({"old_value": null, "new_value": {"n": 1}})), false),
        (telling(), changed(json!({"revision": 1})), true),
        (telling(), changed(json!({})), false),
        (getting(), answer("1", get, json!({"value": null, "revision": 0})), true),
        (getting(), answer("1", get, Value::Null), false),
        (plain(), failed(error("overloaded")), true),
        (plain(), failed(json!({"code": "overloaded"})), false),
        (plain(), failed(json!({"message": "it is so"})), false),
        (plain(), failed(json!({"code": "a", "message": "b", "stacktrace": null})), false),
        (plain(), failed(json!({"code": "STREAM_CONFLICT", "message": "it is so"})), false),
    ] {
        for mut script in scripts() {
            script.says(&caller(), call.clone()).hears(&caller(), answer.clone());
            let how = format!("{call} got {answer}: {:?}", script.check());
            assert_eq!(law(&script), (!is_good).then_some(Law::CallsAnswered), "{how}");
        }
    }
}

#[test]
fn lists_have_the_form_that_clients_read() {
    let all = |stream: Value, count: u64| json!({"stream": stream, "count": count});
    let named = |stream: &str| json!({"id": stream, "groups": ["g0"]});
    for (function, result, is_good) in [
        ("stream::list_groups", json!(["g0", "g1"]), true),
        ("stream::list_groups", json!(["g1", "g0"]), false),
        ("stream::list_groups", json!(["g0", "g0"]), false),
        ("stream::list_all", all(json!([{"id": "world", "groups": ["g0"]}]), 1), true),
        ("stream::list_all", all(json!([{"id": "world", "groups": ["g0"]}]), 2), false),
        ("stream::list_all", all(json!([named("kept"), named("world")]), 2), true),
        ("stream::list_all", all(json!([named("world"), named("kept")]), 2), false),
        ("stream::list_all", all(json!([named("world"), named("world")]), 2), false),
        ("stream::list", json!([]), true),
        ("stream::list", json!({}), false),
        ("stream::send", json!(null), true),
        ("stream::send", json!(true), false),
    ] {
        for mut script in scripts() {
            let data = json!({"stream_name": "world", "group_id": "g0"});
            script.says(&caller(), call("1", function, data));
            script.hears(&caller(), answer("1", function, result.clone()));
            assert_eq!(law(&script), (!is_good).then_some(Law::CallsAnswered), "{function} {result}");
        }
    }
}

#[test]
fn without_faults_calls_succeed_unless_they_ask_for_less() {
    let kept = json!({"stream_name": "kept", "group_id": "g0", "item_id": "r"});
    let data = |more: Value| {
        let mut data = json!({"stream_name": "world", "group_id": "g0", "item_id": "r", "data": 1});
        for (key, value) in more.as_object().into_iter().flatten() {
            data[key] = value.clone();
        }
        data
    };
    let conflict = json!({"code": "STREAM_CONFLICT", "message": "no", "revision": 0, "value": null});
    for (function, data, error, may_be) in [
        ("stream::set", data(json!({})), error("overloaded"), false),
        ("stream::set", data(json!({})), conflict.clone(), false),
        ("stream::set", data(json!({"expect": {"revision": 4}})), conflict, true),
        ("stream::set", data(json!({})), error("deserialization_error"), false),
        ("stream::set", data(json!({"item_id": ""})), error("deserialization_error"), true),
        ("stream::set", data(json!({})), error("function_not_found"), false),
        ("stream::get", kept, error("function_not_found"), true),
        ("echo", json!({"n": 1}), error("function_not_found"), true),
        ("echo", json!({"n": 1}), error("TIMEOUT"), false),
    ] {
        for mut script in scripts() {
            script.says(&caller(), call("1", function, data.clone()));
            script.hears(&caller(), failure("1", function, error.clone()));
            assert_eq!(law(&script), None);
            script.rules.faults = false;
            let broken = (!may_be).then_some(Law::CallsAnswered);
            assert_eq!(law(&script), broken, "{function} {data} {error}");
        }
    }
}

/// A call that is handed to the worker that runs it.
fn handed(mut script: Script) -> Script {
    script.says(&runner(), json!({"type": "registerfunction", "id": "echo"}));
    script.says(&caller(), call("1", "echo", json!({"n": 7})));
    script.hears(&runner(), call("uuid", "echo", json!({"n": 7})));
    script
}

#[test]
fn what_a_handler_returns_comes_back() {
    for script in scripts() {
        let script = handed(script);
        let comes_back = |returned: &Value, told: Value| {
            let mut script = script.clone();
            script.says(&runner(), returned.clone()).hears(&caller(), told);
            law(&script)
        };
        let good = answer("uuid", "echo", json!({"m": 8}));
        assert_eq!(comes_back(&good, answer("1", "echo", json!({"m": 8}))), None);
        assert_eq!(comes_back(&good, failure("1", "echo", error("TIMEOUT"))), None);
        assert_eq!(comes_back(&good, answer("1", "echo", json!({"m": 9}))), Some(Law::CallsAnswered));
        assert_eq!(comes_back(&good, failure("1", "echo", error("mine"))), Some(Law::CallsAnswered));
        let bad = failure("uuid", "echo", error("mine"));
        assert_eq!(comes_back(&bad, failure("1", "echo", error("mine"))), None);
        assert_eq!(comes_back(&bad, answer("1", "echo", json!({"m": 8}))), Some(Law::CallsAnswered));
        let of_another = answer("other", "echo", json!({"m": 8}));
        let told = answer("1", "echo", json!({"m": 8}));
        assert_eq!(comes_back(&of_another, told), Some(Law::CallsAnswered));
    }
}

#[test]
fn a_handler_is_handed_a_call_once() {
    for script in scripts() {
        let mut script = handed(script);
        script.hears(&runner(), call("again", "echo", json!({"n": 7})));
        assert_eq!(law(&script), Some(Law::CallsAnswered));
    }
}

#[test]
fn a_failing_handler_is_a_reason_without_faults_too() {
    for script in scripts() {
        let mut script = handed(script);
        script.rules.faults = false;
        script.says(&runner(), failure("uuid", "echo", error("mine")));
        script.hears(&caller(), failure("1", "echo", error("mine")));
        assert_eq!(law(&script), None);
    }
}

#[test]
fn a_function_is_found_while_its_worker_is_there() {
    let [told, _] = scripts();
    let mut script = handed(told);
    script.says(&runner(), answer("uuid", "echo", json!(7))).hears(&caller(), answer("1", "echo", json!(7)));
    let mut gone = script.clone();
    for (script, law_broken) in [(&mut script, Some(Law::CallsAnswered)), (gone.loses(&runner()), None)] {
        script.says(&caller(), call("2", "echo", json!({"n": 8})));
        script.hears(&caller(), failure("2", "echo", error("function_not_found")));
        assert_eq!(law(script), law_broken);
    }
}

#[test]
fn without_faults_nobody_complains() {
    for mut script in scripts() {
        script.note(&Who::server(), What::Complained("a disk".to_owned()));
        assert_eq!(law(&script), None);
        script.rules.faults = false;
        assert_eq!(law(&script), Some(Law::NoComplaint));
    }
}

#[test]
fn a_call_that_wants_no_answer_needs_none() {
    for mut script in scripts() {
        let mut void = send("1");
        void["action"] = json!({"type": "void"});
        script.says(&caller(), void);
        assert_eq!(law(&script), None);
        script.hears(&caller(), was_sent("1"));
        assert_eq!(law(&script), Some(Law::CallsAnswered));
    }
}

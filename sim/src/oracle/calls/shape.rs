//! The forms of answers.

use serde_json::{Map, Value};

use crate::oracle::frame::STREAM;

/// Checks the form of an answer to a call.
pub(super) fn check(call: &Value, answer: &Value) -> Result<(), String> {
    if call.get("function_id").is_some_and(|function| *function != answer["function_id"]) {
        return Err(format!("an answer of another function than {}", call["function_id"]));
    }
    match (answer.get("error"), answer.get("result")) {
        (Some(_), Some(_)) => Err("an answer with both a result and an error".to_owned()),
        (Some(error), None) => failure(error),
        (None, result) => match success(call, result) {
            Some(false) => Err(format!("this is no answer to {call}")),
            _ => Ok(()),
        },
    }
}

fn failure(error: &Value) -> Result<(), String> {
    let is_text = |field: &str| error[field].is_string();
    let tells_conflict = error["revision"].is_u64() && error.get("value").is_some();
    let is_one = is_text("code")
        && is_text("message")
        && error.get("stacktrace").is_none_or(Value::is_string)
        && (error["code"] != "STREAM_CONFLICT" || tells_conflict);
    if is_one { Ok(()) } else { Err("this is no error as clients read them".to_owned()) }
}

/// Whether a result is one of this call; `None` for what the server does not decide.
fn success(call: &Value, result: Option<&Value>) -> Option<bool> {
    let function = stream_function(call)?;
    let data = &call["data"];
    if data["stream_name"] != STREAM && function != "list_all" {
        return None;
    }
    let tells_revision =
        data["revision"] == true || data.get("expect").is_some_and(|expect| !expect.is_null());
    let is_change = |fields: &[&str]| {
        let Some(result) = result.and_then(Value::as_object) else { return false };
        fields.iter().all(|field| result.contains_key(*field))
            && has_only(result, &[fields, &["revision", "errors"]].concat())
            && result.get("revision").is_some_and(Value::is_u64) == tells_revision
            && result.contains_key("revision") == tells_revision
    };
    let names = |value: &Value| {
        value.as_array().is_some_and(|names| names.iter().all(Value::is_string) && is_sorted(names))
    };
    Some(match function {
        "set" => {
            is_change(&["old_value", "new_value"])
                && result.is_some_and(|result| {
                    result["new_value"] == data["data"] && result.get("errors").is_none()
                })
        }
        "update" => is_change(&["old_value", "new_value"]),
        "delete" => is_change(&["old_value"]),
        "get" if tells_revision => result.and_then(Value::as_object).is_some_and(|result| {
            result.len() == 2 && result.contains_key("value") && result["revision"].is_u64()
        }),
        "get" => true,
        "list" | "getGroup" => result.and_then(Value::as_array).is_some_and(|listed| {
            !tells_revision
                || listed.iter().all(|item| {
                    item["id"].is_string()
                        && item.get("value").is_some()
                        && item["revision"].as_u64() > Some(0)
                })
        }),
        "list_groups" | "listGroups" => result.is_some_and(names),
        "list_all" | "listAll" => {
            let streams = result.and_then(|result| result["stream"].as_array());
            streams.is_some_and(|streams| {
                streams.iter().all(|stream| stream["id"].is_string() && names(&stream["groups"]))
                    && streams.windows(2).all(|pair| pair[0]["id"].as_str() < pair[1]["id"].as_str())
                    && result.is_some_and(|result| result["count"] == streams.len())
            })
        }
        "send" => result.is_some_and(Value::is_null),
        _ => return None,
    })
}

/// Whether a call may fail although nothing is wrong.
pub(super) fn may_fail(call: &Value, error: &Value) -> bool {
    let function = stream_function(call);
    let is_stored = function.is_some() && call["data"]["stream_name"] == STREAM;
    let is_kept = function.is_some() && !is_stored && function != Some("list_all");
    match error["code"].as_str() {
        // What a worker makes of its own stream is up to it.
        _ if is_kept => true,
        Some("STREAM_CONFLICT") => call["data"]["expect"].is_object(),
        Some("function_not_found") => function.is_none(),
        Some("deserialization_error") => !is_well_formed(call),
        Some("unsupported") => call["action"]["type"] == "enqueue",
        _ => false,
    }
}

/// Whether a call is one as the protocol has them; that of a function that others run is.
fn is_well_formed(call: &Value) -> bool {
    let (function, data) = (stream_function(call), &call["data"]);
    let is_name = |field: &str| data[field].as_str().is_some_and(|name| !name.is_empty());
    let is_of_item = is_name("stream_name") && is_name("group_id") && is_name("item_id");
    let is_expectation = match data.get("expect") {
        None | Some(Value::Null) => true,
        Some(Value::Object(expect)) => {
            expect.len() == 1
                && (expect.contains_key("value") || expect.get("revision").is_some_and(Value::is_u64))
        }
        Some(_) => false,
    };
    let expects_nothing = data.get("expect").is_none_or(Value::is_null);
    match function {
        Some("set") => is_of_item && is_expectation && data.get("data").is_some(),
        Some("update") => is_of_item && is_expectation && data["ops"].is_array(),
        Some("delete") => is_of_item && is_expectation,
        Some("get") => is_of_item && expects_nothing,
        Some("list" | "getGroup" | "send") => {
            is_name("stream_name") && is_name("group_id") && expects_nothing
        }
        Some("list_groups" | "listGroups") => is_name("stream_name") && expects_nothing,
        _ => true,
    }
}

fn stream_function(call: &Value) -> Option<&str> {
    let function = call["function_id"].as_str()?;
    function.strip_prefix("stream::").or_else(|| function.strip_prefix("streams."))
}

fn has_only(object: &Map<String, Value>, fields: &[&str]) -> bool {
    object.keys().all(|key| fields.contains(&key.as_str()))
}

fn is_sorted(names: &[Value]) -> bool {
    names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str())
}

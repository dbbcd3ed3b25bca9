//! What a worker that keeps a stream is given, and what its answers mean.

use serde_json::value::RawValue;

use crate::call::Answer;
use crate::error::{CallError, code};
use crate::field;
use crate::json::{Json, Kind};
use crate::name::{GroupPath, ItemId, Target};
use crate::store::{Command, State};
use crate::wire::text::{push_array, push_json_member, push_string, push_text_member};

/// The input of a call, as its caller gave it.
pub(super) fn of(command: &Command) -> Json {
    match command {
        Command::Set { data, .. } => of_item(command, Some(data)),
        Command::Get { .. } | Command::Delete { .. } => of_item(command, None),
        Command::Update { item, spelled, .. } => {
            let mut out = start(&item.group, Some(&item.id));
            push_json_member(&mut out, "ops", spelled);
            end(out)
        }
        Command::List { group, .. } => end(start(group, None)),
        Command::ListGroups { stream } => {
            let mut out = String::from(r#"{"stream_name":"#);
            push_string(&mut out, stream.as_str());
            end(out)
        }
        // Neither reaches a worker.
        Command::ListAll | Command::Send { .. } => Json::null(),
    }
}

/// The item of a call, with a value.
pub(super) fn of_item(command: &Command, data: Option<&Json>) -> Json {
    let Some(item) = command.item() else { return Json::null() };
    let mut out = start(&item.group, Some(&item.id));
    if let Some(data) = data {
        push_json_member(&mut out, "data", data);
    }
    end(out)
}

/// What a subscription covers.
pub(super) fn of_target(target: &Target) -> Json {
    end(start(&target.group, target.item.as_ref()))
}

fn start(group: &GroupPath, item: Option<&ItemId>) -> String {
    let mut out = String::from(r#"{"stream_name":"#);
    push_string(&mut out, group.stream.as_str());
    push_text_member(&mut out, "group_id", group.group.as_str());
    if let Some(item) = item {
        push_text_member(&mut out, "item_id", item.as_str());
    }
    out
}

fn end(mut out: String) -> Json {
    out.push('}');
    Json::trusted(out)
}

/// What a worker says a change was.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The value before; `Some(None)` if there was none, `None` if it does not say.
    pub(super) old: Option<Option<Json>>,
    /// The value now.
    pub(super) new: Option<Json>,
}

pub(super) fn told(answer: &Answer) -> Told {
    let Answer::Returned(value) = answer else { return Told::default() };
    let members = field::members(value.as_str()).unwrap_or_default();
    let member = |key: &str| members.get(key).map(|raw| Json::trusted(raw.get()));
    Told {
        old: member("old_value").map(|old| Some(old).filter(|old| !old.is_null())),
        new: member("new_value"),
    }
}

/// The state of a subscription's target, as the worker tells it. Nulls in a list would kill clients that read the ids
/// of its items.
pub(super) fn state(target: &Target, answer: &Answer) -> Result<State, CallError> {
    let value = match answer {
        Answer::Returned(value) => Some(value),
        _ => None,
    };
    if target.item.is_some() {
        return Ok(State::Item(value.filter(|value| !value.is_null()).cloned()));
    }
    let items: Option<Vec<&RawValue>> = value.and_then(|list| serde_json::from_str(list.as_str()).ok());
    let Some(items) = items else {
        let message = "the worker that keeps this stream returned no array for a list";
        return Err(CallError::new(code::INVOCATION_FAILED, message));
    };
    let mut out = String::new();
    let items = items.into_iter().filter(|item| Kind::of(item.get()) != Kind::Null);
    push_array(&mut out, items, |out, item| out.push_str(item.get()));
    Ok(State::Listed(Json::trusted(out)))
}

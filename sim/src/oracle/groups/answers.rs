//! What callers are told of groups.

use serde_json::Value;

use super::history::{History, Told};
use super::{Group, Groups};
use crate::oracle::frame::{Kind, STREAM, text};
use crate::oracle::{CLOSER, Checked, Law, Violation};
use crate::trace::Who;

/// A call of which no answer is known.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) who: Who,
    function: Function,
    group: String,
    item: String,
    /// Whether the answer tells revisions.
    revisions: bool,
    /// The highest revision that anybody was told of before.
    since: u64,
    term: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Get,
    List,
    Change,
    Delete,
    /// The names of the stream's groups.
    Names,
    /// Those of all streams.
    AllNames,
}

impl Groups {
    pub(super) fn asked(&mut self, who: &Who, message: &Value) {
        let data = &message["data"];
        let function = match text(&message["function_id"]) {
            "stream::get" => Function::Get,
            "stream::list" => Function::List,
            "stream::set" | "stream::update" => Function::Change,
            "stream::delete" => Function::Delete,
            "stream::list_groups" => Function::Names,
            "stream::list_all" => Function::AllNames,
            _ => return,
        };
        let id = text(&message["invocation_id"]);
        let is_of_stream = function == Function::AllNames || data["stream_name"] == STREAM;
        if message["type"] != "invokefunction" || id.is_empty() || !is_of_stream {
            return;
        }
        let group = text(&data["group_id"]);
        let since = match function {
            Function::Names | Function::AllNames => 0,
            _ => self.group(group).history.seen(),
        };
        let call = Call {
            who: who.clone(),
            function,
            group: group.to_owned(),
            item: text(&data["item_id"]).to_owned(),
            revisions: data["revision"] == true || !data["expect"].is_null(),
            since,
            term: self.epochs.term(),
        };
        self.calls.insert(id.to_owned(), call);
    }

    pub(super) fn answered(&mut self, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        let Some(call) = self.calls.remove(text(&message["invocation_id"])) else { return Ok(()) };
        if matches!(call.function, Function::Names | Function::AllNames) {
            return self.named(&call, message, checked);
        }
        let history = &mut self.group(&call.group).history;
        if let Some(error) = message.get("error") {
            return match error["code"] == "STREAM_CONFLICT" {
                true => history.is_now(&call, &call.item, error),
                false => Ok(()),
            };
        }
        let result = &message["result"];
        match call.function {
            Function::Change | Function::Delete if call.revisions => history.was_changed(&call, result)?,
            Function::Get if call.revisions => history.is_now(&call, &call.item, result)?,
            Function::List => {
                let listed = result.as_array().map_or(&[][..], Vec::as_slice);
                return self.listed(&call, listed);
            }
            _ => {}
        }
        if call.function == Function::Change {
            self.epochs.wrote(call.term);
        }
        Ok(())
    }

    /// What the closer is told of the groups that there are: those whose lists hold something, in byte order.
    fn named(&self, call: &Call, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        if !self.healed || *call.who.client != *CLOSER || message.get("error").is_some() {
            return Ok(());
        }
        checked.names += 1;
        let result = &message["result"];
        let of_stream = match call.function {
            Function::Names => Some(result),
            _ => {
                let mut streams = result["stream"].as_array().into_iter().flatten();
                streams.find(|stream| stream["id"] == STREAM).map(|stream| &stream["groups"])
            }
        };
        let told = of_stream.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let holds = |group: &Group| group.closed_with.as_ref().is_some_and(|values| !values.is_empty());
        let there: Vec<&str> =
            self.groups.iter().filter(|(_, group)| holds(group)).map(|(name, _)| &**name).collect();
        Law::Linearizable.require(told.iter().map(text).eq(there.iter().copied()), || {
            format!("the groups that hold something are {there:?}")
        })
    }

    fn listed(&mut self, call: &Call, listed: &[Value]) -> Result<(), Violation> {
        let history = &mut self.group(&call.group).history;
        let values: Vec<Value> = match call.revisions {
            true => {
                listed.iter().try_for_each(|one| history.is_now(call, text(&one["id"]), one))?;
                listed.iter().map(|one| one["value"].clone()).collect()
            }
            false => listed.to_vec(),
        };
        history.listed(call.since, values.clone());
        match self.healed && *call.who.client == *CLOSER {
            true => self.closed(&call.group, values),
            false => Ok(()),
        }
    }
}

impl History {
    /// An item's value and the revision of its last change, as a read or a conflict tells them.
    fn is_now(&mut self, call: &Call, item: &str, told: &Value) -> Result<(), Violation> {
        let Some(revision) = told["revision"].as_u64() else {
            return Err(Law::OneOrder.broken("an answer without the revision that it was asked for"));
        };
        if revision > 0 {
            let after = Some(&told["value"]);
            self.change(revision, Told { item, after, before: None, kind: None, stamp: None })?;
        }
        self.last_is(call.since, item, revision)
    }

    /// What a change has made of an item.
    fn was_changed(&mut self, call: &Call, result: &Value) -> Result<(), Violation> {
        let Some(revision) = result["revision"].as_u64() else {
            return Err(Law::OneOrder.broken("an answer without the revision that it was asked for"));
        };
        let old = Some(&result["old_value"]).filter(|old| !old.is_null());
        let (after, kind) = match (call.function, old) {
            (Function::Delete, _) if revision == 0 => return self.last_is(call.since, &call.item, 0),
            (Function::Delete, _) => (None, Kind::Delete),
            (_, None) => (Some(&result["new_value"]), Kind::Create),
            (_, Some(_)) => (Some(&result["new_value"]), Kind::Update),
        };
        Law::OneOrder.require(revision > call.since, || {
            format!("revision {revision} was made by a call after {} was seen", call.since)
        })?;
        let told = Told { item: &call.item, after, before: Some(old), kind: Some(kind), stamp: None };
        self.change(revision, told)
    }
}

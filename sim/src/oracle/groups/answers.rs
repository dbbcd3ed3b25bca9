//! What callers are told of groups.

use serde_json::Value;

use super::Groups;
use super::history::{History, Told};
use crate::oracle::frame::{Kind, STREAM, text};
use crate::oracle::{CLOSER, Law, Violation};
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
}

impl Groups {
    pub(super) fn asked(&mut self, who: &Who, message: &Value) {
        let data = &message["data"];
        let function = match text(&message["function_id"]) {
            "stream::get" => Function::Get,
            "stream::list" => Function::List,
            "stream::set" | "stream::update" => Function::Change,
            "stream::delete" => Function::Delete,
            _ => return,
        };
        let id = text(&message["invocation_id"]);
        if message["type"] != "invokefunction" || id.is_empty() || data["stream_name"] != STREAM {
            return;
        }
        let group = text(&data["group_id"]);
        let call = Call {
            who: who.clone(),
            function,
            group: group.to_owned(),
            item: text(&data["item_id"]).to_owned(),
            revisions: data["revision"] == true || !data["expect"].is_null(),
            since: self.group(group).history.seen(),
            term: self.epochs.term(),
        };
        self.calls.insert(id.to_owned(), call);
    }

    pub(super) fn answered(&mut self, message: &Value) -> Result<(), Violation> {
        let Some(call) = self.calls.remove(text(&message["invocation_id"])) else { return Ok(()) };
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

//! What the workers know of their items. Each item is written by one worker alone, so what it may be is a short list.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::{Checked, Law, Lists, Violation, text};
use crate::trace::{Entry, What};

/// A group and an item of it.
type Path = (String, String);

/// An item's value, `None` if it does not exist.
type Stored = Option<Value>;

/// Everything that the workers were told.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: BTreeMap<Path, Item>,
    /// The calls that have no answer yet, on the connections that live.
    calls: BTreeMap<String, Call>,
}

/// What is known of an item.
#[derive(Debug)]
struct Item {
    /// What it may have been before the writes below: one value once something was told of it, more after a crash.
    may_be: Vec<Stored>,
    /// What was written since on the living connection, by call: applied in this order.
    written: VecDeque<(String, Stored)>,
}

#[derive(Debug)]
struct Call {
    who: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Write(Path),
    List(String),
    Other,
}

impl Default for Item {
    fn default() -> Item {
        Item { may_be: vec![None], written: VecDeque::new() }
    }
}

impl Items {
    pub(super) fn take(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        match &entry.what {
            What::Sent(message) if message["type"] == "invokefunction" => self.called(&entry.who, message),
            What::Got(message) if message["type"] == "invocationresult" => {
                checked.answers += 1;
                return self.answered(message);
            }
            What::Lost => self.lost(&entry.who),
            _ => {}
        }
        Ok(())
    }

    fn called(&mut self, who: &str, message: &Value) {
        let data = &message["data"];
        let id = text(&message["invocation_id"]);
        let path = (text(&data["group_id"]), text(&data["item_id"]));
        let after = match message["function_id"].as_str() {
            Some("stream::set") => Some(data["data"].clone()),
            Some("stream::delete") => None,
            other => {
                let kind = if other == Some("stream::list") { Kind::List(path.0) } else { Kind::Other };
                self.calls.insert(id, Call { who: who.to_owned(), kind });
                return;
            }
        };
        self.items.entry(path.clone()).or_default().written.push_back((id.clone(), after));
        self.calls.insert(id, Call { who: who.to_owned(), kind: Kind::Write(path) });
    }

    fn answered(&mut self, message: &Value) -> Result<(), Violation> {
        let id = text(&message["invocation_id"]);
        Law::CallsSucceed.require(message.get("error").is_none(), "a call failed")?;
        let Some(call) = self.calls.remove(&id) else {
            return Err(Law::CallsSucceed.broken("an answer to no call"));
        };
        match call.kind {
            Kind::Write(path) => {
                let item = self.items.entry(path).or_default();
                item.acknowledged(&id, &message["result"])
            }
            Kind::List(group) => {
                let listed = message["result"].as_array().map_or(&[][..], Vec::as_slice);
                self.listed(&group, listed, &format!("{}-", call.who))
            }
            Kind::Other => Ok(()),
        }
    }

    /// A list of a group holds what the items that start with `prefix` may be. Nothing is written to them before.
    fn listed(&mut self, group: &str, listed: &[Value], prefix: &str) -> Result<(), Violation> {
        for ((_, id), item) in
            self.items.iter_mut().filter(|((of, id), _)| of == group && id.starts_with(prefix))
        {
            let found = listed.iter().find(|value| value["id"] == id.as_str()).cloned();
            let how = format!("{group} {id} is {found:?}, but may only be one of {:?}", item.may_be);
            Law::AcknowledgedSurvives.require(item.may_be.contains(&found), how)?;
            item.may_be = vec![found];
        }
        Ok(())
    }

    /// A write without an answer may have happened or not.
    fn lost(&mut self, who: &str) {
        let prefix = format!("{who}-");
        for item in self.items.iter_mut().filter(|((_, id), _)| id.starts_with(&prefix)).map(|(_, item)| item)
        {
            item.may_be.extend(item.written.drain(..).map(|(_, after)| after));
        }
        self.calls.retain(|_, call| call.who != who);
    }

    /// At the end everything is what it may be, and nothing waits for an answer.
    pub(super) fn end(&mut self, lists: &Lists) -> Result<(), Violation> {
        for (group, listed) in lists {
            self.listed(group, listed, "")?;
        }
        Law::CallsSucceed.require(self.calls.is_empty(), format!("no answer to {:?}", self.calls.keys()))
    }
}

impl Item {
    fn acknowledged(&mut self, id: &str, result: &Value) -> Result<(), Violation> {
        let Some((first, after)) = self.written.pop_front() else {
            return Err(Law::CallsSucceed.broken("an answer to a write that was answered before"));
        };
        Law::OneOrder
            .require(first == id, format!("{id} was answered before {first}, which was sent before it"))?;
        let old = result.get("old_value").filter(|old| !old.is_null()).cloned();
        let how = format!("the item was {old:?}, but could only have been one of {:?}", self.may_be);
        Law::AcknowledgedSurvives.require(self.may_be.contains(&old), how)?;
        if let Some(new) = result.get("new_value") {
            Law::CallsSucceed.require(Some(new) == after.as_ref(), "the new value is not what was set")?;
        }
        self.may_be = vec![after];
        Ok(())
    }
}

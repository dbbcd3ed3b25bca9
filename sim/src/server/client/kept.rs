//! A stream that a worker keeps itself: it does what the server does for a stream of its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::text;

/// The name of the stream.
pub(super) const KEPT: &str = "kept";

/// What the worker keeps: items with their ids in creation order, by group.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<String, Vec<(String, Value)>>);

/// The functions that make it the worker's. Without one for updates, the server gets and sets.
pub(super) fn functions() -> Vec<String> {
    ["set", "get", "delete", "list", "list_groups"].map(|name| format!("stream::{name}({KEPT})")).into()
}

impl Kept {
    /// What one of the functions returns; `None` is no result.
    pub(super) fn call(&mut self, function: &str, data: &Value) -> Option<Value> {
        if function.starts_with("stream::list_groups") {
            return Some(json!(self.0.keys().collect::<Vec<_>>()));
        }
        let group = self.0.entry(text(&data["group_id"]).to_owned()).or_default();
        let item = text(&data["item_id"]);
        let at = group.iter().position(|(id, _)| id == item);
        match function.trim_start_matches("stream::").split('(').next() {
            Some("set") => {
                let (old, new) = (at.map(|at| group[at].1.clone()), data["data"].clone());
                match at {
                    Some(at) => group[at].1 = new.clone(),
                    None => group.push((item.to_owned(), new.clone())),
                }
                Some(json!({"old_value": old, "new_value": new}))
            }
            Some("delete") => {
                let old = at.map(|at| group.remove(at).1);
                // Sometimes it does not say what there was: the server has to tell all of the group.
                let is_told =
                    old.as_ref().is_none_or(|old| !old["n"].as_u64().unwrap_or(1).is_multiple_of(3));
                Some(if is_told { json!({"old_value": old}) } else { Value::Null })
            }
            Some("list") => Some(group.iter().map(|(_, value)| value.clone()).collect()),
            _ => at.map(|at| group[at].1.clone()),
        }
    }
}

//! Calls of the store, and what their answers tell.

use serde_json::Value;

use super::model::Change;
use crate::oracle::frame::STREAM;

/// What is asked of the store.
#[derive(Debug)]
pub(super) enum Asked {
    Item { item: String, call: Call },
    List { revisions: bool },
}

/// A call about one item.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) expect: Option<Expect>,
    /// Whether the caller asked for the revision.
    revision: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Set(Value),
    Update(Vec<Change>),
    Delete,
    Get,
}

#[derive(Clone, Debug)]
pub(super) enum Expect {
    Revision(u64),
    Value(Value),
}

/// What an answer tells.
#[derive(Debug)]
pub(super) enum Told {
    /// Not even whether it has happened.
    Nothing,
    /// Only that the disk has failed.
    Unknown,
    /// That nothing has happened.
    Refused,
    All(Given),
}

#[derive(Debug)]
pub(super) enum Given {
    Changed { old: Value, new: Option<Value>, revision: Option<u64> },
    Found { value: Option<Value>, revision: Option<u64> },
    Conflict { value: Value, revision: u64 },
}

impl Asked {
    /// Reads a call: the group, and what is asked. What the store refuses for its form is none.
    pub(super) fn read(message: &Value) -> Option<(String, Asked)> {
        let function = message["function_id"].as_str()?;
        let function = function.strip_prefix("stream::").or_else(|| function.strip_prefix("streams."))?;
        let data = &message["data"];
        if data["stream_name"] != STREAM || message["action"]["type"] == "enqueue" {
            return None;
        }
        let revision = data["revision"] == true;
        let kind = match function {
            "set" => Kind::Set(data.get("data")?.clone()),
            "update" => data["ops"].as_array().map(|_| Kind::Update(Change::read(&data["ops"])))?,
            "delete" => Kind::Delete,
            "get" => Kind::Get,
            "list" | "getGroup" => {
                return Some((data["group_id"].as_str()?.to_owned(), Asked::List { revisions: revision }));
            }
            _ => return None,
        };
        let expect = match data.get("expect") {
            None | Some(Value::Null) => None,
            Some(expect) => Some(Expect::read(expect)?),
        };
        let call = Call { kind, expect, revision };
        let asked = Asked::Item { item: data["item_id"].as_str()?.to_owned(), call };
        Some((data["group_id"].as_str()?.to_owned(), asked))
    }
}

impl Expect {
    fn read(expect: &Value) -> Option<Expect> {
        match (expect.get("revision"), expect.get("value")) {
            (Some(revision), None) => revision.as_u64().map(Expect::Revision),
            (None, Some(value)) => Some(Expect::Value(value.clone())),
            _ => None,
        }
    }
}

impl Call {
    pub(super) fn told(&self, answer: &Value) -> Told {
        match answer.get("error") {
            Some(error) => self.failed(error),
            None => self.succeeded(answer.get("result")).map_or(Told::Nothing, Told::All),
        }
    }

    fn failed(&self, error: &Value) -> Told {
        let text = |field: &str| error[field].as_str().unwrap_or_default();
        match text("code") {
            "STREAM_CONFLICT" => match (&self.expect, error["revision"].as_u64()) {
                (Some(_), Some(revision)) => {
                    Told::All(Given::Conflict { value: error["value"].clone(), revision })
                }
                _ => Told::Refused,
            },
            "TIMEOUT" | "invocation_stopped" | "invocation_failed" => Told::Nothing,
            _ if text("message").starts_with("outcome_unknown") => Told::Unknown,
            _ => Told::Refused,
        }
    }

    /// `None` if the answer has not the shape of one.
    fn succeeded(&self, result: Option<&Value>) -> Option<Given> {
        let field = |name: &str| result.and_then(|result| result.get(name));
        let revision = field("revision").and_then(Value::as_u64);
        Some(match self.kind {
            Kind::Set(_) | Kind::Update(_) => Given::Changed {
                old: field("old_value")?.clone(),
                new: Some(field("new_value")?.clone()),
                revision,
            },
            Kind::Delete => Given::Changed { old: field("old_value")?.clone(), new: None, revision },
            Kind::Get if self.revision => {
                Given::Found { value: Some(field("value")?.clone()), revision: Some(revision?) }
            }
            Kind::Get => Given::Found { value: result.cloned(), revision: None },
        })
    }
}

//! A call of a function: who asks, and what comes back.

use crate::error::CallError;
use crate::field;
use crate::json::Json;
use crate::key::{BindingKey, GateKey, LeaveKey, SessionKey, WorkerKey};
use crate::log::Revision;
use crate::name::{FunctionId, GroupName, GroupPath, Line, StreamName};
use crate::ops::OpError;
use crate::store::Snapshot;

/// Who made a call, and how it wants to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The worker that called.
    pub worker: WorkerKey,
    /// Its id of the call; `None` wants no answer.
    pub invocation_id: Option<String>,
    /// The function, as it spelled it.
    pub function_id: FunctionId,
}

/// What the server itself calls a function for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To vouch for a connection of a subscriber.
    Auth(SessionKey),
    /// To decide about a join; `vote` tells the gate's handlers apart.
    Gate { gate: GateKey, vote: usize },
    /// To tell a handler of a leave.
    Leave(LeaveKey),
    /// To do what is next for a group of a stream that a worker keeps.
    Custom(Line),
    /// To tell a handler of an event, the next of its group.
    Event { binding: BindingKey, group: GroupPath },
}

/// What came of a call.
pub type Outcome = Result<Answer, CallError>;

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No result at all: `stream::get` of a missing item, a handler that returned nothing.
    Nothing,
    /// A value of the store's, such as that of `stream::get`.
    Value(Json),
    /// `stream::get` with `"revision": true`.
    ItemWithRevision {
        /// The value; `None` if there is no such item.
        value: Option<Json>,
        /// The revision of its last change; 0 if there is no such item.
        revision: Revision,
    },
    /// What a worker's handler returned.
    Returned(Json),
    /// `stream::set` and `stream::update`.
    Changed {
        /// The value before; `None` if the item did not exist.
        old: Option<Json>,
        /// The value now.
        new: Json,
        /// The operations that were skipped.
        errors: Vec<OpError>,
        /// The revision of this change, if the caller wants to know.
        revision: Option<Revision>,
    },
    /// `stream::delete`.
    Deleted {
        /// The value that was removed; `None` if the item did not exist.
        old: Option<Json>,
        /// The revision of the removal, 0 if there was nothing to remove; if the caller wants to know.
        revision: Option<Revision>,
    },
    /// `stream::list`.
    Items(Snapshot),
    /// `stream::list` with `"revision": true`.
    ItemsWithRevisions(Snapshot),
    /// `stream::list_groups`.
    Groups(Vec<GroupName>),
    /// `stream::list_all`.
    Streams(Vec<(StreamName, Vec<GroupName>)>),
    /// `engine::functions::list`, `engine::workers::list`, `engine::triggers::list`.
    Listing {
        /// What is listed.
        of: &'static str,
        /// The objects that tell of each.
        entries: Vec<Json>,
    },
}

impl Answer {
    /// Whether a function that was asked about a connection or a join has answered `{"unauthorized": true}`; other
    /// members don't matter.
    pub(crate) fn denies(&self) -> bool {
        let Answer::Returned(value) = self else { return false };
        field::members(value.as_str())
            .is_some_and(|members| members.get("unauthorized").is_some_and(|value| value.get() == "true"))
    }
}

/// About how many bytes of memory an outcome holds on to, until the store has other values.
pub fn size_hint(outcome: &Outcome) -> usize {
    let json = |value: &Option<Json>| value.as_ref().map_or(0, |value| value.as_str().len());
    let names = |groups: &[GroupName]| groups.iter().map(|group| group.as_str().len() + 16).sum::<usize>();
    256 + match outcome {
        Ok(Answer::Nothing) => 0,
        Ok(Answer::Items(items) | Answer::ItemsWithRevisions(items)) => items.bytes(),
        Ok(Answer::Value(value) | Answer::Returned(value)) => value.as_str().len(),
        Ok(Answer::ItemWithRevision { value, .. }) => json(value),
        Ok(Answer::Changed { old, new, errors, .. }) => json(old) + new.as_str().len() + errors_size(errors),
        Ok(Answer::Deleted { old, .. }) => json(old),
        Ok(Answer::Groups(groups)) => names(groups),
        Ok(Answer::Streams(streams)) => streams.iter().map(|(_, groups)| names(groups) + 64).sum(),
        Ok(Answer::Listing { entries, .. }) => entries.iter().map(|entry| entry.as_str().len() + 16).sum(),
        Err(error) => {
            let found = error.conflict.as_ref().map_or(0, |conflict| json(&conflict.value));
            error.message.len() + error.stacktrace.as_ref().map_or(0, String::len) + found
        }
    }
}

/// About how many bytes of memory the reports of skipped operations take.
pub(crate) fn errors_size(errors: &[OpError]) -> usize {
    errors.iter().map(|error| error.message.len() + 64).sum()
}

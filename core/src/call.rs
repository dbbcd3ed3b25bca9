//! A call of a function: who asks, and what comes back.

use crate::error::CallError;
use crate::json::Json;
use crate::key::WorkerKey;
use crate::name::{FunctionId, GroupName, StreamName};
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

/// What came of a call.
pub type Outcome = Result<Answer, CallError>;

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// No result at all: `stream::get` of a missing item, a handler that returned nothing.
    Nothing,
    /// A bare value.
    Value(Json),
    /// `stream::set` and `stream::update`.
    Changed {
        /// The value before; `None` if the item did not exist.
        old: Option<Json>,
        /// The value now.
        new: Json,
        /// The operations that were skipped.
        errors: Vec<OpError>,
    },
    /// `stream::delete`.
    Deleted {
        /// The value that was removed; `None` if the item did not exist.
        old: Option<Json>,
    },
    /// `stream::list`.
    Items(Snapshot),
    /// `stream::list_groups`.
    Groups(Vec<GroupName>),
    /// `stream::list_all`.
    Streams(Vec<(StreamName, Vec<GroupName>)>),
    /// `engine::functions::list`.
    Functions(Vec<FunctionId>),
}

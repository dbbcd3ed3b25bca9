//! The errors a caller can get: a stable code for programs, a sentence for people.

use std::borrow::Cow;

use crate::json::Json;
use crate::log::Revision;

/// The answer to a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// Stable, for programs. One of [`code`] or whatever a worker's handler gave.
    pub code: Cow<'static, str>,
    /// What happened and what to do about it, for people.
    pub message: String,
    /// Where a worker's handler failed, when it told.
    pub stacktrace: Option<String>,
    /// What there is instead of what the call expected, with [`code::CONFLICT`] only.
    pub conflict: Option<Conflict>,
}

/// An item that is not what a call expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The revision of its last change; 0 if there is no such item.
    pub revision: Revision,
    /// Its value, if there is such an item.
    pub value: Option<Json>,
}

impl CallError {
    /// An error of the server's own.
    pub fn new(code: &'static str, message: impl Into<String>) -> CallError {
        CallError { code: Cow::Borrowed(code), message: message.into(), stacktrace: None, conflict: None }
    }
}

/// The codes that the server itself answers with.
pub mod code {
    /// The input of a call is not what the function takes.
    pub const BAD_INPUT: &str = "deserialization_error";
    /// The item is not what the call expected: nothing was changed.
    pub const CONFLICT: &str = "STREAM_CONFLICT";
    /// Nobody has registered the function.
    pub const FUNCTION_NOT_FOUND: &str = "function_not_found";
    /// The worker that ran the call went away.
    pub const INVOCATION_STOPPED: &str = "invocation_stopped";
    /// The handler failed without a code of its own, or answered with something that can't be passed on.
    pub const INVOCATION_FAILED: &str = "invocation_failed";
    /// The handler did not answer in time.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// The worker runs as many calls as it may.
    pub const OVERLOADED: &str = "overloaded";
    /// The kind of call is not served.
    pub const UNSUPPORTED: &str = "unsupported";
    /// The server is shutting down.
    pub const STOPPING: &str = "server_stopping";
    /// A trigger can't be registered as asked.
    pub const TRIGGER_REGISTRATION_FAILED: &str = "trigger_registration_failed";
    /// Another live worker has the function.
    pub const FUNCTION_NAMESPACE_CONFLICT: &str = "FUNCTION_NAMESPACE_CONFLICT";
}

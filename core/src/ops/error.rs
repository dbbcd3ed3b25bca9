//! What can be wrong with operations: with the call as a whole ([`OpsError`]), or with one of them, which is
//! then skipped ([`OpError`]).

use std::fmt;

pub(super) use crate::field::excerpt;
use crate::json::JsonError;

/// The operations, as the `type` of an operation names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpName {
    /// `set`: replace the value.
    Set,
    /// `merge`: put the members of an object into the value.
    Merge,
    /// `increment`: add an integer.
    Increment,
    /// `decrement`: subtract an integer.
    Decrement,
    /// `append`: add an element to an array, or text to a string.
    Append,
    /// `remove`: take the key away.
    Remove,
}

impl OpName {
    /// All of them, in the order they are told to people.
    pub const ALL: [OpName; 6] =
        [OpName::Set, OpName::Merge, OpName::Increment, OpName::Decrement, OpName::Append, OpName::Remove];

    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            OpName::Set => "set",
            OpName::Merge => "merge",
            OpName::Increment => "increment",
            OpName::Decrement => "decrement",
            OpName::Append => "append",
            OpName::Remove => "remove",
        }
    }

    /// Whether no path, or a null, means the root.
    pub(super) fn may_omit_path(self) -> bool {
        matches!(self, OpName::Merge | OpName::Append)
    }

    fn path_forms(self) -> &'static str {
        if self.may_omit_path() {
            "a string (one key), an array of strings (one key a level), or null for the whole value"
        } else {
            "a string (one key, or \"\" for the whole value) or an array of strings (one key a level)"
        }
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The path has too many segments.
    PathTooDeep,
    /// A segment of the path is empty.
    PathEmptySegment,
    /// A segment of the path is too long.
    PathSegmentTooLong,
    /// A segment of the path would reach into the prototypes of JavaScript objects.
    PathProtoPolluted,
    /// The value to merge is no object.
    ValueNotAnObject,
    /// The value to merge has too many keys at the top.
    ValueTooManyKeys,
    /// A key at the top of the value to merge would reach into the prototypes of JavaScript objects.
    ValueProtoPolluted,
    /// The value to merge is nested too deep.
    ValueTooDeep,
    /// There is no object where the path needs one.
    TargetNotObject,
    /// There is no number to add to, or none that can hold the result.
    NotNumber,
    /// There is something else than an array, a string or null to append to, or no string to append to one.
    TypeMismatch,
}

/// The code of a skipped operation, stable for programs: `<op>.<reason>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The operation.
    pub op: OpName,
    /// Why it was skipped.
    pub reason: Reason,
}

/// `<op>.<reason>` as one static text.
macro_rules! code {
    ($op:expr, $reason:literal) => {
        match $op {
            OpName::Set => concat!("set.", $reason),
            OpName::Merge => concat!("merge.", $reason),
            OpName::Increment => concat!("increment.", $reason),
            OpName::Decrement => concat!("decrement.", $reason),
            OpName::Append => concat!("append.", $reason),
            OpName::Remove => concat!("remove.", $reason),
        }
    };
}

impl Code {
    /// The spelling on the wire, such as `append.path.too_deep`.
    pub fn as_str(self) -> &'static str {
        match self.reason {
            Reason::PathTooDeep => code!(self.op, "path.too_deep"),
            Reason::PathEmptySegment => code!(self.op, "path.empty_segment"),
            Reason::PathSegmentTooLong => code!(self.op, "path.segment_too_long"),
            Reason::PathProtoPolluted => code!(self.op, "path.proto_polluted"),
            Reason::ValueNotAnObject => code!(self.op, "value.not_an_object"),
            Reason::ValueTooManyKeys => code!(self.op, "value.too_many_keys"),
            Reason::ValueProtoPolluted => code!(self.op, "value.proto_polluted"),
            Reason::ValueTooDeep => code!(self.op, "value.too_deep"),
            Reason::TargetNotObject => code!(self.op, "target_not_object"),
            Reason::NotNumber => code!(self.op, "not_number"),
            Reason::TypeMismatch => code!(self.op, "type_mismatch"),
        }
    }
}

/// One operation that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// Which one of the call, from 0.
    pub op_index: usize,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people; it names the operation.
    pub message: String,
}

impl OpError {
    pub(super) fn new(op_index: usize, op: OpName, refusal: Refusal) -> OpError {
        let Refusal { reason, detail } = refusal;
        OpError { op_index, code: Code { op, reason }, message: format!("ops[{op_index}]: `{op}`: {detail}") }
    }
}

/// Why an operation is skipped, before it is known which one of the call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: detail.into() }
    }
}

/// Why the whole call fails: its `ops` are not what `stream::update` takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    /// `ops` is something else than an array.
    #[error("`ops` must be an array of operations, got {0}")]
    NotAnArray(String),
    /// `ops` is longer than twice [`Limits::value_bytes`](crate::config::Limits::value_bytes), which bounds what a
    /// call costs.
    #[error("`ops` is {len} bytes of JSON; the limit is {limit}, twice `value_bytes`")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There are more than [`Limits::update_ops`](crate::config::Limits::update_ops).
    #[error("`ops` has more than {limit} operations, which is the limit (`update_ops`)")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// One of the operations has the wrong form.
    #[error("ops[{op_index}]: {fault}")]
    BadOp {
        /// Which one, from 0.
        op_index: usize,
        /// What is wrong with it.
        fault: OpFault,
    },
}

/// What is wrong with the form of one operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpFault {
    /// It is no object.
    #[error(
        "an operation must be an object such as {{\"type\":\"set\",\"path\":\"a\",\"value\":1}}, got {0}"
    )]
    NotAnObject(String),
    /// A field that this operation needs is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Its `type` is none of the known ones.
    #[error(
        "`type` must be \"set\", \"merge\", \"increment\", \"decrement\", \"append\" or \"remove\", got {0}"
    )]
    UnknownType(String),
    /// Its `path` has none of the forms that the operation takes.
    #[error("`path` of `{op}` must be {}; got {got}", op.path_forms())]
    BadPath {
        /// The operation.
        op: OpName,
        /// What came.
        got: String,
    },
    /// A string in its `path` is no Unicode text.
    #[error("`path` must be Unicode text without lone surrogates, got {0}")]
    PathNotUnicode(String),
    /// Its `by` is no integer.
    #[error("`by` must be an integer, got {0}")]
    ByNotAnInteger(String),
    /// Its `by` is an integer, but too large a one.
    #[error("`by` must be an integer from {min} to {max}, got {0}", min = i64::MIN, max = i64::MAX)]
    ByOutOfRange(String),
    /// Its `value` can't be a value.
    #[error("`value` {0}")]
    BadValue(#[from] JsonError),
}

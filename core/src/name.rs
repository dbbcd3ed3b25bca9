//! The names of things: streams, groups, items, subscriptions and functions, as users spell them.

use std::fmt;
use std::sync::Arc;

use crate::config::Limits;

/// Why a text can't be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`Limits::name_bytes`].
    #[error("is {len} bytes long; the limit is {limit} (`name_bytes`)")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Declares a name type: any non-empty UTF-8 text of at most [`Limits::name_bytes`] bytes. Slashes, colons,
/// quotes, control characters and emoji are all allowed; names are compared and ordered by their bytes.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text that came from outside.
            pub fn new(text: &str, limits: &Limits) -> Result<$name, NameError> {
                check(text, limits)?;
                Ok($name(text.into()))
            }

            /// A name that was checked before, such as one read back from the log.
            pub fn trusted(text: &str) -> $name {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a stream, such as `chat`.
    StreamName
);
name_type!(
    /// The name of a group within a stream, such as `room-1`.
    GroupName
);
name_type!(
    /// The id of an item within a group, such as `msg-456`.
    ItemId
);
name_type!(
    /// A client's name for one of its subscriptions.
    SubscriptionId
);
name_type!(
    /// The id of a function that a worker registered, or of a built-in one, such as `stream::set`.
    FunctionId
);
name_type!(
    /// A worker's id for one of its triggers.
    TriggerId
);

/// A group and the stream it is in: the unit of order, durability and subscription.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPath {
    /// The stream.
    pub stream: StreamName,
    /// The group in it.
    pub group: GroupName,
}

impl fmt::Debug for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.stream, self.group)
    }
}

/// Whose turn it is where calls are made one at a time: a group's; or, without a group, that of the stream as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) stream: StreamName,
    pub(crate) group: Option<GroupName>,
}

impl Line {
    pub(crate) fn of_group(group: &GroupPath) -> Line {
        Line { stream: group.stream.clone(), group: Some(group.group.clone()) }
    }
}

/// A whole group, or one item of it: what can be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The group.
    pub group: GroupPath,
    /// The item; `None` is the whole group.
    pub item: Option<ItemId>,
}

fn check(text: &str, limits: &Limits) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limits.name_bytes {
        return Err(NameError::TooLong { len: text.len(), limit: limits.name_bytes });
    }
    Ok(())
}

//! What workers ask for, and whose it is.

use serde_json::Value;

use super::Call;
use crate::oracle::frame::text;
use crate::trace::Who;

/// What a trigger waits for; what is `None` may be any.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Stream { stream: String, group: Option<String>, item: Option<String> },
    Join(Option<String>),
    Leave(Option<String>),
}

/// What a trigger asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) function: String,
    pub(crate) condition: Option<String>,
    pub(crate) metadata: Value,
}

/// A trigger and its handler.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) wanted: Wanted,
    /// Where the trace has the registration that made it.
    pub(crate) registered: usize,
    /// When that was.
    pub(crate) at: u64,
    /// In which process of the server.
    pub(crate) process: u64,
    /// The worker's name for it.
    pub(super) id: String,
    pub(super) held: Held,
    /// Whose it was before it was taken up with the last registration.
    pub(super) before: Option<Held>,
}

/// Whose a function or a binding is.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) holder: Holder,
    /// Where the trace has the registration.
    pub(super) asked: usize,
    /// Since when it certainly works without a break; what is unproven does not.
    pub(super) since: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Holder {
    Worker(Who),
    /// Its worker went away without a word, and is waited for until then.
    Nobody {
        until: u64,
    },
    /// Its worker took it back; it is not known when the server heard of that.
    TakenBack,
}

impl Held {
    pub(super) fn is_of(&self, who: &Who) -> bool {
        self.holder == Holder::Worker(who.clone())
    }
}

impl Binding {
    pub(super) fn is_of(&self, who: &Who, id: &str) -> bool {
        self.id == id && self.held.is_of(who)
    }
}

impl Wanted {
    /// What a registration asks for; nothing if that can't be had.
    pub(super) fn read(message: &Value) -> Option<Wanted> {
        let config = &message["config"];
        let name = |key: &str| match &config[key] {
            Value::Null => Some(None),
            Value::String(name) => Some(Some(name.clone()).filter(|name| !name.is_empty())),
            _ => None,
        };
        let (stream, group, item) = (name("stream_name")?, name("group_id")?, name("item_id")?);
        let kind = match text(&message["trigger_type"]) {
            "stream" => Kind::Stream { stream: stream?, group, item },
            "stream:join" | "streams:join" => Kind::Join(stream),
            "stream:leave" | "streams:leave" => Kind::Leave(stream),
            _ => return None,
        };
        let function = text(&message["function_id"]).to_owned();
        let (condition, metadata) = (name("condition_function_id")?, message["metadata"].clone());
        Some(Wanted { kind, function, condition, metadata })
    }

    /// The functions that are called for it, the condition first.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &str> {
        self.condition.iter().chain([&self.function]).map(String::as_str)
    }

    /// What is called first for it.
    pub(crate) fn first(&self) -> &str {
        self.condition.as_ref().unwrap_or(&self.function)
    }

    /// How often a call like this may be made for one event.
    pub(crate) fn calls(&self, call: &Call) -> usize {
        let called = self.functions().filter(|function| *function == call.function);
        if self.metadata == call.metadata { called.count() } else { 0 }
    }

    /// Whether it is for the events of whole groups.
    pub(crate) fn is_for_all_items(&self) -> bool {
        matches!(self.kind, Kind::Stream { item: None, .. })
    }

    /// Whether it is for the joins, or the leaves, of a stream.
    pub(crate) fn is_about(&self, stream: &str) -> bool {
        match &self.kind {
            Kind::Join(of) | Kind::Leave(of) => of.as_deref().is_none_or(|of| of == stream),
            Kind::Stream { .. } => false,
        }
    }

    /// Whether it is for this event.
    pub(crate) fn covers(&self, stream: &str, group: &str, item: Option<&str>) -> bool {
        let Kind::Stream { stream: of, group: group_filter, item: item_filter } = &self.kind else {
            return false;
        };
        let fits =
            |filter: &Option<String>, name| filter.as_deref().is_none_or(|filter| Some(filter) == name);
        of == stream && fits(group_filter, Some(group)) && fits(item_filter, item)
    }
}

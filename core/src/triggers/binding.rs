//! What a worker binds to a function: which events, under which condition.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{Answer, Outcome};
use crate::config::Limits;
use crate::error::CallError;
use crate::field;
use crate::functions::is_taken;
use crate::json::Json;
use crate::name::{FunctionId, GroupName, ItemId, StreamName};
use crate::wire::worker::{Payload, PayloadData, TriggerRequest};

/// What a trigger waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `stream`: changes and sent events.
    Stream { stream: StreamName, group: Option<GroupName>, item: Option<ItemId> },
    /// `stream:join`: subscriptions that want to begin. `None` is those of every stream.
    Join { stream: Option<StreamName> },
    /// `stream:leave`: subscriptions that have ended.
    Leave { stream: Option<StreamName> },
}

/// A function that handles something, and the one that is asked before whether it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handler {
    pub(super) function: FunctionId,
    pub(super) condition: Option<FunctionId>,
    /// Passed on with each call.
    pub(super) metadata: Option<Json>,
}

/// How far a handler is with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its condition was asked.
    Condition,
    /// It was called itself.
    Handler,
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum After {
    /// The condition holds: the handler is to be called.
    Call,
    /// The condition does not hold, or it failed: the handler is not called.
    Skipped(Option<CallError>),
    /// The handler has answered.
    Done(Outcome),
}

impl Handler {
    /// Where it begins.
    pub(super) fn first(&self) -> Stage {
        match self.condition {
            Some(_) => Stage::Condition,
            None => Stage::Handler,
        }
    }

    /// What is called at a stage.
    pub(super) fn function(&self, stage: Stage) -> &FunctionId {
        match (stage, &self.condition) {
            (Stage::Condition, Some(condition)) => condition,
            _ => &self.function,
        }
    }

    /// The input of that call.
    pub(super) fn payload(&self, data: PayloadData) -> Payload {
        Payload { data, traceparent: None, baggage: None, metadata: self.metadata.clone() }
    }
}

impl Stage {
    /// What follows when the call of this stage is answered: a condition that returns exactly `false` does not hold.
    pub(super) fn after(self, outcome: Outcome) -> After {
        match (self, outcome) {
            (Stage::Handler, outcome) => After::Done(outcome),
            (Stage::Condition, Err(error)) => After::Skipped(Some(error)),
            (Stage::Condition, Ok(Answer::Returned(value))) if value.as_str() == "false" => {
                After::Skipped(None)
            }
            (Stage::Condition, Ok(_)) => After::Call,
        }
    }
}

/// The settings of a trigger; others are ignored.
#[derive(Default, Deserialize)]
struct Settings<'a> {
    #[serde(borrow)]
    stream_name: Option<&'a RawValue>,
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    condition_function_id: Option<&'a RawValue>,
}

/// Reads what a worker asks for; the error says why that can't be had.
pub(super) fn parse(request: &TriggerRequest, limits: &Limits) -> Result<(Kind, Handler), String> {
    let settings: Settings<'_> = match &request.config {
        Some(config) if config.as_str() != "null" => {
            field::object(config.as_str()).map_err(|message| format!("`config` {message}"))?
        }
        _ => Settings::default(),
    };
    let stream = field::optional_name("config.stream_name", settings.stream_name, limits, StreamName::new)?;
    let kind = match request.trigger_type.as_str() {
        "stream" => Kind::Stream {
            stream: stream.ok_or(
                "`config.stream_name` is missing or empty: say which stream's changes are to be handled",
            )?,
            group: field::optional_name("config.group_id", settings.group_id, limits, GroupName::new)?,
            item: field::optional_name("config.item_id", settings.item_id, limits, ItemId::new)?,
        },
        "stream:join" | "streams:join" => Kind::Join { stream },
        "stream:leave" | "streams:leave" => Kind::Leave { stream },
        _ => {
            return Err(
                "there are triggers of the types `stream`, `stream:join` and `stream:leave` only".to_owned()
            );
        }
    };
    if is_taken(&request.function_id) {
        return Err(format!("`{}` is the server's own: bind a function of a worker", request.function_id));
    }
    let condition = field::optional_name(
        "config.condition_function_id",
        settings.condition_function_id,
        limits,
        FunctionId::new,
    )?;
    let handler =
        Handler { function: request.function_id.clone(), condition, metadata: request.metadata.clone() };
    Ok((kind, handler))
}

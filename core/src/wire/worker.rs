//! The worker port's frames: what the SDKs send and what they expect.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{push_array, push_json_member, push_key, push_string, push_text_member};
use crate::call::{Answer, Outcome};
use crate::config::Limits;
use crate::error::{CallError, code};
use crate::json::{Json, no_string};
use crate::name::{FunctionId, NameError, TriggerId};
use crate::rng::Uuid;
use crate::store::{Builtin, Command};

/// A frame from a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// The worker runs this function from now on.
    RegisterFunction {
        /// The function.
        id: FunctionId,
    },
    /// It does no more.
    UnregisterFunction {
        /// The function.
        id: FunctionId,
    },
    /// The worker wants a function called when something happens.
    RegisterTrigger(TriggerRequest),
    /// It wants that no more.
    UnregisterTrigger {
        /// The worker's id for the trigger.
        id: TriggerId,
    },
    /// A call of a function.
    Invoke(Invoke),
    /// The answer to a call that the worker ran.
    Result {
        /// The server's id of the call.
        invocation_id: Uuid,
        /// What the handler returned.
        outcome: Outcome,
    },
    /// The worker was connected before under another id: that connection is to go.
    Reattach {
        /// The id that the server gave then.
        previous: Uuid,
        /// The secret that it gave with it.
        token: String,
    },
    /// Answered with a pong.
    Ping,
    /// A type that is not known or needs nothing done.
    Ignored,
}

/// A trigger as a worker asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct TriggerRequest {
    /// The worker's id for it.
    pub id: TriggerId,
    /// What it waits for, such as `stream` or `stream:join`.
    pub trigger_type: String,
    /// What is to be called.
    pub function_id: FunctionId,
    /// Filters and conditions, if any were given.
    pub config: Option<Json>,
}

/// A call of a function, by a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoke {
    /// The function.
    pub function_id: FunctionId,
    /// The caller's id of the call; without one no answer is expected.
    pub invocation_id: Option<String>,
    /// What to do.
    pub target: InvokeTarget,
}

/// What an [`Invoke`] is for.
#[derive(Clone, Debug, PartialEq)]
pub enum InvokeTarget {
    /// A built-in `stream::` function, its input checked already.
    Builtin(Result<Command, CallError>),
    /// A function of a worker or of the server's own.
    Function(Payload),
    /// Something that is refused.
    Refused(CallError),
}

/// What is passed on to the worker that runs a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The input; null if there was none.
    pub data: Json,
    /// The W3C trace context, passed on as it is.
    pub traceparent: Option<String>,
    /// The W3C baggage, passed on as it is.
    pub baggage: Option<String>,
    /// What the caller says about the call, passed on as it is.
    pub metadata: Option<Json>,
}

/// A frame that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// Who must be told.
    pub answer: BadFrameAnswer,
    /// What is wrong.
    pub error: CallError,
}

/// How the sender of a [`BadFrame`] learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFrameAnswer {
    /// As the answer to a call.
    Call {
        /// The caller's id of it.
        invocation_id: String,
        /// What it called, as far as that could be read.
        function_id: String,
    },
    /// As the refusal of a trigger.
    Trigger {
        /// The worker's id for it.
        id: String,
        /// Its type, as far as that could be read.
        trigger_type: String,
    },
    /// Not at all: the protocol has no answer for it.
    None,
}

/// Every field of every frame type. None is required here: each type checks its own.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    function_id: Option<&'a RawValue>,
    #[serde(borrow)]
    function_path: Option<&'a RawValue>,
    #[serde(borrow)]
    trigger_type: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    invocation_id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "crate::json::present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(borrow)]
    baggage: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_worker_id: Option<&'a RawValue>,
    #[serde(borrow)]
    reattach_token: Option<&'a RawValue>,
}

/// Reads a frame.
pub fn parse(text: &str, limits: &Limits) -> Result<FromWorker, BadFrame> {
    let frame = Frame { fields: read_fields(text)?, limits };
    let kind = frame.text("type", frame.fields.kind).map_err(BadFrame::of_nothing)?;
    match kind.as_str() {
        "invokefunction" => frame.invoke().map(FromWorker::Invoke).map_err(|error| frame.bad_call(error)),
        "invocationresult" => frame.result().map_err(BadFrame::of_nothing),
        "registerfunction" => frame
            .function("id", frame.fields.id)
            .map(|id| FromWorker::RegisterFunction { id })
            .map_err(BadFrame::of_nothing),
        "unregisterfunction" => frame
            .function("id", frame.fields.id)
            .map(|id| FromWorker::UnregisterFunction { id })
            .map_err(BadFrame::of_nothing),
        "registertrigger" => {
            frame.trigger().map(FromWorker::RegisterTrigger).map_err(|error| frame.bad_trigger(error))
        }
        "unregistertrigger" => frame
            .name("id", frame.fields.id, TriggerId::new)
            .map(|id| FromWorker::UnregisterTrigger { id })
            .map_err(BadFrame::of_nothing),
        "reattach" => Ok(frame.reattach()),
        "ping" => Ok(FromWorker::Ping),
        _ => Ok(FromWorker::Ignored),
    }
}

fn read_fields(text: &str) -> Result<Fields<'_>, BadFrame> {
    // A derived reader would take an array of the fields in order, too.
    let text = text.trim_ascii_start();
    if !text.starts_with('{') {
        return Err(BadFrame::of_nothing(bad_input("a frame is a JSON object".to_owned())));
    }
    serde_json::from_str(text)
        .map_err(|error| BadFrame { answer: call_of(text), error: bad_input(error.to_string()) })
}

/// The call that is to be answered if a frame is valid JSON but has a field twice, which [`Fields`] refuses.
fn call_of(text: &str) -> BadFrameAnswer {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let member = |key: &str| lenient_text(members.get(key).copied());
    let is_call = member("type").is_some_and(|kind| kind == "invokefunction");
    match member("invocation_id").filter(|_| is_call) {
        Some(invocation_id) => {
            let function_id = member("function_id").or_else(|| member("function_path")).unwrap_or_default();
            BadFrameAnswer::Call { invocation_id, function_id }
        }
        None => BadFrameAnswer::None,
    }
}

impl BadFrame {
    fn of_nothing(error: CallError) -> BadFrame {
        BadFrame { answer: BadFrameAnswer::None, error }
    }
}

struct Frame<'a> {
    fields: Fields<'a>,
    limits: &'a Limits,
}

impl<'a> Frame<'a> {
    fn invoke(&self) -> Result<Invoke, CallError> {
        let fields = &self.fields;
        let mut invocation_id = self.optional_text("invocation_id", fields.invocation_id)?;
        let function_id = self.function("function_id", fields.function_id)?;
        let mut target = match Builtin::from_name(function_id.as_str()) {
            Some(builtin) => {
                let input = fields.data.unwrap_or(RawValue::NULL);
                InvokeTarget::Builtin(builtin.parse(input, self.limits))
            }
            None => InvokeTarget::Function(self.payload()?),
        };
        if let Some(action) = fields.action {
            #[derive(Deserialize)]
            struct Action {
                #[serde(rename = "type")]
                kind: String,
            }
            let action: Action = serde_json::from_str(action.get()).map_err(|_| {
                bad_input("`action` must be an object with a `type`, such as {\"type\":\"void\"}".to_owned())
            })?;
            match action.kind.as_str() {
                "void" => invocation_id = None,
                "enqueue" => {
                    let message = "Headwater has no queues: call the function without `enqueue`";
                    target = InvokeTarget::Refused(CallError::new(code::UNSUPPORTED, message));
                }
                _ => return Err(bad_input("`action` must be of type `void`, or absent".to_owned())),
            }
        }
        Ok(Invoke { function_id, invocation_id, target })
    }

    fn payload(&self) -> Result<Payload, CallError> {
        let fields = &self.fields;
        Ok(Payload {
            data: self.json("data", fields.data)?.unwrap_or_else(Json::null),
            traceparent: self.optional_text("traceparent", fields.traceparent)?,
            baggage: self.optional_text("baggage", fields.baggage)?,
            metadata: self.json("metadata", fields.metadata)?,
        })
    }

    fn result(&self) -> Result<FromWorker, CallError> {
        let fields = &self.fields;
        let invocation_id = self.text("invocation_id", fields.invocation_id)?;
        let invocation_id = Uuid::parse(&invocation_id)
            .ok_or_else(|| bad_input("`invocation_id` is none that this server gave".to_owned()))?;
        let outcome = match fields.error {
            Some(error) => Err(handler_error(error)),
            None => match self.json("result", fields.result) {
                Ok(Some(value)) => Ok(Answer::Value(value)),
                Ok(None) => Ok(Answer::Nothing),
                Err(error) => Err(CallError::new(code::INVOCATION_FAILED, error.message)),
            },
        };
        Ok(FromWorker::Result { invocation_id, outcome })
    }

    fn trigger(&self) -> Result<TriggerRequest, CallError> {
        let fields = &self.fields;
        Ok(TriggerRequest {
            id: self.name("id", fields.id, TriggerId::new)?,
            trigger_type: self.text("trigger_type", fields.trigger_type)?,
            function_id: self.function("function_id", fields.function_id)?,
            config: self.json("config", fields.config)?,
        })
    }

    /// A previous id or token that can't be right is as good as none.
    fn reattach(&self) -> FromWorker {
        let text =
            |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let previous = text(self.fields.previous_worker_id).and_then(|id| Uuid::parse(&id));
        match (previous, text(self.fields.reattach_token)) {
            (Some(previous), Some(token)) => FromWorker::Reattach { previous, token },
            _ => FromWorker::Ignored,
        }
    }

    /// A function's id; earlier clients call the field `function_path`.
    fn function(&self, field: &str, raw: Option<&'a RawValue>) -> Result<FunctionId, CallError> {
        self.name(field, raw.or(self.fields.function_path), FunctionId::new)
    }

    fn name<T>(
        &self,
        field: &str,
        raw: Option<&RawValue>,
        new: impl Fn(&str, &Limits) -> Result<T, NameError>,
    ) -> Result<T, CallError> {
        new(&self.text(field, raw)?, self.limits).map_err(|error| bad_input(format!("`{field}` {error}")))
    }

    fn text(&self, field: &str, raw: Option<&RawValue>) -> Result<String, CallError> {
        self.optional_text(field, raw)?.ok_or_else(|| bad_input(format!("`{field}` is missing")))
    }

    fn optional_text(&self, field: &str, raw: Option<&RawValue>) -> Result<Option<String>, CallError> {
        let Some(raw) = raw else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| bad_input(format!("`{field}` {}", no_string(raw.get()))))
    }

    fn json(&self, field: &str, raw: Option<&RawValue>) -> Result<Option<Json>, CallError> {
        raw.map(|raw| Json::bounded_depth(raw, self.limits))
            .transpose()
            .map_err(|error| bad_input(format!("`{field}` {error}")))
    }

    fn bad_call(&self, error: CallError) -> BadFrame {
        let function_id =
            lenient_text(self.fields.function_id.or(self.fields.function_path)).unwrap_or_default();
        let answer = match lenient_text(self.fields.invocation_id) {
            Some(invocation_id) => BadFrameAnswer::Call { invocation_id, function_id },
            None => BadFrameAnswer::None,
        };
        BadFrame { answer, error }
    }

    fn bad_trigger(&self, error: CallError) -> BadFrame {
        let trigger_type = lenient_text(self.fields.trigger_type).unwrap_or_default();
        let answer = match lenient_text(self.fields.id) {
            Some(id) => BadFrameAnswer::Trigger { id, trigger_type },
            None => BadFrameAnswer::None,
        };
        BadFrame { answer, error }
    }
}

fn lenient_text(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn bad_input(message: String) -> CallError {
    CallError::new(code::BAD_INPUT, message)
}

/// What a worker says went wrong in its handler: an object with code and message, or anything at all.
fn handler_error(raw: &RawValue) -> CallError {
    #[derive(Default, Deserialize)]
    struct Body {
        code: Option<String>,
        message: Option<String>,
        stacktrace: Option<String>,
    }
    // A derived reader would take an array of the fields in order, too.
    let body =
        Some(raw.get()).filter(|text| text.starts_with('{')).and_then(|text| serde_json::from_str(text).ok());
    let text = || serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    let Body { code, message, stacktrace } = body.unwrap_or_default();
    CallError {
        code: code.map_or(Cow::Borrowed(code::INVOCATION_FAILED), Cow::Owned),
        message: message.unwrap_or_else(text),
        stacktrace,
    }
}

/// A frame to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// The first frame of a connection.
    Registered {
        /// The worker's id on this connection.
        worker_id: Uuid,
        /// What it must show to take this id's place after a reconnect.
        reattach_token: String,
    },
    /// A call for the worker to run.
    Invoke {
        /// The server's id of the call; without one no answer is wanted.
        invocation_id: Option<Uuid>,
        /// The function.
        function_id: FunctionId,
        /// Its input.
        payload: Payload,
    },
    /// The answer to a call that the worker made.
    Result {
        /// As the caller named it.
        invocation_id: String,
        /// As the caller named it.
        function_id: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// A trigger can't be registered.
    TriggerRefused {
        /// As the worker named it.
        id: String,
        /// As the worker named it.
        trigger_type: String,
        /// Why.
        error: CallError,
    },
    /// A function can't be registered: another live worker has it.
    FunctionRefused {
        /// The function.
        id: FunctionId,
        /// Who has it.
        owner: Uuid,
    },
    /// The answer to a ping.
    Pong,
}

impl ToWorker {
    /// About how many bytes of memory the frame holds on to while it waits. A list counts little: it shares its
    /// items with the store.
    pub fn size_hint(&self) -> usize {
        let json = |value: &Option<Json>| value.as_ref().map_or(0, |value| value.as_str().len());
        let values = match self {
            ToWorker::Invoke { payload, .. } => payload.data.as_str().len() + json(&payload.metadata),
            ToWorker::Result { outcome: Ok(Answer::Value(value)), .. } => value.as_str().len(),
            ToWorker::Result { outcome: Ok(Answer::Changed { old, new, .. }), .. } => {
                json(old) + new.as_str().len()
            }
            ToWorker::Result { outcome: Ok(Answer::Deleted { old }), .. } => json(old),
            _ => 0,
        };
        values + 256
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(192);
        match self {
            ToWorker::Registered { worker_id, reattach_token } => {
                out.push_str(r#"{"type":"workerregistered""#);
                push_text_member(&mut out, "worker_id", &worker_id.to_string());
                push_text_member(&mut out, "reattach_token", reattach_token);
            }
            ToWorker::Invoke { invocation_id, function_id, payload } => {
                out.push_str(r#"{"type":"invokefunction""#);
                if let Some(id) = invocation_id {
                    push_text_member(&mut out, "invocation_id", &id.to_string());
                }
                push_text_member(&mut out, "function_id", function_id.as_str());
                push_json_member(&mut out, "data", &payload.data);
                for (key, text) in [("traceparent", &payload.traceparent), ("baggage", &payload.baggage)] {
                    if let Some(text) = text {
                        push_text_member(&mut out, key, text);
                    }
                }
                if let Some(metadata) = &payload.metadata {
                    push_json_member(&mut out, "metadata", metadata);
                }
            }
            ToWorker::Result { invocation_id, function_id, outcome } => {
                out.push_str(r#"{"type":"invocationresult""#);
                push_text_member(&mut out, "invocation_id", invocation_id);
                push_text_member(&mut out, "function_id", function_id);
                match outcome {
                    Ok(answer) => push_answer(&mut out, answer),
                    Err(error) => push_error(&mut out, error),
                }
            }
            ToWorker::TriggerRefused { id, trigger_type, error } => {
                out.push_str(r#"{"type":"triggerregistrationresult""#);
                push_text_member(&mut out, "id", id);
                push_text_member(&mut out, "trigger_type", trigger_type);
                push_error(&mut out, error);
            }
            ToWorker::FunctionRefused { id, owner } => {
                out.push_str(r#"{"type":"registrationrejected""#);
                push_text_member(&mut out, "code", code::FUNCTION_NAMESPACE_CONFLICT);
                push_text_member(&mut out, "function_id", id.as_str());
                push_text_member(&mut out, "owner_worker_id", &owner.to_string());
                push_text_member(
                    &mut out,
                    "message",
                    "another connected worker has registered this function; stop that worker or use another id",
                );
            }
            ToWorker::Pong => out.push_str(r#"{"type":"pong""#),
        }
        out.push('}');
        out
    }
}

fn push_answer(out: &mut String, answer: &Answer) {
    if matches!(answer, Answer::Nothing) {
        return;
    }
    push_key(out, "result");
    match answer {
        Answer::Nothing => {}
        Answer::Value(value) => out.push_str(value.as_str()),
        Answer::Changed { old, new, errors } => {
            push_old_value(out, old.as_ref());
            push_json_member(out, "new_value", new);
            if !errors.is_empty() {
                push_key(out, "errors");
                push_array(out, errors.iter(), |out, error| {
                    out.push_str(&format!(r#"{{"op_index":{}"#, error.op_index));
                    push_text_member(out, "code", error.code.as_str());
                    push_text_member(out, "message", &error.message);
                    out.push('}');
                });
            }
            out.push('}');
        }
        Answer::Deleted { old } => {
            push_old_value(out, old.as_ref());
            out.push('}');
        }
        Answer::Items(items) => push_array(out, items.iter(), |out, item| out.push_str(item.value.as_str())),
        Answer::Groups(groups) => {
            push_array(out, groups.iter(), |out, group| push_string(out, group.as_str()))
        }
        Answer::Streams(streams) => {
            out.push_str(r#"{"stream":"#);
            push_array(out, streams.iter(), |out, (stream, groups)| {
                out.push_str(r#"{"id":"#);
                push_string(out, stream.as_str());
                push_key(out, "groups");
                push_array(out, groups.iter(), |out, group| push_string(out, group.as_str()));
                out.push('}');
            });
            push_key(out, "count");
            out.push_str(&streams.len().to_string());
            out.push('}');
        }
        Answer::Functions(functions) => {
            out.push_str(r#"{"functions":"#);
            push_array(out, functions.iter(), |out, id| {
                out.push_str(r#"{"function_id":"#);
                push_string(out, id.as_str());
                out.push('}');
            });
            out.push('}');
        }
    }
}

fn push_old_value(out: &mut String, old: Option<&Json>) {
    out.push_str(r#"{"old_value":"#);
    out.push_str(old.map_or("null", Json::as_str));
}

/// `stacktrace` only if there is one: clients take a null for an error of another shape.
fn push_error(out: &mut String, error: &CallError) {
    push_key(out, "error");
    out.push_str(r#"{"code":"#);
    push_string(out, &error.code);
    push_text_member(out, "message", &error.message);
    if let Some(stacktrace) = &error.stacktrace {
        push_text_member(out, "stacktrace", stacktrace);
    }
    out.push('}');
}

//! What workers send.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{Answer, Outcome};
use crate::config::Limits;
use crate::error::{CallError, code};
use crate::field;
use crate::json::Json;
use crate::name::{FunctionId, NameError, TriggerId};
use crate::rng::Uuid;
use crate::store::{Builtin, Command, Event};
use crate::wire::text::{push_json_member, push_key, push_string, push_text_member};

/// A frame from a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// The worker runs this function from now on.
    RegisterFunction {
        /// The function.
        id: FunctionId,
        /// How lists show it: an object with its id and what the worker tells of it.
        about: Json,
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
    /// What the worker says about the trigger: passed on with each call.
    pub metadata: Option<Json>,
}

impl TriggerRequest {
    /// How lists show it.
    pub fn to_json(&self) -> Json {
        let mut out = String::from(r#"{"id":"#);
        push_string(&mut out, self.id.as_str());
        push_text_member(&mut out, "trigger_type", &self.trigger_type);
        push_text_member(&mut out, "function_id", self.function_id.as_str());
        push_key(&mut out, "config");
        out.push_str(self.config.as_ref().map_or("{}", Json::as_str));
        if let Some(metadata) = &self.metadata {
            push_json_member(&mut out, "metadata", metadata);
        }
        out.push('}');
        Json::trusted(out)
    }
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    /// The input; null if there was none.
    pub data: PayloadData,
    /// The W3C trace context, passed on as it is.
    pub traceparent: Option<String>,
    /// The W3C baggage, passed on as it is.
    pub baggage: Option<String>,
    /// What the caller says about the call, passed on as it is.
    pub metadata: Option<Json>,
}

/// The input of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum PayloadData {
    /// As the caller gave it, or as the server made it.
    Json(Json),
    /// What happened in a group, for the handler of a trigger; written out when it is sent.
    Event {
        /// What.
        event: Arc<Event>,
        /// How many events were dropped before it because the handler was too slow.
        skipped: u64,
    },
}

impl Default for PayloadData {
    fn default() -> PayloadData {
        PayloadData::Json(Json::null())
    }
}

impl PayloadData {
    /// About how many bytes of memory it holds on to.
    fn size_hint(&self) -> usize {
        match self {
            PayloadData::Json(json) => json.as_str().len(),
            PayloadData::Event { event, .. } => event.value_len() + 256,
        }
    }
}

impl Payload {
    /// About how many bytes of memory it holds on to.
    pub fn size_hint(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let metadata = self.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len());
        self.data.size_hint() + metadata + text(&self.traceparent) + text(&self.baggage) + 256
    }
}

/// What is passed on from worker to worker is at most this long, in bytes: clients take messages of up to 64 MiB,
/// and the frame around it needs its part, with the longest names in it, and every byte of them escaped.
const LONGEST_PASSED_ON: usize = 63 << 20;
/// Longest configuration of a trigger, and longest description of a function, in bytes: they are kept for as long as
/// their worker is connected.
const LONGEST_KEPT: usize = 64 << 10;
/// Longest message and longest stack trace of a handler's error, in bytes; what is longer is cut off.
const LONGEST_ERROR_TEXT: usize = 64 << 10;

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
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    request_format: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    invocation_id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "field::present")]
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
    let kind =
        field::text("type", frame.fields.kind).map_err(|message| BadFrame::of_nothing(bad_input(message)))?;
    match kind.as_str() {
        "invokefunction" => frame.invoke().map(FromWorker::Invoke).map_err(|error| frame.bad_call(error)),
        "invocationresult" => frame.result().map_err(BadFrame::of_nothing),
        "registerfunction" => frame.registration().map_err(BadFrame::of_nothing),
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
    field::object(text).map_err(|message| BadFrame {
        answer: call_of(text),
        error: bad_input(format!("the frame {message}")),
    })
}

/// The call that is to be answered if a frame is valid JSON but has a field twice, which [`Fields`] refuses.
fn call_of(text: &str) -> BadFrameAnswer {
    let members = field::members(text).unwrap_or_default();
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
        let mut invocation_id = bounded_text("invocation_id", fields.invocation_id, self.limits.name_bytes)?;
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
        let payload = Payload {
            data: PayloadData::Json(self.json("data", fields.data)?.unwrap_or_else(Json::null)),
            // 8,192 bytes are what the W3C asks a baggage to be limited to.
            traceparent: bounded_text("traceparent", fields.traceparent, 8_192)?,
            baggage: bounded_text("baggage", fields.baggage, 8_192)?,
            metadata: self.json("metadata", fields.metadata)?,
        };
        let len = payload.size_hint();
        if len > LONGEST_PASSED_ON {
            return Err(bad_input(format!(
                "the input is {len} bytes with what goes with it; {LONGEST_PASSED_ON} can be passed on"
            )));
        }
        Ok(payload)
    }

    fn result(&self) -> Result<FromWorker, CallError> {
        let fields = &self.fields;
        let invocation_id = field::text("invocation_id", fields.invocation_id).map_err(bad_input)?;
        let invocation_id = Uuid::parse(&invocation_id)
            .ok_or_else(|| bad_input("`invocation_id` is none that this server gave".to_owned()))?;
        let outcome = match fields.error {
            Some(error) => Err(handler_error(error)),
            None => match self.json("result", fields.result) {
                Ok(Some(value)) if value.as_str().len() > LONGEST_PASSED_ON => {
                    let len = value.as_str().len();
                    let message = format!("the result is {len} bytes; {LONGEST_PASSED_ON} can be passed on");
                    Err(CallError::new(code::INVOCATION_FAILED, message))
                }
                Ok(Some(value)) => Ok(Answer::Returned(value)),
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
            trigger_type: bounded_text("trigger_type", fields.trigger_type, self.limits.name_bytes)?
                .ok_or_else(|| bad_input(field::missing("trigger_type")))?,
            function_id: self.function("function_id", fields.function_id)?,
            config: self.kept("config", fields.config)?,
            metadata: self.kept("metadata", fields.metadata)?,
        })
    }

    /// Something that is kept for as long as the worker is connected.
    fn kept(&self, field: &str, raw: Option<&RawValue>) -> Result<Option<Json>, CallError> {
        let kept = self.json(field, raw)?;
        match kept.as_ref().map_or(0, |kept| kept.as_str().len()) {
            len if len > LONGEST_KEPT => {
                Err(bad_input(format!("`{field}` is {len} bytes; the limit is {LONGEST_KEPT}")))
            }
            _ => Ok(kept),
        }
    }

    fn registration(&self) -> Result<FromWorker, CallError> {
        let fields = &self.fields;
        let id = self.function("id", fields.id)?;
        let mut out = String::from(r#"{"function_id":"#);
        push_string(&mut out, id.as_str());
        let named = out.len();
        let told = [
            ("description", fields.description),
            ("request_format", fields.request_format),
            ("response_format", fields.response_format),
            ("metadata", fields.metadata),
        ];
        for (key, raw) in told {
            if let Some(json) = self.json(key, raw)? {
                push_json_member(&mut out, key, &json);
            }
        }
        // What is too long is not shown; the function can be called all the same.
        if out.len() > LONGEST_KEPT {
            out.truncate(named);
        }
        out.push('}');
        Ok(FromWorker::RegisterFunction { id, about: Json::trusted(out) })
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
        field::name(field, raw, self.limits, new).map_err(bad_input)
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

/// A text that may be absent, of at most `limit` bytes.
fn bounded_text(field: &str, raw: Option<&RawValue>, limit: usize) -> Result<Option<String>, CallError> {
    match field::optional_text(field, raw).map_err(bad_input)? {
        Some(text) if text.len() > limit => {
            Err(bad_input(format!("`{field}` is {} bytes long; the limit is {limit}", text.len())))
        }
        text => Ok(text),
    }
}

/// The start of a text, if it is too long for an error.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_ERROR_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_ERROR_TEXT));
        text.push('…');
    }
    text
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
        code: code.map_or(Cow::Borrowed(code::INVOCATION_FAILED), |code| Cow::Owned(cut(code))),
        message: cut(message.unwrap_or_else(text)),
        stacktrace: stacktrace.map(cut),
        conflict: None,
    }
}

//! What workers are sent.

use super::{Payload, PayloadData};
use crate::call::{self, Answer, Outcome};
use crate::error::{CallError, code};
use crate::json::Json;
use crate::log::Revision;
use crate::name::FunctionId;
use crate::rng::Uuid;
use crate::wire::stream::push_trigger_event;
use crate::wire::text::{push_array, push_json_member, push_key, push_string, push_text_member};

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
    /// About how many bytes of memory the frame holds on to while it waits.
    pub fn size_hint(&self) -> usize {
        match self {
            ToWorker::Invoke { payload, .. } => payload.size_hint(),
            ToWorker::Result { invocation_id, function_id, outcome } => {
                invocation_id.len() + function_id.len() + call::size_hint(outcome)
            }
            ToWorker::TriggerRefused { id, trigger_type, error } => {
                id.len() + trigger_type.len() + error.message.len() + 256
            }
            ToWorker::Registered { .. } | ToWorker::FunctionRefused { .. } | ToWorker::Pong => 256,
        }
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(192);
        self.encode_onto(&mut out);
        out
    }

    /// Appends the frame's text.
    pub fn encode_onto(&self, out: &mut String) {
        match self {
            ToWorker::Registered { worker_id, reattach_token } => {
                out.push_str(r#"{"type":"workerregistered""#);
                push_text_member(out, "worker_id", &worker_id.to_string());
                push_text_member(out, "reattach_token", reattach_token);
            }
            ToWorker::Invoke { invocation_id, function_id, payload } => {
                out.push_str(r#"{"type":"invokefunction""#);
                if let Some(id) = invocation_id {
                    push_text_member(out, "invocation_id", &id.to_string());
                }
                push_text_member(out, "function_id", function_id.as_str());
                push_key(out, "data");
                match &payload.data {
                    PayloadData::Json(data) => out.push_str(data.as_str()),
                    PayloadData::Event { event, skipped } => push_trigger_event(out, event, *skipped),
                }
                for (key, text) in [("traceparent", &payload.traceparent), ("baggage", &payload.baggage)] {
                    if let Some(text) = text {
                        push_text_member(out, key, text);
                    }
                }
                if let Some(metadata) = &payload.metadata {
                    push_json_member(out, "metadata", metadata);
                }
            }
            ToWorker::Result { invocation_id, function_id, outcome } => {
                out.push_str(r#"{"type":"invocationresult""#);
                push_text_member(out, "invocation_id", invocation_id);
                push_text_member(out, "function_id", function_id);
                match outcome {
                    Ok(answer) => push_answer(out, answer),
                    Err(error) => push_error(out, error),
                }
            }
            ToWorker::TriggerRefused { id, trigger_type, error } => {
                out.push_str(r#"{"type":"triggerregistrationresult""#);
                push_text_member(out, "id", id);
                push_text_member(out, "trigger_type", trigger_type);
                push_error(out, error);
            }
            ToWorker::FunctionRefused { id, owner } => {
                out.push_str(r#"{"type":"registrationrejected""#);
                push_text_member(out, "code", code::FUNCTION_NAMESPACE_CONFLICT);
                push_text_member(out, "function_id", id.as_str());
                push_text_member(out, "owner_worker_id", &owner.to_string());
                push_text_member(
                    out,
                    "message",
                    "another connected worker has registered this function; stop that worker or use another id",
                );
            }
            ToWorker::Pong => out.push_str(r#"{"type":"pong""#),
        }
        out.push('}');
    }
}

fn push_answer(out: &mut String, answer: &Answer) {
    if matches!(answer, Answer::Nothing) {
        return;
    }
    push_key(out, "result");
    match answer {
        Answer::Nothing => {}
        Answer::Value(value) | Answer::Returned(value) => out.push_str(value.as_str()),
        Answer::ItemWithRevision { value, revision } => {
            out.push_str(r#"{"value":"#);
            out.push_str(value.as_ref().map_or("null", Json::as_str));
            push_revision(out, *revision);
            out.push('}');
        }
        Answer::Changed { old, new, errors, revision } => {
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
            if let Some(revision) = revision {
                push_revision(out, *revision);
            }
            out.push('}');
        }
        Answer::Deleted { old, revision } => {
            push_old_value(out, old.as_ref());
            if let Some(revision) = revision {
                push_revision(out, *revision);
            }
            out.push('}');
        }
        Answer::Items(items) => push_array(out, items.iter(), |out, item| out.push_str(item.value.as_str())),
        Answer::ItemsWithRevisions(items) => push_array(out, items.iter(), |out, item| {
            out.push_str(r#"{"id":"#);
            push_string(out, item.id.as_str());
            push_json_member(out, "value", &item.value);
            push_revision(out, item.revision);
            out.push('}');
        }),
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
        Answer::Listing { of, entries } => {
            out.push('{');
            push_string(out, of);
            out.push(':');
            push_array(out, entries.iter(), |out, entry| out.push_str(entry.as_str()));
            out.push('}');
        }
    }
}

fn push_old_value(out: &mut String, old: Option<&Json>) {
    out.push_str(r#"{"old_value":"#);
    out.push_str(old.map_or("null", Json::as_str));
}

fn push_revision(out: &mut String, revision: Revision) {
    push_key(out, "revision");
    out.push_str(&revision.0.to_string());
}

/// `stacktrace` only if there is one: clients take a null for an error of another shape.
fn push_error(out: &mut String, error: &CallError) {
    push_key(out, "error");
    out.push_str(r#"{"code":"#);
    push_string(out, &error.code);
    push_text_member(out, "message", &error.message);
    if let Some(conflict) = &error.conflict {
        push_revision(out, conflict.revision);
        push_key(out, "value");
        out.push_str(conflict.value.as_ref().map_or("null", Json::as_str));
    }
    if let Some(stacktrace) = &error.stacktrace {
        push_text_member(out, "stacktrace", stacktrace);
    }
    out.push('}');
}

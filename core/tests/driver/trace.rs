//! Effects as short lines, for snapshots: without keys that are drawn, and without what other snapshots show.

use headwater_core::Effect;
use headwater_core::wire::stream::ToSubscriber;
use headwater_core::wire::worker::ToWorker;
use serde_json::Value;

use super::handlers::{read_call, short_note};
use super::{Seen, short_reply};

pub(super) fn short(effect: &Effect) -> String {
    match effect {
        Effect::Persist(write) if write.sync => "persist".to_owned(),
        Effect::Persist(_) => "persist, without a sync".to_owned(),
        Effect::Save(save) => format!("save {} groups", save.groups.len()),
        Effect::Discard(segments) => format!("discard {} files", segments.len()),
        Effect::Load(load) => format!("load {load:?}"),
        Effect::Reply { worker, invocation_id, function_id, outcome } => {
            let (invocation_id, function_id) =
                (invocation_id.clone().unwrap_or_default(), function_id.clone());
            let frame = ToWorker::Result { invocation_id, function_id, outcome: outcome.clone() };
            format!("worker {}: reply {}", worker.0, short_reply(&frame.encode()))
        }
        Effect::ToWorker { worker, frame } => format!("worker {}: {}", worker.0, short_frame(frame)),
        Effect::CloseWorker { worker } => format!("worker {}: close", worker.0),
        Effect::Attach { session, channel } => format!("session {}: attach to {}", session.0, channel.0),
        Effect::Detach { session, channel } => format!("session {}: detach from {}", session.0, channel.0),
        Effect::Resume { session, .. } => format!("session {}: resume", session.0),
        Effect::Sync { session, frame, .. } => {
            format!("session {}: {}", session.0, seen(&ToSubscriber::Sync(frame.clone())))
        }
        Effect::Refuse { session, error } => {
            format!("session {}: {}", session.0, seen(&ToSubscriber::Error(error.clone())))
        }
        Effect::Admit { session } => format!("session {}: admit", session.0),
        Effect::Unauthorized { session, target, .. } => {
            format!("session {}: unauthorized {}", session.0, target.group.group)
        }
        Effect::CloseSession { session } => format!("session {}: close", session.0),
        Effect::Broadcast { channel, frame } => format!("broadcast to {}: {}", channel.0, seen(frame)),
        Effect::Note(notice) => format!("note: {}", short_note(notice)),
        Effect::Stopped => "stopped".to_owned(),
    }
}

fn seen(frame: &ToSubscriber) -> Seen {
    Seen::read(&frame.encode())
}

fn short_frame(frame: &ToWorker) -> String {
    match frame {
        ToWorker::Registered { .. } => "greet".to_owned(),
        ToWorker::Invoke { .. } => format!("call {}", read_call(frame.encode())),
        ToWorker::TriggerRefused { id, error, .. } => format!("refuse trigger {id}: {}", error.code),
        other => {
            let value: Value = serde_json::from_str(&other.encode()).expect("frames are JSON");
            value["type"].as_str().expect("a type").to_owned()
        }
    }
}

//! What workers can ask about each other.

use std::collections::BTreeMap;

use super::Functions;
use crate::call::Answer;
use crate::field;
use crate::json::{Json, Kind};
use crate::key::WorkerKey;
use crate::wire::text::{push_array, push_key, push_string, push_text_member};

/// Longest text that a worker can tell of itself, in bytes; a longer one is as good as none.
const LONGEST_ABOUT: usize = 64 << 10;

impl Functions {
    /// A worker tells of itself.
    pub(super) fn tell_about(&mut self, worker: WorkerKey, about: Json) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.about = Some(about).filter(|about| about.as_str().len() <= LONGEST_ABOUT);
        }
    }

    pub(super) fn list_functions(&self) -> Answer {
        let functions =
            self.workers.values().flat_map(|worker| &worker.functions).collect::<BTreeMap<_, _>>();
        Answer::Listing { of: "functions", entries: functions.into_values().cloned().collect() }
    }

    pub(super) fn list_workers(&self) -> Answer {
        let entry = |(key, worker): (&WorkerKey, &super::Worker)| {
            let mut out = String::from(r#"{"id":"#);
            push_string(&mut out, &worker.id.to_string());
            push_told(&mut out, worker.about.as_ref());
            push_text_member(&mut out, "status", "connected");
            push_key(&mut out, "connected_at_ms");
            out.push_str(&worker.connected.0.to_string());
            push_key(&mut out, "function_count");
            out.push_str(&worker.functions.len().to_string());
            push_key(&mut out, "functions");
            push_array(&mut out, worker.functions.keys(), |out, id| push_string(out, id.as_str()));
            push_key(&mut out, "active_invocations");
            out.push_str(&self.calls.run_by(*key).to_string());
            out.push('}');
            Json::trusted(out)
        };
        Answer::Listing { of: "workers", entries: self.workers.iter().map(entry).collect() }
    }
}

/// What a worker told of itself, as far as lists show it: texts only.
fn push_told(out: &mut String, about: Option<&Json>) {
    const SHOWN: [&str; 7] = ["name", "description", "runtime", "version", "os", "isolation", "namespace"];
    let about = about.map_or("{}", Json::as_str);
    let told = field::members(about).unwrap_or_default();
    for key in SHOWN {
        if let Some(value) = told.get(key).filter(|value| Kind::of(value.get()) == Kind::String) {
            push_key(out, key);
            out.push_str(value.get());
        }
    }
}

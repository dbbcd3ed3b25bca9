//! What a worker does when it is called, and how well.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::kept::{self, Kept};
use super::{Progress, STREAM, text};
use crate::random::Random;

/// Something that a worker is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Duty {
    /// Gives back what it is given, to other workers.
    Echo,
    /// Hears of changes and sent events: of one group, of one item of it, of all.
    Handler {
        /// Of this group only.
        group: Option<String>,
        /// Of this item only.
        item: Option<String>,
        /// Only of those that another function of the worker wants.
        condition: bool,
    },
    /// Refuses subscriptions whose id begins with `deny`.
    Gate,
    /// Hears of subscriptions that have ended.
    Leaves,
    /// Says who subscribers are: their token tells.
    Auth,
    /// Keeps a stream itself.
    Keeper,
}

/// How well a worker handles what it is called for, in percent of its calls.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct Manners {
    /// It takes its time.
    pub(in crate::server) slow: u64,
    /// It fails.
    pub(in crate::server) failing: u64,
    /// It does not answer.
    pub(in crate::server) silent: u64,
    /// It loses its connection, and comes back.
    pub(in crate::server) dying: u64,
    /// How long the server waits for it.
    pub(in crate::server) call: Duration,
}

/// What a worker does about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It answers in a while, or never.
    Lives,
    /// It loses its connection.
    Dies,
}

/// What a worker is called for, and the answers that it has not given yet.
#[derive(Debug)]
pub(super) struct Handlers {
    worker: String,
    duties: Vec<Duty>,
    manners: Manners,
    kept: Kept,
    /// In the order in which they are due.
    answers: BTreeMap<(Instant, u64), Value>,
    calls: u64,
}

/// How long a handler takes that takes its time, in milliseconds.
const SLOW: std::ops::Range<u64> = 5..120;
/// How long it takes at most, from an answer, until the next call is there.
pub(super) const NEXT: Duration = Duration::from_millis(150);

impl Duty {
    /// The function that the duty is about; each worker has its own, where there may be several.
    fn function(&self, worker: &str) -> String {
        match self {
            Duty::Echo => "echo".to_owned(),
            Duty::Auth => "auth".to_owned(),
            Duty::Handler { .. } => format!("saw-{worker}"),
            Duty::Gate => format!("gate-{worker}"),
            Duty::Leaves => format!("left-{worker}"),
            Duty::Keeper => kept::functions().remove(0),
        }
    }

    fn functions(&self, worker: &str) -> Vec<String> {
        match self {
            Duty::Keeper => kept::functions(),
            Duty::Handler { condition: true, .. } => {
                vec![format!("condition-{worker}"), self.function(worker)]
            }
            _ => vec![self.function(worker)],
        }
    }

    fn trigger(&self, worker: &str) -> Option<Value> {
        let (kind, config) = match self {
            Duty::Handler { group, item, condition } => {
                let mut config = json!({"stream_name": STREAM});
                if let Some(group) = group {
                    config["group_id"] = json!(group);
                }
                if let Some(item) = item {
                    config["item_id"] = json!(item);
                }
                if *condition {
                    config["condition_function_id"] = json!(format!("condition-{worker}"));
                }
                ("stream", config)
            }
            Duty::Gate => ("stream:join", json!({})),
            Duty::Leaves => ("stream:leave", json!({"stream_name": STREAM})),
            Duty::Echo | Duty::Auth | Duty::Keeper => return None,
        };
        let function = self.function(worker);
        Some(json!({
            "type": "registertrigger", "id": format!("{function}-trigger"), "trigger_type": kind,
            "function_id": function, "config": config,
        }))
    }
}

impl Handlers {
    pub(super) fn new(worker: &str, duties: Vec<Duty>, manners: Manners) -> Handlers {
        Handlers {
            worker: worker.to_owned(),
            duties,
            manners,
            kept: Kept::default(),
            answers: BTreeMap::new(),
            calls: 0,
        }
    }

    /// What a connection begins with.
    pub(super) fn registrations(&self) -> Vec<Value> {
        let functions = self.functions().map(|id| json!({"type": "registerfunction", "id": id}));
        let triggers = self.duties.iter().filter_map(|duty| duty.trigger(&self.worker));
        functions.chain(triggers).collect()
    }

    /// The ids of its triggers.
    pub(super) fn triggers(&self) -> Vec<Value> {
        self.duties
            .iter()
            .filter_map(|duty| duty.trigger(&self.worker))
            .map(|mut it| it["id"].take())
            .collect()
    }

    /// Its functions.
    pub(super) fn functions(&self) -> impl Iterator<Item = String> {
        self.duties.iter().flat_map(|duty| duty.functions(&self.worker))
    }

    /// It is called.
    pub(super) fn called(&mut self, call: &Value, random: &mut Random, progress: &Progress) -> Reaction {
        let manners =
            if progress.is_healed() { Manners { slow: 20, ..Manners::default() } } else { self.manners };
        let mut draw = random.within(0..100);
        let mut is = |percent: u64| {
            let is = draw < percent;
            draw = if is { 100 } else { draw - percent };
            is
        };
        if is(manners.dying) {
            progress.happened("handlers that died");
            return Reaction::Dies;
        }
        if is(manners.silent) {
            progress.happened("handlers that were silent");
            progress.is_busy(self.manners.call + NEXT);
            return Reaction::Lives;
        }
        let (key, answer) = match is(manners.failing) {
            true => {
                progress.happened("handlers that failed");
                ("error", Some(json!({"code": "failed", "message": "on purpose"})))
            }
            false => ("result", self.result(text(&call["function_id"]), &call["data"])),
        };
        let mut pause = Duration::ZERO;
        if is(manners.slow) {
            progress.happened("handlers that were slow");
            pause = random.millis(SLOW);
        }
        progress.is_busy(pause + NEXT);
        if call["invocation_id"].is_null() {
            return Reaction::Lives;
        }
        let mut message = json!({
            "type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": call["function_id"],
        });
        if let Some(answer) = answer {
            message[key] = answer;
        }
        self.calls += 1;
        self.answers.insert((Instant::now() + pause, self.calls), message);
        Reaction::Lives
    }

    /// An answer that is due.
    pub(super) fn due(&mut self) -> Option<Value> {
        let first = self.answers.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.answers.keys().next().map(|(due, _)| *due)
    }

    /// The connection is gone, and with it whoever waits for answers.
    pub(super) fn forget(&mut self) {
        self.answers.clear();
    }

    fn result(&mut self, function: &str, data: &Value) -> Option<Value> {
        Some(match function.split('-').next().unwrap_or_default() {
            "echo" => data.clone(),
            "condition" => {
                let n = data["event"]["data"]["n"].as_u64().unwrap_or_default();
                json!(!n.is_multiple_of(3))
            }
            "gate" => match text(&data["subscription_id"]).starts_with("deny") {
                true => json!({"unauthorized": true}),
                false => json!({"welcome": true}),
            },
            "auth" => match data["query_params"]["token"][0] == "bad" {
                true => json!({"unauthorized": true}),
                false => json!({"context": {"who": data["query_params"]["who"][0]}}),
            },
            _ if function.starts_with("stream::") => return self.kept.call(function, data),
            _ => Value::Null,
        })
    }
}

//! A worker: what it registers, what it calls, how it handles what it is called for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Role, Setup};
use crate::random::Random;

/// The stream that the server keeps.
pub(super) const STREAM: &str = "world";
/// The stream that a worker keeps, if there is one.
pub(super) const KEPT: &str = "kept";

/// A client of the worker port, from one connection to the next.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) roles: Vec<Role>,
    /// How many connections it has had.
    pub(super) connections: u64,
    /// The one that it has.
    pub(super) link: Option<usize>,
    /// How many calls it has made.
    calls: u64,
    /// Those without an answer.
    pub(super) open: BTreeMap<String, Value>,
    /// What became of these calls it will never know.
    pub(super) lost: Vec<Value>,
    /// What it is to handle.
    pub(super) asked: VecDeque<Asked>,
    /// The revisions and values of items, as it was told last.
    known: BTreeMap<(String, String), (u64, Value)>,
    /// Its id and its secret on the last connection.
    identity: Option<(Value, Value)>,
    /// The groups that it keeps itself: items in creation order.
    kept: BTreeMap<String, Vec<(String, Value)>>,
}

/// A call that a worker is to run.
#[derive(Debug)]
pub(super) struct Asked {
    /// Without one, nobody waits for the answer.
    id: Option<Value>,
    pub(super) function: String,
    data: Value,
    /// Not before this, in milliseconds.
    pub(super) not_before: u64,
}

/// How a handler does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Failing,
}

impl Worker {
    pub(super) fn new(name: &str, roles: Vec<Role>) -> Worker {
        Worker {
            name: name.into(),
            roles,
            connections: 0,
            link: None,
            calls: 0,
            open: BTreeMap::new(),
            lost: Vec::new(),
            asked: VecDeque::new(),
            known: BTreeMap::new(),
            identity: None,
            kept: BTreeMap::new(),
        }
    }

    /// Its connection is gone, and with it what was under way there.
    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.asked.clear();
        let open = std::mem::take(&mut self.open);
        self.lost.extend(open.into_values());
        let keep = self.lost.len().saturating_sub(4);
        self.lost.drain(..keep);
    }

    /// What it sends first on a new connection.
    pub(super) fn greetings(&self, reattaches: bool) -> Vec<Value> {
        let identity = self.identity.as_ref().filter(|_| reattaches);
        let reattach = identity.map(
            |(id, token)| json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token}),
        );
        reattach.into_iter().chain(self.registrations()).collect()
    }

    /// What it registers.
    pub(super) fn registrations(&self) -> Vec<Value> {
        self.roles.iter().flat_map(|role| role.registrations(&self.name)).collect()
    }

    /// A call, drawn.
    pub(super) fn call(&mut self, setup: &Setup, random: &mut Random) -> Value {
        let group = format!("g{}", random.within(0..setup.groups));
        let kind = ["r", "c"][random.index(2)];
        let item = format!("{kind}{}", random.within(0..setup.items));
        let n = self.calls * 1_000 + self.number();
        let mut data = json!({"stream_name": STREAM, "group_id": group});
        let function = match random.within(0..24) {
            0..6 => {
                data["data"] = json!({"id": item, "n": n});
                if random.chance(20) {
                    data["data"]["pad"] = json!("x".repeat(random.index(400)));
                }
                "stream::set"
            }
            6..11 => {
                let by = random.within(1..6);
                data["ops"] = json!([{"type": "increment", "path": "n", "by": by}]);
                if random.chance(20) {
                    data["ops"] = json!([{"type": "set", "path": "v", "value": n}]);
                }
                "stream::update"
            }
            11..13 => "stream::delete",
            13..15 => "stream::get",
            15 | 16 => "stream::list",
            17 | 18 => {
                data["type"] = json!("note");
                data["data"] = json!({"n": n});
                if random.chance(30) {
                    data["id"] = json!(item);
                }
                "stream::send"
            }
            _ => return self.other_call(setup, n, random),
        };
        if matches!(function, "stream::set" | "stream::update" | "stream::delete" | "stream::get") {
            data["item_id"] = json!(item);
        }
        if function != "stream::send" && random.chance(50) {
            data["revision"] = json!(true);
        }
        let known = self.known.get(&(group, item));
        if matches!(function, "stream::set" | "stream::update" | "stream::delete") && random.chance(15) {
            data["expect"] = match known {
                Some((revision, _)) if random.chance(50) => json!({"revision": revision}),
                Some((_, value)) if !value.is_null() => json!({"value": value}),
                _ => json!({"revision": 0}),
            };
        }
        self.calling(function, &data)
    }

    /// A call that is not about an item of the server's.
    fn other_call(&mut self, setup: &Setup, n: u64, random: &mut Random) -> Value {
        match random.within(0..10) {
            0 => self.calling("stream::list_groups", &json!({"stream_name": STREAM})),
            1 => self.calling("stream::list_all", &json!({})),
            2 => {
                let listings = ["engine::functions::list", "engine::workers::list", "engine::triggers::list"];
                self.calling(listings[random.index(3)], &json!({}))
            }
            3..6 => {
                let at = random.index(setup.workers.len());
                self.calling(&format!("echo-worker{at}"), &json!({"n": n}))
            }
            6 => {
                let mut call = self.calling(
                    "stream::send",
                    &json!({"stream_name": STREAM, "group_id": "g0", "type": "void", "data": {"n": n}}),
                );
                self.open.remove(call["invocation_id"].as_str().unwrap_or_default());
                call["invocation_id"] = Value::Null;
                call
            }
            7 => json!({"type": "ping"}),
            _ => {
                let functions =
                    ["stream::set", "stream::get", "stream::delete", "stream::list", "stream::update"];
                let item = format!("k{}", random.within(0..setup.items));
                let ops = json!([{"type": "increment", "path": "n", "by": 1}]);
                let value = if random.chance(20) { Value::Null } else { json!({"id": item, "n": n}) };
                let data = json!({
                    "stream_name": KEPT, "group_id": "g0", "item_id": item, "data": value, "ops": ops,
                });
                self.calling(functions[random.index(functions.len())], &data)
            }
        }
    }

    /// A command of which it knows no answer, once more.
    pub(super) fn retry(&mut self, random: &mut Random) -> Option<Value> {
        let index = (!self.lost.is_empty()).then(|| random.index(self.lost.len()))?;
        let call = self.lost.swap_remove(index);
        let function = call["function_id"].as_str().unwrap_or_default().to_owned();
        Some(self.calling(&function, &call["data"]))
    }

    pub(super) fn calling(&mut self, function: &str, data: &Value) -> Value {
        self.calls += 1;
        let id = format!("{}:{}", self.name, self.calls);
        let call =
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data});
        self.open.insert(id, call.clone());
        call
    }

    /// Which of the workers it is, so that no two write the same number.
    fn number(&self) -> u64 {
        self.name.bytes().last().map_or(0, u64::from)
    }

    /// Takes a message.
    pub(super) fn got(&mut self, message: &Value, not_before: u64) {
        match message["type"].as_str() {
            Some("workerregistered") => {
                self.identity = Some((message["worker_id"].clone(), message["reattach_token"].clone()));
            }
            Some("invocationresult") => {
                let call = self.open.remove(message["invocation_id"].as_str().unwrap_or_default());
                if let Some(call) = call {
                    self.learn(&call["data"], message);
                }
            }
            Some("invokefunction") => self.asked.push_back(Asked {
                id: message.get("invocation_id").cloned(),
                function: message["function_id"].as_str().unwrap_or_default().to_owned(),
                data: message["data"].clone(),
                not_before,
            }),
            _ => {}
        }
    }

    /// Remembers what an item is.
    fn learn(&mut self, call: &Value, answer: &Value) {
        let (Some(group), Some(item)) = (call["group_id"].as_str(), call["item_id"].as_str()) else { return };
        let told = if answer["error"]["revision"].is_u64() { &answer["error"] } else { &answer["result"] };
        if let Some(revision) = told["revision"].as_u64() {
            let value = told.get("new_value").or(told.get("value")).cloned().unwrap_or_default();
            self.known.insert((group.to_owned(), item.to_owned()), (revision, value));
        }
    }

    /// Handles what it was asked for, and says what came of it; nothing if nobody wants to know.
    pub(super) fn handle(&mut self, index: usize, mood: Mood) -> Option<Value> {
        let asked = self.asked.remove(index)?;
        let result = self.run(&asked);
        let id = asked.id.filter(|id| !id.is_null())?;
        let mut answer =
            json!({"type": "invocationresult", "invocation_id": id, "function_id": asked.function});
        match mood {
            Mood::Good => answer["result"] = result,
            Mood::Failing => answer["error"] = json!({"code": "BROKEN", "message": "the handler has failed"}),
        }
        Some(answer)
    }

    fn run(&mut self, asked: &Asked) -> Value {
        let data = &asked.data;
        match asked.function.split('-').next() {
            Some("echo") => data.clone(),
            Some("condition") => json!(!data["timestamp"].as_u64().unwrap_or_default().is_multiple_of(3)),
            Some("gate") => {
                let denied = data["subscription_id"].as_str().is_some_and(|id| id.starts_with("deny"));
                if denied { json!({"unauthorized": true}) } else { json!({}) }
            }
            Some("auth") => {
                let denied = data["query_params"]["token"][0] == "bad";
                if denied {
                    json!({"unauthorized": true})
                } else {
                    json!({"context": {"addr": data["addr"]}})
                }
            }
            Some(function) if function.starts_with("stream::") => self.keep(function, data),
            _ => Value::Null,
        }
    }

    /// Does what the server does for a stream of its own.
    fn keep(&mut self, function: &str, data: &Value) -> Value {
        let name = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let (group, item) = (self.kept.entry(name("group_id")).or_default(), name("item_id"));
        let at = group.iter().position(|(id, _)| *id == item);
        let old = at.map(|at| group[at].1.clone()).unwrap_or_default();
        match function.trim_start_matches("stream::").split('(').next() {
            Some("set") => {
                match at {
                    Some(at) => group[at].1 = data["data"].clone(),
                    None => group.push((item, data["data"].clone())),
                }
                json!({"old_value": old, "new_value": data["data"]})
            }
            Some("delete") => {
                group.retain(|(id, _)| *id != item);
                // One that does not say what it was: the server has to tell all of the group.
                if old["n"].as_u64().is_some_and(|n| n % 3 == 0) {
                    Value::Null
                } else {
                    json!({"old_value": old})
                }
            }
            Some("list") => group.iter().map(|(_, value)| value.clone()).collect(),
            Some("list_groups") => json!(self.kept.keys().collect::<Vec<_>>()),
            _ => old,
        }
    }
}

impl Role {
    fn registrations(self, worker: &str) -> Vec<Value> {
        let function = |id: &str| json!({"type": "registerfunction", "id": id});
        let trigger = |kind: &str, function: &str, config: Value| {
            json!({
                "type": "registertrigger", "id": format!("{function}-trigger"), "trigger_type": kind,
                "function_id": function, "config": config,
            })
        };
        match self {
            Role::Echo => vec![function(&format!("echo-{worker}"))],
            Role::Events => {
                let name = format!("events-{worker}");
                vec![function(&name), trigger("stream", &name, json!({"stream_name": STREAM}))]
            }
            Role::EventsOfGroup => {
                let name = format!("group-{worker}");
                let config = json!({"stream_name": STREAM, "group_id": "g0"});
                vec![function(&name), trigger("stream", &name, config)]
            }
            Role::Conditional => {
                let (name, condition) = (format!("conditional-{worker}"), format!("condition-{worker}"));
                let config = json!({"stream_name": STREAM, "condition_function_id": condition});
                vec![function(&condition), function(&name), trigger("stream", &name, config)]
            }
            Role::Gate => {
                let name = format!("gate-{worker}");
                vec![function(&name), trigger("stream:join", &name, json!({"stream_name": STREAM}))]
            }
            Role::Leave => {
                let name = format!("leave-{worker}");
                vec![function(&name), trigger("stream:leave", &name, json!({}))]
            }
            Role::Auth => vec![function("auth")],
            Role::Keeper => ["set", "get", "delete", "list", "list_groups"]
                .map(|name| function(&format!("stream::{name}({KEPT})")))
                .into(),
        }
    }
}

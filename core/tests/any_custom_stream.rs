//! Any story of subscribers to a stream that a worker keeps, beside one that the server keeps itself, on a disk whose
//! writes fail.
//!
//! After every step: what a session was sent is covered by a subscription of its own that is open and has had its
//! start; stamps increase; the worker runs one call a group. In the end every call was answered once, and whoever
//! replays what it was sent knows what the worker holds.

mod driver;

use std::collections::{BTreeMap, BTreeSet};

use driver::{Call, World};
use headwater_core::key::{SessionKey, WorkerKey};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

const SESSIONS: usize = 3;
/// The first is the worker's.
const STREAMS: [&str; 2] = ["kept", "own"];
const GROUPS: [&str; 2] = ["g", "h"];
/// The whole group, and two items.
const ITEMS: [&str; 3] = ["", "a", "b"];
const FUNCTIONS: [&str; 5] = ["get", "set", "delete", "list", "update"];

/// How much a worker says of a change.
#[derive(Clone, Copy, Debug)]
enum Says {
    All,
    OnlyNew,
    Nothing,
}

#[derive(Clone, Debug)]
enum Step {
    Join {
        session: usize,
        target: Target,
    },
    Again(Index),
    Leave(Index),
    Hangup(usize),
    Overflow(usize),
    Drained(usize),
    Call {
        function: &'static str,
        target: Target,
    },
    Answer(Index, Says),
    Throw(Index),
    WorkerGone,
    WorkerBack,
    Persist,
    Fail,
    Pass,
    /// So much time passes that a store whose disk has failed tries again.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    stream: &'static str,
    group: &'static str,
    item: &'static str,
}

fn step() -> impl Strategy<Value = Step> {
    let target = |items: std::ops::Range<usize>| {
        (prop::bool::weighted(0.25), 0..GROUPS.len(), items).prop_map(|(own, group, item)| Target {
            stream: STREAMS[usize::from(own)],
            group: GROUPS[group],
            item: ITEMS[item],
        })
    };
    let function = prop_oneof![4 => Just("set"), 2 => Just("delete"), 2 => Just("update"), 1 => Just("send")];
    let says = prop_oneof![6 => Just(Says::All), 1 => Just(Says::OnlyNew), 1 => Just(Says::Nothing)];
    prop_oneof![
        6 => (0..SESSIONS, target(0..3)).prop_map(|(session, target)| Step::Join { session, target }),
        1 => any::<Index>().prop_map(Step::Again),
        3 => any::<Index>().prop_map(Step::Leave),
        1 => (0..SESSIONS).prop_map(Step::Hangup),
        1 => (0..SESSIONS).prop_map(Step::Overflow),
        2 => (0..SESSIONS).prop_map(Step::Drained),
        8 => (function, target(1..3)).prop_map(|(function, target)| Step::Call { function, target }),
        16 => (any::<Index>(), says).prop_map(|(at, says)| Step::Answer(at, says)),
        1 => any::<Index>().prop_map(Step::Throw),
        1 => Just(Step::WorkerGone),
        3 => Just(Step::WorkerBack),
        4 => Just(Step::Persist),
        1 => Just(Step::Fail),
        1 => Just(Step::Wait),
        2 => Just(Step::Pass),
    ]
}

#[derive(Clone, Debug)]
struct Subscription {
    session: SessionKey,
    target: Target,
    /// It was sent what it starts from.
    started: bool,
}

/// What a session makes of what it is sent: of groups a list, of items a value.
#[derive(Debug, Default)]
struct View {
    groups: BTreeMap<(String, String), Vec<Value>>,
    items: BTreeMap<(String, String, String), Value>,
    stamps: BTreeMap<(String, String), u64>,
    /// The last state of each target that it was told, with its stamp.
    told: BTreeMap<(String, String, String), (u64, Value)>,
}

struct Model {
    world: World,
    caller: WorkerKey,
    worker: Option<WorkerKey>,
    updates: bool,
    /// What the worker holds, and in the end what the server does, in the order of creation.
    values: BTreeMap<(&'static str, &'static str), Vec<Value>>,
    /// What was changed of the server's own, by the ids of the calls, but for what has failed.
    own: Vec<(String, Target, Option<Value>)>,
    /// The groups in which the worker did not tell all of a change. If it does not tell the list then, either, a
    /// subscriber does not know which items there are.
    vague: BTreeSet<&'static str>,
    /// What the worker has not answered.
    asked: Vec<Call>,
    sessions: Vec<SessionKey>,
    behind: BTreeSet<SessionKey>,
    views: BTreeMap<SessionKey, View>,
    /// By their ids, which are never used again.
    open: BTreeMap<usize, Subscription>,
    ids: usize,
    unanswered: BTreeSet<String>,
    n: u64,
    /// How many seconds have passed: too few for anything to take too long.
    waited: u64,
}

fn known(name: &Value, of: &[&'static str]) -> &'static str {
    of.iter().find(|known| **known == name.as_str().expect("a name")).expect("a name of the story's")
}

impl Model {
    fn new(durable: bool, updates: bool) -> Model {
        let mut world = if durable { World::durable() } else { World::in_memory() };
        let caller = world.worker();
        let sessions: Vec<_> = (0..SESSIONS).map(|_| world.session()).collect();
        let mut model = Model {
            world,
            caller,
            worker: None,
            updates,
            values: BTreeMap::new(),
            own: Vec::new(),
            vague: BTreeSet::new(),
            asked: Vec::new(),
            views: sessions.iter().map(|session| (*session, View::default())).collect(),
            sessions,
            behind: BTreeSet::new(),
            open: BTreeMap::new(),
            ids: 0,
            unanswered: BTreeSet::new(),
            n: 0,
            waited: 0,
        };
        model.worker_back();
        model
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { session, target } => {
                let session = self.sessions[session];
                self.ids += 1;
                self.open.insert(self.ids, Subscription { session, target, started: false });
                self.says("join", self.ids);
            }
            Step::Again(at) => {
                if let Some(id) = self.pick(at) {
                    self.says("join", id);
                }
            }
            Step::Leave(at) => {
                if let Some(id) = self.pick(at) {
                    self.says("leave", id);
                    self.open.remove(&id);
                }
            }
            Step::Hangup(at) => {
                let session = self.sessions[at];
                self.world.leaves(session);
                self.open.retain(|_, subscription| subscription.session != session);
                self.behind.remove(&session);
                self.sessions[at] = self.world.session();
                self.views.insert(self.sessions[at], View::default());
            }
            Step::Overflow(at) => {
                self.behind.insert(self.sessions[at]);
                self.world.overflow(self.sessions[at]);
                for subscription in self.open.values_mut() {
                    subscription.started &= subscription.session != self.sessions[at];
                }
            }
            Step::Drained(at) => {
                if self.behind.remove(&self.sessions[at]) {
                    self.world.drained(self.sessions[at]);
                }
            }
            Step::Call { function, target } => self.call(function, target),
            Step::Answer(at, says) => {
                if let Some((worker, call)) = self.pick_call(at) {
                    let answer = self.run(&call, says);
                    self.world.returns(worker, &call, &answer);
                }
            }
            Step::Throw(at) => {
                if let Some((worker, call)) = self.pick_call(at) {
                    self.world.throws(worker, &call);
                }
            }
            Step::WorkerGone => {
                if let Some(worker) = self.worker.take() {
                    self.asked.clear();
                    self.world.hangs_up(worker);
                }
            }
            Step::WorkerBack => self.worker_back(),
            Step::Persist if self.world.in_flight.is_some() => self.world.persist(),
            Step::Fail if self.world.in_flight.is_some() => self.world.fail(),
            Step::Persist | Step::Fail => {}
            Step::Pass => self.world.pass(1),
            Step::Wait if self.waited < 20 => {
                self.waited += 1;
                self.world.pass(1_000);
                self.world.tick();
            }
            Step::Wait => {}
        }
        self.look();
    }

    fn pick(&self, at: Index) -> Option<usize> {
        let ids: Vec<_> = self.open.keys().copied().collect();
        (!ids.is_empty()).then(|| *at.get(&ids))
    }

    fn pick_call(&mut self, at: Index) -> Option<(WorkerKey, Call)> {
        let worker = self.worker?;
        (!self.asked.is_empty()).then(|| (worker, self.asked.remove(at.index(self.asked.len()))))
    }

    fn says(&mut self, kind: &str, id: usize) {
        let Subscription { session, target: Target { stream, group, item }, .. } = self.open[&id];
        let data =
            json!({ "subscriptionId": id.to_string(), "streamName": stream, "groupId": group, "id": item });
        self.world.session_says(session, &json!({ "type": kind, "data": data }).to_string());
    }

    fn call(&mut self, function: &str, target: Target) {
        self.n += 1;
        let Target { stream, group, item } = target;
        let value = json!({ "id": item, "n": self.n });
        let data = json!({
            "stream_name": stream, "group_id": group, "item_id": item, "id": item, "type": "sent", "data": value,
            "ops": [{ "type": "set", "path": "id", "value": item }, { "type": "set", "path": "n", "value": self.n }],
        });
        let id = self.n.to_string();
        self.world.call(self.caller, &id, &format!("stream::{function}"), &data.to_string());
        match (stream, function) {
            ("own", "set" | "update") => self.own.push((id.clone(), target, Some(value))),
            ("own", "delete") => self.own.push((id.clone(), target, None)),
            _ => {}
        }
        self.unanswered.insert(id);
    }

    /// Stores or removes a value. Returns the one before.
    fn store(
        &mut self,
        stream: &'static str,
        group: &'static str,
        item: &str,
        value: Option<Value>,
    ) -> Option<Value> {
        let values = self.values.entry((stream, group)).or_default();
        let at = values.iter().position(|value| value["id"] == item);
        match (at, value) {
            (Some(at), Some(value)) => Some(std::mem::replace(&mut values[at], value)),
            (Some(at), None) => Some(values.remove(at)),
            (None, Some(value)) => {
                values.push(value);
                None
            }
            (None, None) => None,
        }
    }

    /// What the worker does.
    fn run(&mut self, call: &Call, says: Says) -> String {
        let group = known(&call.data["group_id"], &GROUPS);
        let item = call.data["item_id"].as_str().unwrap_or_default().to_owned();
        let (old, new) = match call.function.as_str() {
            "stream::list(kept)" => {
                return Value::from(self.values.entry(("kept", group)).or_default().clone()).to_string();
            }
            "stream::get(kept)" => {
                let values = self.values.entry(("kept", group)).or_default();
                let value = values.iter().find(|value| value["id"] == *item);
                return value.map(Value::to_string).unwrap_or_default();
            }
            "stream::delete(kept)" => (self.store("kept", group, &item, None), None),
            "stream::set(kept)" => {
                let new = call.data["data"].clone();
                (self.store("kept", group, &item, Some(new.clone())), Some(new))
            }
            "stream::update(kept)" => {
                let new = json!({ "id": item, "n": call.data["ops"][1]["value"] });
                (self.store("kept", group, &item, Some(new.clone())), Some(new))
            }
            other => panic!("asked for {other}"),
        };
        if !matches!(says, Says::All) {
            self.vague.insert(group);
        }
        match says {
            Says::All => json!({ "old_value": old, "new_value": new }).to_string(),
            Says::OnlyNew => new.map(|new| json!({ "new_value": new }).to_string()).unwrap_or_default(),
            Says::Nothing => String::new(),
        }
    }

    fn worker_back(&mut self) {
        if self.worker.is_none() {
            let worker = self.world.worker();
            self.worker = Some(worker);
            let functions = if self.updates { &FUNCTIONS[..] } else { &FUNCTIONS[..4] };
            for function in functions {
                self.world.registers(worker, &format!("stream::{function}(kept)"));
            }
        }
    }

    /// Looks at all that came of a step.
    fn look(&mut self) {
        for reply in self.world.replies(self.caller) {
            let id = reply.split([':', '!']).next().expect("an id").to_owned();
            assert!(self.unanswered.remove(&id), "answered twice: {reply}");
            if reply.contains("nothing was written") || reply.contains("outcome_unknown") {
                self.own.retain(|(of, ..)| *of != id);
            }
        }
        if let Some(worker) = self.worker {
            let calls = self.world.calls(worker);
            self.asked.extend(calls);
            let groups: BTreeSet<_> = self.asked.iter().map(|call| call.data["group_id"].as_str()).collect();
            assert_eq!(groups.len(), self.asked.len(), "one call a group: {:?}", self.asked);
        }
        for session in self.sessions.clone() {
            for frame in self.world.frames(session) {
                self.see(session, &serde_json::from_str(&frame).expect("frames are JSON"));
            }
        }
    }

    fn see(&mut self, session: SessionKey, frame: &Value) {
        if frame["event"]["type"] == "error" {
            assert_eq!(frame["event"]["error"]["code"], "stream_unavailable", "{frame}");
            return;
        }
        assert!(!self.behind.contains(&session), "{frame}");
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let (stream, group, item) = (text("streamName"), text("groupId"), text("id"));
        let (kind, data) = (frame["event"]["type"].as_str().expect("a type"), &frame["event"]["data"]);
        let mut covering: Vec<_> = self.open.values_mut().collect();
        covering.retain(|open| {
            let Target { stream: of, group: at, item: only } = open.target;
            open.session == session && of == stream && at == group && (only.is_empty() || only == item)
        });
        let is_start = |open: &Subscription| kind == "sync" && open.target.item == item;
        let covered = covering.iter().any(|open| open.started || is_start(open));
        assert!(covered, "{frame} is for none of {covering:?}");
        covering.iter_mut().filter(|open| is_start(open)).for_each(|open| open.started = true);
        let knows_group = covering.iter().any(|open| open.target.item.is_empty() && open.started);

        let view = self.views.get_mut(&session).expect("a session");
        let stamp = frame["timestamp"].as_u64().expect("a timestamp");
        let last = view.stamps.insert((stream.clone(), group.clone()), stamp).unwrap_or_default();
        // Syncs between two events share a stamp.
        assert!(stamp > last || (stamp == last && kind == "sync"), "{frame} is not after {last}");
        if kind == "event" {
            return;
        }
        if kind == "sync" {
            let target = (stream.clone(), group.clone(), item.clone());
            let before = view.told.insert(target, (stamp, data.clone()));
            let same = before.is_none_or(|(at, before)| at < stamp || before == *data);
            assert!(same, "{frame} has the stamp of another state");
        }
        if item.is_empty() {
            let list = data.as_array().expect("a group is an array").clone();
            view.groups.insert((stream, group), list);
            return;
        }
        if knows_group {
            let list = view.groups.get_mut(&(stream.clone(), group.clone())).expect("it has started");
            let vague = stream == "kept" && self.vague.contains(&*group);
            change(list, kind, &item, data, vague);
        }
        let value = if kind == "delete" { Value::Null } else { data.clone() };
        view.items.insert((stream, group, item), value);
    }

    /// All is answered and written, and everybody has caught up.
    fn heal(&mut self) {
        self.take(&Step::WorkerBack);
        for at in 0..SESSIONS {
            self.take(&Step::Drained(at));
        }
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            // Loads that failed are not made again of themselves.
            self.says("join", id);
        }
        self.look();
        let mut steps = 0;
        self.waited = 0;
        self.take(&Step::Wait);
        while !self.asked.is_empty() || self.world.in_flight.is_some() {
            let Some((worker, call)) = self.worker.zip(self.asked.pop()) else {
                self.take(&Step::Persist);
                continue;
            };
            let answer = self.run(&call, Says::All);
            self.world.returns(worker, &call, &answer);
            self.look();
            steps += 1;
            assert!(steps < 10_000, "it never ends: {:?}", self.asked);
        }
        self.look();
        assert!(self.unanswered.is_empty(), "never answered: {:?}", self.unanswered);
        assert_eq!(self.world.core.next_deadline(), None);
        for (_, Target { stream, group, item }, value) in std::mem::take(&mut self.own) {
            self.store(stream, group, item, value);
        }
        for Subscription { session, target, started } in self.open.values() {
            assert!(started, "{target:?} never started");
            let Target { stream, group, item } = *target;
            let view = &self.views[session];
            let values = self.values.get(&(stream, group)).cloned().unwrap_or_default();
            if item.is_empty() {
                let seen = &view.groups[&(stream.to_owned(), group.to_owned())];
                assert_eq!(*seen, values, "{target:?}");
            } else {
                let value = values.into_iter().find(|value| value["id"] == item).unwrap_or_default();
                let seen = &view.items[&(stream.to_owned(), group.to_owned(), item.to_owned())];
                assert_eq!(*seen, value, "{target:?}");
            }
        }
    }
}

/// What a client does with a change of an item in a group.
fn change(list: &mut Vec<Value>, kind: &str, item: &str, data: &Value, vague: bool) {
    let at = list.iter().position(|value| value["id"] == *item);
    match (kind, at) {
        ("create", None) => list.push(data.clone()),
        ("update", Some(at)) => list[at] = data.clone(),
        ("delete", Some(at)) => drop(list.remove(at)),
        // It is for those who know the item alone.
        ("sync", _) => {}
        _ => assert!(vague, "{kind} of {item} in {list:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn whoever_replays_what_it_was_sent_knows_what_the_worker_holds(
        durable in any::<bool>(),
        updates in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(durable, updates);
        for step in &steps {
            model.take(step);
        }
        model.heal();
    }
}

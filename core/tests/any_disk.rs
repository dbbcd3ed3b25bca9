//! Any story of commands, subscribers and a disk that fails, fills, forgets what was not synced and dies, beside a plain
//! model.
//!
//! The model takes the answers of each group in their order for the group's history. After every step: each answer is what
//! that history says, revisions have no gap, and who subscribes is told one state and then each change of the history, as
//! soon as it is acknowledged and not before. After a crash each group is as it was acknowledged, with more of what was
//! under way or without. Memory, files and checkpoints are so small that everything is made, evicted and read all the time.

mod driver;

use std::collections::{BTreeMap, BTreeSet};

use driver::{Also, Seen, World};
use headwater_core::config::{CoreConfig, Durability};
use headwater_core::key::{SessionKey, WorkerKey};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

const SESSIONS: usize = 2;
const GROUPS: [&str; 4] = ["g", "h", "i", "j"];
const ITEMS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Set {
        group: usize,
        item: usize,
        pad: usize,
    },
    Update {
        group: usize,
        item: usize,
    },
    Delete {
        group: usize,
        item: usize,
    },
    Get {
        group: usize,
        item: usize,
    },
    List {
        group: usize,
    },
    Names,
    All,
    Send {
        group: usize,
    },
    Join {
        session: usize,
        group: usize,
    },
    Leave {
        session: usize,
        group: usize,
    },
    Hangup(usize),
    Overflow(usize),
    Drained(usize),
    Persist,
    Fail(Index),
    Save,
    FailSave,
    Load(Index, bool),
    FailLoad,
    Pass(u64),
    /// The wall clock is set back.
    SetBack(u64),
    Settle,
    Crash {
        place: Index,
        saved: bool,
        not_discarded: usize,
        look: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 0..GROUPS.len();
    let place = || (group(), 0..ITEMS.len());
    let subscription = || (0..SESSIONS, group());
    prop_oneof![
        10 => (place(), 0..300_usize).prop_map(|((group, item), pad)| Step::Set { group, item, pad }),
        2 => place().prop_map(|(group, item)| Step::Update { group, item }),
        4 => place().prop_map(|(group, item)| Step::Delete { group, item }),
        3 => place().prop_map(|(group, item)| Step::Get { group, item }),
        3 => group().prop_map(|group| Step::List { group }),
        1 => Just(Step::Names),
        1 => Just(Step::All),
        4 => group().prop_map(|group| Step::Send { group }),
        4 => subscription().prop_map(|(session, group)| Step::Join { session, group }),
        2 => subscription().prop_map(|(session, group)| Step::Leave { session, group }),
        1 => (0..SESSIONS).prop_map(Step::Hangup),
        1 => (0..SESSIONS).prop_map(Step::Overflow),
        2 => (0..SESSIONS).prop_map(Step::Drained),
        16 => Just(Step::Persist),
        2 => any::<Index>().prop_map(Step::Fail),
        8 => Just(Step::Save),
        1 => Just(Step::FailSave),
        12 => (any::<Index>(), any::<bool>()).prop_map(|(at, early)| Step::Load(at, early)),
        1 => Just(Step::FailLoad),
        6 => prop_oneof![Just(0), Just(1), 1..300_u64, 1_000..6_000_u64].prop_map(Step::Pass),
        1 => (1..3_000_u64).prop_map(Step::SetBack),
        2 => Just(Step::Settle),
        2 => (any::<Index>(), any::<bool>(), 0..3_usize, any::<bool>())
            .prop_map(|(place, saved, not_discarded, look)| Step::Crash { place, saved, not_discarded, look }),
    ]
}

/// A group's items in creation order: which, its value's number, the revision of its last change.
type Items = Vec<(usize, u64, u64)>;

/// What a group may be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Version {
    revision: u64,
    items: Items,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Set(u64),
    Delete,
    Get,
    List,
    Names,
    All,
    Send(u64),
}

#[derive(Clone, Copy, Debug)]
struct Op {
    kind: Kind,
    group: usize,
    item: usize,
    /// A write failed while it was under way.
    failed: bool,
}

#[derive(Debug, Default)]
struct Group {
    /// What it may be, as far as the answers tell: after a crash that may be more than one thing.
    now: Vec<Version>,
    /// What it was in this process, as far as is known.
    history: BTreeMap<u64, Vec<Items>>,
    /// Writes whose outcome nobody knows.
    unknown: Vec<Op>,
    /// The highest stamp of an event that was told.
    stamp: u64,
}

/// What a subscriber of a group knows.
#[derive(Debug, Default)]
struct Subscription {
    /// The state that it is sent once.
    awaits: bool,
    view: Option<(u64, Vec<(usize, u64)>)>,
    event: u64,
    sync: u64,
}

#[derive(Debug, Default)]
struct Session {
    key: Option<SessionKey>,
    behind: bool,
    subscriptions: BTreeMap<usize, Subscription>,
}

struct Model {
    world: World,
    interval: bool,
    worker: WorkerKey,
    sessions: Vec<Session>,
    groups: Vec<Group>,
    ops: BTreeMap<u64, Op>,
    /// The acknowledged changes in order, and how many of them are synced for sure.
    log: Vec<(usize, u64)>,
    synced: usize,
    last: u64,
    wall: u64,
}

impl Version {
    fn get(&self, item: usize) -> Option<u64> {
        self.items.iter().find(|(id, ..)| *id == item).map(|(_, n, _)| *n)
    }

    /// It after a change; `None` if that changes nothing.
    fn after(&self, kind: Kind, item: usize) -> Option<Version> {
        let mut next = self.clone();
        next.revision += 1;
        let at = next.items.iter().position(|(id, ..)| *id == item);
        match (kind, at) {
            (Kind::Set(n), Some(at)) => next.items[at] = (item, n, next.revision),
            (Kind::Set(n), None) => next.items.push((item, n, next.revision)),
            (Kind::Delete, Some(at)) => drop(next.items.remove(at)),
            _ => return None,
        }
        Some(next)
    }
}

/// The number of a value.
fn number(value: &Value) -> Option<u64> {
    (!value.is_null()).then(|| value["n"].as_u64().expect("a value has a number"))
}

fn item_of(value: &Value) -> usize {
    ITEMS.iter().position(|item| value["id"] == *item).expect("a value names its item")
}

fn group_named(name: &str) -> usize {
    GROUPS.iter().position(|group| *group == name).expect("a group of the story")
}

impl Model {
    fn new(interval: bool, segment: usize, checkpoint: usize, cache: usize) -> Model {
        let mut config = CoreConfig::default();
        config.storage.durability = if interval { Durability::Interval(200) } else { Durability::Sync };
        config.storage.segment_bytes = segment;
        config.storage.checkpoint_log_bytes = checkpoint;
        config.storage.cache_bytes = cache;
        config.storage.load_ms = 5_000;
        let world = World::with_config(config);
        let mut model = Model {
            interval,
            worker: WorkerKey(0),
            sessions: Vec::new(),
            groups: GROUPS
                .iter()
                .map(|_| Group { now: vec![Version::default()], ..Group::default() })
                .collect(),
            ops: BTreeMap::new(),
            log: Vec::new(),
            synced: 0,
            last: 0,
            wall: world.now.wall.0,
            world,
        };
        model.start();
        model
    }

    fn start(&mut self) {
        self.worker = self.world.worker();
        self.sessions = (0..SESSIONS).map(|_| Session::default()).collect();
        for session in &mut self.sessions {
            session.key = Some(self.world.session());
        }
        for group in &mut self.groups {
            group.unknown.clear();
            group.history.clear();
            for version in &group.now {
                group.history.entry(version.revision).or_default().push(version.items.clone());
            }
        }
        (self.log, self.synced) = (Vec::new(), 0);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Set { group, item, pad } => {
                let n = self.last + 1;
                let data =
                    format!(r#","data":{{"id":"{}","n":{n},"pad":"{}"}}"#, ITEMS[item], "x".repeat(pad));
                self.call("stream::set", Kind::Set(n), group, item, &data);
            }
            Step::Update { group, item } => {
                let n = self.last + 1;
                let value = format!(r#"{{"id":"{}","n":{n}}}"#, ITEMS[item]);
                let data = format!(r#","ops":[{{"type":"set","path":"","value":{value}}}]"#);
                self.call("stream::update", Kind::Set(n), group, item, &data);
            }
            Step::Delete { group, item } => self.call("stream::delete", Kind::Delete, group, item, ""),
            Step::Get { group, item } => self.call("stream::get", Kind::Get, group, item, ""),
            Step::List { group } => self.call("stream::list", Kind::List, group, 0, ""),
            Step::Names => self.call("stream::list_groups", Kind::Names, 0, 0, ""),
            Step::All => self.call("stream::list_all", Kind::All, 0, 0, ""),
            Step::Send { group } => {
                let n = self.last + 1;
                let data = format!(r#","type":"sent","data":{{"n":{n}}}"#);
                self.call("stream::send", Kind::Send(n), group, 0, &data);
            }
            Step::Join { session, group } => self.join(session, group),
            Step::Leave { session, group } => {
                let session = &mut self.sessions[session];
                if session.subscriptions.remove(&group).is_some() {
                    self.world.leave(session.key.expect("a session"), GROUPS[group]);
                }
            }
            Step::Hangup(at) => {
                self.world.leaves(self.sessions[at].key.expect("a session"));
                self.sessions[at] = Session { key: Some(self.world.session()), ..Session::default() };
            }
            Step::Overflow(at) => {
                let session = &mut self.sessions[at];
                if !std::mem::replace(&mut session.behind, true) {
                    self.world.overflow(session.key.expect("a session"));
                }
            }
            Step::Drained(at) => {
                let session = &mut self.sessions[at];
                if std::mem::take(&mut session.behind) {
                    for subscription in session.subscriptions.values_mut() {
                        (subscription.awaits, subscription.view) = (true, None);
                    }
                    self.world.drained(session.key.expect("a session"));
                }
            }
            Step::Persist if self.world.in_flight.is_some() => return self.persist(),
            Step::Fail(at) if self.world.in_flight.is_some() => {
                self.ops.values_mut().for_each(|op| op.failed = true);
                self.world.fail_at(at.index(self.world.places() + 1));
            }
            Step::Save if self.world.saving.is_some() => self.world.save(),
            Step::FailSave if self.world.saving.is_some() => self.world.fail_save(),
            Step::Load(at, early) if !self.world.loading.is_empty() => {
                self.world.load_at(at.index(self.world.loading.len()), early);
            }
            Step::FailLoad if !self.world.loading.is_empty() => self.world.fail_load(),
            Step::Pass(ms) => self.pass(ms),
            Step::SetBack(ms) => self.world.set_wall(self.world.now.wall.0.saturating_sub(ms)),
            Step::Settle => self.settle(),
            Step::Crash { place, saved, not_discarded, look } => {
                let place = place.index(self.world.places() + 1);
                let also = Also { saved, not_discarded, zeros: look };
                return self.crash(place, also, look || self.interval);
            }
            Step::Persist | Step::Fail(_) | Step::Save | Step::FailSave | Step::Load(..) | Step::FailLoad => {
                return;
            }
        }
        self.look();
    }

    fn call(&mut self, function: &str, kind: Kind, group: usize, item: usize, data: &str) {
        self.last += 1;
        self.ops.insert(self.last, Op { kind, group, item, failed: false });
        let id = if matches!(kind, Kind::Send(_)) {
            String::new()
        } else {
            format!(r#","item_id":"{}""#, ITEMS[item])
        };
        let data =
            format!(r#"{{"stream_name":"s","group_id":"{}"{id}{data},"revision":true}}"#, GROUPS[group]);
        self.world.call(self.worker, &self.last.to_string(), function, &data);
    }

    fn join(&mut self, at: usize, group: usize) {
        let session = &mut self.sessions[at];
        let behind = session.behind;
        let subscription = session.subscriptions.entry(group).or_default();
        subscription.awaits |= !behind;
        self.world.join(session.key.expect("a session"), GROUPS[group], GROUPS[group], "");
    }

    fn pass(&mut self, ms: u64) {
        self.world.pass(ms);
        self.wall = self.wall.max(self.world.now.wall.0);
        let now = self.world.now.mono;
        if self.world.core.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.world.tick();
            let next = self.world.core.next_deadline();
            assert!(next.is_none_or(|next| next > now), "a deadline that a tick does not end");
        }
    }

    fn persist(&mut self) {
        let write = self.world.in_flight.as_ref().expect("a write");
        let (sync, begins) = (write.sync, write.begins.is_some());
        self.world.persist();
        self.look();
        if sync {
            self.synced = self.log.len();
        }
        if begins {
            // What failed before, is fenced off.
            self.groups.iter_mut().for_each(|group| group.unknown.clear());
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.world.in_flight.is_some() {
                self.persist();
            } else if self.world.saving.is_some() {
                self.world.save();
            } else if !self.world.loading.is_empty() {
                self.world.load_at(0, false);
            } else {
                return;
            }
            self.look();
        }
        panic!("it never comes to rest");
    }

    /// Looks at all that came of a step.
    fn look(&mut self) {
        let mut sent = BTreeSet::new();
        let steady: BTreeSet<(usize, usize)> = self.steady();
        for frame in self.world.heard(self.worker) {
            let frame: Value = serde_json::from_str(&frame).expect("JSON");
            let id = frame["invocation_id"].as_str().and_then(|id| id.parse().ok()).expect("an answer");
            let op = self.ops.remove(&id).expect("one answer to each call");
            match frame["error"].as_object() {
                None => self.answered(op, &frame["result"], &mut sent),
                Some(error) => {
                    let message = error["message"].as_str().expect("a message");
                    if message.contains("outcome_unknown") {
                        assert!(op.failed, "{op:?}: {message}");
                        self.groups[op.group].unknown.push(op);
                    }
                }
            }
        }
        for at in 0..SESSIONS {
            let key = self.sessions[at].key.expect("a session");
            let mut seen_sent = BTreeSet::new();
            for frame in self.world.frames(key) {
                let seen = Seen::read(&frame);
                let group = group_named(&seen.group);
                if seen.sent {
                    let n = seen.data["n"].as_u64().expect("a number");
                    assert!(sent.contains(&(group, n)), "an event that was not acknowledged: {seen}");
                    assert!(seen_sent.insert((group, n)), "twice: {seen}");
                }
                self.see(at, group, &seen);
            }
            for (group, n) in &sent {
                let missed = steady.contains(&(at, *group)) && !seen_sent.contains(&(*group, *n));
                assert!(!missed, "session {at} missed event {n} of {}", GROUPS[*group]);
            }
            self.is_up_to_date(at);
        }
    }

    /// Which sessions know a group and hear of all that happens in it.
    fn steady(&self) -> BTreeSet<(usize, usize)> {
        let knows = |at: usize, group: usize| {
            let session = &self.sessions[at];
            !session.behind && session.subscriptions.get(&group).is_some_and(|it| it.view.is_some())
        };
        (0..SESSIONS)
            .flat_map(|at| (0..GROUPS.len()).map(move |group| (at, group)))
            .filter(|(at, group)| knows(*at, *group))
            .collect()
    }

    fn answered(&mut self, op: Op, result: &Value, sent: &mut BTreeSet<(usize, u64)>) {
        let Op { kind, group, item, .. } = op;
        match kind {
            Kind::Set(_) | Kind::Delete => {
                let (old, revision) =
                    (number(&result["old_value"]), result["revision"].as_u64().expect("told"));
                let group_now = &mut self.groups[group].now;
                let before = format!("{group_now:?}");
                group_now.retain(|version| version.get(item) == old);
                if kind == Kind::Delete && old.is_none() {
                    assert_eq!(revision, 0);
                } else {
                    group_now.retain(|version| version.revision + 1 == revision);
                    *group_now = group_now.iter().filter_map(|version| version.after(kind, item)).collect();
                    self.log.push((group, revision));
                }
                assert!(!self.groups[group].now.is_empty(), "{op:?} in {before}: {result}");
                self.remember(group);
            }
            Kind::Get => {
                let found =
                    number(&result["value"]).map(|n| (item, n, result["revision"].as_u64().expect("told")));
                self.agree(group, &format!("{op:?}: {result}"), |version| {
                    version.items.iter().find(|(id, ..)| *id == item) == found.as_ref()
                });
            }
            Kind::List => {
                let items: Items = result
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|entry| {
                        let value = &entry["value"];
                        let revision = entry["revision"].as_u64().expect("told");
                        (item_of(value), number(value).expect("a value"), revision)
                    })
                    .collect();
                self.agree(group, &format!("{op:?}: {result}"), |version| version.items == items);
            }
            Kind::Names | Kind::All => {
                let names = match kind {
                    Kind::Names => result.clone(),
                    _ => result["stream"].get(0).map_or(json!([]), |stream| stream["groups"].clone()),
                };
                let names: Vec<&str> = names
                    .as_array()
                    .expect("names")
                    .iter()
                    .map(|name| name.as_str().expect("a name"))
                    .collect();
                assert!(names.is_sorted(), "{names:?}");
                for (group, name) in GROUPS.iter().enumerate() {
                    let filled = names.contains(name);
                    self.agree(group, &format!("{names:?}"), |version| version.items.is_empty() != filled);
                }
            }
            Kind::Send(n) => drop(sent.insert((group, n))),
        }
    }

    /// An answer tells something of a group.
    fn agree(&mut self, group: usize, told: &str, is_so: impl Fn(&Version) -> bool) {
        let before = format!("{:?}", self.groups[group].now);
        self.groups[group].now.retain(is_so);
        assert!(!self.groups[group].now.is_empty(), "{}, which is {before}: {told}", GROUPS[group]);
    }

    fn remember(&mut self, group: usize) {
        let group = &mut self.groups[group];
        for version in &group.now {
            group.history.entry(version.revision).or_default().push(version.items.clone());
        }
    }

    fn see(&mut self, at: usize, group: usize, seen: &Seen) {
        let session = &mut self.sessions[at];
        assert!(!session.behind, "a frame to a session that is behind: {seen}");
        let subscription = session.subscriptions.get_mut(&group).expect("a subscription");
        let revision = seen.revision.expect("a revision");
        if seen.is_group_sync() && !seen.sent {
            assert!(std::mem::take(&mut subscription.awaits), "nobody asked for it: {seen}");
            assert!(
                seen.stamp > subscription.event && seen.stamp >= subscription.sync,
                "a sync that is not newer than {subscription:?}: {seen} @{}",
                seen.stamp
            );
            subscription.sync = seen.stamp;
            let values = seen.data.as_array().expect("a list");
            let items =
                values.iter().map(|value| (item_of(value), number(value).expect("a value"))).collect();
            subscription.view = Some((revision, items));
        } else {
            assert!(seen.stamp > subscription.event.max(subscription.sync), "{subscription:?}: {seen}");
            assert!(seen.stamp > self.groups[group].stamp || subscription.event < self.groups[group].stamp);
            subscription.event = seen.stamp;
            let Some((before, items)) = &mut subscription.view else {
                panic!("a change before the state: {seen}")
            };
            if seen.sent {
                assert_eq!(revision, *before, "{seen}");
            } else {
                assert_eq!(revision, *before + 1, "a gap or a repeat: {seen}");
                *before = revision;
                let item = item_of(&json!({ "id": seen.item }));
                let known = items.iter().position(|(id, _)| *id == item);
                match (seen.kind.as_str(), known) {
                    ("create", None) => items.push((item, number(&seen.data).expect("a value"))),
                    ("update", Some(at)) => items[at].1 = number(&seen.data).expect("a value"),
                    ("delete", Some(at)) => drop(items.remove(at)),
                    _ => panic!("{seen} of {items:?}"),
                }
            }
        }
        let (revision, items) = subscription.view.clone().expect("a view");
        let is_seen =
            |version: &Items| version.iter().map(|(item, n, _)| (*item, *n)).eq(items.iter().copied());
        let history = self.groups[group].history.get(&revision);
        assert!(history.is_some_and(|versions| versions.iter().any(is_seen)), "it never was so: {seen}");
        let group = &mut self.groups[group];
        let agree = |version: &Version| version.revision == revision && is_seen(&version.items);
        if group.now.iter().any(agree) {
            group.now.retain(agree);
        }
        if !seen.is_group_sync() || seen.sent {
            group.stamp = group.stamp.max(seen.stamp);
        }
    }

    /// Who knows a group knows its last acknowledged state.
    fn is_up_to_date(&self, at: usize) {
        let session = &self.sessions[at];
        for (group, subscription) in &session.subscriptions {
            if let (Some((revision, _)), false, [now]) =
                (&subscription.view, session.behind, &self.groups[*group].now[..])
            {
                assert_eq!(*revision, now.revision, "session {at} of {}", GROUPS[*group]);
            }
        }
    }

    fn crash(&mut self, place: usize, also: Also, look: bool) {
        let ops: Vec<Op> = self.ops.values().copied().collect();
        let acknowledged: Vec<u64> = self.groups.iter().map(|group| group.now[0].revision).collect();
        for (at, group) in self.groups.iter_mut().enumerate() {
            let own = |op: &&Op| op.group == at && matches!(op.kind, Kind::Set(_) | Kind::Delete);
            let all: Vec<Op> = ops.iter().filter(own).copied().collect();
            let later: Vec<Op> = all.iter().filter(|op| !op.failed).copied().collect();
            let failed: Vec<Op> =
                group.unknown.iter().copied().chain(all.iter().filter(|op| op.failed).copied()).collect();
            let mut may_be = group.now.clone();
            for start in group.now.clone() {
                for story in [&all, &later, &failed] {
                    let mut version = start.clone();
                    for op in story {
                        version = version.after(op.kind, op.item).unwrap_or(version);
                        may_be.push(version.clone());
                    }
                }
            }
            if self.interval {
                for (revision, versions) in &group.history {
                    let older = |items: &Items| Version { revision: *revision, items: items.clone() };
                    may_be.extend(versions.iter().map(older));
                }
            }
            may_be.sort_by_key(|version| version.revision);
            may_be.dedup();
            group.now = may_be;
            if self.interval {
                group.stamp = 0;
            }
        }
        let (log, synced) = (std::mem::take(&mut self.log), self.synced);
        self.ops.clear();
        self.world.set_wall(self.wall);
        self.world.crash_at(place, also);
        self.start();
        if look {
            let found = self.look_at_all();
            if self.interval {
                // What is there is the beginning of what was acknowledged, and all of that before anything else.
                let is_there = |(group, revision): &(usize, u64)| *revision <= found[*group];
                let more = found.iter().zip(&acknowledged).any(|(found, known)| found > known);
                let end =
                    if more { log.len() } else { log.iter().rposition(is_there).map_or(0, |last| last + 1) };
                for (at, change) in log.iter().enumerate().take(end.max(synced)) {
                    assert!(
                        is_there(change),
                        "change {at} is lost, and {end} are there, {synced} synced: {log:?} {found:?}"
                    );
                }
            }
        }
    }

    /// Subscribes to every group, and says which revisions they have.
    fn look_at_all(&mut self) -> Vec<u64> {
        for group in 0..GROUPS.len() {
            self.take(&Step::Join { session: 0, group });
        }
        self.settle();
        let of_group = |group: usize| {
            let subscription = self.sessions[0].subscriptions.get(&group).expect("it has joined");
            subscription.view.as_ref().expect("a state").0
        };
        (0..GROUPS.len()).map(of_group).collect()
    }

    /// The disk is well, everybody is answered, and knows what there is; and all of it is there after another crash.
    fn heal(&mut self) {
        self.world.set_wall(self.wall);
        for at in 0..SESSIONS {
            self.take(&Step::Drained(at));
        }
        for _ in 0..20 {
            self.settle();
            self.pass(1_000);
            self.look();
        }
        assert!(self.ops.is_empty(), "never answered: {:?}", self.ops);
        for at in 0..SESSIONS {
            for (group, subscription) in &self.sessions[at].subscriptions {
                assert!(!subscription.awaits, "session {at} waits for {}", GROUPS[*group]);
            }
        }
        for group in 0..GROUPS.len() {
            self.take(&Step::List { group });
        }
        self.take(&Step::Names);
        self.take(&Step::All);
        self.settle();
        assert!(self.ops.is_empty(), "never answered: {:?}", self.ops);
        self.take(&Step::Pass(1_000));
        self.settle();
        let acknowledged: Vec<Vec<Version>> = self.groups.iter().map(|group| group.now.clone()).collect();
        self.crash(0, Also::default(), true);
        for (group, before) in self.groups.iter().zip(acknowledged) {
            assert!(group.now.iter().all(|version| before.contains(version)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_disk_does_the_acknowledged_history_is_all_there_and_all_that_is_seen(
        interval: bool,
        segment in 100..3_000_usize,
        checkpoint in 100..3_000_usize,
        cache in 300..3_000_usize,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new(interval, segment, checkpoint, cache);
        for step in &steps {
            model.take(step);
        }
        model.heal();
    }
}

//! Any story at all, beside a model that is too simple to be wrong: a list of all changes ever made.
//!
//! After every step: what is told is durable, the replies are those of the list, the subscribers' views are the
//! groups at their revisions. After a crash, the store is the list up to somewhere, at least up to what was told. When a
//! write fails, the list ends where it was durable: the store goes on there, and nothing that was behind it comes back,
//! but for what the failed write held, until the store has made a new start.

#[path = "../driver/mod.rs"]
mod driver;
mod history;
mod story;
mod subscriber;

use std::collections::{BTreeMap, BTreeSet};

use driver::{Seen, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::{SessionKey, WorkerKey};
use history::{Change, group_after, revisions_of, values_after};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};
use story::{GROUPS, ITEMS, SESSIONS, Step, WORKERS, step};
use subscriber::{Subscriber, see};

/// An answer that is waited for; `saw` is how many changes it takes to know it.
#[derive(Clone, Debug)]
enum Expected {
    /// That of the change of this number.
    Change {
        number: usize,
        reply: String,
    },
    /// That of a write that changed nothing.
    NoOp {
        saw: usize,
        reply: String,
    },
    Sent {
        group: &'static str,
        kind: String,
    },
    Get {
        group: &'static str,
        item: &'static str,
        saw: usize,
        reply: String,
    },
    List {
        group: &'static str,
        saw: usize,
        reply: String,
    },
}

struct Model {
    world: World,
    workers: Vec<WorkerKey>,
    sessions: Vec<(SessionKey, Subscriber)>,
    changes: Vec<Change>,
    /// How many changes are durable, and how many are once the write under way is.
    durable: usize,
    in_flight: usize,
    /// The changes of a write that failed: the first of them may be there after a crash, until there is a new start.
    unknown: Vec<Change>,
    expected: BTreeMap<String, Expected>,
    /// Calls that have failed and are told so after the new start; and whether the disk was given what they write.
    failing: BTreeMap<String, bool>,
    /// The new start has failed, too: nothing is written before another one.
    refusing: bool,
    /// The events that were sent to nobody, as their write has failed.
    unsent: BTreeSet<String>,
    /// The highest stamp that anybody was told of a group before the last crash.
    floor: BTreeMap<&'static str, u64>,
    /// The highest stamp that anybody was told of a group.
    told: BTreeMap<&'static str, u64>,
    calls: usize,
    trace: Vec<String>,
}

impl Model {
    fn new(segment_bytes: usize) -> Model {
        let mut config = CoreConfig::default();
        config.storage.segment_bytes = segment_bytes;
        let mut model = Model {
            world: World::with_config(config),
            workers: Vec::new(),
            sessions: Vec::new(),
            changes: Vec::new(),
            durable: 0,
            in_flight: 0,
            unknown: Vec::new(),
            expected: BTreeMap::new(),
            failing: BTreeMap::new(),
            refusing: false,
            unsent: BTreeSet::new(),
            floor: BTreeMap::new(),
            told: BTreeMap::new(),
            calls: 0,
            trace: Vec::new(),
        };
        model.connect();
        model
    }

    fn connect(&mut self) {
        self.workers = (0..WORKERS).map(|_| self.world.worker()).collect();
        self.sessions = (0..SESSIONS).map(|_| (self.world.session(), Subscriber::default())).collect();
    }

    fn expect(&mut self, expected: Expected) -> String {
        self.calls += 1;
        let id = format!("c{}", self.calls);
        self.expected.insert(id.clone(), expected);
        id
    }

    fn take(&mut self, step: &Step) {
        let idle = self.world.in_flight.is_none();
        match *step {
            Step::Set { worker, group, item, null } => {
                let (group, item) = (GROUPS[group], ITEMS[item]);
                let value = if null { Value::Null } else { json!({"id": item, "n": self.calls}) };
                let old = self.get(group, item).unwrap_or_default();
                let reply = json!({"old_value": old, "new_value": value}).to_string();
                let id = self.expect(Expected::Change { number: self.changes.len(), reply });
                let text = value.to_string();
                self.changes.push(Change { group, item, value: Some(value) });
                self.world.set(self.workers[worker], &id, group, item, &text);
            }
            Step::SetIf { worker, group, item, outdated } => {
                let (group, item) = (GROUPS[group], ITEMS[item]);
                let (now, before) = revisions_of(&self.changes, group, item);
                let expect = if outdated { before } else { now };
                let value = json!({"id": item, "n": self.calls});
                let text = value.to_string();
                let expected = if expect == now {
                    let old = self.get(group, item).unwrap_or_default();
                    self.changes.push(Change { group, item, value: Some(value.clone()) });
                    let (revision, _) = group_after(&self.changes, group);
                    let reply =
                        json!({"old_value": old, "new_value": value, "revision": revision}).to_string();
                    Expected::Change { number: self.changes.len() - 1, reply }
                } else {
                    let found = if now == 0 {
                        "absent (revision 0)".to_owned()
                    } else {
                        format!("at revision {now}")
                    };
                    let wanted = if expect == 0 { "0 (absent)".to_owned() } else { expect.to_string() };
                    let reply = format!(
                        "STREAM_CONFLICT: the item is {found}, expected revision {wanted}: read it again and decide"
                    );
                    Expected::NoOp { saw: self.head(group), reply }
                };
                let id = self.expect(expected);
                let input = format!(
                    r#"{{"stream_name":"s","group_id":"{group}","item_id":"{item}","data":{text},"expect":{{"revision":{expect}}}}}"#
                );
                self.world.call(self.workers[worker], &id, "stream::set", &input);
            }
            Step::Delete { worker, group, item } => {
                let (group, item) = (GROUPS[group], ITEMS[item]);
                let old = self.get(group, item);
                let reply = json!({"old_value": old}).to_string();
                let expected = match old {
                    None => Expected::NoOp { saw: self.head(group), reply },
                    Some(_) => {
                        self.changes.push(Change { group, item, value: None });
                        Expected::Change { number: self.changes.len() - 1, reply }
                    }
                };
                let id = self.expect(expected);
                self.world.delete(self.workers[worker], &id, group, item);
            }
            Step::Get { worker, group, item } => {
                let (group, item) = (GROUPS[group], ITEMS[item]);
                let reply = self.get_reply(group, item);
                let id = self.expect(Expected::Get { group, item, saw: self.head(group), reply });
                self.world.get(self.workers[worker], &id, group, item);
            }
            Step::List { worker, group } => {
                let group = GROUPS[group];
                let reply = self.list_reply(group);
                let id = self.expect(Expected::List { group, saw: self.head(group), reply });
                self.world.list(self.workers[worker], &id, group);
            }
            Step::Send { worker, group, item, times } => {
                let (group, item) = (GROUPS[group], ITEMS.get(item).copied().unwrap_or_default());
                for _ in 0..times {
                    let kind = format!("e{}", self.calls);
                    let id = self.expect(Expected::Sent { group, kind: kind.clone() });
                    self.world.send(self.workers[worker], &id, group, item, &kind);
                    self.check(idle);
                }
                return;
            }
            Step::Join { session, subscription, group, item } => {
                let (group, item) = (GROUPS[group], ITEMS.get(item).copied().unwrap_or_default());
                let (key, subscriber) = &mut self.sessions[session];
                subscriber.targets.entry(subscription).or_insert((group, item));
                self.world.join(*key, &subscription.to_string(), group, item);
            }
            Step::Leave { session, subscription } => {
                let (key, subscriber) = &mut self.sessions[session];
                subscriber.targets.remove(&subscription);
                subscriber.forget_views();
                self.world.leave(*key, &subscription.to_string());
            }
            Step::Overflow { session } => {
                let (key, subscriber) = &mut self.sessions[session];
                subscriber.behind = true;
                subscriber.forget_views();
                self.world.overflow(*key);
            }
            Step::Drain { session } => {
                let (key, subscriber) = &mut self.sessions[session];
                subscriber.behind = false;
                self.world.drained(*key);
            }
            Step::Persist if idle => {}
            Step::Persist => {
                let fence = self.world.is_fence();
                self.durable = self.in_flight;
                self.world.persist();
                if fence {
                    self.refusing = false;
                    self.unknown.clear();
                }
                self.check(true);
                assert!(!fence || self.failing.is_empty(), "not told: {:?}", self.failing);
            }
            Step::FailWrite { .. } if idle => {}
            Step::FailWrite { made } => self.fail(made),
            Step::Pass { ms } => {
                self.world.pass(ms);
                self.world.tick();
            }
            Step::Crash { keep, ms } => return self.crash(keep, ms),
        }
        self.check(idle);
    }

    /// The number of the last change of a group, counted from 1.
    fn head(&self, group: &str) -> usize {
        self.changes.iter().rposition(|change| change.group == group).map_or(0, |at| at + 1)
    }

    fn get(&self, group: &str, item: &str) -> Option<Value> {
        let (_, items) = group_after(&self.changes, group);
        items.into_iter().find(|(id, _)| *id == item).map(|(_, value)| value)
    }

    fn get_reply(&self, group: &str, item: &str) -> String {
        self.get(group, item).map_or("nothing".to_owned(), |value| value.to_string())
    }

    fn list_reply(&self, group: &str) -> String {
        let (_, items) = group_after(&self.changes, group);
        items.into_iter().map(|(_, value)| value).collect::<Value>().to_string()
    }

    /// The write under way fails: what is not durable never was. Those who read get their answer now, and those who
    /// wrote once it is known what became of that.
    fn fail(&mut self, made: bool) {
        let fence = self.world.is_fence();
        if !fence {
            self.unknown = self.changes[self.durable..self.in_flight].to_vec();
        }
        self.changes.truncate(self.durable);
        let expected = std::mem::take(&mut self.expected);
        let failing = std::mem::take(&mut self.failing);
        self.world.fail_having_made(made);
        let mut replies = self.replies();
        let mut reply = |id: &str| replies.remove(id).unwrap_or_else(|| panic!("no answer to {id}"));
        for (id, written) in failing {
            assert!(fence, "a new start is made at once");
            assert!(is_told_failed(&reply(&id), written));
        }
        for (id, expected) in expected {
            let written = match expected {
                Expected::Get { group, item, .. } => {
                    assert_eq!(reply(&id), self.get_reply(group, item));
                    continue;
                }
                Expected::List { group, .. } => {
                    assert_eq!(reply(&id), self.list_reply(group));
                    continue;
                }
                Expected::Change { number, .. } => number < self.in_flight,
                Expected::NoOp { .. } => false,
                Expected::Sent { kind, .. } => {
                    self.unsent.insert(kind);
                    false
                }
            };
            match fence {
                // It is behind the new start.
                true => assert!(is_told_failed(&reply(&id), false)),
                false => drop(self.failing.insert(id, written)),
            }
        }
        assert!(replies.is_empty(), "{replies:?}");
        self.in_flight = self.durable;
        self.refusing |= fence;
        assert_eq!(
            self.world.waits_to_start_again(),
            fence,
            "the first new start is made at once, others later"
        );
        assert!(!fence || self.world.core.next_deadline().is_some(), "nobody would make another one");
    }

    fn replies(&mut self) -> BTreeMap<String, String> {
        let mut replies = BTreeMap::new();
        for worker in &self.workers {
            for reply in self.world.replies(*worker) {
                let (id, reply) = reply.split_once([':', '!']).expect("an id");
                let again = replies.insert(id.to_owned(), reply.trim_start().to_owned());
                assert!(again.is_none(), "two answers to {id}");
            }
        }
        replies
    }

    /// Looks at all that came out of a step. `idle` tells that the disk had nothing to do before.
    fn check(&mut self, idle: bool) {
        if idle && self.world.in_flight.is_some() && !self.world.is_fence() {
            self.in_flight = self.changes.len();
        }
        let mut sent = Vec::new();
        for (id, reply) in self.replies() {
            if self.failing.remove(&id).is_some() {
                assert!(!self.world.broken, "told before there was a new start: {reply}");
                assert!(is_told_failed(&reply, false), "it is known that nothing is there: {reply}");
                continue;
            }
            let expected = self.expected.remove(&id).unwrap_or_else(|| panic!("a second answer to {id}"));
            let reads = matches!(expected, Expected::Get { .. } | Expected::List { .. });
            if self.refusing && !reads {
                assert!(reply.contains("takes no writes for now: disk full"), "{reply}");
                match expected {
                    Expected::Change { number, .. } => self.changes.truncate(number),
                    Expected::Sent { kind, .. } => drop(self.unsent.insert(kind)),
                    _ => {}
                }
                continue;
            }
            match expected {
                Expected::Change { number, reply: expected } => {
                    assert!(number < self.durable, "told before it was durable: {reply}");
                    assert_eq!(reply, expected);
                }
                Expected::Sent { group, kind } => {
                    assert_eq!(reply, "null");
                    sent.push((group, kind));
                }
                Expected::NoOp { saw, reply: expected }
                | Expected::Get { saw, reply: expected, .. }
                | Expected::List { saw, reply: expected, .. } => {
                    assert!(saw <= self.durable, "told before it was durable: {reply}");
                    assert_eq!(reply, expected);
                }
            }
        }
        let durable = &self.changes[..self.durable];
        for (key, subscriber) in &mut self.sessions {
            let frames: Vec<_> = self.world.frames(*key).iter().map(|frame| Seen::read(frame)).collect();
            for (group, kind) in &sent {
                let times = frames.iter().filter(|seen| seen.sent && seen.kind == *kind).count();
                assert!(times == usize::from(subscriber.views.contains_key(group)) || times == 1, "{kind}");
            }
            for seen in &frames {
                assert!(!self.unsent.contains(&seen.kind), "its sender knows that it was not sent: {seen}");
            }
            for seen in frames.iter().filter(|seen| seen.revision.is_some()) {
                see(subscriber, seen, durable);
                let group = GROUPS.into_iter().find(|group| seen.group == *group).expect("a group");
                let is_sync = seen.kind == "sync";
                let floor = self.floor.get(group).copied().unwrap_or_default();
                assert!(seen.stamp > floor || is_sync && seen.stamp == floor, "not above {floor}: {seen}");
                let told = self.told.entry(group).or_default();
                *told = seen.stamp.max(*told);
            }
            for (group, view) in &subscriber.views {
                assert_eq!(view.revision, group_after(durable, group).0, "{group} lacks durable changes");
            }
        }
    }

    /// The server dies and starts again: it has all that was told, and of what the disk was given the first part.
    fn crash(&mut self, keep: Index, ms: u64) {
        self.trace.append(&mut self.world.trace);
        let keep = keep.index(self.world.most_kept() + 1);
        self.changes.truncate(self.in_flight);
        self.changes.append(&mut self.unknown);
        self.world.crash(keep);
        self.world.pass(ms);
        self.connect();
        self.refusing = false;
        self.expected.clear();
        self.failing.clear();
        self.floor = self.told.clone();
        let state: Vec<_> = GROUPS.map(|group| self.recovered(group)).into();
        let found = (self.durable..=self.changes.len())
            .find(|count| GROUPS.map(|group| values_after(&self.changes[..*count], group)).to_vec() == state);
        let Some(count) = found else {
            panic!("no prefix of {:?} from {} on is {state:?}", self.changes, self.durable)
        };
        self.changes.truncate(count);
        (self.durable, self.in_flight) = (count, count);
    }

    fn recovered(&mut self, group: &str) -> (u64, Value) {
        let session = self.world.session();
        self.world.join(session, "sub", group, "");
        let sync = Seen::read(&self.world.frames(session)[0]);
        self.world.leaves(session);
        let input = json!({"stream_name": "s", "group_id": group}).to_string();
        let list = self.world.ask(self.workers[0], "stream::list", &input);
        (sync.revision.expect("a sync"), serde_json::from_str(&list).expect("a list"))
    }
}

/// More cases with `PROPTEST_CASES`; what fails is kept beside this file and tried first from then on.
#[expect(clippy::disallowed_methods, reason = "a test may look around")]
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |_| default.cases);
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(persistence)), ..default }
}

/// Whether somebody is told that its write has failed: `unknown` says whether it may be there nevertheless.
fn is_told_failed(reply: &str, unknown: bool) -> bool {
    let nothing = reply.contains("nothing was written: disk full");
    reply.contains("outcome_unknown: ") == unknown && nothing != unknown
}

fn run(steps: &[Step], segment_bytes: usize) -> Vec<String> {
    let mut model = Model::new(segment_bytes);
    for step in steps {
        model.take(step);
    }
    // The disk works again.
    model.take(&Step::Pass { ms: 1_000 });
    while model.world.in_flight.is_some() {
        model.take(&Step::Persist);
    }
    assert!(!model.refusing && model.failing.is_empty(), "{:?}", model.failing);
    assert!(model.expected.is_empty(), "without an answer: {:?}", model.expected);
    model.trace.append(&mut model.world.trace);
    model.trace
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn any_story_is_one_of_the_model(
        steps in prop::collection::vec(step(), 1..80),
        segment_bytes in prop::sample::select(vec![1, 500, 1 << 20]),
    ) {
        run(&steps, segment_bytes);
    }
}

proptest! {
    #![proptest_config(config(50))]

    #[test]
    fn the_same_story_twice_has_the_same_effects(steps in prop::collection::vec(step(), 1..80)) {
        prop_assert_eq!(run(&steps, 500), run(&steps, 500));
    }
}

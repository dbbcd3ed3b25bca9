//! Any story of changes and of a handler that is slow, fails, vanishes and comes back, through all crashes, on a disk
//! whose writes fail.
//!
//! The handler gets the events of a group one at a time, in order, none twice and none that is not safe; and what it
//! does not get it is told the number of.

mod driver;

use std::collections::{BTreeMap, BTreeSet};

use driver::{Call, World};
use headwater_core::config::CoreConfig;
use headwater_core::key::WorkerKey;
use proptest::prelude::*;
use proptest::sample::Index;

const GROUPS: [&str; 3] = ["g", "h", "i"];

#[derive(Clone, Debug)]
enum Step {
    Set(usize),
    Send(usize),
    Persist,
    Fail,
    /// So much time passes that a store whose disk has failed tries again.
    Wait,
    Answer(Index, bool),
    WorkerGone,
    WorkerBack,
    Crash(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..GROUPS.len()).prop_map(Step::Set),
        3 => (0..GROUPS.len()).prop_map(Step::Send),
        8 => Just(Step::Persist),
        1 => Just(Step::Fail),
        1 => Just(Step::Wait),
        8 => (any::<Index>(), any::<bool>()).prop_map(|(at, fails)| Step::Answer(at, fails)),
        1 => Just(Step::WorkerGone),
        2 => Just(Step::WorkerBack),
        1 => prop::bool::weighted(0.3).prop_flat_map(|crash| match crash {
            true => any::<Index>().prop_map(Step::Crash).boxed(),
            false => Just(Step::Persist).boxed(),
        }),
    ]
}

struct Model {
    world: World,
    conditional: bool,
    writer: WorkerKey,
    worker: Option<WorkerKey>,
    /// How many events there were, through all crashes; their values are their numbers.
    events: u64,
    acknowledged: BTreeSet<u64>,
    /// Of this process: those that were not answered, how many were acknowledged, how many seconds have passed - too few
    /// for a handler to take too long.
    unanswered: BTreeSet<u64>,
    released: u64,
    waited: u64,
    /// What the handler, or its condition, is at.
    running: Vec<Call>,
    handled: BTreeSet<u64>,
    last: BTreeMap<String, u64>,
    /// Of this process: how many events the handler or its condition got, and how many it was told that it did not.
    got: u64,
    skipped: u64,
}

fn number(call: &Call) -> u64 {
    let event = &call.data["event"];
    let data = if event["type"] == "event" { &event["event"]["type"] } else { &event["data"] };
    data.as_str().and_then(|number| number.parse().ok()).expect("values are numbers")
}

impl Model {
    fn new(conditional: bool) -> Model {
        let mut config = CoreConfig::default();
        config.limits.trigger_events = 5;
        let mut model = Model {
            world: World::with_config(config),
            conditional,
            writer: WorkerKey(0),
            worker: None,
            events: 0,
            acknowledged: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            released: 0,
            waited: 0,
            running: Vec::new(),
            handled: BTreeSet::new(),
            last: BTreeMap::new(),
            got: 0,
            skipped: 0,
        };
        model.start();
        model
    }

    fn start(&mut self) {
        self.writer = self.world.worker();
        self.worker = None;
        self.running.clear();
        self.unanswered.clear();
        (self.released, self.got, self.skipped, self.waited) = (0, 0, 0, 0);
        self.back();
    }

    fn back(&mut self) {
        if self.worker.is_none() {
            let worker = self.world.worker();
            self.worker = Some(worker);
            self.world.registers(worker, "if");
            let condition = if self.conditional { "if" } else { "" };
            let config = format!(r#"{{"stream_name":"s","condition_function_id":"{condition}"}}"#);
            self.world.registers(worker, "f");
            self.world.binds(worker, &format!("t{}", worker.0), "stream", "f", &config);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Set(group) => {
                self.events += 1;
                self.unanswered.insert(self.events);
                let n = self.events.to_string();
                self.world.set(self.writer, &n, GROUPS[group], "a", &format!("{n:?}"));
            }
            Step::Send(group) => {
                self.events += 1;
                self.unanswered.insert(self.events);
                let n = self.events.to_string();
                self.world.send(self.writer, &n, GROUPS[group], "", &n);
            }
            Step::Persist if self.world.in_flight.is_some() => self.world.persist(),
            Step::Fail if self.world.in_flight.is_some() => self.world.fail(),
            Step::Persist | Step::Fail => {}
            Step::Wait if self.waited < 20 => {
                self.waited += 1;
                self.world.pass(1_000);
                self.world.tick();
            }
            Step::Wait => {}
            Step::Answer(at, fails) => {
                if let (Some(worker), false) = (self.worker, self.running.is_empty()) {
                    let call = self.running.remove(at.index(self.running.len()));
                    match (fails, &call.function[..]) {
                        (true, "if") => self.world.returns(worker, &call, "false"),
                        (true, _) => self.world.throws(worker, &call),
                        (false, _) => self.world.returns(worker, &call, "null"),
                    }
                }
            }
            Step::WorkerGone => {
                if let Some(worker) = self.worker.take() {
                    self.running.clear();
                    self.world.hangs_up(worker);
                }
            }
            Step::WorkerBack => self.back(),
            Step::Crash(keep) => {
                let keep = keep.index(self.world.most_kept() + 1);
                self.world.crash(keep);
                self.start();
            }
        }
        self.look();
    }

    fn look(&mut self) {
        for reply in self.world.replies(self.writer) {
            let (n, told) = reply.split_once([':', '!']).expect("an answer");
            let n = n.parse().expect("the number of an event");
            assert!(self.unanswered.remove(&n), "answered twice: {reply}");
            // Of one that has failed, no handler may hear.
            if !told.contains("nothing was written") && !told.contains("outcome_unknown") {
                self.acknowledged.insert(n);
                self.released += 1;
            }
        }
        let calls = self.worker.map(|worker| self.world.calls(worker)).unwrap_or_default();
        for call in calls {
            let n = number(&call);
            assert!(self.acknowledged.contains(&n), "not safe yet: {call}");
            let group = call.data["groupId"].as_str().expect("a group").to_owned();
            let is_busy = |other: &Call| other.data["groupId"] == *group;
            assert!(!self.running.iter().any(is_busy), "a second one of its group: {call}");
            // The same event goes to the condition and then to the handler.
            if self.conditional && call.function == "f" {
                assert_eq!(self.last.get(&group), Some(&n), "the condition was asked about another: {call}");
            } else {
                let before = self.last.insert(group, n);
                assert!(before.is_none_or(|before| before < n), "after {before:?}: {call}");
                self.got += 1;
            }
            if call.function == "f" {
                assert!(self.handled.insert(n), "a second time: {call}");
                self.skipped += call.skipped().unwrap_or_default();
            }
            self.running.push(call);
        }
    }

    /// Everything is written and handled; then, what the handler got and what it was told of is all that happened.
    fn heal(&mut self) {
        self.back();
        self.drain();
        // The one after tells of all that was dropped before.
        self.take(&Step::Set(0));
        self.drain();
        assert_eq!(self.got + self.skipped, self.released, "{} were dropped", self.skipped);
        assert!(self.unanswered.is_empty(), "never answered: {:?}", self.unanswered);
    }

    fn drain(&mut self) {
        loop {
            self.look();
            if self.world.waits_to_start_again() {
                self.world.pass(1_000);
                self.world.tick();
            } else if self.world.in_flight.is_some() {
                self.world.persist();
            } else if let (Some(call), Some(worker)) = (self.running.pop(), self.worker) {
                self.world.returns(worker, &call, "null");
            } else {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_handler_gets_a_groups_events_in_order_and_knows_how_many_it_missed(
        conditional: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(conditional);
        for step in &steps {
            model.take(step);
        }
        model.heal();
    }
}

//! Any story of joins, gates, leaves, writes that fail and crashes, beside a model that only counts.
//!
//! After every step: what a session was sent is covered by a subscription of its own that is open, and it is in the
//! channels of those and no others; a leave is told of an allowed join that has ended, and no leave twice, through all
//! crashes. In the end every allowed join of the last process has had its leave.

mod driver;

use std::collections::BTreeSet;

use driver::{Call, Seen, World};
use headwater_core::config::{CoreConfig, JoinGate};
use headwater_core::key::{SessionKey, WorkerKey};
use proptest::prelude::*;
use proptest::sample::Index;

const SESSIONS: usize = 3;
const GROUPS: [&str; 2] = ["g", "h"];
/// The whole group, and two items.
const ITEMS: [&str; 3] = ["", "a", "b"];

#[derive(Clone, Debug)]
enum Step {
    Join {
        session: usize,
        group: usize,
        item: usize,
    },
    Again(Index),
    Leave(Index),
    Hangup(usize),
    Overflow(usize),
    Drained(usize),
    Gate(Index, &'static str),
    LeaveHandled(Index),
    WorkerGone,
    WorkerBack,
    Set {
        group: usize,
        item: usize,
    },
    Send {
        group: usize,
        item: usize,
    },
    Persist,
    /// A write fails; if it was to begin a file, that may have been made.
    Fail {
        made: bool,
    },
    /// So much time passes that a store whose disk has failed tries again.
    Wait,
    Crash(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let answers = prop_oneof![3 => Just("null"), 1 => Just(r#"{"unauthorized":true}"#), 1 => Just("throws")];
    prop_oneof![
        8 => (0..SESSIONS, 0..GROUPS.len(), 0..ITEMS.len())
            .prop_map(|(session, group, item)| Step::Join { session, group, item }),
        1 => any::<Index>().prop_map(Step::Again),
        4 => any::<Index>().prop_map(Step::Leave),
        1 => (0..SESSIONS).prop_map(Step::Hangup),
        1 => (0..SESSIONS).prop_map(Step::Overflow),
        1 => (0..SESSIONS).prop_map(Step::Drained),
        8 => (any::<Index>(), answers).prop_map(|(at, answer)| Step::Gate(at, answer)),
        3 => any::<Index>().prop_map(Step::LeaveHandled),
        1 => Just(Step::WorkerGone),
        3 => Just(Step::WorkerBack),
        4 => (0..GROUPS.len(), 1..ITEMS.len()).prop_map(|(group, item)| Step::Set { group, item }),
        2 => (0..GROUPS.len(), 0..ITEMS.len()).prop_map(|(group, item)| Step::Send { group, item }),
        8 => Just(Step::Persist),
        1 => any::<bool>().prop_map(|made| Step::Fail { made }),
        1 => Just(Step::Wait),
        1 => any::<Index>().prop_map(Step::Crash),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its gate has not answered.
    Waiting,
    /// Nor has this one's, and nobody wants to join any more.
    GivenUp,
    Refused,
    Open,
    /// It was allowed and has ended; whether somebody wanted to know.
    Left {
        watched: bool,
    },
    /// The process crashed: its leave may be told if it was allowed.
    Crashed {
        allowed: bool,
    },
}

#[derive(Debug)]
struct Subscription {
    session: SessionKey,
    group: &'static str,
    item: &'static str,
    state: State,
    leaves: usize,
    /// Its leave is in the log, and only a further crash can take it.
    owed: bool,
    log: Log,
    /// Something was being written when it joined, or was to be.
    behind_a_write: bool,
}

/// What became of the record of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    /// There is none.
    Nothing,
    Gathers,
    Writing,
    /// It is in the log, and only a power loss can take it.
    Written,
}

impl Subscription {
    fn covers(&self, seen: &Seen) -> bool {
        let item = seen.item.as_deref().unwrap_or_default();
        self.state == State::Open
            && self.group == seen.group
            && if seen.kind == "sync" && !seen.sent {
                self.item == item
            } else {
                ["", item].contains(&self.item)
            }
    }
}

/// Which subscription a call is about.
fn number(call: &Call) -> usize {
    call.subscription().parse().expect("ids are numbers")
}

struct Model {
    world: World,
    fail_closed: bool,
    writer: WorkerKey,
    /// The one with the gate and the handler of leaves, if it is there.
    worker: Option<WorkerKey>,
    /// It has been, in this process: its gate gates.
    known: bool,
    /// Nothing can be written before a new start of the log.
    refusing: bool,
    /// How many seconds have passed in this process: too few for anything to take too long.
    waited: u64,
    sessions: Vec<SessionKey>,
    behind: BTreeSet<SessionKey>,
    /// By their ids, which are never used again.
    subscriptions: Vec<Subscription>,
    gates: Vec<Call>,
    leaves: Vec<Call>,
    /// Of refused joins that a session was not told of yet.
    refused: Vec<SessionKey>,
}

impl Model {
    fn new(fail_closed: bool, segment_bytes: usize) -> Model {
        let mut config = CoreConfig::default();
        config.storage.segment_bytes = segment_bytes;
        config.access.join_gate = if fail_closed { JoinGate::FailClosed } else { JoinGate::FailOpen };
        let mut model = Model {
            world: World::with_config(config),
            fail_closed,
            writer: WorkerKey(0),
            worker: None,
            known: false,
            refusing: false,
            waited: 0,
            sessions: Vec::new(),
            behind: BTreeSet::new(),
            subscriptions: Vec::new(),
            gates: Vec::new(),
            leaves: Vec::new(),
            refused: Vec::new(),
        };
        model.start();
        model
    }

    fn start(&mut self) {
        self.writer = self.world.worker();
        self.sessions = (0..SESSIONS).map(|_| self.world.session()).collect();
        (self.worker, self.known, self.refusing, self.waited) = (None, false, false, 0);
        self.behind.clear();
        self.gates.clear();
        self.leaves.clear();
        self.refused.clear();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { session, group, item } => self.join(session, GROUPS[group], ITEMS[item]),
            Step::Again(at) => {
                if let Some(id) = self.pick(at, &[State::Waiting, State::Open]) {
                    let Subscription { session, group, item, .. } = self.subscriptions[id];
                    self.world.join(session, &id.to_string(), group, item);
                }
            }
            Step::Leave(at) => {
                if let Some(id) = self.pick(at, &[State::Waiting, State::Open]) {
                    self.end(id);
                    self.world.leave(self.subscriptions[id].session, &id.to_string());
                }
            }
            Step::Hangup(at) => self.hangup(at),
            Step::Overflow(at) => {
                self.behind.insert(self.sessions[at]);
                self.world.overflow(self.sessions[at]);
            }
            Step::Drained(at) => {
                self.behind.remove(&self.sessions[at]);
                self.world.drained(self.sessions[at]);
            }
            Step::Gate(at, answer) => {
                if !self.gates.is_empty() {
                    let call = self.gates.remove(at.index(self.gates.len()));
                    self.answer_gate(&call, answer);
                }
            }
            Step::LeaveHandled(at) => {
                if let (Some(worker), false) = (self.worker, self.leaves.is_empty()) {
                    let call = self.leaves.remove(at.index(self.leaves.len()));
                    self.world.returns(worker, &call, "null");
                }
            }
            Step::WorkerGone => {
                if let Some(worker) = self.worker.take() {
                    self.gates.clear();
                    self.leaves.clear();
                    self.world.hangs_up(worker);
                }
            }
            Step::WorkerBack => self.worker_back(),
            Step::Set { group, item } => self.world.set(self.writer, "w", GROUPS[group], ITEMS[item], "1"),
            Step::Send { group, item } => {
                self.world.send(self.writer, "w", GROUPS[group], ITEMS[item], "sent");
            }
            Step::Persist if self.world.in_flight.is_some() => self.persist(),
            Step::Fail { made } if self.world.in_flight.is_some() => {
                self.refusing |= self.world.is_fence();
                for subscription in &mut self.subscriptions {
                    // It is written again, behind the new start.
                    if subscription.log == Log::Writing {
                        subscription.log = Log::Gathers;
                    }
                }
                self.world.fail_having_made(made);
            }
            Step::Persist | Step::Fail { .. } => {}
            Step::Wait if self.waited < 20 => {
                self.waited += 1;
                self.world.pass(1_000);
                self.world.tick();
            }
            Step::Wait => {}
            Step::Crash(at) => self.crash(at),
        }
        self.look();
    }

    fn persist(&mut self) {
        if self.world.is_fence() {
            self.refusing = false;
        }
        self.world.persist();
        for subscription in &mut self.subscriptions {
            subscription.log = match subscription.log {
                Log::Writing => Log::Written,
                Log::Gathers => Log::Writing,
                log => log,
            };
        }
    }

    fn join(&mut self, session: usize, group: &'static str, item: &'static str) {
        let id = self.subscriptions.len().to_string();
        let session = self.sessions[session];
        let state = match (self.known, self.fail_closed) {
            (true, _) => State::Waiting,
            (false, false) => State::Open,
            (false, true) => State::Refused,
        };
        if state == State::Refused {
            self.refused.push(session);
        }
        let subscription = Subscription {
            session,
            group,
            item,
            state,
            leaves: 0,
            owed: false,
            log: Log::Nothing,
            behind_a_write: self.world.in_flight.is_some() || self.refusing,
        };
        self.subscriptions.push(subscription);
        self.world.join(session, &id, group, item);
    }

    fn pick(&self, at: Index, states: &[State]) -> Option<usize> {
        let all = self.subscriptions.iter().enumerate();
        let fitting: Vec<_> = all.filter(|(_, subscription)| states.contains(&subscription.state)).collect();
        (!fitting.is_empty()).then(|| fitting[at.index(fitting.len())].0)
    }

    fn end(&mut self, id: usize) {
        let subscription = &mut self.subscriptions[id];
        subscription.state = match subscription.state {
            State::Waiting => State::GivenUp,
            State::Open => State::Left { watched: self.known },
            other => other,
        };
    }

    fn hangup(&mut self, at: usize) {
        let session = self.sessions[at];
        for id in 0..self.subscriptions.len() {
            let is_of_process = !matches!(self.subscriptions[id].state, State::Crashed { .. });
            if self.subscriptions[id].session == session && is_of_process {
                self.end(id);
            }
        }
        self.behind.remove(&session);
        self.world.leaves(session);
        self.sessions[at] = self.world.session();
    }

    fn answer_gate(&mut self, call: &Call, answer: &str) {
        let Some(worker) = self.worker else { return };
        let subscription = &mut self.subscriptions[number(call)];
        let allows = match answer {
            "throws" => !self.fail_closed,
            answer => answer == "null",
        };
        let is_wanted = subscription.state == State::Waiting;
        subscription.state = match (subscription.state, allows) {
            (State::Waiting, true) => State::Open,
            (State::Waiting, false) => State::Refused,
            (State::GivenUp, true) => State::Left { watched: true },
            (State::GivenUp, false) => State::Refused,
            (state, _) => panic!("a gate was asked about a join that is {state:?}"),
        };
        match subscription.state {
            State::Open if self.refusing => {}
            // What comes during a write goes with the next.
            State::Open if self.world.in_flight.is_some() => subscription.log = Log::Gathers,
            State::Open => subscription.log = Log::Writing,
            State::Refused if is_wanted => {
                self.refused.push(subscription.session);
            }
            _ => {}
        }
        match answer {
            "throws" => self.world.throws(worker, call),
            answer => self.world.returns(worker, call, answer),
        }
    }

    fn worker_back(&mut self) {
        if self.worker.is_none() {
            let worker = self.world.worker();
            self.worker = Some(worker);
            self.known = true;
            self.world.handles(worker, "stream:join", "may", "{}");
            self.world.handles(worker, "stream:leave", "bye", "{}");
        }
    }

    fn crash(&mut self, keep: Index) {
        let most = self.world.most_kept();
        let keep = keep.index(most + 1);
        for subscription in &mut self.subscriptions {
            let is_open = subscription.state == State::Open;
            // What is owed is told as soon as somebody wants to know; whether it was, a crash leaves open.
            let still = subscription.owed && !self.known;
            let is_given = matches!(subscription.log, Log::Writing | Log::Written);
            subscription.owed = still || is_open && is_given && keep == most;
            subscription.log = Log::Nothing;
            subscription.state = match subscription.state {
                State::Open | State::Left { .. } => State::Crashed { allowed: true },
                State::Waiting | State::GivenUp | State::Refused => State::Crashed { allowed: false },
                crashed => crashed,
            };
        }
        self.world.crash(keep);
        self.start();
    }

    /// Looks at all that came of a step.
    fn look(&mut self) {
        self.world.heard(self.writer);
        let calls = self.worker.map(|worker| self.world.calls(worker)).unwrap_or_default();
        for call in calls {
            let subscription = &mut self.subscriptions[number(&call)];
            if call.function == "may" {
                self.gates.push(call);
                continue;
            }
            subscription.leaves += 1;
            assert_eq!(subscription.leaves, 1, "told twice: {call}");
            assert!(
                matches!(subscription.state, State::Left { .. } | State::Crashed { allowed: true }),
                "{call}: {subscription:?}"
            );
            self.leaves.push(call);
        }
        for session in self.sessions.clone() {
            self.look_at(session);
        }
        assert!(self.refused.is_empty(), "a refused join is answered at once: {:?}", self.refused);
    }

    fn look_at(&mut self, session: SessionKey) {
        let of_session = || {
            let is_of_process = |s: &&Subscription| !matches!(s.state, State::Crashed { .. });
            self.subscriptions.iter().filter(|s| s.session == session).filter(is_of_process)
        };
        let mut expected = BTreeSet::new();
        for subscription in of_session().filter(|s| s.state == State::Open) {
            let whole = of_session()
                .any(|s| s.state == State::Open && s.group == subscription.group && s.item.is_empty());
            expected.insert((subscription.group, if whole { "" } else { subscription.item }));
        }
        if self.behind.contains(&session) {
            expected.clear();
        }
        assert_eq!(self.world.channels(session), expected.len(), "{expected:?}");
        let frames: Vec<_> = self.world.frames(session).iter().map(|frame| Seen::read(frame)).collect();
        for seen in frames {
            if seen.kind == "unauthorized" {
                let at = self.refused.iter().position(|refused| *refused == session);
                self.refused.remove(at.expect("a join was refused"));
            } else {
                assert!(of_session().any(|subscription| subscription.covers(&seen)), "{seen}");
            }
        }
    }

    /// Everybody comes back, everything is answered, and everybody goes.
    fn heal(&mut self) {
        self.take(&Step::WorkerBack);
        self.drain();
        for at in 0..SESSIONS {
            self.take(&Step::Hangup(at));
        }
        self.drain();
        for (id, subscription) in self.subscriptions.iter().enumerate() {
            let expected = match subscription.state {
                State::Left { watched: true } => Some(1),
                State::Crashed { allowed: true } if subscription.owed => Some(1),
                State::Crashed { allowed: true } => None,
                State::Left { watched: false } | State::Refused | State::Crashed { allowed: false } => {
                    Some(0)
                }
                // Nobody was asked: it may have waited for a leave before it to be told.
                State::GivenUp if subscription.behind_a_write => Some(0),
                State::Waiting | State::GivenUp | State::Open => panic!("{id} is still {subscription:?}"),
            };
            assert!(expected.is_none_or(|leaves| leaves == subscription.leaves), "{id}: {subscription:?}");
        }
    }

    fn drain(&mut self) {
        loop {
            let before = (self.gates.len(), self.leaves.len());
            for _ in 0..before.0 {
                let call = self.gates.remove(0);
                self.answer_gate(&call, "null");
                self.look();
            }
            for _ in 0..before.1 {
                let call = self.leaves.remove(0);
                self.world.returns(self.worker.expect("it is back"), &call, "null");
                self.look();
            }
            if self.world.waits_to_start_again() {
                self.world.pass(1_000);
                self.world.tick();
            } else if self.world.in_flight.is_some() {
                self.persist();
                self.look();
            } else if before == (0, 0) {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_open_subscriptions_are_sent_anything_and_allowed_joins_have_one_leave(
        fail_closed: bool,
        segment_bytes in prop::sample::select(vec![1, 500, 1 << 20]),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(fail_closed, segment_bytes);
        for step in &steps {
            model.take(step);
        }
        model.heal();
    }
}

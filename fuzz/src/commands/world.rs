//! One core with a disk, a worker and subscribers, beside the model of its store.
//!
//! The core answers from its newest state and tells what is durable. So the world keeps, for what is being written and
//! for what gathers meanwhile, what waits for it: that must come out when the write is durable, in order, and at no other
//! time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_core::config::CoreConfig;
use headwater_core::key::{ChannelKey, SessionKey, WorkerKey};
use headwater_core::log::{BatchNumber, FileHeader, Salt};
use headwater_core::rng::Uuid;
use headwater_core::store::{Recovered, Replay};
use headwater_core::wire::{stream, worker};
use headwater_core::{Core, Effect, Input};
use headwater_model::json::{Member, Value, spell};
use headwater_model::store::{Answer, Command, Event, Frame, GroupName, Store};

use super::step::{self, Call, SESSIONS, Step};
use crate::effects::{at, sent};
use crate::seen::Seen;

const WORKER: WorkerKey = WorkerKey(1);

pub(super) struct World {
    core: Core,
    config: CoreConfig,
    clock: u64,
    log: Vec<u8>,
    /// The write that the core asked for.
    in_flight: Option<BatchNumber>,
    /// With all changes so far.
    newest: Store,
    /// With the durable ones.
    durable: Store,
    /// What waits for the write under way; none of its changes if there is no such write.
    writing: Batch,
    gathering: Batch,
    sessions: Vec<Session>,
    keys: u64,
    calls: u64,
    /// The calls that are to be answered, and with what, in order.
    answers: VecDeque<(String, &'static str, Answer)>,
}

/// Changes that become durable together, and what waits for them.
#[derive(Default)]
struct Batch {
    changed: BTreeSet<GroupName>,
    /// The store with them, from when they are being written.
    store: Store,
    waiting: Vec<Told>,
}

/// What somebody is told.
enum Told {
    Answer(String, &'static str, Answer),
    Event(Event),
}

struct Session {
    key: SessionKey,
    subscriptions: BTreeMap<&'static str, (GroupName, Option<String>)>,
    behind: bool,
    channels: BTreeSet<ChannelKey>,
    /// Of each group, the stamp of the last frame, and whether it was a sync.
    stamps: BTreeMap<(String, String), (u64, bool)>,
    /// What it must see, in order.
    expected: VecDeque<Expected>,
}

#[derive(Debug)]
enum Expected {
    Frame(Frame),
    Error(&'static str),
}

impl World {
    /// With an empty log.
    pub(super) fn new() -> World {
        let header = FileHeader { epoch: Uuid::from_random(7), salt: Salt([7; 8]) };
        World::on(header.encode().to_vec(), Store::default(), 0)
    }

    fn on(log: Vec<u8>, store: Store, clock: u64) -> World {
        let config = CoreConfig::default();
        let core = Core::recovered(config.clone(), [7; 32], at(clock), replay(&log));
        let mut world = World {
            core,
            config,
            clock,
            log,
            in_flight: None,
            newest: store.clone(),
            durable: store,
            writing: Batch::default(),
            gathering: Batch::default(),
            sessions: Vec::new(),
            keys: 0,
            calls: 0,
            answers: VecDeque::new(),
        };
        world.handle(Input::WorkerConnected { worker: WORKER });
        for _ in 0..SESSIONS {
            let session = world.connected();
            world.sessions.push(session);
        }
        world
    }

    /// What the store must be.
    pub(super) fn model(&self) -> &Store {
        &self.newest
    }

    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Call(call) => self.call(call),
            Step::Persist => self.persist(),
            Step::Join { session, subscription, group, item } => {
                self.join(*session, subscription, group, item.as_deref());
            }
            Step::Leave { session, subscription } => self.leave(*session, subscription),
            Step::Overflow { session } => {
                let session = &mut self.sessions[*session];
                session.behind = true;
                let session = session.key;
                self.handle(Input::SessionOverflowed { session });
            }
            Step::Drain { session } => self.drain(*session),
            Step::Reconnect { session } => {
                let key = self.sessions[*session].key;
                self.handle(Input::SessionDisconnected { session: key });
                self.sessions[*session] = self.connected();
            }
        }
    }

    /// Everything becomes durable.
    pub(super) fn settle(&mut self) {
        while self.in_flight.is_some() {
            self.persist();
        }
        assert!(self.gathering.waiting.is_empty() && self.writing.waiting.is_empty());
    }

    /// A world on the log of this one.
    pub(super) fn restart(self) -> World {
        World::on(self.log, self.newest, self.clock)
    }

    /// Reads all that there can be, and subscribes to all groups.
    pub(super) fn look_at_everything(&mut self) {
        for read in step::reads() {
            self.call(&read);
        }
        for group in step::groups() {
            self.join(0, "look", &group, None);
            self.leave(0, "look");
        }
    }

    fn call(&mut self, call: &Call) {
        self.calls += 1;
        let id = self.calls.to_string();
        let invocation = match call.wants_answer {
            true => format!(r#""invocation_id":"{id}","#),
            false => String::new(),
        };
        let frame = format!(
            r#"{{"type":"invokefunction",{invocation}"function_id":"{}","data":{}}}"#,
            call.function, call.data
        );
        let (answer, event) = self.newest.run(&call.command);
        let waits_for = match (&call.command, &answer) {
            // The form of an input has nothing to do with what is stored.
            (_, Answer::Error("deserialization_error")) => None,
            (Command::ListAll | Command::ListGroups { .. }, _) => self.newest_batch(),
            (command, _) => {
                let group = group_of(command);
                let is_change = event.is_some() && !matches!(command, Command::Send { .. });
                if is_change {
                    self.gathering.changed.insert(group.clone());
                }
                self.batch_of(group)
            }
        };
        let told = event.map(Told::Event).into_iter();
        let told = told.chain(call.wants_answer.then_some(Told::Answer(id, call.function, answer)));
        let told: Vec<Told> = told.collect();
        match waits_for {
            Some(Which::Gathering) => self.gathering.waiting.extend(told),
            Some(Which::Writing) => self.writing.waiting.extend(told),
            None => told.into_iter().for_each(|told| self.release(told)),
        }
        let frame = worker::parse(&frame, &self.config.limits);
        self.handle(Input::WorkerFrame { worker: WORKER, frame });
    }

    fn persist(&mut self) {
        let Some(through) = self.in_flight.take() else { return };
        let Batch { store, waiting, .. } = std::mem::take(&mut self.writing);
        self.durable = store;
        waiting.into_iter().for_each(|told| self.release(told));
        self.handle(Input::Persisted { through });
    }

    fn join(&mut self, session: usize, subscription: &'static str, group: &GroupName, item: Option<&str>) {
        let sync = self.durable.sync(group, item);
        let session = &mut self.sessions[session];
        let target = (group.clone(), item.map(str::to_owned));
        let joined = session.subscriptions.entry(subscription).or_insert_with(|| target.clone());
        if *joined != target {
            session.expected.push_back(Expected::Error("duplicate_subscription"));
        } else if !session.behind {
            session.expected.push_back(Expected::Frame(sync));
        }
        let id = item.map_or("null".into(), |item| format!("\"{}\"", spell(item)));
        let (stream, group) = (spell(&group.stream), spell(&group.group));
        let data = format!(
            r#"{{"subscriptionId":"{subscription}","streamName":"{stream}","groupId":"{group}","id":{id}}}"#
        );
        let key = session.key;
        self.say(key, "join", &data);
    }

    fn leave(&mut self, session: usize, subscription: &'static str) {
        let session = &mut self.sessions[session];
        if session.subscriptions.remove(subscription).is_none() {
            session.expected.push_back(Expected::Error("unknown_subscription"));
        }
        let key = session.key;
        self.say(key, "leave", &format!(r#"{{"subscriptionId":"{subscription}"}}"#));
    }

    fn drain(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        if std::mem::take(&mut session.behind) {
            let fresh = session.subscriptions.values();
            let fresh = fresh.map(|(group, item)| self.durable.sync(group, item.as_deref()));
            session.expected.extend(fresh.map(Expected::Frame));
        }
        let session = session.key;
        self.handle(Input::SessionDrained { session });
    }

    fn connected(&mut self) -> Session {
        self.keys += 1;
        let key = SessionKey(self.keys);
        self.handle(Input::SessionConnected {
            session: key,
            handshake: stream::Handshake::default(),
            join: None,
        });
        Session {
            key,
            subscriptions: BTreeMap::new(),
            behind: false,
            channels: BTreeSet::new(),
            stamps: BTreeMap::new(),
            expected: VecDeque::new(),
        }
    }

    fn say(&mut self, session: SessionKey, kind: &str, data: &str) {
        let frame = stream::parse(&format!(r#"{{"type":"{kind}","data":{data}}}"#), &self.config.limits);
        self.handle(Input::SessionFrame { session, frame });
    }

    /// The batch that makes the newest state of a group durable; `None` if it is.
    fn batch_of(&self, group: &GroupName) -> Option<Which> {
        if self.gathering.changed.contains(group) {
            Some(Which::Gathering)
        } else {
            self.writing.changed.contains(group).then_some(Which::Writing)
        }
    }

    /// The last batch that is not durable.
    fn newest_batch(&self) -> Option<Which> {
        if !self.gathering.changed.is_empty() {
            Some(Which::Gathering)
        } else {
            self.in_flight.map(|_| Which::Writing)
        }
    }

    /// Nothing is left to wait for: this is to be told now.
    fn release(&mut self, told: Told) {
        match told {
            Told::Answer(id, function, answer) => self.answers.push_back((id, function, answer)),
            Told::Event(event) => {
                for session in self.sessions.iter_mut().filter(|session| !session.behind) {
                    let subscribes = |to: Option<&String>| {
                        session
                            .subscriptions
                            .values()
                            .any(|(group, item)| *group == event.group && item.as_ref() == to)
                    };
                    let whole_group = subscribes(None);
                    if whole_group || event.item.is_some() && subscribes(event.item.as_ref()) {
                        session.expected.extend(event.frames(whole_group).into_iter().map(Expected::Frame));
                    }
                }
            }
        }
    }

    /// Hands an input to the core, and checks that what comes out is what must.
    fn handle(&mut self, input: Input) {
        // The wall clock is ahead of the stamps, so that what is sent needs no reservation in the log.
        self.clock += 3;
        let mut effects = Vec::new();
        self.core.handle(at(self.clock), input, &mut effects);
        for effect in &effects {
            self.carry_out(effect);
        }
        assert_eq!(self.answers.len(), 0, "not answered: {:?}", self.answers);
        for session in &self.sessions {
            assert!(session.expected.is_empty(), "not told: {:?}", session.expected);
        }
        if self.in_flight.is_none() {
            assert!(self.gathering.changed.is_empty(), "changes that nobody writes");
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Persist(batch) => {
                assert_eq!(batch.position, self.log.len() as u64);
                self.log.extend_from_slice(&batch.bytes);
                assert_eq!(self.in_flight.replace(batch.number), None, "one write at a time");
                self.writing = std::mem::take(&mut self.gathering);
                self.writing.store = self.newest.clone();
            }
            Effect::Reply { invocation_id, .. } => {
                if let (Some(_), Some(frame)) = (invocation_id, sent(effect)) {
                    let answer = self.answers.pop_front();
                    let (id, function, answer) = answer.unwrap_or_else(|| panic!("too early: {frame}"));
                    check_answer(&frame, &id, function, &answer);
                }
            }
            Effect::Attach { session, channel } => {
                if let Some(session) = self.session(*session) {
                    assert!(session.channels.insert(*channel), "attached twice");
                }
            }
            Effect::Detach { session, channel } => {
                if let Some(session) = self.session(*session) {
                    assert!(session.channels.remove(channel), "detached without being there");
                }
            }
            Effect::Sync { session, .. } | Effect::Refuse { session, .. } => {
                let frame = sent(effect).expect("a frame");
                self.session(*session).expect("a session that is there").see(&frame);
            }
            Effect::Broadcast { channel, .. } => {
                let frame = sent(effect).expect("a frame");
                for session in self.sessions.iter_mut().filter(|s| s.channels.contains(channel)) {
                    session.see(&frame);
                }
            }
            Effect::ToWorker { .. } | Effect::Resume { .. } => {}
            effect => panic!("nothing led to {effect:?}"),
        }
    }

    fn session(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.key == key)
    }
}

enum Which {
    Writing,
    Gathering,
}

impl Session {
    fn see(&mut self, frame: &str) {
        let seen = Seen::read(frame);
        let expected = self.expected.pop_front().unwrap_or_else(|| panic!("nobody asked for {frame}"));
        let expected = match expected {
            Expected::Frame(expected) => expected,
            Expected::Error(code) => {
                let error = seen.event.get("error").and_then(|error| error.get("code")?.text());
                return assert_eq!(error.as_deref(), Some(code), "{frame}");
            }
        };
        let is_right = expected.group.stream == seen.stream
            && expected.group.group == seen.group
            && expected.item == seen.item
            && Some(expected.revision) == seen.revision
            && expected.event.is_spelled(&seen.event);
        assert!(is_right, "expected {expected:?}, got {frame}");
        let is_sync = seen.kind == "sync";
        let last = self.stamps.insert((seen.stream, seen.group), (seen.stamp, is_sync));
        let (last, was_sync) = last.unwrap_or_default();
        let is_later = seen.stamp > last || seen.stamp == last && is_sync && was_sync;
        assert!(is_later, "not later than {last}: {frame}");
    }
}

fn check_answer(frame: &str, id: &str, function: &str, expected: &Answer) {
    let found = Value::parse(frame).unwrap_or_else(|error| panic!("no JSON: {error:?} {frame}"));
    for (name, text) in [("type", "invocationresult"), ("invocation_id", id), ("function_id", function)] {
        assert_eq!(found.get(name), Some(&Value::string(text)), "{frame}");
    }
    let (result, error) = (found.get("result"), found.get("error"));
    let is_right = match (expected, result, error) {
        (Answer::Nothing, None, None) => true,
        (Answer::Result(expected), Some(result), None) => expected.is_spelled(result),
        (Answer::Updated(expected), Some(result), None) => expected.is_spelled(&without_messages(result)),
        (Answer::Error(code), None, Some(error)) => is_error(error, code),
        (Answer::Conflict { revision, value }, None, Some(error)) => {
            is_error(error, "STREAM_CONFLICT")
                && error.get("revision") == Some(&Value::integer(*revision))
                && error.get("value").is_some_and(|found| value.is_spelled(found))
        }
        _ => false,
    };
    assert!(is_right, "expected {expected:?}, got {frame}");
}

fn is_error(error: &Value, code: &str) -> bool {
    let message = error.get("message").and_then(Value::text).unwrap_or_default();
    error.get("code") == Some(&Value::string(code)) && !message.is_empty()
}

/// The result of an update without the messages of its errors, which are free in their words but must be there.
fn without_messages(result: &Value) -> Value {
    let mut result = result.clone();
    let Value::Object(members) = &mut result else { return result };
    for errors in members.iter_mut().filter(|member| member.is_named("errors")) {
        let Value::Array(errors) = &mut errors.value else { continue };
        for error in errors {
            let Value::Object(members) = error else { continue };
            let before = members.len();
            members.retain(|Member { key, value }| key != "message" || value.text().is_none());
            assert_eq!(members.len() + 1, before, "an error has a message");
        }
    }
    result
}

fn group_of(command: &Command) -> &GroupName {
    match command {
        Command::Set { group, .. }
        | Command::Update { group, .. }
        | Command::Delete { group, .. }
        | Command::Get { group, .. }
        | Command::List { group, .. }
        | Command::Send { group, .. } => group,
        Command::ListGroups { .. } | Command::ListAll => panic!("a command about no group"),
    }
}

fn replay(log: &[u8]) -> Recovered {
    let (header, rest) = log.split_first_chunk().expect("a log starts with a header");
    let mut replay = Replay::open(header).expect("the header is whole");
    replay.push(rest);
    let recovered = replay.finish().expect("the log is not damaged");
    assert_eq!((recovered.end, recovered.torn), (log.len() as u64, 0));
    recovered
}

//! One core with a disk, a worker and subscribers, beside the model of its store.
//!
//! The core answers from its newest state and tells what is durable. So the world keeps, for what is being written and
//! for what gathers meanwhile, what waits for it: that must come out when the write is durable, in order, and at no other
//! time. When a write fails, the store is what is durable, and who wrote is told so once nothing of it can come back; or,
//! if the new start that the log makes then fails, too, that nobody knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_core::config::CoreConfig;
use headwater_core::key::{ChannelKey, SessionKey, WorkerKey};
use headwater_core::log::{SegmentHeader, Write};
use headwater_core::store::{Recovered, Replay};
use headwater_core::wire::{stream, worker};
use headwater_core::{Core, Effect, Input};
use headwater_model::json::{Member, Value, spell};
use headwater_model::store::{Answer, Command, Event, Frame, GroupName, Store};

use super::step::{self, Call, SESSIONS, Step};
use crate::effects::{at, sent};
use crate::seen::Seen;

const WORKER: WorkerKey = WorkerKey(1);
/// How much of the log goes into a file: a few changes.
const SEGMENT_BYTES: usize = 500;

pub(super) struct World {
    core: Core,
    config: CoreConfig,
    clock: u64,
    log: Vec<File>,
    /// The write that the core asked for.
    in_flight: Option<Write>,
    /// A write has failed: the next one must make a new start.
    broken: bool,
    /// When a new start has failed, the time of the next one: until then nothing is written.
    refused_until: Option<u64>,
    /// Who is to be told, after a write has failed, what became of it.
    failed: Vec<Failed>,
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
    answers: VecDeque<(Id, Due)>,
}

/// A file of the log.
type File = (SegmentHeader, Vec<u8>);

/// A call's id, and the function that it calls.
type Id = (String, &'static str);

/// What a call is answered with.
#[derive(Debug)]
enum Due {
    Answer(Answer),
    /// That its write has failed; `unknown` says that it may come back.
    Failed {
        unknown: bool,
    },
}

/// A call whose write has failed.
struct Failed {
    id: Id,
    /// The disk was given what it changes.
    written: bool,
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
    Answer { id: Id, answer: Answer, command: Command, changes: bool },
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
        World::on(Vec::new(), Store::default(), 0)
    }

    fn on(log: Vec<File>, store: Store, clock: u64) -> World {
        let mut config = CoreConfig::default();
        config.storage.segment_bytes = SEGMENT_BYTES;
        let core = Core::recovered(config.clone(), [7; 32], at(clock), replay(&log));
        let mut world = World {
            core,
            config,
            clock,
            log,
            in_flight: None,
            broken: false,
            refused_until: None,
            failed: Vec::new(),
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
            Step::Fail { twice, kept } => (0..=usize::from(*twice)).for_each(|_| self.fail(*kept)),
            Step::Wait => self.wait(),
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
        self.wait();
        while self.in_flight.is_some() {
            self.persist();
        }
        assert!(self.gathering.waiting.is_empty() && self.writing.waiting.is_empty());
        assert!(self.failed.is_empty() && self.refused_until.is_none());
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
        let mut store = self.newest.clone();
        let (answer, event) = store.run(&call.command);
        // The form of an input has nothing to do with what is stored.
        let is_formed = !matches!(answer, Answer::Error("deserialization_error"));
        let id = (id, call.function);
        if is_formed && self.refused_until.is_some() && !is_read(&call.command) {
            if call.wants_answer {
                self.answers.push_back((id, Due::Failed { unknown: false }));
            }
        } else {
            self.newest = store;
            let changes = event.is_some() && !matches!(call.command, Command::Send { .. });
            let waits_for = match &call.command {
                _ if !is_formed => None,
                Command::ListAll | Command::ListGroups { .. } => self.newest_batch(),
                command => {
                    let group = group_of(command);
                    if changes {
                        self.gathering.changed.insert(group.clone());
                    }
                    self.batch_of(group)
                }
            };
            let answer = Told::Answer { id, answer, command: call.command.clone(), changes };
            let told = event.map(Told::Event).into_iter().chain(call.wants_answer.then_some(answer));
            let told: Vec<Told> = told.collect();
            match waits_for {
                Some(Which::Gathering) => self.gathering.waiting.extend(told),
                Some(Which::Writing) => self.writing.waiting.extend(told),
                None => told.into_iter().for_each(|told| self.release(told)),
            }
        }
        let frame = worker::parse(&frame, &self.config.limits);
        self.handle(Input::WorkerFrame { worker: WORKER, frame });
    }

    fn persist(&mut self) {
        let Some(write) = self.in_flight.take() else { return };
        self.write(&write);
        if std::mem::take(&mut self.broken) {
            self.refused_until = None;
            let failed = self.failed.drain(..);
            self.answers.extend(failed.map(|failed| (failed.id, Due::Failed { unknown: false })));
        } else {
            let Batch { store, waiting, .. } = std::mem::take(&mut self.writing);
            self.durable = store;
            waiting.into_iter().for_each(|told| self.release(told));
        }
        self.handle(Input::Persisted { through: write.number });
    }

    fn write(&mut self, write: &Write) {
        self.log.extend(write.begins.map(|header| (header, Vec::new())));
        self.log.last_mut().expect("a file").1.extend_from_slice(&write.bytes);
    }

    /// The write under way fails, and with it all that gathers.
    fn fail(&mut self, kept: bool) {
        let Some(write) = self.in_flight.take() else { return };
        if kept {
            self.write(&write);
        }
        let again = std::mem::replace(&mut self.broken, true);
        if again {
            self.refused_until = Some(self.clock + 3 + 1_000);
            let failed = self.failed.drain(..);
            self.answers.extend(failed.map(|failed| (failed.id, Due::Failed { unknown: failed.written })));
        }
        self.newest = self.durable.clone();
        let batches = [&mut self.writing, &mut self.gathering].map(std::mem::take);
        for (written, Batch { waiting, .. }) in [true, false].into_iter().zip(batches) {
            for told in waiting {
                // An event that was not told is none.
                let Told::Answer { id, command, changes, .. } = told else { continue };
                if is_read(&command) {
                    let (answer, _) = self.newest.run(&command);
                    self.answers.push_back((id, Due::Answer(answer)));
                } else if again {
                    self.answers.push_back((id, Due::Failed { unknown: false }));
                } else {
                    self.failed.push(Failed { id, written: written && changes });
                }
            }
        }
        self.handle(Input::PersistFailed { reason: "disk full".to_owned() });
        assert_eq!(self.in_flight.is_some(), !again, "the first new start is made at once, the next later");
    }

    fn wait(&mut self) {
        self.clock += 1_000;
        self.handle(Input::Tick);
        assert!(self.refused_until.is_none() || self.in_flight.is_some(), "nobody makes a new start");
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
            (self.in_flight.is_some() && !self.broken).then_some(Which::Writing)
        }
    }

    /// Nothing is left to wait for: this is to be told now.
    fn release(&mut self, told: Told) {
        match told {
            Told::Answer { id, answer, .. } => self.answers.push_back((id, Due::Answer(answer))),
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
            Effect::Persist(write) => {
                if write.begins.is_none() {
                    let (header, bytes) = self.log.last().expect("a file");
                    let end = (SegmentHeader::LEN + bytes.len()) as u64;
                    assert_eq!((write.segment, write.offset), (header.number, end));
                    assert!(!self.broken, "a file whose write has failed is written again");
                }
                assert!(self.refused_until.is_none_or(|until| until <= self.clock), "too early");
                assert_eq!(self.in_flight.replace(write.clone()), None, "one write at a time");
                if !self.broken {
                    self.writing = std::mem::take(&mut self.gathering);
                    self.writing.store = self.newest.clone();
                }
            }
            Effect::Reply { invocation_id, .. } => {
                if let (Some(_), Some(frame)) = (invocation_id, sent(effect)) {
                    let answer = self.answers.pop_front();
                    let (id, due) = answer.unwrap_or_else(|| panic!("too early: {frame}"));
                    check_answer(&frame, &id, &due);
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

fn check_answer(frame: &str, (id, function): &Id, due: &Due) {
    let found = Value::parse(frame).unwrap_or_else(|error| panic!("no JSON: {error:?} {frame}"));
    for (name, text) in [("type", "invocationresult"), ("invocation_id", id), ("function_id", function)] {
        assert_eq!(found.get(name), Some(&Value::string(text)), "{frame}");
    }
    let (result, error) = (found.get("result"), found.get("error"));
    let expected = match due {
        Due::Answer(expected) => expected,
        Due::Failed { unknown } => {
            let message = error.and_then(|error| error.get("message")?.text()).unwrap_or_default();
            let start = if *unknown { "outcome_unknown: " } else { "nothing was written" };
            return assert!(message.starts_with(start), "expected {due:?}, got {frame}");
        }
    };
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

fn is_read(command: &Command) -> bool {
    use Command::{Get, List, ListAll, ListGroups};
    matches!(command, Get { .. } | List { .. } | ListGroups { .. } | ListAll)
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

fn replay(log: &[File]) -> Recovered {
    let headers = log.iter().map(|(header, _)| *header).collect();
    let mut replay = Replay::new(None, headers).expect("no file is missing");
    while let Some(part) = replay.next_part() {
        let (_, bytes) = log.iter().find(|(header, _)| header.number == part.segment).expect("a file");
        let at = |offset: u64| usize::try_from(offset).expect("a small log") - SegmentHeader::LEN;
        let until = part.until.map_or(bytes.len(), at);
        replay.push(&bytes[at(part.from)..until], &mut ()).expect("there is no checkpoint");
    }
    let recovered = replay.finish().expect("the log is not damaged");
    assert_eq!(recovered.torn, 0);
    recovered
}

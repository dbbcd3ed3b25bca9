//! A world around one core: a clock, a disk, workers and subscribers, moved step by step.
//!
//! Frames go in as the bytes of the wire and come out as the bytes of the wire. The world checks on the way what
//! holds in every story: one write at a time, at the end of the log; nobody attached twice.
#![allow(dead_code, unused_imports, reason = "no test file tells all stories")]

mod handlers;
mod subscriber;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use headwater_core::config::CoreConfig;
use headwater_core::key::{ChannelKey, SessionKey, WorkerKey};
use headwater_core::log::{Batch, FileHeader, Salt};
use headwater_core::rng::Uuid;
use headwater_core::store::{Damage, Recovered, Replay};
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::stream::{self, ToSubscriber};
use headwater_core::wire::worker::{self, ToWorker};
use headwater_core::{Core, Effect, Input, Notice};
use serde_json::Value;

pub(crate) use handlers::Call;
pub(crate) use subscriber::{Seen, View};

/// When every story starts.
pub(crate) const START: u64 = 1_000_000;

/// One core and everything around it.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) config: CoreConfig,
    pub(crate) now: Now,
    /// What survives everything: the header and the batches that were synced.
    pub(crate) synced: Vec<u8>,
    /// What was written behind that without a sync: any of it may be on the disk.
    pub(crate) written: Vec<u8>,
    /// What is being written.
    pub(crate) in_flight: Option<Batch>,
    /// The bytes of a write that failed: any of them may be on the disk.
    pub(crate) failed: Vec<u8>,
    /// Every batch that was written in this run, for tests that cut the log.
    pub(crate) batches: Vec<Batch>,
    pub(crate) notes: Vec<Notice>,
    pub(crate) closed: Vec<WorkerKey>,
    /// The sessions whose handshake may be answered.
    pub(crate) admitted: Vec<SessionKey>,
    pub(crate) closed_sessions: Vec<SessionKey>,
    pub(crate) stopped: bool,
    /// The effects of all steps so far, as text.
    pub(crate) trace: Vec<String>,
    /// Those since [`World::told`] was asked last.
    story: Vec<Effect>,
    workers: BTreeMap<WorkerKey, Vec<String>>,
    sessions: BTreeMap<SessionKey, Session>,
    keys: u64,
}

#[derive(Default)]
struct Session {
    channels: BTreeSet<ChannelKey>,
    /// Frames are dropped from an overflow on until the core resumes.
    behind: bool,
    inbox: Vec<String>,
}

/// An empty log.
pub(crate) fn empty_log() -> Vec<u8> {
    FileHeader { epoch: Uuid::from_random(7), salt: Salt([7; 8]) }.encode().to_vec()
}

/// Reads a log in pieces of `piece` bytes.
pub(crate) fn replay_in_pieces(log: &[u8], piece: usize) -> Result<Recovered, Damage> {
    let (header, rest) = log.split_first_chunk().expect("a log starts with a header");
    let mut replay = Replay::open(header).expect("the header is whole");
    for bytes in rest.chunks(piece.max(1)) {
        replay.push(bytes);
    }
    replay.finish()
}

pub(crate) fn replay(log: &[u8]) -> Result<Recovered, Damage> {
    replay_in_pieces(log, usize::MAX)
}

/// A call's frame.
pub(crate) fn call_frame(id: &str, function: &str, data: &str) -> String {
    format!(r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function}","data":{data}}}"#)
}

impl World {
    /// A core whose store forgets.
    pub(crate) fn in_memory() -> World {
        World::around(CoreConfig::default(), START, empty_log(), |config, now, _| {
            Core::new(config, [1; 32], now)
        })
    }

    /// A core with an empty log, on a disk that waits for [`World::persist`].
    pub(crate) fn durable() -> World {
        World::on_log(CoreConfig::default(), START, empty_log())
    }

    pub(crate) fn with_config(config: CoreConfig) -> World {
        World::on_log(config, START, empty_log())
    }

    /// A core that starts at `wall` with this log; what can't be read at its end is cut off.
    pub(crate) fn on_log(config: CoreConfig, wall: u64, mut log: Vec<u8>) -> World {
        let recovered = replay(&log).expect("the log is not damaged");
        log.truncate(usize::try_from(recovered.end).expect("a small log"));
        World::around(config, wall, log, |config, now, _| Core::recovered(config, [1; 32], now, recovered))
    }

    fn around(
        config: CoreConfig,
        wall: u64,
        synced: Vec<u8>,
        core: impl FnOnce(CoreConfig, Now, ()) -> Core,
    ) -> World {
        let now = Now { mono: Mono(0), wall: WallMs(wall) };
        World {
            core: core(config.clone(), now, ()),
            config,
            now,
            synced,
            written: Vec::new(),
            in_flight: None,
            failed: Vec::new(),
            batches: Vec::new(),
            notes: Vec::new(),
            closed: Vec::new(),
            admitted: Vec::new(),
            closed_sessions: Vec::new(),
            stopped: false,
            trace: Vec::new(),
            story: Vec::new(),
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            keys: 0,
        }
    }

    // The clock.

    /// Both clocks go on.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.after(ms);
        self.now.wall = WallMs(self.now.wall.0 + ms);
    }

    /// The wall clock shows something else; no time passes.
    pub(crate) fn set_wall(&mut self, wall: u64) {
        self.now.wall = WallMs(wall);
    }

    pub(crate) fn tick(&mut self) {
        self.input(Input::Tick);
    }

    // The disk.

    /// The write under way is done, and durable if a sync is asked for.
    pub(crate) fn persist(&mut self) {
        let batch = self.in_flight.take().expect("a write is under way");
        self.written.extend_from_slice(&batch.bytes);
        if batch.sync {
            self.synced.append(&mut self.written);
        }
        let through = batch.number;
        self.batches.push(batch);
        self.input(Input::Persisted { through });
    }

    /// All writes are done.
    pub(crate) fn settle(&mut self) {
        while self.in_flight.is_some() {
            self.persist();
        }
    }

    /// The write under way fails.
    pub(crate) fn fail(&mut self) {
        self.failed = self.in_flight.take().expect("a write is under way").bytes.to_vec();
        self.input(Input::PersistFailed { reason: "disk full".to_owned() });
    }

    /// The bytes that were written and not synced, and those of the write under way, or of one that failed.
    pub(crate) fn unsynced(&self) -> Vec<u8> {
        let writing = self.in_flight.as_ref().map_or(&self.failed[..], |batch| &batch.bytes);
        [&self.written, writing].concat()
    }

    /// The server dies; of what is not synced, the first `keep` bytes are on the disk. It starts again at once.
    pub(crate) fn crash(&mut self, keep: usize) {
        let mut log = std::mem::take(&mut self.synced);
        log.extend_from_slice(&self.unsynced()[..keep]);
        *self = World::on_log(self.config.clone(), self.now.wall.0, log);
    }

    // Workers.

    /// Connects a worker; its first frame is kept.
    pub(crate) fn connect(&mut self) -> WorkerKey {
        let worker = WorkerKey(self.key());
        self.workers.insert(worker, Vec::new());
        self.input(Input::WorkerConnected { worker });
        worker
    }

    /// Connects a worker and takes its first frame.
    pub(crate) fn worker(&mut self) -> WorkerKey {
        let worker = self.connect();
        assert_eq!(self.heard(worker).len(), 1, "a worker is greeted once");
        worker
    }

    pub(crate) fn says(&mut self, worker: WorkerKey, frame: &str) {
        let frame = worker::parse(frame, &self.config.limits);
        self.input(Input::WorkerFrame { worker, frame });
    }

    pub(crate) fn call(&mut self, worker: WorkerKey, id: &str, function: &str, data: &str) {
        self.says(worker, &call_frame(id, function, data));
    }

    pub(crate) fn registers(&mut self, worker: WorkerKey, function: &str) {
        self.says(worker, &format!(r#"{{"type":"registerfunction","id":"{function}"}}"#));
    }

    pub(crate) fn hangs_up(&mut self, worker: WorkerKey) {
        self.workers.remove(&worker);
        self.input(Input::WorkerDisconnected { worker });
    }

    /// The frames that a worker got since this was asked last.
    pub(crate) fn heard(&mut self, worker: WorkerKey) -> Vec<String> {
        self.workers.get_mut(&worker).map(std::mem::take).unwrap_or_default()
    }

    /// The same, short: `id: result` or `id! code: message`.
    pub(crate) fn replies(&mut self, worker: WorkerKey) -> Vec<String> {
        self.heard(worker).iter().map(|frame| short_reply(frame)).collect()
    }

    /// Calls a function that answers at once, or as soon as all is durable.
    pub(crate) fn ask(&mut self, worker: WorkerKey, function: &str, data: &str) -> String {
        self.call(worker, "q", function, data);
        self.settle();
        let mut replies = self.replies(worker);
        assert_eq!(replies.len(), 1, "one call, one answer: {replies:?}");
        replies
            .remove(0)
            .strip_prefix("q")
            .expect("the answer to this call")
            .trim_start_matches(": ")
            .to_owned()
    }

    pub(crate) fn set(&mut self, worker: WorkerKey, id: &str, group: &str, item: &str, value: &str) {
        let data = format!(r#"{{"stream_name":"s","group_id":"{group}","item_id":"{item}","data":{value}}}"#);
        self.call(worker, id, "stream::set", &data);
    }

    pub(crate) fn delete(&mut self, worker: WorkerKey, id: &str, group: &str, item: &str) {
        let data = format!(r#"{{"stream_name":"s","group_id":"{group}","item_id":"{item}"}}"#);
        self.call(worker, id, "stream::delete", &data);
    }

    pub(crate) fn get(&mut self, worker: WorkerKey, id: &str, group: &str, item: &str) {
        let data = format!(r#"{{"stream_name":"s","group_id":"{group}","item_id":"{item}"}}"#);
        self.call(worker, id, "stream::get", &data);
    }

    pub(crate) fn list(&mut self, worker: WorkerKey, id: &str, group: &str) {
        self.call(worker, id, "stream::list", &format!(r#"{{"stream_name":"s","group_id":"{group}"}}"#));
    }

    /// Sends an event; an empty `item` is the group.
    pub(crate) fn send(&mut self, worker: WorkerKey, id: &str, group: &str, item: &str, kind: &str) {
        let data = format!(
            r#"{{"stream_name":"s","group_id":"{group}","id":"{item}","type":"{kind}","data":{{"k":1}}}}"#
        );
        self.call(worker, id, "stream::send", &data);
    }

    // Subscribers.

    pub(crate) fn session(&mut self) -> SessionKey {
        let session = SessionKey(self.key());
        self.sessions.insert(session, Session::default());
        self.input(Input::SessionConnected { session, handshake: stream::Handshake::default(), join: None });
        session
    }

    pub(crate) fn session_at(&mut self, path: &str) -> SessionKey {
        let session = SessionKey(self.key());
        self.sessions.insert(session, Session::default());
        let join = stream::parse_path(path, &self.config.limits);
        self.input(Input::SessionConnected { session, handshake: stream::Handshake::default(), join });
        session
    }

    pub(crate) fn session_says(&mut self, session: SessionKey, frame: &str) {
        let frame = stream::parse(frame, &self.config.limits);
        self.input(Input::SessionFrame { session, frame });
    }

    /// Joins a group, or with a non-empty `item` an item, of stream `s`.
    pub(crate) fn join(&mut self, session: SessionKey, subscription: &str, group: &str, item: &str) {
        self.session_says(session, &subscription_frame("join", subscription, group, item));
    }

    pub(crate) fn leave(&mut self, session: SessionKey, subscription: &str) {
        self.session_says(session, &subscription_frame("leave", subscription, "any", ""));
    }

    pub(crate) fn leaves(&mut self, session: SessionKey) {
        self.sessions.remove(&session);
        self.input(Input::SessionDisconnected { session });
    }

    /// The session's outbox is full: what comes is dropped.
    pub(crate) fn overflow(&mut self, session: SessionKey) {
        self.sessions.get_mut(&session).expect("a session").behind = true;
        self.input(Input::SessionOverflowed { session });
    }

    pub(crate) fn drained(&mut self, session: SessionKey) {
        self.input(Input::SessionDrained { session });
    }

    /// The frames that a session got since this was asked last.
    pub(crate) fn frames(&mut self, session: SessionKey) -> Vec<String> {
        self.sessions.get_mut(&session).map(|session| std::mem::take(&mut session.inbox)).unwrap_or_default()
    }

    /// The same, short, see [`Seen`].
    pub(crate) fn seen(&mut self, session: SessionKey) -> Vec<String> {
        self.frames(session).iter().map(|frame| Seen::read(frame).to_string()).collect()
    }

    /// In how many channels a session is.
    pub(crate) fn channels(&self, session: SessionKey) -> usize {
        self.sessions[&session].channels.len()
    }

    // The core.

    pub(crate) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.core.handle(self.now, input, &mut effects);
        for effect in effects {
            self.trace.push(format!("{effect:?}"));
            self.story.push(effect.clone());
            self.carry_out(effect);
        }
    }

    /// The effects since this was asked last, short, a line each.
    pub(crate) fn told(&mut self) -> String {
        std::mem::take(&mut self.story).iter().map(trace::short).collect::<Vec<_>>().join("\n")
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(batch) => {
                assert!(self.in_flight.is_none(), "a second write before the answer to the first");
                let end = self.synced.len() + self.written.len();
                assert_eq!(batch.position, end as u64, "a batch goes to the end of the log");
                assert!(!batch.bytes.is_empty(), "a batch holds something");
                self.in_flight = Some(batch);
            }
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome } => {
                self.deliver(worker, &ToWorker::Result { invocation_id, function_id, outcome });
            }
            Effect::Reply { invocation_id: None, .. } => {}
            Effect::ToWorker { worker, frame } => self.deliver(worker, &frame),
            Effect::CloseWorker { worker } => self.closed.push(worker),
            Effect::Attach { session, channel } => {
                let Some(session) = self.sessions.get_mut(&session) else {
                    return;
                };
                assert!(session.channels.insert(channel), "attached twice to {channel:?}");
            }
            Effect::Detach { session, channel } => {
                let Some(session) = self.sessions.get_mut(&session) else {
                    return;
                };
                assert!(session.channels.remove(&channel), "detached from {channel:?} without being there");
            }
            Effect::Resume { session } => {
                let session = self.sessions.get_mut(&session).expect("a session that overflowed");
                assert!(std::mem::take(&mut session.behind), "resumed without being behind");
            }
            Effect::Sync { session, frame, .. } => {
                if let Some(session) = self.sessions.get_mut(&session).filter(|session| !session.behind) {
                    session.inbox.push(ToSubscriber::Sync(frame).encode());
                }
            }
            Effect::Refuse { session, error } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.inbox.push(ToSubscriber::Error(error).encode());
                }
            }
            Effect::Admit { session } => self.admitted.push(session),
            Effect::Unauthorized { session, target, at } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.inbox.push(ToSubscriber::Unauthorized { target, at }.encode());
                }
            }
            Effect::CloseSession { session } => self.closed_sessions.push(session),
            Effect::Broadcast { channel, frame } => {
                let members =
                    self.sessions.values_mut().filter(|session| session.channels.contains(&channel));
                for session in members.filter(|session| !session.behind) {
                    session.inbox.push(frame.encode());
                }
            }
            Effect::Note(notice) => self.notes.push(notice),
            Effect::Stopped => {
                assert!(!self.stopped, "stopped twice");
                self.stopped = true;
            }
        }
    }

    fn deliver(&mut self, worker: WorkerKey, frame: &ToWorker) {
        if let Some(inbox) = self.workers.get_mut(&worker) {
            inbox.push(frame.encode());
        }
    }

    fn key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }
}

fn subscription_frame(kind: &str, subscription: &str, group: &str, item: &str) -> String {
    format!(
        r#"{{"type":"{kind}","data":{{"subscriptionId":"{subscription}","streamName":"s","groupId":"{group}","id":"{item}"}}}}"#
    )
}

fn short_reply(frame: &str) -> String {
    let value: Value = serde_json::from_str(frame).expect("frames are JSON");
    let Some(id) = value["invocation_id"].as_str().filter(|_| value["type"] == "invocationresult") else {
        return frame.to_owned();
    };
    match (value.get("result"), value.get("error")) {
        (Some(result), None) => format!("{id}: {result}"),
        (None, None) => format!("{id}: nothing"),
        (None, Some(error)) => format!(
            "{id}! {}: {}",
            error["code"].as_str().expect("a code"),
            error["message"].as_str().expect("a message")
        ),
        (Some(_), Some(_)) => panic!("a result and an error: {frame}"),
    }
}

//! A world around one core: a clock, a disk, workers and subscribers, moved step by step.
//!
//! Frames go in as the bytes of the wire and come out as the bytes of the wire. The world checks on the way what
//! holds in every story: one write at a time, at the end of the log; nobody attached twice.
#![allow(dead_code, unused_imports, reason = "no test file tells all stories")]

mod disk;
mod handlers;
mod session;
mod subscriber;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_core::config::CoreConfig;
use headwater_core::key::{ChannelKey, SessionKey, WorkerKey};
use headwater_core::log::{SegmentHeader, Write};
use headwater_core::store::{Load, Loaded, Save};
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::stream::{self, ToSubscriber};
use headwater_core::wire::worker::{self, ToWorker};
use headwater_core::{Core, Effect, Input, Notice};
use serde_json::Value;

pub(crate) use disk::Disk;
pub(crate) use handlers::Call;
use session::Session;
pub(crate) use subscriber::{Seen, View};

/// When every story starts.
pub(crate) const START: u64 = 1_000_000;

/// One core and everything around it.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) config: CoreConfig,
    /// All randomness comes from it.
    seed: u8,
    pub(crate) now: Now,
    /// What survives everything: what was synced.
    pub(crate) disk: Disk,
    /// What was written behind that without a sync: any of it may be on the disk.
    pub(crate) written: Vec<u8>,
    /// What is being written.
    pub(crate) in_flight: Option<Write>,
    /// A write has failed, and so the file that it went into is never touched again.
    pub(crate) broken: bool,
    /// The bytes of that write: any of them may be on the disk.
    pub(crate) failed: Vec<u8>,
    /// How many writes there were in this run.
    pub(crate) writes: usize,
    /// The part of a checkpoint that is being saved.
    pub(crate) saving: Option<Save>,
    /// What is being read from the checkpoint.
    pub(crate) loading: VecDeque<Load>,
    /// What the checkpoint held of that when it was asked for.
    asked: VecDeque<Loaded>,
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

/// What a crash does beside the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Also {
    /// The save under way is durable.
    pub(crate) saved: bool,
    /// Of the files that were discarded last, so many of the newest are there again.
    pub(crate) not_discarded: usize,
    /// The file that is written is filled with zeros ahead.
    pub(crate) zeros: bool,
}

/// A call's frame.
pub(crate) fn call_frame(id: &str, function: &str, data: &str) -> String {
    format!(r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function}","data":{data}}}"#)
}

impl World {
    /// A core whose store forgets.
    pub(crate) fn in_memory() -> World {
        let now = Now { mono: Mono(0), wall: WallMs(START) };
        let core = Core::new(CoreConfig::default(), [1; 32], now);
        World::around(core, CoreConfig::default(), now, Disk::default())
    }

    /// A core with an empty log, on a disk that waits for [`World::persist`].
    pub(crate) fn durable() -> World {
        World::with_config(CoreConfig::default())
    }

    pub(crate) fn with_config(config: CoreConfig) -> World {
        World::on_disk(config, START, Disk::default())
    }

    /// A core that starts at `wall` with what is on this disk.
    pub(crate) fn on_disk(config: CoreConfig, wall: u64, disk: Disk) -> World {
        World::of_seed(1, config, wall, disk)
    }

    fn of_seed(seed: u8, config: CoreConfig, wall: u64, mut disk: Disk) -> World {
        disk.start();
        let recovered = disk.replay().expect("the log is not damaged");
        let now = Now { mono: Mono(0), wall: WallMs(wall) };
        let core = Core::recovered(config.clone(), [seed; 32], now, recovered);
        World { seed, ..World::around(core, config, now, disk) }
    }

    fn around(core: Core, config: CoreConfig, now: Now, disk: Disk) -> World {
        World {
            core,
            config,
            seed: 1,
            now,
            disk,
            written: Vec::new(),
            in_flight: None,
            broken: false,
            failed: Vec::new(),
            writes: 0,
            saving: None,
            loading: VecDeque::new(),
            asked: VecDeque::new(),
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
        let write = self.in_flight.take().expect("a write is under way");
        if let Some(header) = write.begins {
            self.end_segment();
            self.disk.segments.push((header, Vec::new()));
        }
        self.written.extend_from_slice(&write.bytes);
        if write.sync {
            self.disk.last().append(&mut self.written);
        }
        self.broken = false;
        self.writes += 1;
        self.input(Input::Persisted { through: write.number });
    }

    /// Before a new file is begun, the one before is synced; if a write to it has failed, all of it may be there.
    fn end_segment(&mut self) {
        if !self.disk.segments.is_empty() {
            self.disk.last().append(&mut self.written);
            self.disk.last().append(&mut self.failed);
        }
        self.written.clear();
        self.failed.clear();
    }

    /// All writes are done, all saves, and all that is to be read is read.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.in_flight.is_some() {
                self.persist();
            } else if self.saving.is_some() {
                self.save();
            } else if !self.loading.is_empty() {
                self.load();
            } else {
                break;
            }
        }
    }

    /// All writes are done.
    pub(crate) fn settle_writes(&mut self) {
        while self.in_flight.is_some() {
            self.persist();
        }
    }

    /// The write under way fails. If it was to begin a file, there is none.
    pub(crate) fn fail(&mut self) {
        self.fail_having_made(false);
    }

    /// The write under way fails; if it was to begin a file, that may have been made.
    pub(crate) fn fail_having_made(&mut self, its_file: bool) {
        let write = self.in_flight.take().expect("a write is under way");
        if let Some(header) = write.begins.filter(|_| its_file) {
            self.end_segment();
            self.disk.segments.push((header, Vec::new()));
        }
        if write.begins.is_none() || its_file {
            self.failed = write.bytes.to_vec();
        }
        self.broken = true;
        self.input(Input::PersistFailed { reason: "disk full".to_owned() });
    }

    /// The write under way fails, and of all that is not synced the disk has what [`World::torn_at`] says.
    pub(crate) fn fail_at(&mut self, place: usize) {
        self.disk = self.torn_at(place);
        self.in_flight.take().expect("a write is under way");
        self.written.clear();
        self.failed.clear();
        self.broken = true;
        self.input(Input::PersistFailed { reason: "disk full".to_owned() });
    }

    /// The write under way fails, and so does every new start after it, so many times in all. The next one is under way.
    pub(crate) fn fail_times(&mut self, times: usize) {
        for n in 0..times {
            self.fail();
            if n > 0 {
                assert!(self.in_flight.is_none(), "a new start that has failed is not tried again at once");
                self.pass(1_000);
                self.tick();
            }
            assert!(self.is_fence());
        }
    }

    /// Whether what is being written is a new start after a write that failed.
    pub(crate) fn is_fence(&self) -> bool {
        self.broken && self.in_flight.is_some()
    }

    /// Whether the store takes no writes for now: a new start has failed, too, and the next is not tried before a while.
    pub(crate) fn waits_to_start_again(&self) -> bool {
        self.broken && self.in_flight.is_none()
    }

    /// The save under way is done.
    pub(crate) fn save(&mut self) {
        let save = self.saving.take().expect("a save is under way");
        self.disk.checkpoint.apply(save);
        self.input(Input::Saved);
    }

    /// The save under way fails.
    pub(crate) fn fail_save(&mut self) {
        self.saving.take().expect("a save is under way");
        self.input(Input::SaveFailed { reason: "disk full".to_owned() });
    }

    /// What was asked for first is read.
    pub(crate) fn load(&mut self) {
        let load = self.loading.pop_front().expect("something is being read");
        self.asked.pop_front();
        let result = Ok(self.disk.checkpoint.load(&load));
        self.input(Input::Loaded { load, result });
    }

    /// Of what was asked for, this is read next: as it was when it was asked for, or as it is now.
    pub(crate) fn load_at(&mut self, at: usize, early: bool) {
        let load = self.loading.remove(at).expect("something is being read");
        let asked = self.asked.remove(at).expect("it was read");
        let result = Ok(if early { asked } else { self.disk.checkpoint.load(&load) });
        self.input(Input::Loaded { load, result });
    }

    /// What was asked for first can't be read.
    pub(crate) fn fail_load(&mut self) {
        let load = self.loading.pop_front().expect("something is being read");
        self.asked.pop_front();
        self.input(Input::Loaded { load, result: Err("bad sector".to_owned()) });
    }

    /// The bytes that were written and not synced, and those of the write under way, or of one that failed.
    pub(crate) fn unsynced(&self) -> Vec<u8> {
        let writing = self.in_flight.as_ref().map_or(&[][..], |write| &write.bytes);
        [&self.written, &self.failed, writing].concat()
    }

    /// Up to where [`World::torn`] can be asked for.
    pub(crate) fn most_kept(&self) -> usize {
        let begins = self.in_flight.as_ref().is_some_and(|write| write.begins.is_some());
        self.unsynced().len() + usize::from(begins)
    }

    /// What the disk holds when of what is not synced the first `keep` bytes are there. The file that the write under way
    /// is to begin counts as one more, behind all else, so that it can be there without a byte.
    pub(crate) fn torn(&self, keep: usize) -> Disk {
        let mut disk = self.disk.clone();
        let old = [&self.written[..], &self.failed].concat();
        let (to_old, to_new) = (keep.min(old.len()), keep.saturating_sub(old.len()));
        if !disk.segments.is_empty() {
            disk.last().extend_from_slice(&old[..to_old]);
        }
        if let Some(write) = self.in_flight.as_ref().filter(|_| to_new > 0) {
            disk.segments.extend(write.begins.map(|header| (header, Vec::new())));
            disk.last().extend_from_slice(&write.bytes[..to_new.min(write.bytes.len())]);
        }
        disk
    }

    /// How far what is not synced goes: its bytes, and the making of a file, which comes before the bytes in it.
    pub(crate) fn places(&self) -> usize {
        let begins = self.in_flight.as_ref().is_some_and(|write| write.begins.is_some());
        self.unsynced().len() + usize::from(begins)
    }

    /// What the disk holds when what is not synced is there up to this place, of [`World::places`].
    pub(crate) fn torn_at(&self, place: usize) -> Disk {
        let mut disk = self.disk.clone();
        let old = [&self.written[..], &self.failed].concat();
        if !old.is_empty() {
            disk.last().extend_from_slice(&old[..place.min(old.len())]);
        }
        let more = place.saturating_sub(old.len());
        match &self.in_flight {
            Some(Write { begins: Some(header), bytes, .. }) if more > 0 => {
                disk.segments.push((*header, bytes[..more - 1].to_vec()));
            }
            Some(Write { begins: None, bytes, .. }) if more > 0 => {
                disk.last().extend_from_slice(&bytes[..more]);
            }
            _ => {}
        }
        disk
    }

    /// The server dies, and starts again at once. What is not synced is there up to this place.
    pub(crate) fn crash_at(&mut self, place: usize, also: Also) {
        let mut disk = self.torn_at(place);
        if let (Some(save), true) = (self.saving.take(), also.saved) {
            disk.checkpoint.apply(save);
        }
        disk.bring_back(also.not_discarded);
        if also.zeros && !disk.segments.is_empty() {
            disk.last().extend([0; 100]);
        }
        *self = World::of_seed(self.seed.wrapping_add(1), self.config.clone(), self.now.wall.0, disk);
    }

    /// The server dies; of what is not synced, the first `keep` bytes are on the disk. It starts again at once.
    pub(crate) fn crash(&mut self, keep: usize) {
        *self = World::on_disk(self.config.clone(), self.now.wall.0, self.torn(keep));
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

    /// The session's outbox overflows, and the core is told.
    pub(crate) fn overflow(&mut self, session: SessionKey) {
        self.burst(session);
        self.input(Input::SessionOverflowed { session });
    }

    /// The session's outbox overflows.
    pub(crate) fn burst(&mut self, session: SessionKey) {
        self.sessions.get_mut(&session).expect("a session").burst();
    }

    /// What comes for a session waits in its outbox.
    pub(crate) fn hold(&mut self, session: SessionKey) {
        self.sessions.get_mut(&session).expect("a session").hold();
    }

    /// The session takes all that waits, and what comes from now on.
    pub(crate) fn drained(&mut self, session: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.drain();
        }
        self.input(Input::SessionDrained { session });
    }

    /// The frames that a session got since this was asked last.
    pub(crate) fn frames(&mut self, session: SessionKey) -> Vec<String> {
        self.sessions.get_mut(&session).map(Session::frames).unwrap_or_default()
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
            Effect::Persist(write) => {
                assert!(self.in_flight.is_none(), "a second write before the answer to the first");
                assert!(!write.bytes.is_empty() || write.begins.is_some(), "a write holds something");
                let broken = self.broken && write.begins.is_none();
                assert!(!broken, "a file whose write has failed is never written again");
                if write.begins.is_none() {
                    let (header, bytes) = self.disk.segments.last().expect("a file");
                    let end = SegmentHeader::LEN + bytes.len() + self.written.len();
                    assert_eq!(
                        (write.segment, write.offset),
                        (header.number, end as u64),
                        "the end of the log"
                    );
                    assert!(!self.broken, "a file whose write has failed is never written again");
                }
                self.in_flight = Some(write);
            }
            Effect::Save(save) => {
                assert!(self.saving.is_none(), "a second save before the answer to the first");
                self.saving = Some(save);
            }
            Effect::Discard(segments) => self.disk.discard(&segments),
            Effect::Load(load) => {
                self.asked.push_back(self.disk.checkpoint.load(&load));
                self.loading.push_back(load);
            }
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome } => {
                self.deliver(worker, &ToWorker::Result { invocation_id, function_id, outcome });
            }
            Effect::Reply { invocation_id: None, .. } => {}
            Effect::ToWorker { worker, frame } => self.deliver(worker, &frame),
            Effect::CloseWorker { worker } => self.closed.push(worker),
            Effect::Attach { session, channel } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.attach(channel);
                }
            }
            Effect::Detach { session, channel } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.detach(channel);
                }
            }
            Effect::Resume { session, follows } => {
                self.sessions.get_mut(&session).expect("a session that overflowed").resume(&follows);
            }
            Effect::Sync { session, subscription, frame, missed } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.sync(subscription, frame, missed);
                }
            }
            Effect::Refuse { session, error } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.notice(&ToSubscriber::Error(error));
                }
            }
            Effect::Admit { session } => self.admitted.push(session),
            Effect::Unauthorized { session, target, at } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.notice(&ToSubscriber::Unauthorized { target, at });
                }
            }
            Effect::CloseSession { session } => self.closed_sessions.push(session),
            Effect::Broadcast { channel, frame } => {
                let all = self.sessions.values_mut();
                all.filter(|session| session.channels.contains(&channel))
                    .for_each(|session| session.broadcast(&frame));
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

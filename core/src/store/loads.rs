//! Groups that have to be read from the checkpoint first, and the commands that wait for them.

use std::collections::{BTreeMap, VecDeque};

use super::command::Command;
use super::saved::SavedGroup;
use super::{Output, Store};
use crate::call::{Answer, Caller};
use crate::config::CoreConfig;
use crate::error::{CallError, code};
use crate::name::{GroupName, GroupPath, StreamName};
use crate::time::{Mono, Now};

/// Something to be read from the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// A group with all its items.
    Group(GroupPath),
    /// The names of the groups with at least one item, of one stream or of all.
    Names(Option<StreamName>),
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// The group; `None` if there is none of this name.
    Group(Option<SavedGroup>),
    /// Names, in byte order.
    Names(Vec<(StreamName, Vec<GroupName>)>),
}

/// Most commands that may wait, for all groups together.
const MOST_HELD: usize = 100_000;
/// Most bytes of values that may wait with them.
const MOST_HELD_BYTES: usize = 64 << 20;
/// Most groups that are being read at the same time.
const MOST_IN_FLIGHT: usize = 64;
/// How long to wait before a group that can't be read is tried again for those who subscribe to it.
const RETRY_MS: u64 = 1_000;

/// What is being read, or waits for it.
#[derive(Debug, Default)]
pub(super) struct Loads {
    groups: BTreeMap<GroupPath, Waiters>,
    /// Those that were not asked for yet.
    to_ask: VecDeque<GroupPath>,
    in_flight: usize,
    /// Commands that ask for names, in order; the first is being read for, also if it was answered meanwhile.
    names: VecDeque<Option<Held>>,
    names_in_flight: bool,
    held: usize,
    held_bytes: usize,
    /// When commands are answered in any case: in order, as all wait equally long. Some are answered already.
    deadlines: VecDeque<(Mono, Option<GroupPath>)>,
    /// Groups that could not be read, and when they are tried again.
    retries: VecDeque<(Mono, GroupPath)>,
}

/// Who waits for a group.
#[derive(Debug, Default)]
struct Waiters {
    commands: VecDeque<Held>,
    subscribers: bool,
}

/// A command that waits.
#[derive(Debug)]
struct Held {
    caller: Caller,
    command: Command,
    deadline: Mono,
}

impl Loads {
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether names are being read: what is in memory then, must stay, or it would be missing in the answer.
    pub(super) fn reads_names(&self) -> bool {
        self.names_in_flight
    }

    /// Whether groups are to be read, and it was not asked for them.
    pub(super) fn waits_for_room(&self) -> bool {
        !self.to_ask.is_empty()
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.held == 0
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let deadline = self.deadlines.front().map(|(deadline, _)| *deadline);
        [deadline, self.retries.front().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    /// What is to be read now. `room` says whether there is memory for another group.
    pub(super) fn ask(&mut self, room: bool, out: &mut Vec<Output>) {
        if let (false, Some(Some(held))) = (self.names_in_flight, self.names.front()) {
            self.names_in_flight = true;
            out.push(Output::Load(Load::Names(held.command.stream().cloned())));
        }
        while room
            && self.in_flight < MOST_IN_FLIGHT
            && let Some(path) = self.to_ask.pop_front()
        {
            self.in_flight += 1;
            out.push(Output::Load(Load::Group(path)));
        }
    }

    fn wait_for(&mut self, path: &GroupPath) -> &mut Waiters {
        if !self.groups.contains_key(path) {
            self.to_ask.push_back(path.clone());
        }
        self.groups.entry(path.clone()).or_default()
    }

    fn let_go(&mut self, held: &Held) {
        self.held -= 1;
        self.held_bytes -= held.command.value_len();
        // Of most nothing is left when they are answered: what waits longest is in front.
        let (groups, names) = (&self.groups, &self.names);
        let is_over = |(deadline, path): &mut (Mono, Option<GroupPath>)| {
            let first = match path {
                Some(path) => groups.get(path).and_then(|waiters| waiters.commands.front()),
                None => names.iter().flatten().next(),
            };
            first.is_none_or(|held| held.deadline > *deadline)
        };
        while self.deadlines.pop_front_if(is_over).is_some() {}
    }

    /// The first command that waits for names, if it has waited for too long.
    fn pop_late_names(&mut self, now: Mono) -> Option<Held> {
        let at = self.names.iter().position(Option::is_some)?;
        let is_late = self.names[at].as_ref().is_some_and(|held| held.deadline <= now);
        match (is_late, at == 0 && self.names_in_flight) {
            (true, true) => self.names[at].take(),
            (true, false) => self.names.remove(at).flatten(),
            (false, _) => None,
        }
    }
}

impl Store {
    /// Keeps a command until what it is about is read, if it has to be.
    pub(super) fn hold(
        &mut self,
        now: Now,
        caller: Caller,
        command: Command,
        config: &CoreConfig,
        out: &mut Vec<Output>,
    ) -> Option<(Caller, Command)> {
        let path = match command.group() {
            Some(group) if self.loads.groups.contains_key(group) || !self.contents.touch(group) => {
                Some(group.clone())
            }
            None if self.contents.elsewhere => None,
            _ => return Some((caller, command)),
        };
        let bytes = command.value_len();
        if self.loads.held >= MOST_HELD || self.loads.held_bytes + bytes > MOST_HELD_BYTES {
            let message = "too many calls wait for groups that are being read from disk; nothing was written, \
                           try again later";
            out.push(Output::Reply { caller, outcome: Err(CallError::new(code::OVERLOADED, message)) });
            return None;
        }
        self.loads.held += 1;
        self.loads.held_bytes += bytes;
        let deadline = now.mono.after(config.storage.load_ms);
        self.loads.deadlines.push_back((deadline, path.clone()));
        let held = Held { caller, command, deadline };
        match path {
            Some(path) => self.loads.wait_for(&path).commands.push_back(held),
            None => self.loads.names.push_back(Some(held)),
        }
        None
    }

    /// Whether a subscriber can be given the state of a group; if not, [`Output::Ready`] tells when it can.
    pub(crate) fn is_ready(&mut self, path: &GroupPath) -> bool {
        let ready = self.contents.touch(path);
        if !ready {
            self.loads.wait_for(path).subscribers = true;
        }
        ready
    }

    /// No subscriber waits for a group any more.
    pub(crate) fn nobody_starts(&mut self, path: &GroupPath) {
        if let Some(waiters) = self.loads.groups.get_mut(path) {
            waiters.subscribers = false;
        }
    }

    /// Something was read from the checkpoint, or could not be.
    pub(crate) fn loaded(
        &mut self,
        now: Now,
        load: Load,
        result: Result<Loaded, String>,
        out: &mut Vec<Output>,
    ) {
        match (load, result) {
            (Load::Group(path), Ok(Loaded::Group(saved))) => {
                self.loads.in_flight = self.loads.in_flight.saturating_sub(1);
                if !self.loads.groups.contains_key(&path) {
                    return;
                }
                if !self.contents.knows(&path) {
                    self.restore(&path, saved);
                }
                out.push(Output::Ready(path));
            }
            (Load::Group(path), result) => {
                self.loads.in_flight = self.loads.in_flight.saturating_sub(1);
                let reason = result.err().unwrap_or_else(|| "something else was read".to_owned());
                let Some(waiters) = self.loads.groups.get_mut(&path) else { return };
                let commands = std::mem::take(&mut waiters.commands);
                match waiters.subscribers {
                    true => self.loads.retries.push_back((now.mono.after(RETRY_MS), path)),
                    false => drop(self.loads.groups.remove(&path)),
                }
                for held in commands {
                    self.fail_load(held, &format!("the group can't be read: {reason}"), out);
                }
            }
            (Load::Names(_), result) => {
                self.loads.names_in_flight = false;
                let Some(Some(held)) = self.loads.names.pop_front() else { return };
                match result {
                    Ok(Loaded::Names(names)) => {
                        self.loads.let_go(&held);
                        self.answer_names(held.caller, held.command, names, out);
                    }
                    Ok(Loaded::Group(_)) => self.fail_load(held, "something else was read", out),
                    Err(reason) => self.fail_load(held, &format!("the names can't be read: {reason}"), out),
                }
            }
        }
    }

    /// Runs the commands that have waited for a group that is read: after its subscribers were given its state, which
    /// must not be younger than what these make of it.
    pub(crate) fn run_held(
        &mut self,
        now: Now,
        path: &GroupPath,
        config: &CoreConfig,
        out: &mut Vec<Output>,
    ) {
        let Some(waiters) = self.loads.groups.remove(path) else { return };
        for held in waiters.commands {
            self.loads.let_go(&held);
            self.run(now, held.caller, held.command, config, out);
        }
    }

    /// Answers what has waited for too long; asks again for what could not be read.
    pub(super) fn expire_loads(&mut self, now: Mono, out: &mut Vec<Output>) {
        while let Some((_, path)) = self.loads.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            let held = match path {
                Some(path) => self
                    .loads
                    .groups
                    .get_mut(&path)
                    .and_then(|waiters| waiters.commands.pop_front_if(|held| held.deadline <= now)),
                None => self.loads.pop_late_names(now),
            };
            if let Some(held) = held {
                self.fail_load(held, "reading it from disk took too long", out);
            }
        }
        while let Some((_, path)) = self.loads.retries.pop_front_if(|(at, _)| *at <= now) {
            let waiters = self.loads.groups.get(&path);
            match waiters.is_some_and(|waiters| waiters.subscribers || !waiters.commands.is_empty()) {
                true => self.loads.to_ask.push_back(path),
                false => drop(self.loads.groups.remove(&path)),
            }
        }
    }

    fn fail_load(&mut self, held: Held, reason: &str, out: &mut Vec<Output>) {
        self.loads.let_go(&held);
        let builtin = held.command.builtin();
        let message = match builtin.writes() {
            true => format!("nothing was written: {reason}"),
            false => reason.to_owned(),
        };
        let outcome = Err(CallError::new(builtin.error_code(), message));
        out.push(Output::Reply { caller: held.caller, outcome });
    }

    /// The answer to a command for names: those that were read, and what is in memory.
    fn answer_names(
        &mut self,
        caller: Caller,
        command: Command,
        read: Vec<(StreamName, Vec<GroupName>)>,
        out: &mut Vec<Output>,
    ) {
        let answer = match &command {
            Command::ListGroups { stream } => {
                let read = read.into_iter().flat_map(|(_, groups)| groups).collect();
                Answer::Groups(self.contents.groups_of(stream, read))
            }
            _ => Answer::Streams(self.contents.all(read)),
        };
        self.answer_read(caller, command, answer, self.commits.head(), out);
    }
}

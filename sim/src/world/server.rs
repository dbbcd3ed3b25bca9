//! What the server's machine does: it starts, carries out what the core wants done, and dies.

use std::collections::VecDeque;

use headwater_core::config::AuthFailure;
use headwater_core::key::WorkerKey;
use headwater_core::wire::stream::{self, Handshake, ToSubscriber};
use headwater_core::wire::worker::{self, ToWorker};
use headwater_core::{Effect, Input};
use serde_json::Value;

use super::World;
use super::link::{Down, End, Up};
use super::node::{Node, Put, Session, decoded};
use super::plan::Fault;
use crate::oracle::Law;
use crate::process::{Process, Task};
use crate::random::Random;
use crate::trace::{Loss, What, Who};

/// More than is left to do for the disk in any server that has stopped.
const MOST_TASKS: usize = 20_000;

impl World<'_> {
    /// Starts the server, again and again until it lives or there is no power.
    pub(super) fn start(&mut self, random: &mut Random) {
        // A clock that was set back is set right before a start: what was sent and not stored is below it then.
        let behind = self.latest.saturating_sub(self.now.wall.0);
        self.skew += i64::try_from(behind).unwrap_or(0);
        self.pass(0);
        for attempt in 0..20 {
            self.machine.power.restore();
            let dies = self.plan.faults.contains(&Fault::CrashAtStart) && !self.healed && attempt < 3;
            if dies && self.machine.starts > 0 && random.chance(40) {
                self.machine.power.cut_after(random.within(1..40));
            }
            if attempt > 10 {
                self.machine.disk.heal();
            }
            let failed = self.machine.disk.failed();
            let config = self.plan.setup.config.clone();
            let opened = Process::open(&self.machine.disk, config, random.bytes(), self.now);
            if self.machine.power.is_off() {
                drop(opened);
                self.report.fault(Fault::CrashAtStart.name());
                self.note(&Who::server(), What::Did("dies while it starts".to_owned()));
                if random.chance(50) && self.plan.faults.contains(&Fault::PowerCut) {
                    self.machine.disk.crash(random);
                }
                continue;
            }
            match opened {
                Ok(process) => {
                    if self.machine.starts > 0 {
                        self.note(&Who::server(), What::Restarted);
                    }
                    self.machine.starts += 1;
                    self.machine.node = Some(Node::new(process));
                    return;
                }
                Err(_) if self.machine.disk.failed() > failed => {}
                Err(error) => {
                    self.broken.get_or_insert(Law::AcknowledgedSurvives.broken(format!("no start: {error}")));
                    return;
                }
            }
        }
        self.broken.get_or_insert(Law::Converges.broken("it can't be started"));
    }

    /// The server dies, if its power was cut by what was just done.
    pub(super) fn die_if_due(&mut self, random: &mut Random) {
        if self.machine.power.is_off() && self.machine.node.is_some() {
            let loss = self.machine.loss.take().unwrap_or(Loss::Process);
            self.die(loss, random);
            self.machine.starts_at = self.now.mono.0 + random.within(0..200);
        }
    }

    /// The server dies.
    pub(super) fn die(&mut self, loss: Loss, random: &mut Random) {
        self.machine.power.cut();
        self.machine.node = None;
        self.note(&Who::server(), What::Crashed(loss));
        if loss == Loss::Power {
            self.machine.disk.crash(random);
        }
        self.machine.power.restore();
        self.cut_connections(loss == Loss::Power, random);
    }

    /// Nothing more comes from the server on the connections that there are.
    fn cut_connections(&mut self, at_once: bool, random: &mut Random) {
        for link in &mut self.links {
            link.server_has_it = false;
            link.up.clear();
            if !link.client_has_it {
                continue;
            }
            // What the sockets held may still arrive if only the process died.
            let arrives = if at_once { 0 } else { random.index(link.down.len() + 1) };
            link.down.truncate(arrives);
            link.down.push_back(Down::Close);
        }
    }

    /// One of the store's threads does what is next for it, if there is something. What it finds out at the moment at
    /// which it dies leads to nothing.
    pub(super) fn work(&mut self, task: Task) -> bool {
        let Some(node) = &mut self.machine.node else { return false };
        let failed = self.machine.disk.failed();
        let was_busy = node.process.next_task().is_some();
        let (_, done) = node.process.work(task, &mut self.report.work);
        if self.machine.disk.failed() > failed {
            self.note(&Who::server(), What::DiskFailed);
        }
        if let Some(input) = done.filter(|_| !self.machine.power.is_off()) {
            self.input(input);
        }
        was_busy
    }

    /// Hands the core what a connection's task has told.
    pub(super) fn tell(&mut self) -> bool {
        let told = self.machine.node.as_mut().and_then(|node| node.told.pop_front());
        let any = told.is_some();
        if let Some(input) = told {
            self.input(input);
        }
        any
    }

    /// The server takes the next thing of a connection.
    pub(super) fn take(&mut self, at: usize) {
        let backlog = self.plan.setup.backlog_bytes;
        let Some(node) = self.machine.node.as_mut().filter(|node| node.process.takes_calls(backlog)) else {
            return;
        };
        let link = &mut self.links[at];
        let (who, end) = (link.who.clone(), link.end);
        let limits = &self.plan.setup.config.limits;
        match link.up.pop_front() {
            Some(Up::Open(path)) => {
                link.server_has_it = true;
                let input = match end {
                    End::Worker(worker) => {
                        node.workers.insert(worker, at);
                        Input::WorkerConnected { worker }
                    }
                    End::Session(session) => {
                        let access = &self.plan.setup.config.access;
                        let waits =
                            access.auth_function.is_some() && access.auth_failure == AuthFailure::Http401;
                        let new = Session::new(at, self.plan.setup.outbox_bytes, !waits);
                        node.sessions.insert(session, new);
                        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
                        let join = stream::parse_path(path, limits);
                        let (path, query, addr) = (path.to_owned(), query.to_owned(), format!("{who}:1"));
                        let handshake = Handshake { headers: Vec::new(), path, query, addr };
                        Input::SessionConnected { session, handshake, join }
                    }
                };
                self.note(&who, What::Opened);
                self.input(input);
            }
            Some(Up::Text(message)) if link.server_has_it => {
                let text = message.to_string();
                let input = match end {
                    End::Worker(worker) => Input::WorkerFrame { worker, frame: worker::parse(&text, limits) },
                    End::Session(session) => {
                        Input::SessionFrame { session, frame: stream::parse(&text, limits) }
                    }
                };
                self.note(&who, What::Took(message));
                self.input(input);
            }
            Some(Up::Close) if link.server_has_it => self.gone(at),
            _ => {}
        }
    }

    /// The server learns that a connection is gone.
    pub(super) fn gone(&mut self, at: usize) {
        let link = &mut self.links[at];
        let (who, end) = (link.who.clone(), link.end);
        link.server_has_it = false;
        link.up.clear();
        self.note(&who, What::Gone);
        match end {
            End::Worker(worker) => {
                if let Some(node) = &mut self.machine.node {
                    node.workers.remove(&worker);
                }
                self.input(Input::WorkerDisconnected { worker });
            }
            End::Session(session) => {
                self.input(Input::SessionDisconnected { session });
                let attached = self.machine.node.as_mut().is_some_and(|node| node.disconnected(session));
                if attached {
                    let how = format!("{who} is gone and still in a channel");
                    self.broken.get_or_insert(Law::OnlyWhatIsAllowed.broken(how));
                }
            }
        }
    }

    /// What waits for a session moves into its socket, as far as there is room.
    pub(super) fn flush(&mut self, at: usize) -> bool {
        let End::Session(session) = self.links[at].end else { return false };
        let Some(node) = &mut self.machine.node else { return false };
        let Some(waiting) = node.sessions.get_mut(&session) else { return false };
        let link = &mut self.links[at];
        let mut moved = false;
        while link.down.len() < self.plan.setup.pipe
            && let Some(message) = waiting.pop()
        {
            link.down.push_back(Down::Text(message));
            moved = true;
        }
        if waiting.closing && !waiting.has_more() && link.server_has_it {
            // Once: the client's end of it comes back as a disconnect.
            if !matches!(link.down.back(), Some(Down::Close)) && link.client_has_it {
                link.down.push_back(Down::Close);
                moved = true;
            }
        }
        if let Some(input) = waiting.tells(session, link.down.is_empty()) {
            node.told.push_back(input);
            moved = true;
        }
        moved
    }

    pub(super) fn carry_out(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        let Some(node) = &mut self.machine.node else { return };
        let work = &mut self.report.work;
        match effect {
            Effect::Persist(write) => node.process.write(write, work),
            Effect::Discard(segments) => node.process.discard(segments, work),
            Effect::Save(save) => node.process.saves.push_back((save, false)),
            Effect::Load(load) => node.process.loads.push_back(load),
            Effect::Reply { worker, invocation_id: Some(invocation_id), function_id, outcome } => {
                let frame = ToWorker::Result { invocation_id, function_id, outcome };
                self.pass_to_worker(worker, &frame, inputs);
            }
            Effect::Reply { invocation_id: None, .. } => {}
            Effect::ToWorker { worker, frame } => self.pass_to_worker(worker, &frame, inputs),
            Effect::CloseWorker { worker } => {
                if let Some(link) = node.workers.get(&worker) {
                    self.links[*link].down.push_back(Down::Close);
                }
            }
            Effect::Attach { session, channel } => node.attach(session, channel),
            Effect::Detach { session, channel } => node.detach(session, channel),
            Effect::Resume { session, follows } => {
                if let Some(resumed) = node.sessions.get_mut(&session) {
                    resumed.resume(&follows);
                    let who = self.links[resumed.link].who.clone();
                    self.note(&who, What::Resumed);
                }
            }
            Effect::Sync { session, subscription, frame, missed } => {
                let put = node.sync(session, subscription, frame, missed);
                self.was_put(put);
            }
            Effect::Refuse { session, error } => {
                let put = node.notice(session, &ToSubscriber::Error(error));
                self.was_put(put);
            }
            Effect::Unauthorized { session, target, at } => {
                let put = node.notice(session, &ToSubscriber::Unauthorized { target, at });
                self.was_put(put);
            }
            Effect::Admit { session } => {
                if let Some(session) = node.sessions.get_mut(&session) {
                    session.admitted = true;
                }
            }
            Effect::CloseSession { session } => {
                if let Some(session) = node.sessions.get_mut(&session) {
                    session.closing = true;
                }
            }
            Effect::Broadcast { channel, frame } => {
                let puts = node.broadcast(channel, &frame);
                puts.into_iter().for_each(|put| self.was_put(Some(put)));
            }
            Effect::Note(notice) => {
                self.note(&Who::server(), What::Complained(format!("{notice:?}")));
            }
            Effect::Stopped => node.process.stopped = true,
        }
    }

    fn was_put(&mut self, put: Option<Put>) {
        match put {
            Some(Put::Queued(link, message)) => {
                let who = self.links[link].who.clone();
                self.note(&who, What::Queued(message));
            }
            Some(Put::Overflowed(link)) => {
                let who = self.links[link].who.clone();
                self.report.fault("overflow");
                self.note(&who, What::Overflowed);
            }
            None => {}
        }
    }

    /// A message is on its way to a worker, unless it is a call and too many wait.
    fn pass_to_worker(&mut self, worker: WorkerKey, frame: &ToWorker, inputs: &mut VecDeque<Input>) {
        let Some(at) = self.machine.node.as_ref().and_then(|node| node.workers.get(&worker).copied()) else {
            return;
        };
        let link = &mut self.links[at];
        if let ToWorker::Invoke { invocation_id, .. } = frame
            && link.calls_waiting() >= self.plan.setup.mailbox
        {
            self.report.fault("full mailbox");
            if let Some(invocation_id) = *invocation_id {
                inputs.push_back(Input::CallNotDelivered { worker, invocation_id });
            }
            return;
        }
        let message: Value = decoded(&frame.encode());
        link.down.push_back(Down::Text(message.clone()));
        let who = link.who.clone();
        self.note(&who, What::Queued(message));
    }

    /// The server has stopped: it sends what is queued, ends what its threads do, and is gone.
    pub(super) fn end_if_stopped(&mut self, random: &mut Random) {
        if !self.machine.node.as_ref().is_some_and(|node| node.process.stopped) {
            return;
        }
        let next_task = |world: &Self| world.machine.node.as_ref().and_then(|node| node.process.next_task());
        for _ in 0..MOST_TASKS {
            let Some(task) = next_task(self) else { break };
            self.work(task);
        }
        if self.machine.power.is_off() {
            return;
        }
        if next_task(self).is_some() {
            self.broken.get_or_insert(Law::Converges.broken("it has stopped, and goes on working"));
            return;
        }
        let Some(mut node) = self.machine.node.take() else { return };
        for session in node.sessions.values_mut() {
            while let Some(message) = session.pop() {
                self.links[session.link].down.push_back(Down::Text(message));
            }
        }
        self.note(&Who::server(), What::Stopped);
        for link in &mut self.links {
            link.server_has_it = false;
            link.up.clear();
            link.down.push_back(Down::Close);
        }
        self.machine.starts_at = self.now.mono.0 + random.within(0..200);
    }
}

//! How messages move, and how clients connect, hang up and come back.

use headwater_core::key::{SessionKey, WorkerKey};
use serde_json::Value;

use super::World;
use super::link::{Down, End, Link, Up};
use super::plan::Fault;
use crate::random::Random;
use crate::trace::{What, Who};

impl World<'_> {
    /// A client sends.
    pub(super) fn send(&mut self, link: usize, message: Value) {
        let who = self.links[link].who.clone();
        self.links[link].up.push_back(Up::Text(message.clone()));
        self.note(&who, What::Sent(message));
    }

    /// The server starts again when it is time, and whoever has no connection makes one now and then.
    pub(super) fn come_back(&mut self, random: &mut Random) {
        self.end_if_stopped(random);
        if self.machine.node.is_none() && self.machine.starts_at <= self.now.mono.0 && self.broken.is_none() {
            self.start(random);
        }
        if self.machine.node.is_none() {
            return;
        }
        for at in 0..self.workers.len() {
            if self.workers[at].link.is_none() && (self.healed || random.chance(30)) {
                self.connect_worker(at, random);
            }
        }
        for at in 0..self.subscribers.len() {
            if self.subscribers[at].link.is_none() && (self.healed || random.chance(20)) {
                self.connect_subscriber(at, random);
            }
        }
    }

    pub(super) fn connect_worker(&mut self, at: usize, random: &mut Random) {
        let key = WorkerKey(self.links.len() as u64);
        let worker = &mut self.workers[at];
        worker.connections += 1;
        worker.link = Some(self.links.len());
        let greetings = worker.greetings(random.chance(70));
        let who = Who { client: worker.name.clone(), connection: worker.connections };
        self.worker_keys.insert(key, at);
        self.connect(who, End::Worker(key), "/".to_owned(), greetings);
    }

    pub(super) fn connect_subscriber(&mut self, at: usize, random: &mut Random) {
        let key = SessionKey(self.links.len() as u64);
        let subscriber = &mut self.subscribers[at];
        subscriber.connections += 1;
        subscriber.link = Some(self.links.len());
        let path = subscriber.path(&self.plan.setup, self.healed, random);
        let greetings = subscriber.greetings();
        let who = Who { client: subscriber.name.clone(), connection: subscriber.connections };
        self.session_keys.insert(key, at);
        self.connect(who, End::Session(key), path, greetings);
    }

    fn connect(&mut self, who: Who, end: End, path: String, greetings: Vec<Value>) {
        self.note(&who, What::Connected(path.clone()));
        self.links.push(Link::new(who, end, path));
        let link = self.links.len() - 1;
        greetings.into_iter().for_each(|message| self.send(link, message));
    }

    /// The client's end of a connection is gone: what comes is not read any more. In good order the server gets what
    /// was sent before; else part of it may be lost.
    pub(super) fn hang_up(&mut self, at: usize, in_order: bool) {
        let now = self.now.mono.0;
        let link = &mut self.links[at];
        if !link.client_has_it {
            return;
        }
        link.client_has_it = false;
        if !in_order {
            let arrives = usize::try_from(now % 3).unwrap_or(0);
            link.up.truncate(arrives);
        }
        link.up.push_back(Up::Close);
        let (who, end) = (link.who.clone(), link.end);
        self.note(&who, What::Lost);
        match end {
            End::Worker(key) => {
                if let Some(worker) = self.worker_keys.get(&key).map(|at| &mut self.workers[*at])
                    && worker.link == Some(at)
                {
                    worker.disconnected();
                }
            }
            End::Session(key) => {
                if let Some(subscriber) = self.session_keys.get(&key).map(|at| &mut self.subscribers[*at])
                    && subscriber.link == Some(at)
                {
                    subscriber.link = None;
                }
            }
        }
    }

    /// Something moves on one connection, in one direction; or a connection's task tells the core something.
    pub(super) fn move_some(&mut self, random: &mut Random) {
        if random.chance(20) && self.tell() {
            return;
        }
        let now = self.now.mono.0;
        for at in 0..self.links.len() {
            if self.links[at].server_has_it {
                self.flush(at);
            }
        }
        let ups = (0..self.links.len()).filter(|at| self.links[*at].has_up(now)).map(|at| (at, true));
        let downs = (0..self.links.len()).filter(|at| self.links[*at].has_down(now)).map(|at| (at, false));
        let all: Vec<(usize, bool)> = ups.chain(downs).collect();
        if all.is_empty() {
            return;
        }
        let (at, up) = all[random.index(all.len())];
        for _ in 0..random.within(1..5) {
            self.move_one(at, up, random);
        }
    }

    /// The next message on a connection arrives. Returns whether there was one.
    pub(super) fn move_one(&mut self, at: usize, up: bool, random: &mut Random) -> bool {
        let now = self.now.mono.0;
        match up {
            true if self.links[at].has_up(now) && self.machine.node.is_some() => {
                let waiting = self.links[at].up.len();
                self.take(at);
                waiting != self.links[at].up.len()
            }
            false if self.links[at].has_down(now) => {
                self.arrives(at, random);
                true
            }
            _ => false,
        }
    }

    fn arrives(&mut self, at: usize, random: &mut Random) {
        let link = &mut self.links[at];
        let down = link.down.pop_front();
        if !link.client_has_it {
            return;
        }
        let (who, end) = (link.who.clone(), link.end);
        match down {
            Some(Down::Text(message)) => {
                if let End::Worker(key) = end
                    && let Some(worker) = self.worker_keys.get(&key)
                {
                    let slow = self.plan.faults.contains(&Fault::SlowHandler) && !self.healed;
                    let takes = if slow && random.chance(30) { random.within(10..1_000) } else { 0 };
                    if takes > 0 && message["type"] == "invokefunction" {
                        self.report.fault(Fault::SlowHandler.name());
                    }
                    self.workers[*worker].got(&message, self.now.mono.0 + takes);
                }
                self.note(&who, What::Got(message));
            }
            Some(Down::Close) => self.hang_up(at, true),
            None => {}
        }
    }
}

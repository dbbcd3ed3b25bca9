//! A worker: it calls for a while, several calls in flight, and handles what it is called for until the world ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::handlers::{Handlers, NEXT, Reaction};
use super::work::{Call, Known, Mix};
use super::{AGAIN, Connection, Edge, LOOK, Next, STREAM, text};
use crate::random::Random;
use crate::server::setting::WorkerSetting;

/// A worker, from its first connection to the end of the world.
pub(in crate::server) struct Worker {
    edge: Edge,
    handlers: Handlers,
    mix: Mix,
    /// How many calls it has in flight at most.
    window: usize,
    /// When it makes no more of its own, in simulated time.
    until: Duration,
    random: Random,
    /// Makes the numbers in its values different from those of others.
    number: u64,
    calls: u64,
    in_flight: BTreeMap<String, Call>,
    /// Calls to be made again, as nobody knows whether they happened.
    again: VecDeque<Call>,
    known: Known,
    /// Who it was on its last connection, and how it shows that.
    registered: Option<(Value, Value)>,
    /// When it registers again: that was refused, or it has taken it back.
    register_at: Option<Instant>,
    acts: bool,
}

/// How its work on a connection ended.
enum Ended {
    Lost,
    /// It dropped it, and did not mean to.
    Died,
    /// The world is over.
    Over,
}

/// How long a worker that has died is away, in milliseconds.
const DEAD: std::ops::Range<u64> = 10..500;
/// How long one does not read; how long it waits between what it does beside its calls.
const PAUSE: std::ops::Range<u64> = 20..900;
const BETWEEN: std::ops::Range<u64> = 50..800;

impl Worker {
    pub(in crate::server) fn new(
        edge: Edge,
        number: u64,
        setting: WorkerSetting,
        mix: Mix,
        random: Random,
    ) -> Worker {
        Worker {
            handlers: Handlers::new(&edge.name, setting.duties, setting.manners),
            edge,
            mix,
            window: setting.window,
            until: setting.until,
            random,
            number,
            calls: 0,
            in_flight: BTreeMap::new(),
            again: VecDeque::new(),
            known: Known::default(),
            registered: None,
            register_at: None,
            acts: setting.acts,
        }
    }

    pub(in crate::server) async fn run(mut self) {
        while let Some(mut connection) = self.edge.connect(|_| "/".to_owned()).await {
            let ended = self.serves(&mut connection).await;
            drop(connection);
            let away = match ended {
                Ended::Over => return,
                Ended::Lost => AGAIN,
                Ended::Died => self.random.millis(DEAD),
            };
            self.edge.progress.state().resting.remove(&self.edge.name);
            self.handlers.forget();
            for call in std::mem::take(&mut self.in_flight).into_values() {
                if self.random.chance(40) {
                    self.again.push_back(call);
                }
            }
            sleep(away).await;
        }
    }

    /// Works on one connection.
    async fn serves(&mut self, connection: &mut Connection) -> Ended {
        // It waits to be told who it is, so that it can always show that it comes instead of who it was.
        loop {
            match connection.next(Instant::now() + LOOK).await {
                Next::Message(message) if message["type"] == "workerregistered" => {
                    self.introduces(connection, &message).await;
                    break;
                }
                Next::Lost => return Ended::Lost,
                _ if self.edge.progress.is_over() => return Ended::Over,
                _ => {}
            }
        }
        let mut call_at = Instant::now();
        let mut acts_at = call_at + self.random.millis(BETWEEN);
        self.register_at = None;
        while !self.edge.progress.is_over() {
            let now = Instant::now();
            if self.register_at.is_some_and(|at| at <= now) {
                self.register_at = None;
                self.registers(connection).await;
            }
            while let Some(answer) = self.handlers.due() {
                connection.send(answer).await;
            }
            if acts_at <= now {
                if self.acts && !self.edge.progress.is_healed() {
                    self.acts(connection).await;
                }
                acts_at = Instant::now() + self.random.millis(BETWEEN);
                continue;
            }
            let calls = self.has_work() && self.in_flight.len() < self.window;
            if calls && call_at <= now {
                self.calls(connection).await;
                call_at = Instant::now() + self.random.millis(0..8);
                continue;
            }
            self.rests();
            let wakes = [
                Some(acts_at),
                Some(now + LOOK),
                calls.then_some(call_at),
                self.handlers.next_due(),
                self.register_at,
            ];
            match connection.next(wakes.into_iter().flatten().min().unwrap_or(now)).await {
                Next::Message(message) => match text(&message["type"]) {
                    "invocationresult" => self.answered(&message),
                    "invokefunction" => {
                        let progress = &self.edge.progress;
                        if self.handlers.called(&message, &mut self.random, progress) == Reaction::Dies {
                            connection.give_up();
                            return Ended::Died;
                        }
                    }
                    "registrationrejected" => self.register_at = Some(Instant::now() + LOOK),
                    _ => {}
                },
                Next::Nothing => {}
                Next::Lost => return Ended::Lost,
            }
        }
        Ended::Over
    }

    async fn introduces(&mut self, connection: &mut Connection, registered: &Value) {
        let now = (registered["worker_id"].clone(), registered["reattach_token"].clone());
        if let Some((id, token)) = self.registered.replace(now) {
            let message = json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token});
            connection.send(message).await;
        }
        self.registers(connection).await;
        // What is there after a crash, before anything new. Its answer also tells that the rest was heard.
        for group in self.mix.groups().to_vec() {
            let mut data = json!({"stream_name": STREAM, "group_id": group});
            if self.random.chance(50) {
                data["revision"] = json!(true);
            }
            self.makes(connection, ("stream::list", data)).await;
        }
    }

    async fn registers(&mut self, connection: &mut Connection) {
        for message in self.handlers.registrations() {
            connection.send(message).await;
        }
    }

    /// Does something that workers do now and then: it does not read for a while, or takes back what it has registered
    /// and registers it again.
    async fn acts(&mut self, connection: &mut Connection) {
        if self.random.chance(60) {
            self.edge.progress.happened("workers that paused");
            let pause = self.random.millis(PAUSE);
            self.edge.progress.is_busy(pause + NEXT);
            connection.look_away(pause).await;
        } else if self.random.chance(60) {
            for id in self.handlers.triggers() {
                self.edge.progress.happened("triggers taken back");
                connection.send(json!({"type": "unregistertrigger", "id": id})).await;
            }
            self.register_at = Some(Instant::now() + self.random.millis(BETWEEN));
        }
    }

    fn has_work(&self) -> bool {
        !self.again.is_empty() || turmoil::sim_elapsed().unwrap_or_default() < self.until
    }

    async fn calls(&mut self, connection: &mut Connection) {
        let call = match self.again.pop_front() {
            Some(call) => {
                self.edge.progress.happened("calls made again");
                call
            }
            None => {
                let n = (self.number + 1) * 1_000_000_000 + self.calls * 1_000;
                let progress = &self.edge.progress;
                let is_known = |function: &str| progress.state().functions.contains(function);
                self.mix.call(&mut self.random, n, &self.known, is_known)
            }
        };
        self.makes(connection, call).await;
    }

    async fn makes(&mut self, connection: &mut Connection, call: Call) {
        self.calls += 1;
        let id = format!("{}:{}", self.edge.name, self.calls);
        connection.call(&id, call.0, &call.1).await;
        self.in_flight.insert(id, call);
    }

    fn answered(&mut self, answer: &Value) {
        if let Some(call) = self.in_flight.remove(text(&answer["invocation_id"])) {
            self.known.learn(&call, answer);
        }
        let functions = self.handlers.functions();
        self.edge.progress.state().functions.extend(functions);
    }

    /// Says whether it has nothing more to do.
    fn rests(&self) {
        let mut state = self.edge.progress.state();
        match !self.has_work() && self.in_flight.is_empty() {
            true => state.resting.insert(self.edge.name.clone()),
            false => state.resting.remove(&self.edge.name),
        };
    }
}

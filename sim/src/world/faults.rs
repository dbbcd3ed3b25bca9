//! What goes wrong.

use serde_json::{Value, json};

use super::World;
use super::link::{End, Up};
use super::plan::Fault;
use super::worker::Mood;
use crate::disk::{self, FaultKind};
use crate::random::Random;
use crate::trace::{Loss, What, Who};
use headwater_core::Input;

impl World<'_> {
    /// Something goes wrong, if there is something for it to go wrong with.
    pub(super) fn goes_wrong(&mut self, fault: Fault, step: usize, random: &mut Random) {
        if self.does_go_wrong(fault, random) {
            self.report.fault(fault.name());
            let what = if fault == Fault::Stop { What::Stops } else { What::Did };
            self.note(&Who::server(), what(format!("step {step}: {}", fault.name())));
        }
    }

    fn does_go_wrong(&mut self, fault: Fault, random: &mut Random) -> bool {
        match fault {
            Fault::Kill => self.cut(Loss::Process, random),
            Fault::PowerCut => self.cut(Loss::Power, random),
            // Drawn at each start, and for each call of a handler.
            Fault::CrashAtStart | Fault::SlowHandler => false,
            Fault::Stop => {
                let lives = self.machine.node.is_some();
                self.input(Input::Stop);
                lives
            }
            Fault::DiskFull => self.disk_fails(FaultKind::Full, random),
            Fault::WriteFails => self.disk_fails(FaultKind::Write, random),
            Fault::SyncFails => self.disk_fails(FaultKind::Sync, random),
            Fault::WorkerLost => {
                let worker = random.index(self.workers.len());
                self.lose(self.workers[worker].link, random)
            }
            Fault::SubscriberLost => {
                let subscriber = random.index(self.subscribers.len());
                self.lose(self.subscribers[subscriber].link, random)
            }
            Fault::Partition => self.stall(100..3_000, random),
            Fault::Late => self.stall(1..60, random),
            Fault::Retry => {
                let worker = &mut self.workers[random.index(self.plan.setup.workers.len())];
                match worker.link.and_then(|link| Some((link, worker.retry(random)?))) {
                    Some((link, call)) => {
                        self.send(link, call);
                        true
                    }
                    None => false,
                }
            }
            Fault::ClockAhead => {
                self.skew += i64::try_from(random.within(1..20_000)).unwrap_or(0);
                true
            }
            Fault::ClockBack => {
                self.skew -= i64::try_from(random.within(1..20_000)).unwrap_or(0);
                true
            }
            Fault::SlowSubscriber => {
                let subscriber = random.index(self.subscribers.len());
                self.stops_reading(self.subscribers[subscriber].link, random)
            }
            Fault::SlowWorker => {
                let worker = random.index(self.workers.len());
                self.stops_reading(self.workers[worker].link, random)
            }
            Fault::FailingHandler => {
                let worker = random.index(self.workers.len());
                let asked = self.workers[worker].asked.len();
                self.handle_one(worker, Mood::Failing, random);
                self.workers[worker].asked.len() < asked
            }
            Fault::SilentHandler => {
                let worker = &mut self.workers[random.index(self.plan.setup.workers.len())];
                let index = random.index(worker.asked.len().max(1));
                worker.asked.remove(index).is_some()
            }
            Fault::DyingHandler => {
                let worker = random.index(self.workers.len());
                let handles = !self.workers[worker].asked.is_empty();
                handles && self.lose(self.workers[worker].link, random)
            }
            Fault::Churn => self.churn(random),
        }
    }

    /// The server dies now, or at one of the next operations of the disk.
    fn cut(&mut self, loss: Loss, random: &mut Random) -> bool {
        if self.machine.node.is_none() || self.machine.loss.is_some() {
            return false;
        }
        self.machine.loss = Some(loss);
        match random.chance(40) {
            true => self.machine.power.cut(),
            false => self.machine.power.cut_after(random.within(1..30)),
        }
        true
    }

    fn disk_fails(&mut self, kind: FaultKind, random: &mut Random) -> bool {
        let failing = [1, random.within(2..8), random.within(8..40)][random.index(3)];
        self.machine.disk.fail(disk::Fault {
            kind,
            after: random.within(0..10),
            failing,
            random: random.fork(),
        });
        true
    }

    fn lose(&mut self, link: Option<usize>, random: &mut Random) -> bool {
        if let Some(link) = link {
            self.hang_up(link, random.chance(30));
        }
        link.is_some()
    }

    /// Nothing moves on a connection for a while. In a long one either end may give it up.
    fn stall(&mut self, ms: std::ops::Range<u64>, random: &mut Random) -> bool {
        let alive: Vec<usize> = (0..self.links.len()).filter(|at| self.links[*at].client_has_it).collect();
        if alive.is_empty() {
            return false;
        }
        let at = alive[random.index(alive.len())];
        let takes = random.within(ms);
        self.links[at].stalled_until = self.now.mono.0 + takes;
        if takes >= 100 && random.chance(40) {
            match random.chance(50) {
                true => self.hang_up(at, random.chance(50)),
                false if self.links[at].server_has_it && self.machine.node.is_some() => self.given_up(at),
                false => {}
            }
        }
        true
    }

    /// The server has not heard of a client for too long, and is right or not.
    fn given_up(&mut self, at: usize) {
        self.gone(at);
        self.links[at].down.push_back(super::link::Down::Close);
    }

    fn stops_reading(&mut self, link: Option<usize>, random: &mut Random) -> bool {
        if let Some(link) = link {
            self.links[link].unread_until = self.now.mono.0 + random.within(20..3_000);
        }
        link.is_some()
    }

    /// A worker takes something back that it has registered, or registers all of it again, or sends what makes no
    /// sense.
    fn churn(&mut self, random: &mut Random) -> bool {
        let worker = &self.workers[random.index(self.plan.setup.workers.len())];
        let Some(link) = worker.link else { return false };
        let registrations = worker.registrations();
        let some = registrations.get(random.index(registrations.len().max(1)));
        let taken_back = |registration: &Value| match registration["type"].as_str() {
            Some("registertrigger") => json!({"type": "unregistertrigger", "id": registration["id"]}),
            _ => json!({"type": "unregisterfunction", "id": registration["id"]}),
        };
        let messages = match random.within(0..12) {
            0..4 => some.map(taken_back).into_iter().collect(),
            4..8 => registrations,
            8 => vec![json!({"type": "registerfunction", "id": "echo-worker0"})],
            9 => vec![json!({"type": "registerfunction", "id": "stream::set"})],
            10 => vec![
                json!({"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "f", "config": {}}),
            ],
            _ => return self.nonsense(link, random),
        };
        messages.into_iter().for_each(|message| self.send(link, message));
        true
    }

    fn nonsense(&mut self, worker: usize, random: &mut Random) -> bool {
        let message = [
            json!({"type": "invokefunction", "function_id": 1}),
            json!({"type": "invokefunction", "invocation_id": "", "function_id": "stream::set", "data": []}),
            json!({"type": "registerfunction"}),
            json!({"type": "unheard-of"}),
        ][random.index(4)]
        .clone();
        self.links[worker].up.push_back(Up::Text(message));
        let sessions: Vec<usize> = (0..self.links.len())
            .filter(|at| self.links[*at].client_has_it && matches!(self.links[*at].end, End::Session(_)))
            .collect();
        if !sessions.is_empty() {
            let message =
                [json!({"type": "join"}), json!([]), json!({"type": "dance"})][random.index(3)].clone();
            self.links[sessions[random.index(sessions.len())]].up.push_back(Up::Text(message));
        }
        true
    }
}

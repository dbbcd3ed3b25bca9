//! The core in a world: the real `Core` with the real log and checkpoint on a simulated disk, workers and subscribers, and
//! a network of queues between them. No tasks and no real time: one step after the other, so that a world takes a few
//! milliseconds, any step can be left out, and each world can be seen again.
//!
//! A [`Plan`] says what there is and what happens; [`run`] does it. After the steps the world heals: everybody comes
//! back, nothing fails any more, and it must come to rest with everybody knowing the same. Then the power goes once more,
//! and what is there afterwards is what was there before. The oracles watch all of it.

mod ending;
mod faults;
mod link;
mod network;
mod node;
mod plan;
mod report;
mod server;
mod subscriber;
mod worker;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::worker::FromWorker;
use headwater_core::{Effect, Input};

use crate::oracle::{Checked, Judge, Law, Limits, Rules, Violation};
use crate::random::Random;
use crate::trace::{Entry, Trace, What, Who};
use link::Link;
use node::{Machine, Node};
pub use plan::{Fault, Kind, Plan, Role, Setup, Step};
pub use report::{Counts, Report};
use subscriber::Subscriber;
use worker::{Mood, STREAM, Worker};

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that happened, up to the first violation.
    pub trace: Trace,
    /// What was checked, or what was broken.
    pub verdict: Result<Checked, Violation>,
    /// What it has shown.
    pub report: Report,
}

/// Runs a world to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    // A panic of the core is a law that is broken, and the world that shows it is to be seen.
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panics");
        world.broken.get_or_insert(Law::NeverPanics.broken(text));
    }
    world.report.steps = plan.steps.len() as u64;
    world.report.simulated_ms = world.now.mono.0;
    let verdict = match world.broken.take() {
        Some(violation) => Err(violation),
        None => world.judge.end(),
    };
    Outcome { trace: world.trace, verdict, report: world.report }
}

/// 2023-11-14.
const STARTED: u64 = 1_700_000_000_000;

struct World<'a> {
    plan: &'a Plan,
    now: Now,
    /// By how much the wall clock is ahead of the time that has passed, and the latest that it has ever shown.
    skew: i64,
    latest: u64,
    machine: Machine,
    links: Vec<Link>,
    workers: Vec<Worker>,
    subscribers: Vec<Subscriber>,
    /// Which of them are behind a connection.
    worker_keys: BTreeMap<WorkerKey, usize>,
    session_keys: BTreeMap<SessionKey, usize>,
    /// From here on nothing goes wrong.
    healed: bool,
    trace: Trace,
    judge: Judge,
    broken: Option<Violation>,
    report: Report,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> World<'a> {
        let setup = &plan.setup;
        let workers = setup.workers.iter().enumerate();
        World {
            now: Now { mono: Mono(0), wall: WallMs(STARTED) },
            skew: 0,
            latest: STARTED,
            machine: Machine::new(setup.growth),
            links: Vec::new(),
            workers: workers.map(|(at, roles)| Worker::new(&format!("worker{at}"), roles.clone())).collect(),
            subscribers: (0..setup.subscribers)
                .map(|at| Subscriber::new(&format!("subscriber{at}")))
                .collect(),
            worker_keys: BTreeMap::new(),
            session_keys: BTreeMap::new(),
            healed: false,
            trace: Trace::new(),
            judge: Judge::new(Rules {
                faults: !plan.is_healthy,
                tells_server: true,
                new_epochs: setup.new_epochs(),
                outbox_bytes: setup.outbox_bytes,
                pipe: setup.pipe,
                limits: Limits::of(&setup.config),
            }),
            broken: None,
            report: Report::default(),
            plan,
        }
    }

    fn live(&mut self) {
        self.start(&mut Random::new(self.plan.seed));
        for step in &self.plan.steps {
            if self.broken.is_some() {
                return;
            }
            self.step(*step);
        }
        self.end();
    }

    /// One thing happens.
    fn step(&mut self, step: Step) {
        let mut random = Random::new(step.salt);
        self.pass(random.within(0..self.plan.setup.pace + 1));
        self.come_back(&mut random);
        match step.kind {
            Kind::Call => self.call(&mut random),
            Kind::Subscribe => self.subscribe(&mut random),
            Kind::Move => self.move_some(&mut random),
            Kind::Store => self.store(&mut random),
            Kind::Handle => self.handle(&mut random),
            Kind::Fault(fault) if self.plan.faults.contains(&fault) => {
                self.goes_wrong(fault, step.number, &mut random)
            }
            Kind::Fault(_) => {}
        }
        self.die_if_due(&mut random);
    }

    /// Time passes.
    fn pass(&mut self, ms: u64) {
        let mono = self.now.mono.after(ms);
        let wall = (STARTED + mono.0).saturating_add_signed(self.skew);
        self.now = Now { mono, wall: WallMs(wall) };
        self.latest = self.latest.max(wall);
        let due = |node: &Node| node.process.core.next_deadline().is_some_and(|due| due <= mono);
        if self.machine.node.as_ref().is_some_and(due) {
            self.input(Input::Tick);
        }
    }

    /// A worker calls, if it may have one more call on the way.
    fn call(&mut self, random: &mut Random) {
        let index = random.index(self.workers.len());
        let setup = &self.plan.setup;
        let worker = &mut self.workers[index];
        if let Some(link) = worker.link.filter(|_| worker.open.len() < setup.window) {
            let call = worker.call(setup, random);
            self.send(link, call);
        }
    }

    /// A subscriber does something.
    fn subscribe(&mut self, random: &mut Random) {
        let index = random.index(self.subscribers.len());
        let setup = &self.plan.setup;
        let subscriber = &mut self.subscribers[index];
        let Some(link) = subscriber.link else { return };
        let message = match random.within(0..10) {
            0..7 => Some(subscriber.join(setup, random)),
            7 | 8 => subscriber.leave(random),
            _ if random.chance(30) => return self.hang_up(link, true),
            _ => None,
        };
        if let Some(message) = message {
            self.send(link, message);
        }
    }

    /// A worker handles something that it was called for.
    fn handle(&mut self, random: &mut Random) {
        let index = random.index(self.workers.len());
        self.handle_one(index, Mood::Good, random);
    }

    fn handle_one(&mut self, index: usize, mood: Mood, random: &mut Random) {
        let worker = &mut self.workers[index];
        let Some(link) = worker.link.filter(|_| !worker.asked.is_empty()) else { return };
        let asked = random.index(worker.asked.len());
        if worker.asked[asked].not_before <= self.now.mono.0
            && let Some(answer) = worker.handle(asked, mood)
        {
            self.send(link, answer);
        }
    }

    /// One of the store's threads does something.
    fn store(&mut self, random: &mut Random) {
        use crate::process::Task::{Load, Log, Save};
        self.work([Log, Log, Log, Save, Load][random.index(5)]);
    }

    fn note(&mut self, who: &Who, what: What) {
        if self.broken.is_some() {
            return;
        }
        let entry = Entry { at: self.now.mono.0, who: who.clone(), what };
        self.broken = self.judge.see(&entry).err();
        self.trace.push(entry);
    }

    /// The core is told something, and what it wants done is done.
    fn input(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(node) = &mut self.machine.node else { return };
            self.report.input(&input);
            let is_handled = matches!(
                &input,
                Input::WorkerFrame { frame: Ok(FromWorker::Result { .. }), .. }
                    | Input::CallNotDelivered { .. }
            );
            let effects: Vec<Effect> = node.process.handle(self.now, input);
            for effect in effects {
                self.report.effect(&effect);
                if is_handled {
                    self.must_not_have_waited(&effect);
                }
                self.carry_out(effect, &mut inputs);
            }
        }
    }

    /// What a handler's answer leads to is no answer to a caller of the store: none waits for a handler, however slow.
    fn must_not_have_waited(&mut self, effect: &Effect) {
        let Effect::Reply { worker, invocation_id: Some(id), .. } = effect else { return };
        let caller = self.worker_keys.get(worker).map(|at| &self.workers[*at]);
        let call = caller.and_then(|caller| caller.open.get(id));
        if let Some(call) = call.filter(|call| call["data"]["stream_name"] == STREAM) {
            let how = format!("this call of the store waited for a handler: {call}");
            self.broken.get_or_insert(Law::HandledInOrder.broken(how));
        }
    }
}

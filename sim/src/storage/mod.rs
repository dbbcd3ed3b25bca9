//! The store alone, all of it: the core, the log writer, the checkpoint and the recovery of the product on a simulated
//! disk. No tasks and no network: one step after the other, each drawn from the seed, so that thousands of worlds take
//! seconds and each of them can be seen again.
//!
//! A [`Plan`] says what may go wrong; a [`World`] of it runs to its end, and an oracle judges on the way what was
//! answered, what a subscriber saw, and what is there after each start.

mod command;
mod image;
mod oracle;
mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write as _};
use std::ops::AddAssign;

use headwater_core::call::Outcome;
use headwater_core::config::{CoreConfig, Durability};
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::log::Write;
use headwater_core::time::{Mono, Now, WallMs};
use headwater_core::wire::stream::{self, ToSubscriber};
use headwater_core::wire::worker;
use headwater_core::{Effect, Input};

use crate::disk::SimDisk;
use crate::power::Power;
use crate::process::{Process, Task, Work};
use crate::random::Random;
use command::{Command, Kind};
pub use image::{Found, Image};
use oracle::Oracle;
pub use oracle::{Broken, Law, Seen};
pub use plan::{Loss, Plan};

/// A machine with a store on it, and those who use it.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    config: CoreConfig,
    power: Power,
    disk: SimDisk,
    now: Now,
    random: Random,
    oracle: Oracle,
    process: Option<Process>,
    /// How many calls there were.
    calls: u64,
    report: Report,
    /// What was written, in order: for pictures of the disk.
    written: Vec<Written>,
}

/// What a world has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// To callers and a subscriber.
    pub seen: Seen,
    /// How often the process died.
    pub deaths: u64,
    /// How often it died while it started.
    pub deaths_at_start: u64,
    /// How often it could not start because the disk failed.
    pub failed_starts: u64,
    /// What its threads have done.
    pub work: Work,
    /// How many operations of the disk there were.
    pub operations: u64,
    /// How many of them failed.
    pub failed_operations: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.seen += other.seen;
        self.deaths += other.deaths;
        self.deaths_at_start += other.deaths_at_start;
        self.failed_starts += other.failed_starts;
        self.work += other.work;
        self.operations += other.operations;
        self.failed_operations += other.failed_operations;
    }
}

/// A write that is done.
#[derive(Clone, Debug)]
struct Written {
    write: Write,
    /// How many changes each group had after it.
    revisions: BTreeMap<String, u64>,
}

/// 2023-11-14.
const STARTED: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
/// How many steps a world gets to come to rest.
const MOST_STEPS: usize = 3_000;
/// The most that callers may have on the way.
const BACKLOG: usize = 1 << 20;
const WORKER: WorkerKey = WorkerKey(1);
const SESSION: SessionKey = SessionKey(1);

impl World {
    /// The world of a plan, before its first start.
    pub fn new(plan: Plan) -> World {
        let power = Power::default();
        let disk = SimDisk::new(power.clone(), plan.syncing).growing_by(plan.growth);
        plan.faults().for_each(|fault| disk.fail(fault));
        World::on(plan, power, disk)
    }

    fn on(plan: Plan, power: Power, disk: SimDisk) -> World {
        World {
            config: plan.config(),
            power,
            disk,
            now: STARTED,
            random: Random::new(plan.seed),
            oracle: Oracle::new((0..plan.groups).map(|group| format!("g{group}"))),
            process: None,
            calls: 0,
            report: Report::default(),
            written: Vec::new(),
            plan,
        }
    }

    /// Runs it to its end: at last the disk works, the store takes writes, the power goes, and all is there.
    pub fn run(mut self) -> Result<Report, Broken> {
        if let Some((operations, _)) = self.plan.cut {
            self.power.cut_after(operations + 1);
        }
        self.start()?;
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.recover_from_all()?;
        if self.random.chance(50) {
            self.stop()?;
        }
        self.off(Loss::Power);
        self.plan.again = 0;
        self.start()?;
        self.settle()?;
        Ok(self.into_report())
    }

    fn into_report(self) -> Report {
        let operations = self.disk.operations();
        Report { seen: self.oracle.seen, operations, failed_operations: self.disk.failed(), ..self.report }
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), Broken> {
        self.pass(self.plan.pace)?;
        if self.random.within(0..1_000) < self.plan.deaths {
            match self.random.chance(50) {
                true => self.power.cut(),
                false => self.power.cut_after(self.random.within(1..30)),
            }
        }
        match self.random.within(0..12) {
            0..6 => self.call()?,
            6..9 => self.work(Task::Log)?,
            9 => self.work(Task::Save)?,
            10 => self.work(Task::Load)?,
            _ => {}
        }
        if self.power.is_off() {
            let loss = [Loss::Process, Loss::Power][self.random.index(2)];
            self.off(self.plan.cut.map_or(loss, |(_, loss)| loss));
            self.start()?;
        }
        Ok(())
    }

    /// Time passes, up to so many milliseconds.
    fn pass(&mut self, most: u64) -> Result<(), Broken> {
        let ms = self.random.within(0..most + 1);
        self.now = Now { mono: self.now.mono.after(ms), wall: WallMs(self.now.wall.0 + ms) };
        let deadline = self.process.as_ref().and_then(|process| process.core.next_deadline());
        match deadline.is_some_and(|deadline| deadline <= self.now.mono) {
            true => self.input(Input::Tick),
            false => Ok(()),
        }
    }

    /// Somebody calls, unless too much waits for the disk.
    fn call(&mut self) -> Result<(), Broken> {
        self.calls += 1;
        let command = Command::draw(self.calls, self.plan.groups, self.plan.items, &mut self.random);
        match self.process.as_ref().is_some_and(|process| process.takes_calls(BACKLOG)) {
            true => self.send(command),
            false => Ok(()),
        }
    }

    fn send(&mut self, command: Command) -> Result<(), Broken> {
        let input = call(&command, &self.config);
        self.oracle.sent(command);
        self.input(input)
    }

    /// One of the store's threads does what is next for it, if there is something. What it finds out at the moment at
    /// which it dies leads to nothing.
    fn work(&mut self, task: Task) -> Result<(), Broken> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let (write, done) = process.work(task, &mut self.report.work);
        if self.power.is_off() {
            return Ok(());
        }
        let Some(input) = done else { return Ok(()) };
        let synced =
            write.as_ref().is_some_and(|write| write.sync) && matches!(input, Input::Persisted { .. });
        self.input(input)?;
        if synced {
            self.oracle.synced();
        }
        if let Some(write) = write {
            self.written.push(Written { write, revisions: self.oracle.revisions() });
        }
        Ok(())
    }

    /// The core is told something, and what it wants done is done.
    fn input(&mut self, input: Input) -> Result<(), Broken> {
        self.oracle.faults = self.disk.failed() > 0;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(process) = &mut self.process else { return Ok(()) };
            if self.plan.tells {
                tell(format_args!("{} -> {}", self.now.mono.0, short(&input)));
            }
            for effect in process.handle(self.now, input) {
                if self.plan.tells {
                    tell(format_args!("{} <- {}", self.now.mono.0, short(&effect)));
                }
                if let (true, Effect::Save(save)) = (self.plan.hasty, &effect)
                    && save.finish.is_some()
                {
                    inputs.push_back(Input::Saved);
                }
                self.carry_out(effect)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), Broken> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match effect {
            Effect::Persist(write) => process.write(write, &mut self.report.work),
            Effect::Discard(segments) => process.discard(segments, &mut self.report.work),
            Effect::Save(save) => {
                let hasty = self.plan.hasty && save.finish.is_some();
                process.saves.push_back((save, hasty));
            }
            Effect::Load(load) => process.loads.push_back(load),
            Effect::Reply { invocation_id: Some(id), outcome, .. } => return self.answered(&id, &outcome),
            Effect::Sync { frame, .. } => {
                let synced = self.plan.durability == Durability::Sync;
                let name = frame.target.group.group.as_str().to_owned();
                return self.oracle.synced_to(&name, frame.epoch, &frame.state, synced);
            }
            Effect::Broadcast { frame, .. } => {
                if let ToSubscriber::Event(event) = &*frame {
                    return self.oracle.saw(event);
                }
            }
            Effect::Stopped => process.stopped = true,
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, id: &str, outcome: &Outcome) -> Result<(), Broken> {
        self.oracle.answered(id, outcome)
    }

    /// The process dies.
    fn off(&mut self, loss: Loss) {
        if self.plan.tells {
            tell(format_args!("{} the process dies with its {loss:?}", self.now.mono.0));
        }
        self.power.cut();
        self.report.deaths += u64::from(self.process.is_some());
        self.process = None;
        if loss == Loss::Power {
            self.disk.crash(&mut self.random);
        }
        self.power.restore();
        self.oracle.died(loss == Loss::Power);
        self.now.wall = WallMs(self.now.wall.0 + 2);
    }

    /// Starts the process, again and again until it lives.
    fn start(&mut self) -> Result<(), Broken> {
        for attempt in 0..20 {
            if attempt < 4 && self.plan.cut.is_none() && self.random.chance(self.plan.again) {
                self.power.cut_after(self.random.within(1..40));
            }
            if attempt > 10 {
                self.disk.heal();
            }
            let failed = self.disk.failed();
            let seed = self.random.bytes();
            let opened = Process::open(&self.disk, self.plan.config(), seed, self.now);
            match opened {
                opened if self.power.is_off() => {
                    drop(opened);
                    self.report.deaths_at_start += 1;
                    let loss = [Loss::Process, Loss::Power][self.random.index(2)];
                    self.off(self.plan.cut.map_or(loss, |(_, loss)| loss));
                }
                Ok(process) => {
                    self.process = Some(process);
                    return self.greet();
                }
                Err(_) if self.disk.failed() > failed => self.report.failed_starts += 1,
                Err(error) => return Err(Law::StartSucceeds.broken(error)),
            }
        }
        Err(Law::StartSucceeds.broken("it dies again and again"))
    }

    /// A worker and a subscriber of all groups connect.
    fn greet(&mut self) -> Result<(), Broken> {
        for input in greetings(self.plan.groups, &self.config) {
            self.input(input)?;
        }
        Ok(())
    }

    /// The disk works again, and so does everything.
    fn recover_from_all(&mut self) -> Result<(), Broken> {
        self.disk.heal();
        self.power.restore();
        self.plan.cut = None;
        self.settle()?;
        let before = self.oracle.seen;
        for group in 0..self.plan.groups {
            self.calls += 1;
            let (id, group) = (self.calls.to_string(), format!("g{group}"));
            let kind = Kind::Set { value: self.calls, padding: 1 };
            self.send(Command { id, group, item: "last".to_owned(), kind, done_at: None })?;
        }
        self.settle()?;
        let after = self.oracle.seen;
        let how = || format!("after it, calls are still refused: {after:?}");
        let answered = after.answers == before.answers + self.plan.groups;
        Law::FaultsEnd.require(answered && after.refused == before.refused, how)
    }

    /// Goes on until nothing waits.
    fn settle(&mut self) -> Result<(), Broken> {
        let mut quiet_for = 0;
        for _ in 0..MOST_STEPS {
            let task = self.process.as_ref().and_then(Process::next_task);
            match task {
                Some(task) => {
                    quiet_for = 0;
                    self.work(task)?;
                }
                // Long enough for all that is tried again.
                None if quiet_for > 60 && self.oracle.is_settled() => return Ok(()),
                None => {
                    quiet_for += 1;
                    self.pass(400)?;
                }
            }
        }
        Err(Law::FaultsEnd.broken(format!("it does not come to rest: {}", self.oracle.waits())))
    }

    /// The process is told to stop, and does. Nothing of it may be lost then.
    fn stop(&mut self) -> Result<(), Broken> {
        self.input(Input::Stop)?;
        for _ in 0..MOST_STEPS {
            if self.process.as_ref().is_some_and(|process| process.stopped) {
                self.oracle.stopped();
                return Ok(());
            }
            match self.process.as_ref().and_then(Process::next_task) {
                Some(task) => self.work(task)?,
                None => self.pass(400)?,
            }
        }
        Err(Law::FaultsEnd.broken("it does not stop"))
    }
}

/// Says what happens. Whether anybody reads it is no concern of the world's.
fn tell(what: fmt::Arguments<'_>) {
    drop(writeln!(io::stdout(), "{what}"));
}

/// What happens, on a line, for people who see a world again.
fn short(what: &impl fmt::Debug) -> String {
    format!("{what:?}").chars().take(400).collect()
}

/// A worker's call.
fn call(command: &Command, config: &CoreConfig) -> Input {
    Input::WorkerFrame { worker: WORKER, frame: worker::parse(&command.frame(), &config.limits) }
}

/// A worker connects, and somebody who subscribes to all groups.
fn greetings(groups: u64, config: &CoreConfig) -> Vec<Input> {
    let handshake = stream::Handshake::default();
    let mut inputs = vec![
        Input::WorkerConnected { worker: WORKER },
        Input::SessionConnected { session: SESSION, handshake, join: None },
    ];
    inputs.extend((0..groups).map(|group| {
        let data = format!(r#"{{"subscriptionId":"{group}","streamName":"s","groupId":"g{group}"}}"#);
        let frame = stream::parse(&format!(r#"{{"type":"join","data":{data}}}"#), &config.limits);
        Input::SessionFrame { session: SESSION, frame }
    }));
    inputs
}

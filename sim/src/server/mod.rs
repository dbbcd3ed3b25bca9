//! The real server in a world: one server, its clients, and what befalls them, all drawn from one seed.

mod client;
mod complaints;
mod fault;
mod links;
mod machine;
pub mod platform;
mod report;
mod setting;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use headwater_core::time::WallMs;

use crate::disk::{SimDisk, Syncing};
use crate::oracle::{CLOSER, Limits, Rules};
use crate::power::Power;
use crate::random::Random;
use crate::trace::{Recorder, Trace};
use client::{Closer, Edge, Progress, SERVER, STREAM_PORT, Stranger, Subscriber, WORKER_PORT, Worker};
use complaints::Complaints;
use fault::{Fault, Kinds, Loss};
use links::Links;
use machine::{Machine, Process};
use platform::{SimPlatform, Wall};
pub use report::Report;
use setting::Setting;

/// Everything about a world that is decided before it runs.
#[derive(Debug)]
pub struct World {
    seed: u64,
    syncing: Syncing,
    setting: Setting,
    /// In the order of their times.
    faults: Vec<Fault>,
    has_faults: bool,
    new_epochs: bool,
    random: Random,
}

/// Why a world has no end to judge: something failed that must not, or nothing moves any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck {
    /// What.
    pub why: String,
    /// What happened until then.
    pub trace: Trace,
}

/// For how long a world runs before it counts as stuck.
const LONGEST: Duration = Duration::from_secs(20);
/// 2023-11-14.
const STARTED: WallMs = WallMs(1_700_000_000_000);

impl World {
    /// The world of a seed.
    pub fn draw(seed: u64) -> World {
        let mut random = Random::new(seed);
        let has_faults = random.chance(85);
        let mut setting = Setting::draw(&mut random, !has_faults);
        let clients = setting.workers.len() + setting.subscribers.len();
        let mut kinds = Kinds::draw(&mut random);
        let new_epochs = random.chance(15);
        if new_epochs {
            // What only the system knows is lost with the power, or with a disk that fails: nothing is promised of it.
            kinds.losses = vec![Loss::Process];
            kinds.disk = None;
            setting = setting.with_interval(random.within(1..200));
        }
        let faults = if has_faults { kinds.faults(&mut random, clients) } else { Vec::new() };
        World {
            seed,
            syncing: Syncing::Honest,
            setting,
            faults,
            has_faults,
            new_epochs,
            random: random.fork(),
        }
    }

    /// The same world on a disk that does something else with a sync.
    pub fn with_syncing(self, syncing: Syncing) -> World {
        World { syncing, ..self }
    }

    /// The names of what goes wrong in it.
    pub fn faults(&self) -> Vec<String> {
        self.faults.iter().enumerate().map(|(number, fault)| fault.name(number)).collect()
    }

    /// The same world, and these of its faults left out.
    pub fn without(mut self, faults: &BTreeSet<String>) -> World {
        let mut names = self.faults().into_iter();
        self.faults.retain(|_| names.next().is_none_or(|name| !faults.contains(&name)));
        self
    }

    /// What oracles have to know of it.
    pub fn rules(&self) -> Rules {
        Rules {
            faults: self.has_faults,
            tells_server: false,
            new_epochs: self.new_epochs,
            outbox_bytes: self.setting.outbox_bytes,
            // Nobody can tell what the network holds.
            pipe: usize::MAX,
            limits: Limits::of(&self.setting.config().core),
        }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<(Trace, Report), Stuck> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(self.setting.latency)
            .tcp_capacity(self.setting.tcp_capacity)
            .simulation_duration(LONGEST)
            .build();
        let (recorder, progress, power) = (Recorder::default(), Progress::default(), Power::default());
        let disk = SimDisk::new(power.clone(), self.syncing);
        let wall = Wall::new(STARTED, self.setting.slowness);
        let process = Process::default();
        self.add_server(&mut sim, &power, &disk, &wall, &process);
        let clients = self.add_clients(&mut sim, &recorder, &progress);
        let complaints = Complaints::default();
        let machine = Machine {
            power,
            disk,
            wall,
            process,
            links: Links::new(clients, self.setting.latency),
            complaints: complaints.clone(),
            recorder: recorder.clone(),
            progress,
            random: self.random.fork(),
            report: Report { worlds: 1, ..Report::default() },
        };
        let ran = tracing::subscriber::with_default(complaints, || machine.run(&mut sim, self.faults));
        let trace = recorder.take();
        match ran {
            Ok(mut report) => {
                report.entries = trace.len() as u64;
                Ok((trace, report))
            }
            Err(why) => Err(Stuck { why, trace }),
        }
    }

    fn add_server(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        power: &Power,
        disk: &SimDisk,
        wall: &Wall,
        process: &Process,
    ) {
        let random = Rc::new(RefCell::new(self.random.fork()));
        let (config, wake_up) = (self.setting.config(), 0..self.setting.wake_up);
        let (power, disk, wall, process) = (power.clone(), disk.clone(), wall.clone(), process.clone());
        sim.host(SERVER, move || {
            let random = random.borrow_mut().fork();
            let panics = process.panics.clone();
            let platform = SimPlatform::new(power.clone(), random, wall.clone(), wake_up.clone(), panics);
            let serving =
                power.run(process.clone().serve(platform, config.clone(), disk.clone(), wall.clone()));
            async move {
                serving.await;
                Ok(())
            }
        });
    }

    /// Adds the clients; returns the names of those whose ways may be bad.
    fn add_clients(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        recorder: &Recorder,
        progress: &Progress,
    ) -> Vec<String> {
        let edge = |name: &str, port| Edge {
            name: name.to_owned(),
            port,
            recorder: recorder.clone(),
            progress: progress.clone(),
            connections: 0,
        };
        let setting = &self.setting;
        let mut names = Vec::new();
        for (number, setting) in setting.workers.iter().cloned().enumerate() {
            let name = format!("worker{number}");
            let mix = self.setting.mix.clone();
            let worker =
                Worker::new(edge(&name, WORKER_PORT), number as u64, setting, mix, self.random.fork());
            sim.client(&*name, async move {
                worker.run().await;
                Ok(())
            });
            names.push(name);
        }
        let all = setting.watched.clone();
        for (number, subscriber) in setting.subscribers.iter().cloned().enumerate() {
            let name = format!("subscriber{number}");
            let edge = edge(&name, STREAM_PORT);
            let (all, tokens) = (all.clone(), setting.has_tokens());
            let subscriber = Subscriber::new(edge, subscriber, all, tokens, self.random.fork());
            sim.client(&*name, async move {
                subscriber.run().await;
                Ok(())
            });
            names.push(name);
        }
        if setting.has_stranger {
            let stranger = Stranger { progress: progress.clone(), random: self.random.fork() };
            sim.client("stranger", async move {
                stranger.run().await;
                Ok(())
            });
        }
        let closer = Closer {
            edge: edge(CLOSER, WORKER_PORT),
            mix: setting.mix.clone(),
            workers: setting.workers.len(),
            subscribers: setting.subscribers.len(),
            calls: 0,
        };
        sim.client(CLOSER, async move {
            closer.run().await;
            Ok(())
        });
        names
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

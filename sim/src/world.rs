//! A world: one server, its clients, and what befalls them, all drawn from one seed.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use headwater::config::{Config, Listen};
use headwater_core::config::Storage;
use headwater_core::time::WallMs;

use crate::client::{
    CLOSER, Closer, Progress, SERVER, STREAM_PORT, Subscriber, WORKER_PORT, Watched, Worker,
};
use crate::disk::{SimDisk, Syncing};
use crate::platform::{SimPlatform, Wall};
use crate::power::Power;
use crate::random::Random;
use crate::trace::{Recorder, Trace, What};

/// Everything about a world that is decided before it runs.
#[derive(Debug)]
pub struct World {
    seed: u64,
    syncing: Syncing,
    workers: u64,
    /// How many items a worker has in a group.
    items: u64,
    /// How many calls a worker has in flight.
    window: u64,
    /// The longest way of a message.
    latency: Duration,
    /// How long the server's threads take to wake up, at most, in milliseconds.
    wake_up: u64,
    wall: Wall,
    storage: Storage,
    /// In the order of their times.
    faults: Vec<Fault>,
    random: Random,
}

/// The server stops dead, and is started again.
#[derive(Clone, Debug)]
struct Fault {
    /// When.
    at: Duration,
    /// So many operations of the disk later than that; `None` is at once.
    operations: Option<u64>,
    loss: Loss,
    /// How long it takes until the server is started again.
    down: Duration,
    /// The same again so many operations of the disk after that: while it recovers, or soon after.
    again: Option<(u64, Loss)>,
}

/// What goes with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The process alone: the system closes its sockets, and the disk will get what it wrote.
    Process,
    /// The machine's power: what was not synced may be lost. Its peers are told.
    Power,
    /// The power, and no peer is told.
    PowerAndCable,
}

/// Why a world has no end to judge: something failed that must not, or nothing moves any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck(pub String);

/// For how long there are faults and work; what comes after must end.
const FAULTY: Duration = Duration::from_millis(2_500);
/// For how long a world runs before it counts as stuck.
const LONGEST: Duration = Duration::from_secs(20);
/// 2023-11-14.
const STARTED: WallMs = WallMs(1_700_000_000_000);
const GROUPS: [&str; 2] = ["g0", "g1"];

impl World {
    /// The world of a seed.
    pub fn draw(seed: u64) -> World {
        let mut random = Random::new(seed);
        let mut faults: Vec<Fault> = (0..random.within(1..5)).map(|_| Fault::draw(&mut random)).collect();
        faults.sort_by_key(|fault| fault.at);
        World {
            seed,
            syncing: Syncing::Honest,
            workers: random.within(1..3),
            items: random.within(1..8),
            window: random.within(2..12),
            latency: random.millis(2..20),
            wake_up: random.within(1..6),
            wall: Wall { start: STARTED, slowness: if random.chance(30) { 20 } else { 1 } },
            faults,
            random: random.fork(),
            storage: match random.chance(50) {
                true => Storage {
                    segment_bytes: 2_000,
                    checkpoint_log_bytes: 5_000,
                    cache_bytes: 2_000,
                    ..Storage::default()
                },
                false => Storage::default(),
            },
        }
    }

    /// The same world on a disk that does something else with a sync.
    pub fn with_syncing(self, syncing: Syncing) -> World {
        World { syncing, ..self }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<Trace, Stuck> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(self.latency)
            .tcp_capacity(4_096)
            .simulation_duration(LONGEST)
            .build();
        let recorder = Recorder::default();
        let power = Power::default();
        let disk = SimDisk::new(power.clone(), self.syncing);
        self.add_server(&mut sim, &power, &disk);
        let clients = self.add_clients(&mut sim, &recorder);
        let machine =
            Machine { power, disk, clients, recorder: recorder.clone(), random: self.random.fork() };
        machine.run(&mut sim, std::mem::take(&mut self.faults))?;
        Ok(recorder.take())
    }

    fn add_server(&mut self, sim: &mut turmoil::Sim<'_>, power: &Power, disk: &SimDisk) {
        let random = Rc::new(RefCell::new(self.random.fork()));
        let storage = self.storage.clone();
        let (power, disk, wall, wake_up) = (power.clone(), disk.clone(), self.wall, 0..self.wake_up);
        sim.host(SERVER, move || {
            let random = random.borrow_mut().fork();
            let platform = SimPlatform::new(power.clone(), random, wall, wake_up.clone());
            let serving = headwater::serve(platform, config(&storage), Some(disk.clone()), |_| Ok(pending()));
            let serving = power.run(serving);
            async move { Ok(serving.await?) }
        });
    }

    /// Adds the clients; returns their names.
    fn add_clients(&mut self, sim: &mut turmoil::Sim<'_>, recorder: &Recorder) -> Vec<String> {
        let progress = Progress::default();
        let mut names = Vec::new();
        for number in 0..self.workers {
            let worker = Worker {
                name: format!("worker{number}"),
                groups: GROUPS.map(str::to_owned).to_vec(),
                items: self.items,
                window: usize::try_from(self.window).unwrap_or(1),
                until: FAULTY,
                random: self.random.fork(),
                recorder: recorder.clone(),
                progress: progress.clone(),
            };
            names.push(worker.name.clone());
            sim.client(worker.name.clone(), async move {
                worker.run().await;
                Ok(())
            });
        }
        let group = |at: usize| Watched { group: GROUPS[at].to_owned(), item: None };
        let item = Watched { group: GROUPS[0].to_owned(), item: Some("worker0-0".to_owned()) };
        let subscribers = [vec![group(0)], vec![group(0), group(1)], vec![item.clone(), group(1)]];
        for (number, watched) in subscribers.iter().cloned().enumerate() {
            let name = format!("subscriber{number}");
            let subscriber = Subscriber {
                name: name.clone(),
                watched,
                recorder: recorder.clone(),
                progress: progress.clone(),
            };
            names.push(name.clone());
            sim.client(name, async move {
                subscriber.run().await;
                Ok(())
            });
        }
        let closer = Closer {
            workers: names.len() - subscribers.len(),
            subscribers: subscribers.len(),
            watched: vec![item, group(1)],
            recorder: recorder.clone(),
            progress,
        };
        names.push(CLOSER.to_owned());
        sim.client(CLOSER, async move {
            closer.run().await;
            Ok(())
        });
        names
    }
}

impl Fault {
    fn draw(random: &mut Random) -> Fault {
        Fault {
            // Some right at the first start.
            at: if random.chance(15) { Duration::ZERO } else { random.millis(1..2_300) },
            operations: random.chance(60).then(|| random.within(1..20)),
            loss: Loss::draw(random),
            down: random.millis(1..300),
            again: random.chance(50).then(|| (random.within(1..5), Loss::draw(random))),
        }
    }
}

impl Loss {
    fn draw(random: &mut Random) -> Loss {
        [Loss::Process, Loss::Power, Loss::PowerAndCable][random.index(3)]
    }
}

/// The server's ports, and signs of life often enough for short worlds.
fn config(storage: &Storage) -> Config {
    let listen = |port| Listen { host: "0.0.0.0".to_owned(), port };
    let mut config =
        Config { workers: listen(WORKER_PORT), streams: listen(STREAM_PORT), ..Config::default() };
    config.core.storage = storage.clone();
    // Its network is all there is.
    config.access.insecure = true;
    config.net.ping_interval_ms = 500;
    config.net.idle_timeout_ms = 2_000;
    config.net.handshake_timeout_ms = 1_000;
    config
}

/// The server's machine, and its way to the clients.
struct Machine {
    power: Power,
    disk: SimDisk,
    clients: Vec<String>,
    recorder: Recorder,
    random: Random,
}

impl Machine {
    /// Runs the simulation to its end, with faults on the way.
    fn run(mut self, sim: &mut turmoil::Sim<'_>, faults: Vec<Fault>) -> Result<(), Stuck> {
        let mut faults = faults.into_iter().peekable();
        let mut fault = None;
        let mut back_at = None;
        loop {
            if back_at.is_none()
                && let Some(due) = faults.next_if(|fault: &Fault| fault.at <= sim.elapsed())
            {
                match due.operations {
                    Some(operations) => self.power.cut_after(operations),
                    None => self.power.cut(),
                }
                fault = Some(due);
            }
            if sim.elapsed() >= FAULTY && !self.power.is_off() {
                self.power.restore();
            }
            let over = sim.step().map_err(|error| Stuck(error.to_string()))?;
            match (back_at, &fault) {
                (None, Some(fault)) if self.power.is_off() => {
                    self.fails(sim, fault.loss);
                    back_at = Some(sim.elapsed() + fault.down);
                }
                (Some(at), _) if sim.elapsed() >= at => {
                    back_at = None;
                    self.comes_back(sim);
                    if let Some(fault) = &mut fault
                        && let Some((operations, loss)) = fault.again.take()
                    {
                        self.power.cut_after(operations);
                        fault.loss = loss;
                    }
                }
                _ => {}
            }
            if over {
                return Ok(());
            }
        }
    }

    fn fails(&mut self, sim: &mut turmoil::Sim<'_>, loss: Loss) {
        if loss == Loss::PowerAndCable {
            for client in &self.clients {
                sim.partition(SERVER, client.as_str());
            }
        }
        sim.crash(SERVER);
        if loss != Loss::Process {
            self.disk.crash(&mut self.random);
        }
        self.recorder.note_at(millis(sim.elapsed()), SERVER, What::Crashed);
    }

    fn comes_back(&self, sim: &mut turmoil::Sim<'_>) {
        for client in &self.clients {
            sim.repair(SERVER, client.as_str());
        }
        self.power.restore();
        self.recorder.note_at(millis(sim.elapsed()), SERVER, What::Restarted);
        sim.bounce(SERVER);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

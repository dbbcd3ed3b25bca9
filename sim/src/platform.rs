//! The machine that the real runtime runs on in a simulation: turmoil's network and clock, a [`SimDisk`].

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use headwater::platform::{Listener, Platform};
use headwater_core::time::{Mono, Now, WallMs};
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

use crate::disk::SimDisk;
use crate::power::Power;
use crate::random::Random;

/// A machine of a simulation, from one start of its process to the next.
#[derive(Clone, Debug)]
pub struct SimPlatform {
    power: Power,
    random: Arc<Mutex<Random>>,
    wall: Wall,
    /// How long a thread that is woken takes to run, in milliseconds: the log's disk, for one.
    wake_up: Range<u64>,
}

/// A wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// What it shows when the simulation starts.
    pub start: WallMs,
    /// How many simulated milliseconds make one of its own: in a slow one, stamps run ahead of the clock.
    pub slowness: u64,
}

impl Wall {
    fn now(self) -> WallMs {
        let elapsed = turmoil::sim_elapsed().expect("the clock is read in a simulation only");
        WallMs(self.start.0 + millis(elapsed) / self.slowness)
    }
}

impl SimPlatform {
    /// A process on a machine: `random` is its randomness, `wake_up` how long its threads take to wake up.
    pub fn new(power: Power, random: Random, wall: Wall, wake_up: Range<u64>) -> SimPlatform {
        SimPlatform { power, random: Arc::new(Mutex::new(random)), wall, wake_up }
    }

    fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Platform for SimPlatform {
    type Listener = SimListener;
    type Disk = SimDisk;

    fn now(&self) -> Now {
        Now { mono: Mono(millis(turmoil::elapsed())), wall: self.wall.now() }
    }

    fn entropy(&self) -> [u8; 32] {
        self.random(Random::bytes)
    }

    async fn bind(&self, host: &str, port: u16) -> io::Result<SimListener> {
        let host: IpAddr = host.parse().map_err(io::Error::other)?;
        TcpListener::bind((host, port)).await.map(SimListener)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(self.power.run(task));
    }

    fn spawn_thread(&self, _name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let random = self.random(Random::fork);
        let thread = Thread { task: Box::pin(task), random, wake_up: self.wake_up.clone(), waking: None };
        spawn(self.power.run(thread));
        Ok(())
    }
}

/// Runs a task on the current host. As a local task: when a host crashes, tokio drops those in the order in which they
/// came, but others in one that hangs on how many tasks the process has ever had.
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

/// A task that a wake-up reaches only after a while, as it does one on a busy machine. Time passes so between what
/// different threads do, and work gathers.
struct Thread<F> {
    task: Pin<Box<F>>,
    random: Random,
    wake_up: Range<u64>,
    waking: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Thread<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let thread = &mut *self;
        let waking = thread
            .waking
            .get_or_insert_with(|| Box::pin(sleep(thread.random.millis(thread.wake_up.clone()))));
        ready!(waking.as_mut().poll(context));
        thread.waking = None;
        thread.task.as_mut().poll(context)
    }
}

/// A listening socket of turmoil's network.
pub struct SimListener(TcpListener);

impl Listener for SimListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a simulation does not last that long")
}

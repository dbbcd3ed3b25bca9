//! The machine that the real runtime runs on in a simulation: turmoil's network and clock, a [`SimDisk`].

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
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
    panics: Panics,
}

/// A wall clock. Clones are the same.
#[derive(Clone, Debug)]
pub struct Wall {
    /// What it shows when the simulation starts.
    start: WallMs,
    slowness: u64,
    /// By how many milliseconds it was set forward since.
    ahead: Arc<AtomicI64>,
    /// The latest that it has shown.
    latest: Arc<AtomicU64>,
}

impl Wall {
    /// A clock that shows `start` when the simulation starts. So many simulated milliseconds make one of its own: in a
    /// slow one, stamps run ahead of the clock.
    pub fn new(start: WallMs, slowness: u64) -> Wall {
        Wall { start, slowness, ahead: Arc::default(), latest: Arc::default() }
    }

    /// Somebody sets it forward by so many milliseconds, or back.
    pub fn jump(&self, by: i64) {
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// It is set right when a process starts: that it shows nothing earlier then than it has ever shown is what stamps
    /// rely on.
    pub fn catch_up(&self) {
        let behind = self.latest.load(Ordering::Relaxed).saturating_sub(self.shows());
        self.jump(i64::try_from(behind).unwrap_or(i64::MAX));
    }

    fn now(&self) -> WallMs {
        let shown = self.shows();
        self.latest.fetch_max(shown, Ordering::Relaxed);
        WallMs(shown)
    }

    fn shows(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().expect("the clock is read in a simulation only");
        let shown = self.start.0 + millis(elapsed) / self.slowness;
        shown.saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }
}

/// Where a process leaves word of its tasks that have panicked. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<Mutex<Vec<String>>>);

impl Panics {
    /// What was said, and forgets it.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, said: &(dyn Any + Send)) {
        let text = said.downcast_ref::<String>().map(String::as_str);
        let text = text.or(said.downcast_ref::<&str>().copied()).unwrap_or("nothing");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }
}

impl SimPlatform {
    /// A process on a machine: `random` is its randomness, `wake_up` how long its threads take to wake up.
    pub fn new(power: Power, random: Random, wall: Wall, wake_up: Range<u64>, panics: Panics) -> SimPlatform {
        SimPlatform { power, random: Arc::new(Mutex::new(random)), wall, wake_up, panics }
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
        self.spawn_local(task);
    }

    fn spawn_thread(&self, _name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let random = self.random(Random::fork);
        let thread = Thread { task: Box::pin(task), random, wake_up: self.wake_up.clone(), waking: None };
        self.spawn_local(thread);
        Ok(())
    }
}

impl SimPlatform {
    /// Runs a task on the current host. As a local task: when a host crashes, tokio drops those in the order in which they
    /// came, but others in one that hangs on how many tasks the process has ever had.
    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        let panics = self.panics.clone();
        let task = AssertUnwindSafe(task).catch_unwind();
        tokio::task::spawn_local(self.power.run(async move {
            if let Err(panic) = task.await {
                panics.add(&*panic);
            }
        }));
    }
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

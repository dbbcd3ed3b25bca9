//! The server's machine and its ways to the clients: what goes wrong with them, and when they are well again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::iter::Peekable;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use headwater::ServeError;
use headwater::config::Config;
use tokio::sync::Notify;

use super::client::{Progress, SERVER};
use super::complaints::Complaints;
use super::fault::{Bad, Crash, Fault, Loss, What};
use super::links::Links;
use super::platform::{Panics, SimPlatform, Wall};
use super::report::Report;
use crate::disk::{self, FaultKind, SimDisk};
use crate::power::Power;
use crate::random::Random;
use crate::trace::{self, Recorder, Who};

/// For how long there are faults.
pub(super) const FAULTY: Duration = Duration::from_millis(2_500);
/// How long a store may take to notice that its disk works again.
const MENDING: Duration = Duration::from_millis(1_200);

/// What a world has beside its clients.
pub(super) struct Machine {
    pub(super) power: Power,
    pub(super) disk: SimDisk,
    pub(super) wall: Wall,
    pub(super) process: Process,
    pub(super) links: Links,
    pub(super) complaints: Complaints,
    pub(super) recorder: Recorder,
    pub(super) progress: Progress,
    pub(super) random: Random,
    pub(super) report: Report,
}

/// The server's process, as its machine sees it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Asks it to stop; another one for each start.
    stop: Rc<RefCell<Arc<Notify>>>,
    /// How it ended, if not with its machine.
    ended: Rc<RefCell<Option<Result<(), ServeError>>>>,
    pub(super) panics: Panics,
}

impl Process {
    /// Runs the server until it ends, and then stands still: what is left of it ends with its machine's next step.
    pub(super) async fn serve(self, platform: SimPlatform, config: Config, disk: SimDisk, wall: Wall) {
        wall.catch_up();
        let stop = Arc::clone(&self.stop.borrow());
        let stopping = async move { stop.notified().await };
        let ended = headwater::serve(platform, config, Some(disk), |_| Ok(stopping)).await;
        self.ended.replace(Some(ended));
        pending().await
    }
}

/// How the server is.
#[derive(Debug)]
enum Server {
    Up,
    /// It was asked to stop, and is to be started again so long after it has.
    Stopping {
        down: Duration,
    },
    Down {
        until: Duration,
    },
}

/// A world on its way.
struct Run<'a, 'b> {
    machine: Machine,
    sim: &'a mut turmoil::Sim<'b>,
    faults: Peekable<vec::IntoIter<Fault>>,
    /// Links that are bad, by when they are good again.
    bad: BTreeMap<(Duration, usize), (usize, Bad)>,
    server: Server,
    /// What happens when the power goes off.
    crash: Option<Crash>,
    /// What fails on the disk, and how often it has when the server was started.
    failing: Option<FaultKind>,
    failed: u64,
    /// When the faults ended.
    mended: Option<Duration>,
    is_healed: bool,
}

impl Machine {
    /// Runs the simulation to its end, with faults on the way.
    pub(super) fn run(self, sim: &mut turmoil::Sim<'_>, faults: Vec<Fault>) -> Result<Report, String> {
        let mut run = Run {
            machine: self,
            sim,
            faults: faults.into_iter().peekable(),
            bad: BTreeMap::new(),
            server: Server::Up,
            crash: None,
            failing: None,
            failed: 0,
            mended: None,
            is_healed: false,
        };
        while !run.step()? {}
        let mut report = run.machine.report;
        report.simulated_ms += millis(run.sim.elapsed());
        report += run.machine.progress.take_report();
        if let Some(kind) = run.failing {
            report.happened(name(kind), run.machine.disk.failed());
        }
        Ok(report)
    }
}

impl Run<'_, '_> {
    /// One millisecond; says whether the world is over.
    fn step(&mut self) -> Result<bool, String> {
        match self.mended {
            None if self.sim.elapsed() >= FAULTY => self.mend(),
            None => self.worsen(),
            Some(at) => self.heal(at),
        }
        let over = self.sim.step().map_err(|error| error.to_string())?;
        if let Some(panic) = self.machine.process.panics.take().first() {
            return Err(format!("a task panicked: {panic}"));
        }
        for complaint in self.machine.complaints.take() {
            self.note(trace::What::Complained(complaint));
        }
        self.look_after_server()?;
        Ok(over)
    }

    /// Begins the faults that are due, and ends those that are over.
    fn worsen(&mut self) {
        let now = self.sim.elapsed();
        while let Some(due) = self.bad.first_entry().filter(|due| due.key().0 <= now) {
            let (client, how) = due.remove();
            self.machine.links.mend(self.sim, client, how);
        }
        // One after the other: a server that is down can't crash.
        while matches!(self.server, Server::Up | Server::Stopping { .. })
            && self.crash.is_none()
            && let Some(fault) = self.faults.next_if(|fault| fault.at <= now)
        {
            self.begin(fault.what);
        }
    }

    fn begin(&mut self, fault: What) {
        let now = self.sim.elapsed();
        match fault {
            What::Crash(crash) => {
                match crash.operations {
                    Some(operations) => self.machine.power.cut_after(operations),
                    None => self.machine.power.cut(),
                }
                self.crash = Some(crash);
            }
            What::Stop { down } => {
                if matches!(self.server, Server::Up) {
                    self.note(trace::What::Stops("is asked to stop".to_owned()));
                    self.machine.process.stop.borrow().notify_one();
                    self.server = Server::Stopping { down };
                }
            }
            What::Link { client, how, lasts } => {
                self.machine.report.happened(bad(how), 1);
                self.did(format!("has a bad way to client {client}: {how:?} for {} ms", lasts.as_millis()));
                self.machine.links.worsen(self.sim, client, how);
                self.bad.insert((now + lasts, self.bad.len()), (client, how));
            }
            What::Disk { kind, after, failing } => {
                self.failing = Some(kind);
                let random = self.machine.random.fork();
                self.machine.disk.fail(disk::Fault { kind, after, failing, random });
            }
            What::Clock(by) => {
                let kind = if by < 0 { "clock set back" } else { "clock set forward" };
                self.machine.report.happened(kind, 1);
                self.did(format!("has its clock set by {by} ms"));
                self.machine.wall.jump(by);
            }
        }
    }

    /// Ends all faults.
    fn mend(&mut self) {
        self.mended = Some(self.sim.elapsed());
        for (client, how) in std::mem::take(&mut self.bad).into_values() {
            self.machine.links.mend(self.sim, client, how);
        }
        self.machine.disk.heal();
        if !self.machine.power.is_off() {
            self.machine.power.restore();
        }
        if let Server::Down { until } = &mut self.server {
            *until = Duration::ZERO;
        }
    }

    /// Says that all is well, once it is.
    fn heal(&mut self, mended: Duration) {
        let patience = if self.machine.disk.failed() > 0 { MENDING } else { Duration::ZERO };
        let now = self.sim.elapsed();
        if !self.is_healed && matches!(self.server, Server::Up) && now >= mended + patience {
            self.is_healed = true;
            self.machine.progress.heal(now);
            self.note(trace::What::Healed);
        }
    }

    fn look_after_server(&mut self) -> Result<(), String> {
        let now = self.sim.elapsed();
        if let Server::Down { until } = self.server {
            if now >= until {
                self.starts();
            }
            return Ok(());
        }
        if self.machine.power.is_off() {
            self.fails();
            return Ok(());
        }
        let Some(ended) = self.machine.process.ended.take() else { return Ok(()) };
        let (down, what) = match (ended, &self.server) {
            (Ok(()), Server::Stopping { down }) => {
                self.machine.report.happened("stops", 1);
                (*down, trace::What::Stopped)
            }
            (Err(ServeError::Store { error, .. }), _) if self.machine.disk.failed() > self.failed => {
                self.machine.report.happened("starts that failed", 1);
                self.did(format!("can't start: {error}"));
                (Duration::from_millis(50), trace::What::Crashed(trace::Loss::Process))
            }
            (Err(error), _) => return Err(error.to_string()),
            (Ok(()), _) => return Err("the server stopped, and nobody asked it to".to_owned()),
        };
        self.note(what);
        self.sim.crash(SERVER);
        self.goes_down(down);
        Ok(())
    }

    fn fails(&mut self) {
        let Some(crash) = self.crash.take() else { return };
        let (loss, what) = match crash.loss {
            Loss::Process => (trace::Loss::Process, "kills"),
            Loss::Power => (trace::Loss::Power, "power cuts"),
            Loss::PowerAndCable => (trace::Loss::Power, "power cuts that nobody is told of"),
        };
        self.machine.report.happened(what, 1);
        if crash.loss == Loss::PowerAndCable {
            self.machine.links.unplug(self.sim, true);
        }
        self.sim.crash(SERVER);
        if crash.loss != Loss::Process {
            self.machine.disk.crash(&mut self.machine.random);
        }
        self.note(trace::What::Crashed(loss));
        self.machine.process.ended.take();
        self.goes_down(crash.down);
        self.crash = crash.again.map(|(operations, loss)| Crash {
            operations: Some(operations),
            loss,
            again: None,
            ..crash
        });
    }

    fn goes_down(&mut self, down: Duration) {
        let until = if self.mended.is_some() { Duration::ZERO } else { self.sim.elapsed() + down };
        self.server = Server::Down { until };
    }

    fn starts(&mut self) {
        self.machine.links.unplug(self.sim, false);
        self.machine.power.restore();
        if let Some(Crash { operations: Some(operations), .. }) = &self.crash
            && self.mended.is_none()
        {
            self.machine.power.cut_after(*operations);
        }
        self.failed = self.machine.disk.failed();
        self.machine.process.stop.replace(Arc::default());
        self.note(trace::What::Restarted);
        self.sim.bounce(SERVER);
        self.server = Server::Up;
    }

    fn did(&self, what: String) {
        self.note(trace::What::Did(what));
    }

    fn note(&self, what: trace::What) {
        self.machine.recorder.note_at(millis(self.sim.elapsed()), &Who::server(), what);
    }
}

fn name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Full => "operations of a full disk that failed",
        FaultKind::Write => "writes that failed",
        FaultKind::Sync => "syncs that failed",
    }
}

fn bad(how: Bad) -> &'static str {
    match how {
        Bad::Cut => "ways that were cut",
        Bad::Held => "ways that were held up",
        Bad::Slow(_) => "ways that were slow",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

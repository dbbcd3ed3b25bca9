//! Many subscribers on a thread of their own, each of which checks what it gets.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::BenchError;
use super::clock::{Moment, Times};
use super::sequence::{Faults, Sequence};
use super::value::{Mark, Space, Told};
use super::websocket::{Broken, Connection, put_text};
use crate::backup::Address;

/// Who subscribes to what.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) streams: Address,
    pub(super) space: Space,
    pub(super) members: usize,
    pub(super) groups: Groups,
    /// The number of the first change after the join.
    pub(super) first: u64,
    /// How many items the group has at the join.
    pub(super) items: usize,
    /// How many connect at the same time.
    pub(super) at_once: usize,
}

/// Which groups a crowd subscribes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Groups {
    /// All to this one.
    One(usize),
    /// Each to one of its own, from this one on.
    Own(usize),
    /// None: they only connect.
    None,
}

/// How many connect at the same time, where that is not what is measured.
pub(super) const AT_ONCE: usize = 128;

/// How long a crowd may take until all have joined.
const JOINING: Duration = Duration::from_secs(60);
/// How long a delivery may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for what may come once more.
const SETTLE: Duration = Duration::from_millis(100);
/// How often it is looked whether all is there.
const LOOK: Duration = Duration::from_millis(5);

/// A crowd that follows its groups until it is asked what it has seen.
pub(super) struct Crowd {
    board: Arc<Board>,
    end: Option<oneshot::Sender<u64>>,
    thread: Option<JoinHandle<Seen>>,
    members: u64,
}

/// How far the crowd is, for others to see.
#[derive(Default)]
struct Board {
    joined: AtomicU64,
    last_joined: AtomicU64,
    delivered: AtomicU64,
    last_delivered: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// What a crowd has seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// How many deliveries were new.
    pub(super) delivered: u64,
    /// How long they took.
    pub(super) times: Times,
    /// The bytes of their frames.
    pub(super) bytes: u64,
    pub(super) faults: Faults,
}

impl Seen {
    /// The mean length of a delivery's frame.
    pub(super) fn frame_bytes(&self) -> usize {
        usize::try_from(self.bytes / self.delivered.max(1)).unwrap_or(0)
    }
}

impl Crowd {
    /// Lets them connect and join.
    pub(super) fn start(plan: Plan) -> Result<Crowd, BenchError> {
        let board = Arc::new(Board::default());
        let (end, ended) = oneshot::channel();
        let members = plan.members as u64;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| BenchError::Machine(error.to_string()))?;
        let told = Arc::clone(&board);
        let thread = std::thread::Builder::new()
            .name("crowd".to_owned())
            .spawn(move || runtime.block_on(run(plan, told, ended)))
            .map_err(|error| BenchError::Machine(error.to_string()))?;
        Ok(Crowd { board, end: Some(end), thread: Some(thread), members })
    }

    /// Waits until all have joined: the moment in which the last one had.
    pub(super) async fn joined(&self) -> Result<Moment, BenchError> {
        let joining = async {
            loop {
                if let Some(failure) = self.failure() {
                    return Err(BenchError::Subscriber(failure));
                }
                if self.board.joined.load(Ordering::Acquire) == self.members {
                    return Ok(Moment(self.board.last_joined.load(Ordering::Acquire)));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        timeout(JOINING, joining).await.unwrap_or_else(|_| {
            let joined = self.board.joined.load(Ordering::Acquire);
            Err(BenchError::Subscriber(format!(
                "only {joined} of {} have joined within {} s",
                self.members,
                JOINING.as_secs()
            )))
        })
    }

    fn failure(&self) -> Option<String> {
        self.board.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many deliveries have come, or nothing comes any more: the moment of the last one.
    pub(super) async fn delivered(&self, deliveries: u64) -> Moment {
        let (mut before, mut moved) = (0, Moment::now());
        loop {
            let now = self.board.delivered.load(Ordering::Acquire);
            if now != before {
                (before, moved) = (now, Moment::now());
            }
            if now >= deliveries || Moment::now().since(moved) > PATIENCE {
                return Moment(self.board.last_delivered.load(Ordering::Acquire));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets all of them go at once, and says what they have seen, when all changes below `end` should have come.
    pub(super) async fn leave(mut self, end: u64) -> Result<Seen, BenchError> {
        tokio::time::sleep(SETTLE).await;
        self.leave_now(end)
    }

    /// The same, without waiting for what may still come.
    pub(super) fn leave_now(&mut self, end: u64) -> Result<Seen, BenchError> {
        if let Some(sender) = self.end.take() {
            let _ = sender.send(end);
        }
        let seen = self.thread.take().and_then(|thread| thread.join().ok());
        seen.ok_or_else(|| BenchError::Machine("the thread of the subscribers has ended by a bug".to_owned()))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its thread ends by itself.
        drop(self.end.take());
    }
}

/// What the members of a crowd share.
struct Shared {
    plan: Plan,
    board: Arc<Board>,
    known: RefCell<Known>,
    seen: RefCell<Seen>,
    places: Semaphore,
}

/// Runs a crowd to its end.
async fn run(plan: Plan, board: Arc<Board>, ended: oneshot::Receiver<u64>) -> Seen {
    let seen = Seen { delivered: 0, times: Times::new(), bytes: 0, faults: Faults::default() };
    let members: Vec<_> =
        (0..plan.members).map(|index| Rc::new(RefCell::new(Member::new(&plan, index)))).collect();
    let places = Semaphore::new(plan.at_once);
    let shared = Rc::new(Shared { plan, board, known: RefCell::default(), seen: RefCell::new(seen), places });
    let tasks = LocalSet::new();
    for member in &members {
        tasks.spawn_local(follow(Rc::clone(member), Rc::clone(&shared)));
    }
    let end = tasks.run_until(ended).await.unwrap_or(0);
    drop(tasks);
    let mut seen =
        shared.seen.replace(Seen { delivered: 0, times: Times::new(), bytes: 0, faults: Faults::default() });
    for member in &members {
        seen.faults.add(&member.borrow().sequence.faults(end));
    }
    seen
}

/// One subscriber.
struct Member {
    group: Option<usize>,
    joined: bool,
    sequence: Sequence,
}

impl Member {
    fn new(plan: &Plan, index: usize) -> Member {
        let group = match plan.groups {
            Groups::One(group) => Some(group),
            Groups::Own(first) => Some(first + index),
            Groups::None => None,
        };
        Member { group, joined: false, sequence: Sequence::from(plan.first) }
    }

    /// Takes a message that came just now.
    fn message(&mut self, text: &[u8], shared: &Shared) {
        let now = Moment::now();
        let Shared { plan, board, known, seen, .. } = shared;
        let mut seen = seen.borrow_mut();
        let told = match known.borrow_mut().read(&plan.space, self.group, self.sequence.next(), text) {
            Ok(told) => told,
            Err(sentence) => {
                // Whoever can't join has nothing to count yet.
                if !self.joined {
                    board.fails(&sentence);
                }
                return seen.faults.wrong(|| sentence);
            }
        };
        match told {
            Told::Sync { group, items, revision } => {
                if Some(group) != self.group || self.joined || items != plan.items {
                    return seen.faults.wrong(|| {
                        let again = if self.joined { ", once more," } else { "" };
                        format!("a subscriber got{again} a sync of g{group} with {items} items")
                    });
                }
                self.joined = true;
                if let Some(revision) = revision {
                    self.sequence.starts_at(revision);
                }
                board.joins(now);
            }
            Told::Change { group, mark: Mark { number, sent }, revision } => {
                if Some(group) != self.group || !self.joined {
                    return seen
                        .faults
                        .wrong(|| format!("a subscriber got a change of g{group} that it should not"));
                }
                if revision.is_some_and(|revision| !self.sequence.fits(number, revision)) {
                    seen.faults.wrong(|| format!("change {number} came with the revision of another one"));
                }
                if self.sequence.see(number) {
                    seen.delivered += 1;
                    seen.bytes += text.len() as u64;
                    seen.times.record(now.since(sent));
                    board.last_delivered.store(now.0, Ordering::Release);
                    board.delivered.store(seen.delivered, Ordering::Release);
                }
            }
        }
    }
}

impl Board {
    fn joins(&self, now: Moment) {
        self.last_joined.store(now.0, Ordering::Release);
        self.joined.fetch_add(1, Ordering::AcqRel);
    }

    fn fails(&self, why: &str) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| why.to_owned());
    }
}

/// Connects a subscriber, lets it join, and follows its group until the connection ends.
async fn follow(member: Rc<RefCell<Member>>, shared: Rc<Shared>) {
    let Err(broken) = connected(&member, &shared).await;
    if member.borrow().joined {
        let mut seen = shared.seen.borrow_mut();
        seen.faults.disconnected += 1;
        seen.faults.example.get_or_insert_with(|| broken.to_string());
    }
    shared.board.fails(&broken.to_string());
}

async fn connected(member: &RefCell<Member>, shared: &Shared) -> Result<std::convert::Infallible, Broken> {
    let group = member.borrow().group;
    // Nobody closes it.
    let place = shared.places.acquire().await.map_err(|_| Broken::Protocol("there is no place"))?;
    let mut connection = Connection::open(&shared.plan.streams).await?;
    match group {
        Some(group) => {
            let mut frame = Vec::new();
            put_text(&mut frame, shared.plan.space.join(group).as_bytes());
            connection.write(&frame).await?;
            while !member.borrow().joined {
                connection.read(|text| member.borrow_mut().message(text, shared)).await?;
            }
        }
        None => {
            member.borrow_mut().joined = true;
            shared.board.joins(Moment::now());
        }
    }
    drop(place);
    loop {
        connection.read(|text| member.borrow_mut().message(text, shared)).await?;
    }
}

/// The frames that were read last: most members get the very same bytes, so that most are compared and not parsed.
struct Known {
    changes: Vec<KnownFrame>,
    sync: KnownFrame,
}

#[derive(Clone)]
struct KnownFrame {
    group: Option<usize>,
    bytes: Vec<u8>,
    told: Told,
}

/// How many changes are known.
const KNOWN: usize = 1024;

impl Default for Known {
    fn default() -> Known {
        let nothing = KnownFrame {
            group: None,
            bytes: Vec::new(),
            told: Told::Sync { group: usize::MAX, items: 0, revision: None },
        };
        Known { changes: vec![nothing.clone(); KNOWN], sync: nothing }
    }
}

impl Known {
    /// What a frame says to a member of `group` that waits for the change `next`.
    fn read(&mut self, space: &Space, group: Option<usize>, next: u64, text: &[u8]) -> Result<Told, String> {
        let expected = &self.changes[place(next)];
        for known in [expected, &self.sync] {
            if known.group == group && known.bytes == text {
                return Ok(known.told);
            }
        }
        let told = space.read_frame(text)?;
        let kept = match told {
            Told::Sync { .. } => &mut self.sync,
            Told::Change { mark, .. } => &mut self.changes[place(mark.number)],
        };
        kept.group = group;
        kept.told = told;
        kept.bytes.clear();
        kept.bytes.extend_from_slice(text);
        Ok(told)
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX) % KNOWN
}

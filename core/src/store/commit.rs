//! Group commit: what is being written, what gathers for the next write, and what waits for either.
//!
//! Here it is also decided which file of the log a write goes into, and what is done after one has failed: the log goes
//! on in a new segment, a *fence*, which says where the last write that is known to be durable ended. What an older
//! segment holds behind that does not count any more, whatever of it the disk has.

use super::contents::GroupKey;
use super::{Builtin, Command, Event, Kept};
use crate::call::{self, Answer, Caller, Outcome};
use crate::config::{Durability, Storage};
use crate::error::CallError;
use crate::key::JoinKey;
use crate::log::{
    self, BatchBytes, BatchNumber, Epoch, Record, Revision, SegmentHeader, SegmentNumber, Write, WriteNumber,
};
use crate::rng::Rng;
use crate::time::{Mono, Stamp};

/// Something that nobody may see before a write is done.
#[derive(Debug)]
pub(super) enum Waiting {
    Reply {
        caller: Caller,
        command: Builtin,
        outcome: Outcome,
        /// A read, to be done again if what it saw does not become durable.
        again: Option<Command>,
    },
    Event(Event),
    /// One that is not stored.
    Unstored(Event),
    /// What a worker keeps, as it was after the events before this.
    Kept(Kept, Stamp),
    /// The leave of a join.
    Left(JoinKey),
}

impl Waiting {
    /// About how many bytes of memory it holds on to beside what is stored.
    fn size_hint(&self) -> usize {
        PLACE
            + match self {
                Waiting::Reply { outcome: Ok(Answer::Changed { old, errors, .. }), .. } => {
                    256 + old.as_ref().map_or(0, |old| old.as_str().len()) + call::errors_size(errors)
                }
                Waiting::Reply {
                    outcome:
                        Ok(
                            Answer::Value(_)
                            | Answer::ItemWithRevision { .. }
                            | Answer::Items(_)
                            | Answer::ItemsWithRevisions(_),
                        )
                        | Err(CallError { conflict: Some(_), .. }),
                    ..
                } => 256,
                Waiting::Reply { outcome, .. } => call::size_hint(outcome),
                Waiting::Event(_) => 256,
                Waiting::Unstored(event) => 256 + event.value_len(),
                Waiting::Kept(kept, _) => kept.size_hint(),
                Waiting::Left(_) => 0,
            }
    }
}

/// What one that waits takes itself: a place in a vector that has grown to twice what it holds, and the effect that it
/// becomes, for all of which there is room at the same time.
const PLACE: usize = 3 * size_of::<Waiting>();

/// A write on its way.
#[derive(Debug)]
struct Pending {
    number: WriteNumber,
    /// The batch that its records are of.
    batch: BatchNumber,
    /// The segment that it goes into, and whether it is the first to do so.
    segment: SegmentHeader,
    begins: bool,
    /// Where in the log.
    position: u64,
    bytes: BatchBytes,
    /// Whether it holds something that is waited for. What holds nothing of that changes no group, moves no clock and
    /// has nobody in `waiting`.
    waited: bool,
    /// What it changes: of each group the items, by the revisions that created them, or its clock alone.
    changes: Vec<(GroupKey, Option<Revision>)>,
    /// In the order in which it is to be released.
    waiting: Vec<Waiting>,
    /// About how many bytes that holds on to.
    held: usize,
}

/// A write that the disk was given.
#[derive(Debug)]
struct InFlight {
    write: Pending,
    /// Its bytes, if they may be needed again: see [`Commits::unsynced`].
    bytes: bytes::Bytes,
    sync: bool,
    /// It makes a new start after a failed one; who waits for it is answered by [`Commits::persisted`] with an error.
    fence: bool,
    /// It says that the process ends well.
    closes: bool,
}

/// What a write that is done has made durable.
#[derive(Debug, Default)]
pub(super) struct Persisted {
    pub(super) changes: Vec<(GroupKey, Option<Revision>)>,
    pub(super) waiting: Vec<Waiting>,
    /// What had failed before, and can't come back any more.
    pub(super) fenced: Vec<Failed>,
}

/// A call that has failed with a write, and is told so once it is known what became of that.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) caller: Caller,
    pub(super) command: Builtin,
    /// Whether the disk was given what it would have written.
    pub(super) written: bool,
    pub(super) reason: String,
}

/// The store has no place to write to.
#[derive(Debug)]
struct Fault {
    reason: String,
    /// Those to be told, until the first fence has succeeded or failed.
    failed: Vec<Failed>,
    /// When the next fence is tried; `None` while one is under way, and until the first.
    retry_at: Option<Mono>,
    /// A fence has failed, too: writes are refused until one succeeds.
    refuses: bool,
}

/// How long to wait after a fence has failed before the next is tried.
const RETRY_MS: u64 = 1_000;
/// How much may be acknowledged and not synced, in bytes of the log.
const MOST_UNSYNCED: usize = 16 << 20;

/// The writes on their way: at most one is under way, and one gathers what comes meanwhile.
///
/// When nothing gathers but records that nobody waits for, they are written without a sync, and the batch goes on with the
/// next write. So it does with all writes where changes are acknowledged before they are synced.
#[derive(Debug)]
pub(super) struct Commits {
    volatile: bool,
    rng: Rng,
    epoch: Epoch,
    /// Every file of the log, in order, with where it starts.
    segments: Vec<(SegmentNumber, u64)>,
    next_segment: SegmentNumber,
    /// The last one that is known to be durable.
    durable_segment: SegmentNumber,
    /// Up to where the log is known to be durable, and the batch that comes next.
    durable: u64,
    durable_batch: BatchNumber,
    /// What is written behind that, in order: to be written again if a sync fails.
    unsynced: Vec<bytes::Bytes>,
    unsynced_bytes: usize,
    /// When it is to be synced at the latest, where it was acknowledged.
    sync_at: Option<Mono>,
    /// The next write is to be synced in any case.
    sync_next: bool,
    in_flight: Option<InFlight>,
    gathering: Pending,
    fault: Option<Fault>,
    closing: bool,
    closed: bool,
}

/// Where a log ends that was read back.
#[derive(Debug)]
pub(super) struct LogEnd {
    pub(super) segments: Vec<(SegmentNumber, u64)>,
    pub(super) next_segment: SegmentNumber,
    pub(super) batch: BatchNumber,
    pub(super) position: u64,
    /// The file that is there already to go on in.
    pub(super) current: Option<SegmentHeader>,
}

/// Says of each file that it begins where a later one does, if that is before its own start: of such a file a fence has left
/// nothing.
pub(super) fn begin_in_order(segments: &mut [(SegmentNumber, u64)]) {
    let mut first = u64::MAX;
    for (_, start) in segments.iter_mut().rev() {
        first = first.min(*start);
        *start = first;
    }
}

impl Commits {
    /// Goes on where a log ends. `relaxed` says whether changes are acknowledged before they are synced.
    pub(super) fn new(end: LogEnd, epoch: Epoch, mut rng: Rng, relaxed: bool) -> Commits {
        let LogEnd { segments, mut next_segment, batch, position, current } = end;
        let current = current.filter(|current| current.relaxed == relaxed);
        let segment = current.unwrap_or_else(|| {
            let number = next_segment;
            next_segment = number.next();
            SegmentHeader { number, start: position, batch, epoch, salt: rng.salt(), relaxed }
        });
        let mut gathering = Pending::new(WriteNumber(1), batch, segment, position);
        gathering.begins = current.is_none();
        Commits {
            volatile: false,
            rng,
            epoch,
            segments,
            next_segment,
            durable_segment: current.map_or(SegmentNumber(0), |current| current.number),
            durable: position,
            durable_batch: batch,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            sync_at: None,
            sync_next: false,
            in_flight: None,
            gathering,
            fault: None,
            closing: false,
            closed: false,
        }
    }

    /// For a store without a log: its owner calls every write done at once.
    pub(super) fn volatile(epoch: Epoch, rng: Rng) -> Commits {
        let end = LogEnd {
            segments: Vec::new(),
            next_segment: SegmentNumber(1),
            batch: BatchNumber(1),
            position: 0,
            current: None,
        };
        Commits { volatile: true, ..Commits::new(end, epoch, rng, false) }
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why no writes are taken, if they are not.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.fault.as_ref().filter(|fault| fault.refuses).map(|fault| fault.reason.as_str())
    }

    /// Up to where the log is durable, and the batch that comes next.
    pub(super) fn durable(&self) -> (u64, BatchNumber) {
        (self.durable, self.durable_batch)
    }

    /// Whether all that was acknowledged is durable.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Has all that is acknowledged made durable soon, if it is not.
    pub(super) fn sync_soon(&mut self) {
        self.sync_next |= !self.unsynced.is_empty();
    }

    /// Adds a record to the write that gathers.
    pub(super) fn append(&mut self, record: &Record<'_>) -> WriteNumber {
        let Pending { number, batch, position, bytes, waited, .. } = &mut self.gathering;
        bytes.append(*batch, *position, record);
        *waited |= record.is_waited_for();
        *number
    }

    /// Adds those of these records that the store has written for itself.
    pub(super) fn remember_again(&mut self, records: &[u8]) {
        for record in log::records(records).filter(Record::is_own) {
            self.append(&record);
        }
    }

    /// The write that gathers changes this group: an item of it, or its clock alone.
    pub(super) fn note_change(&mut self, group: GroupKey, created: Option<Revision>) {
        self.gathering.changes.push((group, created));
    }

    /// The last write that holds a change and is not done. One that holds none is waited for by nobody: who saw all
    /// groups has seen nothing of it.
    pub(super) fn head(&self) -> Option<WriteNumber> {
        let in_flight = self.in_flight.as_ref().map(|in_flight| &in_flight.write);
        [Some(&self.gathering), in_flight]
            .into_iter()
            .flatten()
            .find(|write| write.waited)
            .map(|write| write.number)
    }

    /// Whether nothing is on its way to the disk, and, if it is to be closed, it is.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.gathering.is_empty() && (!self.closing || self.closed)
    }

    /// Whether it says in the log that the process ended well.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Makes all durable, and says in the log that the process ended well.
    pub(super) fn close(&mut self) {
        self.closing = !self.volatile && self.gathering.segment.relaxed;
    }

    /// Keeps something until write `head` is done; gives it back if that is so already.
    pub(super) fn wait(&mut self, head: WriteNumber, waiting: Waiting) -> Option<Waiting> {
        let write = match &mut self.in_flight {
            Some(in_flight) if head <= in_flight.write.number => &mut in_flight.write,
            _ if head < self.gathering.number => return Some(waiting),
            _ => &mut self.gathering,
        };
        assert!(write.waited, "what is waited for is known to be");
        write.held += waiting.size_hint();
        write.waiting.push(waiting);
        None
    }

    /// When [`Commits::seal`] has something to do that nothing else brings about.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match &self.fault {
            Some(fault) => fault.retry_at,
            None if self.in_flight.is_none() => self.sync_at,
            None => None,
        }
    }

    /// What is to be written now, if there is something and nothing is being written.
    pub(super) fn seal(&mut self, now: Mono, storage: &Storage) -> Option<Write> {
        if self.in_flight.is_some() || self.volatile || self.closed {
            return None;
        }
        if let Some(fault) = &mut self.fault {
            if fault.retry_at.is_some_and(|retry_at| now < retry_at) {
                return None;
            }
            fault.retry_at = None;
            return Some(self.seal_fence(storage));
        }
        let due = self.sync_at.is_some_and(|sync_at| sync_at <= now)
            || self.unsynced_bytes + self.gathering.bytes.len() > MOST_UNSYNCED
            || std::mem::take(&mut self.sync_next)
            || self.closing;
        let sync = match storage.durability {
            Durability::Sync => self.gathering.waited || due,
            Durability::Interval(_) => due,
        };
        if self.closing {
            self.append(&Record::Closed);
        } else if self.gathering.is_empty() {
            if !sync || self.unsynced.is_empty() {
                return None;
            }
            self.append(&Record::Synced);
        }
        if let Durability::Interval(ms) = storage.durability {
            self.sync_at = if sync { None } else { self.sync_at.or(Some(now.after(ms))) };
        }
        Some(self.hand_out(sync, false, storage))
    }

    /// The write that makes a new start after a failed one: it repeats what is acknowledged and not known to be durable.
    /// What has gathered stays behind it.
    fn seal_fence(&mut self, storage: &Storage) -> Write {
        let Pending { number, segment, .. } = self.gathering;
        let (number, batch) = (WriteNumber(number.0 - 1), self.durable_batch);
        let fence = Pending { begins: true, ..Pending::new(number, batch, segment, self.durable) };
        let after = std::mem::replace(&mut self.gathering, fence);
        for bytes in &self.unsynced {
            for record in log::records(bytes) {
                self.gathering.bytes.append(batch, self.durable, &record);
            }
        }
        self.sync_at = None;
        let write = self.hand_out(true, true, storage);
        self.gathering = after;
        write
    }

    /// Gives the disk what has gathered; the next gathers behind it.
    fn hand_out(&mut self, sync: bool, fence: bool, storage: &Storage) -> Write {
        let Pending { number, batch, position, segment, begins, .. } = self.gathering;
        let end = position + self.gathering.bytes.len() as u64;
        let next_batch = if sync { batch.next() } else { batch };
        let full = end - segment.start >= storage.segment_bytes as u64;
        let next_segment = if full { self.new_segment(end, next_batch) } else { segment };
        let mut next = Pending::new(number.next(), next_batch, next_segment, end);
        next.begins = full;
        let mut write = std::mem::replace(&mut self.gathering, next);
        let bytes = std::mem::replace(&mut write.bytes, BatchBytes::new(segment.salt));
        let bytes = if sync { bytes.seal() } else { bytes.leave_open() };
        if begins {
            self.segments.push((segment.number, segment.start));
        }
        let closes = self.closing && !fence;
        self.in_flight = Some(InFlight { write, bytes: bytes.clone(), sync, fence, closes });
        let offset = segment.offset_of(position);
        Write { number, begins: begins.then_some(segment), segment: segment.number, offset, bytes, sync }
    }

    fn new_segment(&mut self, start: u64, batch: BatchNumber) -> SegmentHeader {
        let number = self.next_segment;
        self.next_segment = number.next();
        let relaxed = self.gathering.segment.relaxed;
        SegmentHeader { number, start, batch, epoch: self.epoch, salt: self.rng.salt(), relaxed }
    }

    /// The write under way is done, if `through` is its number, or above: what it changed, and what waited for it.
    pub(super) fn persisted(&mut self, through: WriteNumber) -> Option<Persisted> {
        if self.volatile {
            let Pending { number, batch, segment, position, .. } = self.gathering;
            let next = Pending::new(number.next(), batch, segment, position);
            let Pending { changes, waiting, .. } = std::mem::replace(&mut self.gathering, next);
            return Some(Persisted { changes, waiting, fenced: Vec::new() });
        }
        let InFlight { write, bytes, sync, closes, fence } =
            self.in_flight.take_if(|in_flight| in_flight.write.number <= through)?;
        let Pending { batch, position, segment, begins, changes, waiting, .. } = write;
        if begins {
            self.durable_segment = segment.number;
            begin_in_order(&mut self.segments);
            // Before a new file is begun, the one before is synced; a fence is synced itself.
            (self.durable, self.durable_batch) = (position, batch);
            self.unsynced.clear();
            self.unsynced_bytes = 0;
        }
        match sync {
            true => {
                self.durable = position + bytes.len() as u64;
                self.durable_batch = if bytes.is_empty() { batch } else { batch.next() };
                self.unsynced.clear();
                self.unsynced_bytes = 0;
            }
            false => {
                self.unsynced_bytes += bytes.len();
                self.unsynced.push(bytes);
            }
        }
        self.closed |= closes;
        let fault = self.fault.take_if(|_| fence);
        Some(Persisted { changes, waiting, fenced: fault.map(|fault| fault.failed).unwrap_or_default() })
    }

    /// The write under way has failed. Nothing that was under way or gathers is there any more; what that was. Another
    /// place to write to is looked for.
    pub(super) fn failed(&mut self, now: Mono, reason: &str) -> Option<Unwritten> {
        let InFlight { write, bytes, fence, .. } = self.in_flight.take()?;
        // The fence is a write of its own, and a batch if it repeats something: what gathers now is behind it.
        let number = self.gathering.number.next();
        let batch = if self.unsynced.is_empty() { self.durable_batch } else { self.durable_batch.next() };
        let segment = self.new_segment(self.durable, self.durable_batch);
        let next = Pending::new(number, batch, segment, self.durable + self.unsynced_bytes as u64);
        let gathered = std::mem::replace(&mut self.gathering, next);
        let failed = match (fence, &mut self.fault) {
            (true, Some(fault)) => {
                fault.refuses = true;
                fault.retry_at = Some(now.after(RETRY_MS));
                fault.reason = reason.to_owned();
                std::mem::take(&mut fault.failed)
            }
            _ => {
                self.fault = Some(Fault {
                    reason: reason.to_owned(),
                    failed: Vec::new(),
                    retry_at: None,
                    refuses: false,
                });
                Vec::new()
            }
        };
        // What a fence repeats, the next one repeats, too.
        let written = (!fence).then_some(bytes);
        Some(Unwritten {
            written: write.waiting,
            gathered: gathered.waiting,
            changes: [write.changes, gathered.changes].concat(),
            records: [written.unwrap_or_default(), gathered.bytes.leave_open()],
            failed,
        })
    }

    /// A call has failed with a write: it is told once that is fenced off, or can't be.
    pub(super) fn fail_later(&mut self, failed: Failed) -> Option<Failed> {
        match &mut self.fault {
            Some(fault) if !fault.refuses => {
                fault.failed.push(failed);
                None
            }
            _ => Some(failed),
        }
    }

    /// The files of which a checkpoint that goes up to `position` leaves nothing to be read: they are forgotten.
    pub(super) fn discard(&mut self, position: u64) -> Vec<SegmentNumber> {
        let is_over = |at: usize| {
            let (number, _) = self.segments[at];
            let next = self.segments.get(at + 1);
            number < self.durable_segment && next.is_some_and(|(_, start)| *start <= position)
        };
        let over: Vec<SegmentNumber> =
            (0..self.segments.len()).take_while(|at| is_over(*at)).map(|at| self.segments[at].0).collect();
        self.segments.drain(..over.len());
        over
    }

    /// How many files the log has.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// About how many bytes wait for the disk: records that gather for the next write, and answers and events.
    pub(super) fn backlog_bytes(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |in_flight| in_flight.write.held);
        self.gathering.bytes.len() + in_flight + self.gathering.held
    }
}

/// What was not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Who waited for the write that the disk was given.
    pub(super) written: Vec<Waiting>,
    /// Who waited for the one behind it.
    pub(super) gathered: Vec<Waiting>,
    pub(super) changes: Vec<(GroupKey, Option<Revision>)>,
    /// The records of both.
    pub(super) records: [bytes::Bytes; 2],
    /// Calls that had failed before; now it is known that nobody knows what became of them.
    pub(super) failed: Vec<Failed>,
}

impl Pending {
    fn new(number: WriteNumber, batch: BatchNumber, segment: SegmentHeader, position: u64) -> Pending {
        Pending {
            number,
            batch,
            segment,
            begins: false,
            position,
            bytes: BatchBytes::new(segment.salt),
            waited: false,
            changes: Vec::new(),
            waiting: Vec::new(),
            held: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }
}

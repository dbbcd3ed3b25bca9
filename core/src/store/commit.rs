//! Group commit: what is being written, what gathers for the next write, and what waits for either.

use super::{Builtin, Command, Event, GroupKey, Kept};
use crate::call::{self, Answer, Caller, Outcome};
use crate::error::CallError;
use crate::key::JoinKey;
use crate::log::{Batch, BatchBytes, BatchNumber, Record, Salt};

/// Something that nobody may see before a batch is durable.
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
    Kept(Kept),
    /// The leave of a join.
    Left(JoinKey),
}

impl Waiting {
    /// About how many bytes of memory it holds on to beside what is stored.
    fn size_hint(&self) -> usize {
        match self {
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
            Waiting::Kept(kept) => kept.size_hint(),
            Waiting::Left(_) => size_of::<Waiting>(),
        }
    }
}

/// A batch, or the beginning of one, on its way.
#[derive(Debug)]
struct Pending {
    /// Of the batch that its records are of; once the beginning of a batch is being written, of the batch before:
    /// that is what is durable when it is written.
    number: BatchNumber,
    position: u64,
    bytes: BatchBytes,
    /// Whether it is to be synced: it holds something that may be waited for. What is not synced changes no group,
    /// moves no clock and has nobody in `waiting`.
    sync: bool,
    /// The groups that it changes.
    groups: Vec<GroupKey>,
    /// In the order in which it is to be released.
    waiting: Vec<Waiting>,
    /// About how many bytes that holds on to.
    held: usize,
}

/// The batches on their way: at most one is being written, and one gathers what comes meanwhile.
///
/// When nothing gathers but records that nobody waits for, they are written as the beginning of a batch, without a
/// sync, and the batch goes on gathering under the same number. Whatever waits for that number, waits for the write
/// that is synced: its sync covers all that the file got before.
#[derive(Debug)]
pub(super) struct Commits {
    volatile: bool,
    salt: Salt,
    in_flight: Option<Pending>,
    gathering: Pending,
    failure: Option<String>,
}

impl Commits {
    /// Goes on in a log with batch `next`, at `position`.
    pub(super) fn new(next: BatchNumber, position: u64, salt: Salt) -> Commits {
        let gathering = Pending::new(next, position, salt);
        Commits { volatile: false, salt, in_flight: None, gathering, failure: None }
    }

    /// For a store without a log: its owner calls every batch durable at once.
    pub(super) fn volatile() -> Commits {
        Commits { volatile: true, ..Commits::new(BatchNumber(1), 0, Salt([0; 8])) }
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.volatile
    }

    /// Why no writes are taken, if they are not.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Adds a record to the batch that gathers.
    pub(super) fn append(&mut self, record: &Record<'_>) -> BatchNumber {
        let Pending { number, position, bytes, sync, .. } = &mut self.gathering;
        bytes.append(*number, *position, record);
        *sync |= record.is_waited_for();
        *number
    }

    /// The batch that gathers changes this group: called once a group and batch.
    pub(super) fn note_dirty(&mut self, group: GroupKey) {
        self.gathering.groups.push(group);
    }

    /// The last batch that holds a change and is not durable. What is written without a sync holds none: who saw all
    /// groups has seen nothing of it, and need not wait for it.
    pub(super) fn head(&self) -> Option<BatchNumber> {
        let last = if self.gathering.sync { Some(&self.gathering) } else { self.being_synced() };
        last.map(|batch| batch.number)
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.gathering.is_empty()
    }

    fn being_synced(&self) -> Option<&Pending> {
        self.in_flight.as_ref().filter(|batch| batch.sync)
    }

    /// Keeps something until batch `head` is durable; gives it back if that is so already.
    pub(super) fn wait(&mut self, head: BatchNumber, waiting: Waiting) -> Option<Waiting> {
        let batch = match self.in_flight.as_mut().filter(|batch| batch.sync) {
            Some(batch) if head <= batch.number => batch,
            None if head < self.gathering.number => return Some(waiting),
            _ => &mut self.gathering,
        };
        assert!(batch.sync, "what is waited for is synced");
        batch.held += waiting.size_hint();
        batch.waiting.push(waiting);
        None
    }

    /// What is to be written now, if there is something and nothing is being written.
    pub(super) fn seal(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() || self.gathering.is_empty() || self.volatile {
            return None;
        }
        let Pending { number, position, sync, .. } = self.gathering;
        let after = position + self.gathering.bytes.len() as u64;
        let next = if sync { number.next() } else { number };
        let mut written = std::mem::replace(&mut self.gathering, Pending::new(next, after, self.salt));
        let bytes = std::mem::replace(&mut written.bytes, BatchBytes::new(self.salt));
        let bytes = if sync { bytes.seal() } else { bytes.leave_open() };
        // Nothing else is being written, so all before the batch that gathers is durable.
        written.number = next.previous();
        let number = written.number;
        self.in_flight = Some(written);
        Some(Batch { number, position, bytes, sync })
    }

    /// The write under way is done, and everything up to `through` is durable: the groups that it changed, and what
    /// waited for it.
    pub(super) fn persisted(&mut self, through: BatchNumber) -> Option<(Vec<GroupKey>, Vec<Waiting>)> {
        if self.volatile {
            let Pending { number, position, .. } = self.gathering;
            let done =
                std::mem::replace(&mut self.gathering, Pending::new(number.next(), position, self.salt));
            return Some((done.groups, done.waiting));
        }
        let done = self.in_flight.take_if(|batch| batch.number <= through)?;
        Some((done.groups, done.waiting))
    }

    /// Gives everything up, for good.
    pub(super) fn failed(&mut self, reason: &str) -> (Vec<GroupKey>, Vec<Waiting>) {
        self.failure = Some(reason.to_owned());
        let Pending { number, position, .. } = self.gathering;
        let gathered = std::mem::replace(&mut self.gathering, Pending::new(number, position, self.salt));
        let (mut groups, mut waiting) =
            self.in_flight.take().map_or_else(Default::default, |batch| (batch.groups, batch.waiting));
        groups.extend(gathered.groups);
        waiting.extend(gathered.waiting);
        (groups, waiting)
    }

    /// About how many bytes wait for the disk: records that gather for the next write, and answers and events.
    pub(super) fn backlog_bytes(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |batch| batch.held);
        self.gathering.bytes.len() + in_flight + self.gathering.held
    }
}

impl Pending {
    fn new(number: BatchNumber, position: u64, salt: Salt) -> Pending {
        Pending {
            number,
            position,
            bytes: BatchBytes::new(salt),
            sync: false,
            groups: Vec::new(),
            waiting: Vec::new(),
            held: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }
}

//! Group commit: what is being written, what gathers for the next write, and what waits for either.

use super::{Builtin, Command, Event, GroupKey};
use crate::call::{self, Answer, Caller, Outcome};
use crate::error::CallError;
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
            Waiting::Event(event) => event.size_hint(),
        }
    }
}

/// A batch, on its way.
#[derive(Debug)]
struct Pending {
    number: BatchNumber,
    position: u64,
    bytes: BatchBytes,
    /// The groups that it changes.
    groups: Vec<GroupKey>,
    /// In the order in which it is to be released.
    waiting: Vec<Waiting>,
    /// About how many bytes that holds on to.
    held: usize,
}

/// The batches on their way: at most one is being written, and one gathers what comes meanwhile.
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
        let Pending { number, position, bytes, .. } = &mut self.gathering;
        bytes.append(*number, *position, record);
        *number
    }

    /// The batch that gathers changes this group: called once a group and batch.
    pub(super) fn note_dirty(&mut self, group: GroupKey) {
        self.gathering.groups.push(group);
    }

    /// The last batch that is not durable.
    pub(super) fn head(&self) -> Option<BatchNumber> {
        let last = if self.gathering.is_empty() { self.in_flight.as_ref() } else { Some(&self.gathering) };
        last.map(|batch| batch.number)
    }

    /// Keeps something until batch `head` is durable; gives it back if that is so already.
    pub(super) fn wait(&mut self, head: BatchNumber, waiting: Waiting) -> Option<Waiting> {
        let batch = match &mut self.in_flight {
            Some(batch) if head <= batch.number => batch,
            None if head < self.gathering.number => return Some(waiting),
            _ => &mut self.gathering,
        };
        batch.held += waiting.size_hint();
        batch.waiting.push(waiting);
        None
    }

    /// What is to be written now, if there is something and nothing is being written.
    pub(super) fn seal(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() || self.gathering.is_empty() || self.volatile {
            return None;
        }
        let Pending { number, position, .. } = self.gathering;
        let after = position + self.gathering.bytes.len() as u64;
        let mut sealed =
            std::mem::replace(&mut self.gathering, Pending::new(number.next(), after, self.salt));
        let bytes = std::mem::replace(&mut sealed.bytes, BatchBytes::new(self.salt)).seal();
        self.in_flight = Some(sealed);
        Some(Batch { number, position, bytes })
    }

    /// Everything up to `through` is durable: the groups that it changed, and what waited for it.
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
            groups: Vec::new(),
            waiting: Vec::new(),
            held: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }
}

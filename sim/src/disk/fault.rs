//! Faults of a simulated disk: it is full, or it can't write or sync, and later it can again.

use std::io;

use crate::random::Random;

/// What goes wrong with a disk, from when on, and for how long.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What fails.
    pub kind: FaultKind,
    /// So many operations, of any kind, are done before it.
    pub after: u64,
    /// So many of those that it is about fail; then it is over.
    pub failing: u64,
    /// Draws how much of a write or a sync that fails is done.
    pub random: Random,
}

/// What fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Whatever needs room (`ENOSPC`): a new file, and each write, as it can't be known which of them needs more.
    Full,
    /// Every change of a file or a name (`EIO`).
    Write,
    /// Every sync, of a file or of the names (`EIO`).
    Sync,
}

/// What an operation of the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// It takes room.
    Fill,
    /// It changes something and takes no room.
    Change,
    /// It makes something durable.
    Sync,
}

/// What is wrong with a disk.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    /// How many operations there were.
    pub(super) operations: u64,
    /// How many operations have failed.
    pub(super) failed: u64,
}

/// Why an operation fails, and how much of it is done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: io::Error,
    pub(super) random: Random,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// Counts an operation, and says why it fails if it does.
    pub(super) fn meet(&mut self, operation: Operation) -> Option<Failure> {
        self.operations += 1;
        let mut failure = None;
        for fault in &mut self.faults {
            if fault.after > 0 {
                fault.after -= 1;
            } else if failure.is_none() && fault.kind.hits(operation) {
                fault.failing -= 1;
                failure = Some(Failure { error: fault.kind.error(), random: fault.random.fork() });
            }
        }
        self.faults.retain(|fault| fault.failing > 0);
        self.failed += u64::from(failure.is_some());
        failure
    }
}

impl FaultKind {
    fn hits(self, operation: Operation) -> bool {
        match self {
            FaultKind::Full => operation == Operation::Fill,
            FaultKind::Write => operation != Operation::Sync,
            FaultKind::Sync => operation == Operation::Sync,
        }
    }

    /// As the system says it.
    fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(if self == FaultKind::Full { ENOSPC } else { EIO })
    }
}

//! What can go wrong with a checkpoint.

use std::any::Any;
use std::io;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use super::VERSION;
use headwater_core::store::saved::{BadEntry, StateError};

/// Why a checkpoint can't be read or written. The sentences name no folder: the caller knows which it is.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refuses something.
    #[error("the checkpoint can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// The file was changed after it was written.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(String),
    /// An entry of it was.
    #[error("the checkpoint is damaged: the entry of {what} can't be read")]
    Entry {
        /// Whose.
        what: String,
    },
    /// A newer Headwater has written it.
    #[error(
        "the checkpoint has format version {0}, this program reads version {VERSION}: use a newer Headwater"
    )]
    Newer(u64),
    /// There are more names than anybody could be told.
    #[error("the names of all groups are more than {0} bytes long")]
    TooManyNames(usize),
}

impl CheckpointError {
    /// Whether the database is of no more use. It does nothing any more after the first error of its file.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, CheckpointError::Io(_) | CheckpointError::Damaged(_))
    }

    /// The database came upon something that it did not expect in its own file.
    pub(super) fn of_panic(panic: &(dyn Any + Send)) -> CheckpointError {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it can't be understood");
        CheckpointError::Damaged(text.to_owned())
    }

    pub(super) fn entry(what: impl ToString) -> impl FnOnce(BadEntry) -> CheckpointError {
        move |BadEntry| CheckpointError::Entry { what: what.to_string() }
    }
}

impl From<StateError> for CheckpointError {
    fn from(error: StateError) -> CheckpointError {
        match error {
            StateError::Damaged => CheckpointError::Entry { what: "its state".to_owned() },
            StateError::Newer(version) => CheckpointError::Newer(version),
        }
    }
}

impl From<StorageError> for CheckpointError {
    fn from(error: StorageError) -> CheckpointError {
        match error {
            // A file that ends before its contents do, or that does not begin as one.
            StorageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                CheckpointError::Damaged(error.to_string())
            }
            StorageError::Io(error) => CheckpointError::Io(error),
            StorageError::PreviousIo | StorageError::DatabaseClosed => {
                CheckpointError::Io(io::Error::other("an earlier operation failed"))
            }
            StorageError::Corrupted(what) => CheckpointError::Damaged(what),
            other => CheckpointError::Damaged(other.to_string()),
        }
    }
}

impl From<DatabaseError> for CheckpointError {
    fn from(error: DatabaseError) -> CheckpointError {
        match error {
            DatabaseError::Storage(error) => error.into(),
            other => CheckpointError::Damaged(other.to_string()),
        }
    }
}

impl From<TableError> for CheckpointError {
    fn from(error: TableError) -> CheckpointError {
        match error {
            TableError::Storage(error) => error.into(),
            other => CheckpointError::Damaged(other.to_string()),
        }
    }
}

impl From<TransactionError> for CheckpointError {
    fn from(error: TransactionError) -> CheckpointError {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => CheckpointError::Damaged(other.to_string()),
        }
    }
}

impl From<CommitError> for CheckpointError {
    fn from(error: CommitError) -> CheckpointError {
        match error {
            CommitError::Storage(error) => error.into(),
            other => CheckpointError::Damaged(other.to_string()),
        }
    }
}

//! An export of a server that is stopped: of its folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use headwater_core::Core;
use headwater_core::config::CoreConfig;
use tokio::sync::mpsc;

use super::Wanted;
use super::contents::{CHUNKS, Contents, send};
use crate::platform::{Platform, System};
use crate::store::{self, Folder, OpenError};

/// Why a folder can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no store.
    #[error("there is no store in it")]
    NoStore,
    /// A server runs on it.
    #[error("it is in use by a running Headwater (process {0}): ask that with `--url`")]
    InUse(String),
    /// It can't be opened.
    #[error("{error}{}", error.hint(folder))]
    Store {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        error: OpenError,
    },
}

/// Starts to read what a folder holds: gives it in pieces.
pub fn export_folder(path: &Path, wanted: &Wanted) -> Result<mpsc::Receiver<Bytes>, FolderError> {
    match begin(path, wanted) {
        Ok(Some(chunks)) => Ok(chunks),
        Ok(None) => Err(FolderError::NoStore),
        Err(OpenError::InUse { holder }) => Err(FolderError::InUse(holder)),
        Err(error) => Err(FolderError::Store { folder: path.to_owned(), error }),
    }
}

/// `None` if there is nothing of a store.
fn begin(path: &Path, wanted: &Wanted) -> Result<Option<mpsc::Receiver<Bytes>>, OpenError> {
    // A path that is wrong must not give an export of nothing, nor become a store.
    let Some(folder) = Folder::lock_store(path)? else { return Ok(None) };
    let (checkpoint, recovered) = store::read(&folder)?;
    let platform = System::new();
    let core = Core::recovered(CoreConfig::default(), platform.entropy(), platform.now(), recovered);
    let (from, until) = wanted.range();
    let until = until.as_ref().map(|(stream, group)| (&**stream, &**group));
    let scan = checkpoint.scan_range(from, until)?;
    let contents = Contents::new(core.groups_in_memory(), scan, wanted);
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    let sending = async move {
        send(contents, chunks).await;
        // Locked until it was read.
        drop(folder);
    };
    let spawned = platform.spawn_thread("export", sending);
    spawned.map_err(|error| OpenError::Io { doing: "start a thread", error })?;
    Ok(Some(receiver))
}

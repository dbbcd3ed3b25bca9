//! The threads that write and read the checkpoint.

use headwater_core::Input;
use headwater_core::store::{Load, Loaded, Save};
use tokio::sync::mpsc;

use super::Checkpoint;
use crate::store::Disk;

/// Writes parts of checkpoints until there are no more, and says of each whether it is durable. Blocks: it has a thread
/// of its own.
pub(crate) async fn run_saver<D: Disk>(
    checkpoint: Checkpoint<D>,
    mut saves: mpsc::Receiver<Save>,
    done: mpsc::Sender<Input>,
) {
    while let Some(save) = saves.recv().await {
        let input = match checkpoint.save(&save) {
            Ok(()) => Input::Saved,
            Err(error) => {
                tracing::warn!(%error, "no checkpoint can be made: the log grows until one can");
                Input::SaveFailed { reason: error.to_string() }
            }
        };
        // What it holds of items is not kept longer than it takes.
        drop(save);
        if done.send(input).await.is_err() {
            return;
        }
    }
}

/// Reads what the core asks for until it asks for no more. Names are read up to `max_names` bytes. Blocks: it has a
/// thread of its own.
pub(crate) async fn run_loader<D: Disk>(
    checkpoint: Checkpoint<D>,
    max_names: usize,
    mut loads: mpsc::Receiver<Load>,
    done: mpsc::Sender<Input>,
) {
    while let Some(load) = loads.recv().await {
        let result = match &load {
            Load::Group(path) => checkpoint.load_group(path).map(Loaded::Group),
            Load::Names(stream) => checkpoint.load_names(stream.as_ref(), max_names).map(Loaded::Names),
        };
        let result = result.map_err(|error| {
            tracing::warn!(%error, "the checkpoint can't be read");
            error.to_string()
        });
        if done.send(Input::Loaded { load, result }).await.is_err() {
            return;
        }
    }
}

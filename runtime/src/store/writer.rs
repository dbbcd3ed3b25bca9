//! The log writer: one write and one sync a batch.

use headwater_core::Input;
use headwater_core::log::Batch;
use tokio::sync::mpsc;

use super::{Disk, LogFile};

/// Writes batches until there are no more, and says of each whether it is durable. Blocks: it has a thread of its own.
///
/// It never waits for the core: there is at most one batch under way, so there is always room for its answer.
pub(crate) async fn write_log<D: Disk>(
    // Held for as long as something may be written: with it goes the folder's lock.
    _disk: D,
    mut file: D::File,
    mut batches: mpsc::Receiver<Batch>,
    done: mpsc::Sender<Input>,
) {
    while let Some(batch) = batches.recv().await {
        let written = file.write_at(batch.position, &batch.bytes).and_then(|()| file.sync());
        let input = match written {
            Ok(()) => Input::Persisted { through: batch.number },
            Err(error) => {
                tracing::error!(%error, batch = batch.number.0, "the log can't be written: no more writes are taken");
                let reason =
                    format!("writing the log failed ({error}); mend the disk and restart the server");
                Input::PersistFailed { reason }
            }
        };
        if done.send(input).await.is_err() {
            return;
        }
    }
}

//! The log writer: carries out what the core wants done with the log.

use headwater_core::Input;
use headwater_core::log::{SegmentNumber, Write};
use tokio::sync::mpsc;

use super::Disk;
use super::log::Log;

/// Something to be done with the log.
#[derive(Debug)]
pub(crate) enum LogTask {
    /// Write this, and say whether it is done.
    Write(Write),
    /// These files are not needed any more.
    Discard(Vec<SegmentNumber>),
}

/// Does what it is told until there is nothing more. Blocks: it has a thread of its own.
///
/// It never waits for the core: there is at most one write under way, so there is always room for its answer.
pub(crate) async fn write_log<D: Disk>(
    mut log: Log<D>,
    mut tasks: mpsc::Receiver<LogTask>,
    done: mpsc::Sender<Input>,
) {
    let mut failing = false;
    while let Some(task) = tasks.recv().await {
        let write = match task {
            LogTask::Write(write) => write,
            LogTask::Discard(segments) => {
                if let Err(error) = log.discard(&segments) {
                    tracing::warn!(%error, "files of the log that are not needed any more can't be removed");
                }
                continue;
            }
        };
        let input = match log.write(&write) {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(segment = %write.segment.file_name(), "the log is written again, in a new file");
                }
                Input::Persisted { through: write.number }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, segment = %write.segment.file_name(), "the log can't be written");
                }
                Input::PersistFailed { reason: format!("writing the log failed: {error}") }
            }
        };
        if done.send(input).await.is_err() {
            return;
        }
    }
}

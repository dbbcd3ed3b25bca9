//! The log writer: one write and one sync a batch, or a write alone where nobody waits for more.

use headwater_core::Input;
use headwater_core::log::Batch;
use tokio::sync::mpsc;

use super::{Disk, DiskFile};

/// Writes batches until there are no more, and says of each whether what it asks for is done. Blocks: it has a thread of its own.
///
/// It never waits for the core: there is at most one batch under way, so there is always room for its answer.
pub(crate) async fn write_log<D: Disk>(
    // Held for as long as something may be written: with it goes the folder's lock.
    _disk: D,
    file: D::File,
    mut batches: mpsc::Receiver<Batch>,
    done: mpsc::Sender<Input>,
) {
    while let Some(batch) = batches.recv().await {
        let written = file.write_at(batch.position, &batch.bytes).and_then(|()| match batch.sync {
            true => file.sync(),
            false => Ok(()),
        });
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use headwater_core::log::BatchNumber;

    use super::*;

    /// A disk that keeps what was done to its file.
    #[derive(Clone, Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Recorder {
        fn done(&self, what: String) -> io::Result<()> {
            self.0.lock().map_err(|_| io::Error::other("poisoned"))?.push(what);
            Ok(())
        }
    }

    impl Disk for Recorder {
        type File = Recorder;

        fn list(&self) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn open(&self, _name: &str) -> io::Result<Option<Recorder>> {
            Ok(Some(self.clone()))
        }

        fn create(&self, _name: &str) -> io::Result<Recorder> {
            Ok(self.clone())
        }

        fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self, _name: &str) -> io::Result<()> {
            Ok(())
        }

        fn sync_names(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl DiskFile for Recorder {
        fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.done(format!("write {} at {offset}", bytes.len()))
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.done(format!("cut to {len}"))
        }

        fn sync(&self) -> io::Result<()> {
            self.done("sync".to_owned())
        }
    }

    #[tokio::test]
    async fn a_batch_is_synced_before_it_is_answered_if_it_asks_for_that_and_else_only_written() {
        let disk = Recorder::default();
        let (log, batches) = mpsc::channel(1);
        let (done, mut written) = mpsc::channel(1);
        let writer = tokio::spawn(write_log(disk.clone(), disk.clone(), batches, done));
        for (number, position, sync) in [(1, 40, true), (1, 43, false), (2, 46, true)] {
            let number = BatchNumber(number);
            let batch = Batch { number, position, bytes: vec![0; 3].into(), sync };
            log.send(batch).await.expect("the writer takes it");
            assert_eq!(written.recv().await, Some(Input::Persisted { through: number }));
            let answered = format!("answered {}", number.0);
            disk.done(answered).expect("the list can be written");
        }
        drop(log);
        writer.await.expect("the writer ends");
        insta::assert_debug_snapshot!(disk.0.lock().expect("nobody panicked"), @r#"
        [
            "write 3 at 40",
            "sync",
            "answered 1",
            "write 3 at 43",
            "answered 1",
            "write 3 at 46",
            "sync",
            "answered 2",
        ]
        "#);
    }
}

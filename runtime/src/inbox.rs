//! The way to the core: one bounded queue for everything that connections have to tell.

use std::sync::Arc;

use bytes::Bytes;
use headwater_core::Input;
use headwater_core::key::{SessionKey, WorkerKey};
use headwater_core::name::Target;
use headwater_core::wire::stream::{Handshake, StreamError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use crate::backup::Wanted;
use crate::mailbox::{SessionMailbox, WorkerMailbox};
use crate::socket::Handed;

/// What connections tell the engine.
#[derive(Debug)]
pub(crate) enum Message {
    /// A worker connected, and takes frames here.
    WorkerConnected { worker: WorkerKey, mailbox: Arc<WorkerMailbox> },
    /// A subscriber connected, and takes frames here.
    SessionConnected {
        session: SessionKey,
        mailbox: Arc<SessionMailbox>,
        handshake: Handshake,
        join: Option<Result<Target, StreamError>>,
    },
    /// A worker's mailbox was crowded, so that the engine set aside what it sent; it is not any more.
    WorkerUncrowded { worker: WorkerKey },
    /// Somebody wants all that is stored, as it is at one moment: as lines, in pieces, or why not.
    Export { wanted: Wanted, answer: oneshot::Sender<Result<mpsc::Receiver<Bytes>, String>> },
    /// Anything else. A frame holds its share of the inbox's bytes until it was handled.
    Input { input: Input, share: Option<OwnedSemaphorePermit> },
}

/// The sending end of the queue. Full means that the sender waits, and with it its socket: the peer is slowed down.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    messages: mpsc::Sender<Message>,
    bytes: Arc<Semaphore>,
    capacity: u32,
}

/// The engine is gone: the server is stopping.
#[derive(Debug)]
pub(crate) struct Gone;

impl Inbox {
    /// A queue of at most `messages` messages and `bytes` bytes of frames.
    pub(crate) fn new(messages: usize, bytes: usize) -> (Inbox, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(messages);
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX);
        (Inbox { messages: sender, bytes: Arc::new(Semaphore::new(capacity as usize)), capacity }, receiver)
    }

    /// Hands in a frame that was `bytes` long. One that is larger than the whole queue takes all of it. If there
    /// is no room for it now, what comes back waits for that.
    pub(crate) fn frame(&self, bytes: usize, input: Input) -> Result<Handed, Gone> {
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity);
        match (Arc::clone(&self.bytes).try_acquire_many_owned(share), self.messages.try_reserve()) {
            (Ok(share), Ok(place)) => {
                place.send(Message::Input { input, share: Some(share) });
                Ok(Handed::Yes)
            }
            (Err(TryAcquireError::Closed), _) | (_, Err(TrySendError::Closed(()))) => Err(Gone),
            _ => {
                let inbox = self.clone();
                Ok(Handed::Waits(Box::pin(async move {
                    let share = inbox.bytes.acquire_many_owned(share).await.map_err(|_| Gone)?;
                    let message = Message::Input { input, share: Some(share) };
                    inbox.messages.send(message).await.map_err(|_| Gone)
                })))
            }
        }
    }

    /// Hands in something small.
    pub(crate) async fn input(&self, input: Input) -> Result<(), Gone> {
        self.send(Message::Input { input, share: None }).await
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }
}

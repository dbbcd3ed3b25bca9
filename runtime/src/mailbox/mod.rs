//! What waits to be sent on one connection, between the engine or a delivery shard, who put frames in and never
//! wait, and the connection's own task, which sends what its socket does not take at once.

mod subscriber;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub(crate) use subscriber::{Push, SessionMailbox, SessionQueue, SharedSync, encode};
pub(crate) use worker::{NoRoom, WorkerMailbox, WorkerQueue};

use crate::frame;
use crate::metrics::Metrics;
use crate::wire::{Taking, Wire};

/// A queue of frames to one peer.
pub(crate) trait Queue {
    /// What is queued, not encoded yet where encoding is work: that is done by the connection's task.
    type Frame: Encode;

    fn pop(&mut self) -> Option<Self::Frame>;

    /// Whether the next frame, if there is one, is encoded already.
    fn is_prepared(&self) -> bool;

    fn is_empty(&self) -> bool;

    /// Whether so much waits that nothing more should be read from the peer.
    fn is_crowded(&self) -> bool;

    /// Drops all that waits.
    fn clear(&mut self);
}

/// What can be put on its way.
pub(crate) trait Encode {
    /// Does so, and tells how many bytes it has.
    fn encode(self, wire: &mut Wire) -> usize;
}

/// A queue, the way from it to the socket, and the task that runs the connection.
///
/// `wire` is locked before `state`, and never the other way round.
#[derive(Debug)]
pub(crate) struct Mailbox<Q> {
    state: Mutex<State<Q>>,
    wire: Mutex<Wire>,
    /// The connection's task, when it waits for something here to change.
    task: AtomicWaker,
    opened: Instant,
    /// When the peer last sent something, in milliseconds since it was opened.
    read_at: AtomicU64,
    /// Nothing is read from the peer for now: that it is silent says nothing.
    pauses: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State<Q> {
    queue: Q,
    /// Frames were taken out that may not have reached the socket.
    sending: bool,
    /// The connection's task waits until all that was queued has left.
    draining: bool,
    /// The engine has set aside what the peer sent, until the queue is not crowded.
    parked: bool,
    /// The engine is to be told when the queue is not crowded.
    tells: bool,
    /// The core has let the peer in; one whose handshake does not wait for that is in anyway.
    admitted: bool,
    /// It is in the shard's list of those that have something to send.
    listed: bool,
    /// Closed to new frames.
    closed: bool,
    /// How to say goodbye once all that is queued was sent.
    closing: Option<CloseFrame>,
}

/// How the sending on a connection ends.
#[derive(Debug)]
pub(crate) enum SendingEnded {
    /// The socket takes nothing any more.
    Gone,
    /// All that was queued has left, and this is to be said.
    Closing(CloseFrame),
}

/// A peer's last sign of life.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It sent something, or took something that had waited for it.
    At(Instant),
    /// It has taken nothing since, of what is on its way.
    StuckSince(Instant),
}

/// How far a try to send came.
enum Sent {
    /// To the end of the queue, or to where the socket takes no more for now.
    Enough,
    /// To a frame that is to be encoded first.
    Unprepared,
    Ended(SendingEnded),
}

impl<Q: Queue> Mailbox<Q> {
    pub(crate) fn new(queue: Q, metrics: Arc<Metrics>) -> Mailbox<Q> {
        Mailbox {
            state: Mutex::new(State {
                queue,
                sending: false,
                draining: false,
                parked: false,
                tells: false,
                admitted: false,
                listed: false,
                closed: false,
                closing: None,
            }),
            wire: Mutex::default(),
            task: AtomicWaker::new(),
            opened: Instant::now(),
            read_at: AtomicU64::new(0),
            pauses: AtomicBool::new(false),
            metrics,
        }
    }

    /// Opens the way out, for as long as the guard lives.
    pub(crate) fn attach(&self, socket: impl AsyncWrite + Send + Unpin + 'static) -> Attached<'_, Q> {
        self.wire().attach(Box::new(socket));
        Attached(self)
    }

    /// Takes no more frames, and closes the connection once all that is queued was sent.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.closed = true;
        state.closing = Some(CloseFrame { code, reason: reason.into() });
        drop(state);
        self.task.wake();
    }

    /// Takes no more frames, and drops those that wait: nothing may follow a goodbye.
    pub(crate) fn shut(&self) {
        let mut state = self.state();
        state.closed = true;
        state.queue.clear();
    }

    /// The same, and drops what is on its way, but for a frame that was begun: the peer takes nothing.
    pub(crate) fn cut(&self) {
        self.metrics.stuck.inc();
        self.wire().cut();
        self.shut();
    }

    /// Sends what is queued, to the end of the connection. For the connection's task alone.
    pub(crate) fn poll_send(&self, cx: &Context<'_>) -> Poll<SendingEnded> {
        self.task.register(cx.waker());
        let mut wire = self.wire();
        wire.set_task(cx.waker());
        match self.send(&mut wire, true) {
            Sent::Ended(ended) => Poll::Ready(ended),
            Sent::Enough | Sent::Unprepared => Poll::Pending,
        }
    }

    /// Sends what was begun, and no more; ready when all of it has left, or nothing leaves any more.
    pub(crate) fn poll_drain(&self, cx: &Context<'_>) -> Poll<()> {
        let mut wire = self.wire();
        wire.set_task(cx.waker());
        match wire.poll_send() {
            Poll::Pending if !wire.has_failed() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Puts what the WebSocket library wrote on its way, behind all that is there.
    pub(crate) fn poll_push(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let pushed = self.wire().poll_push(cx, bytes);
        if pushed.is_ready() {
            // It is the task that sends which calls this: it runs again.
            cx.waker().wake_by_ref();
        }
        pushed
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&self) {
        let mut wire = self.wire();
        // Else it is sent more than it takes already.
        if wire.is_empty() {
            wire.push(frame::PING);
            drop(wire);
            self.task.wake();
        }
    }

    fn send(&self, wire: &mut Wire, encodes: bool) -> Sent {
        loop {
            match wire.poll_send() {
                _ if wire.has_failed() => return Sent::Ended(SendingEnded::Gone),
                Poll::Pending => return Sent::Enough,
                Poll::Ready(()) => {}
            }
            let mut taken = 0;
            while wire.has_room(taken) {
                let mut state = self.state();
                if !encodes && !state.queue.is_prepared() {
                    return Sent::Unprepared;
                }
                let crowded = state.queue.is_crowded();
                let Some(frame) = state.queue.pop() else {
                    if wire.is_empty() {
                        state.sending = false;
                        let wakes = state.draining;
                        let closing = if encodes { state.closing.take() } else { None };
                        drop(state);
                        if wakes {
                            self.task.wake();
                        }
                        return closing
                            .map_or(Sent::Enough, |close| Sent::Ended(SendingEnded::Closing(close)));
                    }
                    break;
                };
                state.sending = true;
                let uncrowded = crowded && !state.queue.is_crowded();
                drop(state);
                if uncrowded {
                    self.task.wake();
                }
                taken += frame.encode(wire);
            }
        }
    }

    /// The peer has sent something.
    pub(crate) fn has_read(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.read_at.store(since, Ordering::Relaxed);
    }

    /// When the peer was last seen to live. It can't be seen while nothing is read from it.
    pub(crate) fn seen(&self) -> Seen {
        let taking = self.wire().taking();
        let read_at = self.opened + Duration::from_millis(self.read_at.load(Ordering::Relaxed));
        match taking {
            Taking::StuckSince(since) => Seen::StuckSince(since),
            _ if self.pauses.load(Ordering::Relaxed) => Seen::At(Instant::now()),
            Taking::LastAt(at) => Seen::At(read_at.max(at)),
            Taking::All => Seen::At(read_at),
        }
    }

    /// Waits for something that reading from the peer waits for.
    pub(crate) async fn pause<T>(&self, wait: impl Future<Output = T>) -> T {
        self.pauses.store(true, Ordering::Relaxed);
        let waited = wait.await;
        self.pauses.store(false, Ordering::Relaxed);
        self.has_read();
        waited
    }

    /// Whether reading from the peer can go on: its answers are no crowd, and nothing that it sent is set aside.
    pub(crate) fn is_uncrowded(&self) -> bool {
        let state = self.state();
        !state.queue.is_crowded() && !state.parked
    }

    /// Waits until reading from the peer can go on.
    pub(crate) async fn uncrowded(&self) {
        self.wait(|| self.is_uncrowded()).await;
    }

    /// Whether what the peer has sent is to wait, because its answer would. Then [`Mailbox::unparked`] tells when
    /// it need not any more, and nothing is read from the peer until [`Mailbox::unpark`].
    pub(crate) fn park(&self) -> bool {
        let mut state = self.state();
        let crowded = state.queue.is_crowded() && !state.closed;
        state.parked |= crowded;
        state.tells |= crowded;
        crowded
    }

    /// Nothing is set aside any more.
    pub(crate) fn unpark(&self) {
        self.state().parked = false;
        self.task.wake();
    }

    /// Waits until something was parked and the queue is not crowded any more.
    pub(crate) async fn unparked(&self) {
        self.wait(|| {
            let mut state = self.state();
            let tells = state.tells && !state.queue.is_crowded();
            state.tells &= !tells;
            tells
        })
        .await;
    }

    /// Waits until `reached`. For the connection's task alone.
    async fn wait(&self, reached: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            self.task.register(cx.waker());
            if reached() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open way out. It ends with this, and with it the socket.
pub(crate) struct Attached<'a, Q: Queue>(&'a Mailbox<Q>);

impl<Q: Queue> Drop for Attached<'_, Q> {
    fn drop(&mut self) {
        self.0.wire().detach();
    }
}

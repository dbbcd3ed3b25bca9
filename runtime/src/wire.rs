//! The way out of one connection: whole frames, in their order, to a socket that may take only a part of them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// What is on its way to a socket. A frame that is here was begun: it leaves, whatever else is dropped.
#[derive(Default)]
pub(crate) struct Wire {
    /// `None` before the handshake is answered, and after the end.
    socket: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Of the first of them, what is left.
    pieces: VecDeque<Piece>,
    /// Whether a part of the frame that the first is of has left.
    begun: bool,
    /// Small frames that become one of `pieces` together.
    small: Vec<u8>,
    /// Woken when the socket takes more.
    task: Option<Waker>,
    /// The socket took less than there was; its task is woken when it takes more.
    blocked: bool,
    taking: Taking,
    failed: bool,
    /// Who wrote as much as may wait, and goes on when it has left.
    waits: Option<Waker>,
}

/// A whole frame, or a part of one.
struct Piece {
    bytes: Bytes,
    /// Its frame ends with it.
    ends: bool,
}

/// Whether a peer takes what is on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Taking {
    /// It has always taken it at once.
    #[default]
    All,
    /// It last took something that had waited for it.
    LastAt(Instant),
    /// It has taken nothing of what waits for it.
    StuckSince(Instant),
}

/// The most pieces that are handed to the system at once.
const PIECES: usize = 64;
/// No more is taken out of a queue, where it can still be dropped, while as much as this is on its way.
const ENOUGH: usize = 64 << 10;
/// More pieces than are taken out of a queue, and so many that a peer that asks for answers and reads none waits.
const CROWD: usize = 2 * PIECES;
/// As much as gathers before it becomes one piece.
const SMALL: usize = 16 << 10;

impl Wire {
    /// Frames leave through this from now on, and whoever runs as `task` sends what the socket did not take at once.
    pub(crate) fn attach(&mut self, socket: Box<dyn AsyncWrite + Send + Unpin>) {
        self.socket = Some(socket);
    }

    /// Lets go of the socket and of what has not left.
    pub(crate) fn detach(&mut self) {
        *self = Wire { failed: true, ..Wire::default() };
    }

    /// Who is woken when the socket takes more.
    pub(crate) fn set_task(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            self.task = Some(task.clone());
        }
    }

    /// Whether something could be sent now.
    pub(crate) fn is_open(&self) -> bool {
        self.socket.is_some() && !self.blocked
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether more is to be taken out of the queue; `taken`: how much was since the wire was empty.
    pub(crate) fn has_room(&self, taken: usize) -> bool {
        self.pieces.len() < PIECES && taken < ENOUGH
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Puts a whole frame behind the others.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.push_parts([frame]);
    }

    /// Puts a frame behind the others that comes in parts.
    pub(crate) fn push_parts<const N: usize>(&mut self, parts: [Bytes; N]) {
        self.seal();
        let parts = parts.into_iter().enumerate();
        self.pieces.extend(parts.map(|(at, bytes)| Piece { bytes, ends: at + 1 == N }));
    }

    /// Puts a frame behind the others that shares memory with those around it.
    pub(crate) fn push_small(&mut self, frame: &[u8]) {
        self.small.extend_from_slice(frame);
        if self.small.len() > SMALL {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            let bytes = std::mem::take(&mut self.small).into();
            self.pieces.push_back(Piece { bytes, ends: true });
        }
    }

    /// Puts bytes behind the others that the WebSocket library wrote, all of them. It waits while there are too many.
    pub(crate) fn poll_push(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.pieces.len() >= CROWD {
            self.waits = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.push(Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(()))
    }

    /// Drops all that was not begun.
    pub(crate) fn cut(&mut self) {
        self.small.clear();
        let end = self.pieces.iter().position(|piece| piece.ends);
        self.pieces.truncate(end.filter(|_| self.begun).map_or(0, |end| end + 1));
    }

    /// Whether the peer takes what is here.
    pub(crate) fn taking(&self) -> Taking {
        self.taking
    }

    /// Sends what is here; ready when all of it has left.
    pub(crate) fn poll_send(&mut self) -> Poll<()> {
        self.seal();
        let (Some(socket), Some(task)) = (&mut self.socket, &self.task) else { return Poll::Pending };
        let mut cx = Context::from_waker(task);
        while !self.pieces.is_empty() {
            match write(&mut **socket, &mut cx, &self.pieces) {
                Poll::Pending => {
                    self.blocked = true;
                    self.taking = match self.taking {
                        Taking::StuckSince(since) => Taking::StuckSince(since),
                        Taking::All | Taking::LastAt(_) => Taking::StuckSince(Instant::now()),
                    };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(len @ 1..)) => {
                    self.begun = advance(&mut self.pieces, len, self.begun);
                    if let Taking::StuckSince(_) = self.taking {
                        self.taking = Taking::LastAt(Instant::now());
                    }
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.failed = true;
                    self.pieces.clear();
                }
            }
        }
        // A socket has nothing to flush; what stands in for one may.
        self.blocked = true;
        self.failed |= ready!(Pin::new(&mut **socket).poll_flush(&mut cx)).is_err();
        self.blocked = false;
        if self.pieces.capacity() > PIECES {
            self.pieces = VecDeque::new();
        }
        if let Some(waits) = self.waits.take() {
            waits.wake();
        }
        Poll::Ready(())
    }
}

fn write(
    socket: &mut (dyn AsyncWrite + Send + Unpin),
    cx: &mut Context<'_>,
    pieces: &VecDeque<Piece>,
) -> Poll<io::Result<usize>> {
    if let [piece] = pieces.as_slices().0
        && pieces.len() == 1
    {
        return Pin::new(socket).poll_write(cx, &piece.bytes);
    }
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(&piece.bytes);
        count += 1;
    }
    Pin::new(socket).poll_write_vectored(cx, &slices[..count])
}

/// Takes off what has left. `begun` was, and then is, whether a part of the first frame has left before.
fn advance(pieces: &mut VecDeque<Piece>, mut len: usize, mut begun: bool) -> bool {
    while let Some(Piece { bytes, ends }) = pieces.front_mut() {
        if bytes.len() > len {
            bytes.advance(len);
            return begun || len > 0;
        }
        len -= bytes.len();
        begun = !*ends;
        pieces.pop_front();
    }
    begun
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("pieces", &self.pieces.len()).field("blocked", &self.blocked).finish()
    }
}

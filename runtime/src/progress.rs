//! Telling a peer that is slow from one that is gone: how many bytes have moved on its connection.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// Bytes that a connection has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved(Arc<AtomicU64>);

impl Moved {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Runs `future` for as long as it takes, but gives up when no byte has moved for `patience`.
    pub(crate) async fn or_stalled<T>(
        &self,
        patience: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let before = self.0.load(Ordering::Relaxed);
            match timeout(patience, &mut future).await {
                Ok(output) => return Some(output),
                Err(_) if self.0.load(Ordering::Relaxed) == before => return None,
                Err(_) => {}
            }
        }
    }
}

/// A connection that counts what it takes.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    stream: S,
    /// Bytes written.
    pub(crate) written: Moved,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S) -> Counted<S> {
        Counted { stream, written: Moved::default() }
    }

    /// The connection, not counted any more.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(len)) = polled {
            self.written.add(len);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_may_take_as_long_as_it_likes() {
        let (mut peer, own) = duplex(1);
        let mut own = Counted::new(own);
        tokio::spawn(async move {
            loop {
                sleep(PATIENCE * 9 / 10).await;
                peer.read_u8().await.expect("the other end writes");
            }
        });
        let moved = own.written.clone();
        assert!(moved.or_stalled(PATIENCE, own.write_all(&[0; 10])).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (_peer, own) = duplex(4);
        let mut own = Counted::new(own);
        let moved = own.written.clone();
        assert!(moved.or_stalled(PATIENCE, own.write_all(&[0; 10])).await.is_none());
    }
}

//! One WebSocket connection's life: frames in and out, signs of life, the end.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, ReadHalf};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::config::NetConfig;
use crate::inbox::Gone;
use crate::mailbox::{Attached, Mailbox, Queue, Seen, SendingEnded};

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) handshake: Duration,
    ping: Duration,
    pub(crate) idle: Duration,
    slow: Duration,
}

impl Timing {
    pub(crate) fn new(config: &NetConfig) -> Timing {
        Timing {
            handshake: Duration::from_millis(config.handshake_timeout_ms),
            ping: Duration::from_millis(config.ping_interval_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
            slow: Duration::from_millis(config.slow_timeout_ms),
        }
    }
}

/// How long a peer may take to hear that the connection ends.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How connections are closed when the server stops.
pub(crate) const STOPPING: (CloseCode, &str) = (CloseCode::Away, "the server is stopping");

/// The server's side of the WebSocket protocol, for messages of at most `max_message` bytes.
pub(crate) fn websocket_config(max_message: usize, read_buffer: usize) -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = read_buffer;
    // Whatever the library writes goes on its way at once, and whole.
    config.write_buffer_size = 0;
    // What finds no room on the way of a peer that takes nothing: then its pings are answered by the newest answer.
    config.max_write_buffer_size = 4 << 10;
    config.max_message_size = Some(max_message);
    config.max_frame_size = Some(max_message);
    config
}

/// A connection whose handshake was answered.
pub(crate) struct Opened<S> {
    pub(crate) stream: S,
    /// What the peer sent right behind its handshake.
    pub(crate) rest: Vec<u8>,
    pub(crate) config: WebSocketConfig,
}

/// What the WebSocket library reads from and writes to: the socket's one half, and the mailbox, where what it writes
/// (answers to pings, the goodbye) gets in line with the frames that are sent without it.
#[derive(Debug)]
struct Port<S, Q> {
    reads: ReadHalf<S>,
    mailbox: Arc<Mailbox<Q>>,
}

impl<S: AsyncRead, Q: Queue> AsyncRead for Port<S, Q> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.reads).poll_read(cx, buffer);
        if polled.is_ready() {
            self.mailbox.has_read();
        }
        polled
    }
}

impl<S, Q: Queue> AsyncWrite for Port<S, Q> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.mailbox.poll_push(cx, bytes).map_ok(|()| bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is let go of with the mailbox's half of it.
        Poll::Ready(Ok(()))
    }
}

type Socket<S, Q> = WebSocketStream<Port<S, Q>>;

/// What is done with the frames of a peer.
pub(crate) trait Receive {
    /// Hands in a text frame, or a binary one that is UTF-8.
    fn frame(&mut self, text: &Utf8Bytes) -> Result<Handed, Gone>;
}

/// Whether a frame was handed in.
pub(crate) enum Handed {
    Yes,
    /// It waits for room. Waiting here stops reading from the socket. Rare, so it is kept apart from what each
    /// connection takes.
    Waits(Pin<Box<dyn Future<Output = Result<(), Gone>> + Send>>),
}

/// Runs a connection to its end: hands frames to `receive`, sends what `mailbox` gives.
pub(crate) async fn run<S, Q>(
    opened: Opened<S>,
    mailbox: &Arc<Mailbox<Q>>,
    timing: &Timing,
    peer: SocketAddr,
    receive: &mut impl Receive,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Q: Queue,
{
    let (mut socket, _attached) = open(opened, mailbox).await;
    // It may have waited for long to be let in.
    mailbox.has_read();
    let ended = {
        let sending = poll_fn(|cx| mailbox.poll_send(cx));
        let reading = read(&mut socket, mailbox, receive);
        let watching = watch(mailbox, timing, peer);
        tokio::select! {
            biased;
            ended = sending => match ended {
                SendingEnded::Gone => Ended::Gone,
                SendingEnded::Closing(close) => Ended::Closing(close),
            },
            ended = reading => ended,
            ended = watching => ended,
        }
    };
    // A peer that does not take or answer the goodbye in time is left alone.
    let _ = match ended {
        Ended::Gone => Ok(()),
        Ended::Closed => {
            mailbox.shut();
            timeout(CLOSE_TIMEOUT, poll_fn(|cx| mailbox.poll_drain(cx))).await
        }
        Ended::Closing(close) => {
            mailbox.shut();
            timeout(CLOSE_TIMEOUT, Box::pin(finish(socket, mailbox, close))).await
        }
    };
}

/// The socket's two ways.
async fn open<S, Q>(opened: Opened<S>, mailbox: &Arc<Mailbox<Q>>) -> (Box<Socket<S, Q>>, Attached<'_, Q>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Q: Queue,
{
    let Opened { stream, rest, config } = opened;
    let (reads, writes) = tokio::io::split(stream);
    let attached = mailbox.attach(writes);
    let port = Port { reads, mailbox: Arc::clone(mailbox) };
    (Box::new(WebSocketStream::from_partially_read(port, rest, Role::Server, Some(config)).await), attached)
}

/// How a connection ends.
enum Ended {
    /// The peer is gone.
    Gone,
    /// The peer has said goodbye, and the library has answered that.
    Closed,
    /// The server closes it.
    Closing(CloseFrame),
}

async fn read<S, Q>(socket: &mut Socket<S, Q>, mailbox: &Mailbox<Q>, receive: &mut impl Receive) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    loop {
        // Many small frames may be read already: others run in between.
        consume_budget().await;
        if !mailbox.is_uncrowded() {
            mailbox.pause(mailbox.uncrowded()).await;
        }
        let Some(message) = socket.next().await else { return Ended::Closed };
        let text = match message {
            Ok(Message::Text(text)) => text,
            // Binary JSON is taken like text; anything else in a binary frame is no frame at all.
            Ok(Message::Binary(bytes)) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => text,
                Err(_) => continue,
            },
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            // The library answers a close frame on the next read, which then ends.
            Ok(Message::Close(_)) => continue,
            Err(error) => return ended_by(&error),
        };
        let handed = match receive.frame(&text) {
            Ok(Handed::Yes) => Ok(()),
            Ok(Handed::Waits(waits)) => mailbox.pause(waits).await,
            Err(Gone) => Err(Gone),
        };
        if handed.is_err() {
            return closing(STOPPING.0, STOPPING.1);
        }
    }
}

/// Looks for signs of life, and asks for them. Ends when there was none for too long.
async fn watch<Q: Queue>(mailbox: &Mailbox<Q>, timing: &Timing, peer: SocketAddr) -> Ended {
    let mut ping_at = Instant::now() + timing.ping;
    loop {
        let now = Instant::now();
        let ends_at = match mailbox.seen() {
            Seen::At(at) if at + timing.idle <= now => {
                return closing(CloseCode::Policy, "no sign of life for too long");
            }
            // Each may turn into the other, and is then due sooner.
            Seen::At(at) => (at + timing.idle).min(now + timing.slow),
            Seen::StuckSince(since) if since + timing.slow <= now => {
                tracing::warn!(%peer, "a peer is disconnected: it has read nothing for too long");
                mailbox.cut();
                return closing(CloseCode::Again, "nothing was read for too long");
            }
            Seen::StuckSince(since) => (since + timing.slow).min(now + timing.idle),
        };
        if ping_at <= now {
            ping_at = now + timing.ping;
            mailbox.ping();
        }
        sleep_until(ping_at.min(ends_at)).await;
    }
}

fn closing(code: CloseCode, reason: impl Into<Utf8Bytes>) -> Ended {
    Ended::Closing(CloseFrame { code, reason: reason.into() })
}

fn ended_by(error: &Error) -> Ended {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            tracing::warn!(
                size,
                limit = max_size,
                "a peer is disconnected: its message is larger than the limit"
            );
            closing(CloseCode::Size, format!("a message of {size} bytes; the limit is {max_size}"))
        }
        Error::Utf8(_) => closing(CloseCode::Invalid, "a text message must be UTF-8"),
        // Most clients end this way.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Gone,
        Error::Protocol(violation) => {
            tracing::debug!(%violation, "a peer broke the WebSocket protocol");
            closing(CloseCode::Protocol, "this is not how WebSocket works")
        }
        _ => Ended::Gone,
    }
}

/// Says goodbye and waits for the peer to do the same. What it still sends is read and dropped: else the system would
/// answer it with a reset that can overtake the goodbye.
async fn finish<S, Q>(mut socket: Box<Socket<S, Q>>, mailbox: &Mailbox<Q>, close: CloseFrame)
where
    S: AsyncRead + AsyncWrite + Unpin,
    Q: Queue,
{
    // Always: there is more to drain once the goodbye is said.
    let draining = poll_fn(|cx| {
        let _ = mailbox.poll_drain(cx);
        Poll::<()>::Pending
    });
    let parting = async {
        // What it has kept of its answers would not let the goodbye in.
        if socket.flush().await.is_err() || socket.send(Message::Close(Some(close))).await.is_err() {
            return;
        }
        let mut answered = false;
        while let Some(message) = socket.next().await {
            answered |= matches!(message, Ok(Message::Close(_)));
        }
        if !answered {
            // After a violation the library reads no more, so there is no telling where the peer's goodbye is.
            drop_rest(&mut socket.get_mut().reads).await;
        }
    };
    tokio::select! {
        biased;
        () = draining => {}
        () = parting => {}
    }
}

/// Reads and drops what a peer sends, until it has no more to send.
pub(crate) async fn drop_rest<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut dropped = vec![0; 16 << 10];
    while let Ok(1..) = stream.read(&mut dropped).await {}
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::*;
    use crate::frame;
    use crate::mailbox::SessionQueue;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_but_steadily_is_neither_silent_nor_slow() {
        let timing = Timing::new(&NetConfig::default());
        let mailbox = Mailbox::new(SessionQueue::new(1_000), Arc::default());
        let (mut peer, own) = duplex(16);
        let _attached = mailbox.attach(own);
        let _ = mailbox.push_notice(frame::text(|out| out.push_str(&"x".repeat(200))));
        let mut taken = [0; 16];
        let taking = async {
            for _ in 0..8 {
                sleep(timing.slow.min(timing.idle) * 9 / 10).await;
                peer.read_exact(&mut taken).await.expect("more of it");
            }
        };
        tokio::select! {
            ended = poll_fn(|cx| mailbox.poll_send(cx)) => panic!("{ended:?}"),
            _ = watch(&mailbox, &timing, PEER) => panic!("it was given up"),
            () = taking => {}
        }
        // Now it stops.
        tokio::select! {
            ended = poll_fn(|cx| mailbox.poll_send(cx)) => panic!("{ended:?}"),
            ended = watch(&mailbox, &timing, PEER) => match ended {
                Ended::Closing(close) => assert_eq!(close.code, CloseCode::Again),
                _ => panic!("it is told why"),
            }
        }
    }
}

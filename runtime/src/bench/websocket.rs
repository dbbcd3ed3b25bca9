//! As much of the WebSocket protocol as a client of many connections needs. It costs little, so that the server is what
//! is measured: no buffer while nothing is on its way, no copy of a frame that came in one piece.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::backup::Address;

/// The key of every handshake, and what a server makes of it: the example of RFC 6455.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The longest message that is taken: longer than any group that a server has by default.
const LONGEST: usize = 512 << 20;
/// The longest answer to a handshake.
const HEAD: usize = 32 << 10;
/// What one read takes at the most.
const CHUNK: usize = 64 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const KEEP: usize = 4 << 10;

thread_local! {
    /// What is read is handled at once, so that all connections of a thread can share it.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Why a connection can't be made, or is no more.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(String),
    #[error("the server answered the handshake with {0}")]
    Refused(String),
    #[error("the server does not speak WebSocket: {0}")]
    Protocol(&'static str),
    #[error("the server closed the connection{0}")]
    Closed(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error.to_string())
    }
}

/// A client's end of a WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    frames: Frames,
}

impl Connection {
    /// Connects to a port of the server.
    pub(super) async fn open(address: &Address) -> Result<Connection, Broken> {
        let mut stream = TcpStream::connect(address.lookup()).await?;
        stream.set_nodelay(true)?;
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n",
            address.root_path(),
            address.shown(),
        );
        if let Some(authorization) = address.authorization() {
            let _ = write!(request, "Authorization: {authorization}\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let frames = Frames { partial: read_head(&mut stream).await?, ..Frames::default() };
        Ok(Connection { stream, frames })
    }

    /// Reads once, and hands over each message that is whole by then; with an error of theirs it ends. What is read
    /// is handled in the same poll: nothing is lost if this is dropped.
    pub(super) async fn read(&mut self, mut message: impl FnMut(&[u8])) -> Result<(), Broken> {
        let Connection { stream, frames } = self;
        if !frames.partial.is_empty() && frames.feed(&[], &mut message)? {
            return self.answer_pings().await;
        }
        poll_fn(|context| {
            READ.with_borrow_mut(|chunk| {
                let mut buffer = ReadBuf::new(chunk);
                ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(Broken::Closed(" without a goodbye".to_owned())));
                }
                Poll::Ready(frames.feed(buffer.filled(), &mut message).map(|_| ()))
            })
        })
        .await?;
        self.answer_pings().await
    }

    /// Sends frames that were made with [`put_text`].
    pub(super) async fn write(&mut self, frames: &[u8]) -> Result<(), Broken> {
        Ok(self.stream.write_all(frames).await?)
    }

    async fn answer_pings(&mut self) -> Result<(), Broken> {
        if self.frames.pongs.is_empty() {
            return Ok(());
        }
        let pongs = std::mem::take(&mut self.frames.pongs);
        self.write(&pongs).await
    }
}

/// Reads the answer to a handshake, and gives what came behind it.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Broken> {
    let mut head = Vec::with_capacity(512);
    loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            let text = String::from_utf8_lossy(&head);
            let status = text.lines().next().unwrap_or_default().to_owned();
            if !status.starts_with("HTTP/1.1 101") {
                let sentence = String::from_utf8_lossy(&rest);
                let status = status.trim_start_matches("HTTP/1.1 ");
                return Err(Broken::Refused(format!("{status}: {}", sentence.trim())));
            }
            if !text.contains(ACCEPT) {
                return Err(Broken::Protocol("its handshake is not the answer to the client's"));
            }
            return Ok(rest);
        }
        if head.len() > HEAD {
            return Err(Broken::Protocol("its handshake has no end"));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Broken::Closed(" during the handshake".to_owned()));
        }
    }
}

/// Finds messages in what comes.
#[derive(Debug, Default)]
struct Frames {
    /// The start of a frame.
    partial: Vec<u8>,
    /// The first frames of a message that has more.
    fragments: Vec<u8>,
    pongs: Vec<u8>,
}

impl Frames {
    /// Takes what came, and says whether a frame was whole.
    fn feed(&mut self, bytes: &[u8], message: &mut impl FnMut(&[u8])) -> Result<bool, Broken> {
        if self.partial.is_empty() {
            let used = self.take(bytes, message)?;
            if used < bytes.len() {
                self.partial.extend_from_slice(&bytes[used..]);
            }
            return Ok(used > 0);
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let used = self.take(&partial, message)?;
        partial.drain(..used);
        if !partial.is_empty() || partial.capacity() <= KEEP {
            self.partial = partial;
        }
        Ok(used > 0)
    }

    /// Handles all frames that are whole, and says how long they are together.
    fn take(&mut self, bytes: &[u8], message: &mut impl FnMut(&[u8])) -> Result<usize, Broken> {
        let mut used = 0;
        while let Some(frame) = Frame::read(&bytes[used..])? {
            used += frame.len;
            match frame.opcode {
                PING => put_frame(&mut self.pongs, PONG, frame.payload),
                PONG => {}
                CLOSE => {
                    let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                    return Err(Broken::Closed(reason));
                }
                _ if frame.last && self.fragments.is_empty() => message(frame.payload),
                _ => {
                    self.fragments.extend_from_slice(frame.payload);
                    if self.fragments.len() > LONGEST {
                        return Err(Broken::Protocol("a message has no end"));
                    }
                    if frame.last {
                        message(&std::mem::take(&mut self.fragments));
                    }
                }
            }
        }
        Ok(used)
    }
}

struct Frame<'a> {
    last: bool,
    opcode: u8,
    payload: &'a [u8],
    len: usize,
}

impl Frame<'_> {
    /// The frame that these bytes start with, if it is whole.
    fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = first & 0x0f;
        if first & 0x70 != 0 || second & MASKED != 0 || !matches!(opcode, 0..=BINARY | CLOSE..=PONG) {
            return Err(Broken::Protocol("a frame is none that a server sends"));
        }
        let (header, len) = match (second, rest) {
            (126, &[a, b, ..]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            (127, &[a, b, c, d, e, f, g, h, ..]) => {
                let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (10, usize::try_from(len).unwrap_or(usize::MAX))
            }
            (126 | 127, _) => return Ok(None),
            (len, _) => (2, usize::from(len)),
        };
        if len > LONGEST {
            return Err(Broken::Protocol("a frame is longer than any message"));
        }
        let Some(payload) = bytes.get(header..header + len) else { return Ok(None) };
        Ok(Some(Frame { last: first & FIN != 0, opcode, payload, len: header + len }))
    }
}

/// Appends a client's text frame.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_frame(out, TEXT, text);
}

fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(out, opcode, payload.len(), MASKED);
    // A mask that changes nothing is one, too: there is no proxy here to be protected from these clients.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a server's text frame.
pub(super) fn put_server_text(out: &mut Vec<u8>, text: &[u8]) {
    put_header(out, TEXT, text.len(), 0);
    out.extend_from_slice(text);
}

fn put_header(out: &mut Vec<u8>, opcode: u8, len: usize, masked: u8) {
    out.push(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => out.push(masked | len),
        (_, Ok(len)) => {
            out.push(masked | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(frames: &mut Frames, bytes: &[u8], piece: usize) -> Vec<usize> {
        let mut lens = Vec::new();
        for piece in bytes.chunks(piece) {
            frames.feed(piece, &mut |message| lens.push(message.len())).expect("these are frames");
        }
        lens
    }

    #[test]
    fn messages_are_found_however_they_are_cut_into_pieces() {
        let mut bytes = Vec::new();
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            put_server_text(&mut bytes, &vec![b'x'; len]);
        }
        // In two frames, with a ping in between.
        bytes.extend_from_slice(&[TEXT, 2, b'a', b'b', FIN | PING, 1, b'p', FIN, 1, b'c']);
        for piece in [1, 7, 1_000, bytes.len()] {
            let mut frames = Frames::default();
            assert_eq!(messages(&mut frames, &bytes, piece), [0, 1, 125, 126, 65_535, 65_536, 3], "{piece}");
            assert_eq!(frames.pongs, [FIN | PONG, MASKED | 1, 0, 0, 0, 0, b'p']);
            assert!(frames.partial.is_empty() && frames.partial.capacity() <= KEEP);
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        for wrong in [[FIN | TEXT, MASKED], [FIN | 3, 0], [FIN | 0x40 | TEXT, 0]] {
            assert!(Frames::default().feed(&wrong, &mut |_| {}).is_err(), "{wrong:?}");
        }
        let endless = [FIN | TEXT, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        assert!(Frames::default().feed(&endless, &mut |_| {}).is_err());
        let goodbye = [FIN | CLOSE, 5, 3, 0xe9, b'b', b'y', b'e'];
        let closed = Frames::default().feed(&goodbye, &mut |_| {}).expect_err("it is the end");
        assert_eq!(closed.to_string(), "the server closed the connection: bye");
    }
}

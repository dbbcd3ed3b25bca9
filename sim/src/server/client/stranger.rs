//! A stranger: it connects to the ports and makes no sense. Nobody else is to notice, so nothing is written down.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use super::{Progress, SERVER, STREAM_PORT, WORKER_PORT};
use crate::random::Random;

/// A client that is none.
pub(in crate::server) struct Stranger {
    pub(in crate::server) progress: Progress,
    pub(in crate::server) random: Random,
}

/// A handshake that is right; `Host` is an address, which is what an export wants to be asked by.
const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2VlZGVkLCBub3QgZHJhdw==\r\n\r\n";
/// Frames that are masked with zeros: text that is no JSON, JSON that is no message, a message that lacks everything, one of
/// no kind that there is, bytes that are no text, a reserved kind of frame, a length that is far too much.
const FRAMES: [&[u8]; 7] = [
    b"\x81\x82\0\0\0\0{]",
    b"\x81\x82\0\0\0\0[]",
    b"\x81\x8f\0\0\0\0{\"type\":\"join\"}",
    b"\x81\x8c\0\0\0\0{\"type\":\"x\"}",
    b"\x82\x82\0\0\0\0\xff\xfe",
    b"\x83\x80\0\0\0\0",
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
];
/// Longer than any server waits.
const LONGEST: Duration = Duration::from_millis(2_500);

impl Stranger {
    pub(in crate::server) async fn run(mut self) {
        while !self.progress.is_over() {
            let port = if self.random.chance(50) { WORKER_PORT } else { STREAM_PORT };
            if let Ok(Ok(stream)) = timeout(LONGEST, TcpStream::connect((SERVER, port))).await {
                self.progress.happened("connections of strangers");
                self.bothers(stream).await;
            }
            sleep(self.random.millis(20..300)).await;
        }
    }

    /// Does something with a connection, and drops it.
    async fn bothers(&mut self, mut stream: TcpStream) {
        let frames: Vec<u8> = (0..self.random.within(1..4))
            .flat_map(|_| FRAMES[self.random.index(FRAMES.len())])
            .copied()
            .collect();
        let said = match self.random.within(0..6) {
            0 => Vec::new(),
            1 => HANDSHAKE.as_bytes()[..self.random.index(HANDSHAKE.len())].to_vec(),
            2 => b"GET /export HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
            3 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            _ => [HANDSHAKE.as_bytes(), &frames].concat(),
        };
        let is_short = self.random.chance(70) || self.progress.is_healed();
        let stays = if is_short { self.random.millis(0..300) } else { LONGEST };
        let _ = timeout(stays, async {
            stream.write_all(&said).await?;
            let mut answer = Vec::new();
            // To the end, if there is one.
            stream.read_to_end(&mut answer).await
        })
        .await;
    }
}

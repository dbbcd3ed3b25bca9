//! What is no WebSocket: bytes to a port, and what comes back.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{DEADLINE, within};

/// Connects to a port and sends this.
pub async fn say(address: &str, bytes: &[u8]) -> TcpStream {
    let host = address.trim_start_matches("ws://").trim_end_matches('/');
    let mut tcp = TcpStream::connect(host).await.expect("the port is open");
    tcp.write_all(bytes).await.expect("the server reads");
    tcp
}

/// Everything that comes until the server ends the connection, which it does in good order.
pub async fn to_the_end(mut tcp: TcpStream) -> String {
    let mut answer = String::new();
    let reading = within(DEADLINE, "an answer and its end", tcp.read_to_string(&mut answer));
    reading.await.expect("an answer in text, and no reset");
    answer
}

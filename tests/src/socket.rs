use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{DEADLINE, within};

/// What a peer can receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text frame.
    Text(String),
    /// The end of the connection, with the code of the close frame if there was one.
    Closed(Option<u16>),
}

/// A WebSocket connection that hides nothing. Pings are answered while something is awaited from it.
pub struct Socket {
    ws: WebSocketStream<TcpStream>,
    /// What failures call it.
    name: String,
}

impl Socket {
    /// Connects to an address such as `ws://127.0.0.1:3112/stream/chat/room-1`.
    pub async fn connect(address: &str) -> Socket {
        match Socket::try_connect(address).await {
            Ok(socket) => socket,
            Err(e) => panic!("no connection to {address}: {e}"),
        }
    }

    /// Connects, or says why the server does not take the connection.
    pub async fn try_connect(address: &str) -> Result<Socket, Error> {
        Socket::try_connect_with(address, &[]).await
    }

    /// Connects with further headers in the handshake, or gives the status and the sentence of the HTTP answer.
    pub async fn connect_with(address: &str, headers: &[(&str, &str)]) -> Result<Socket, (u16, String)> {
        match Socket::try_connect_with(address, headers).await {
            Ok(socket) => Ok(socket),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8_lossy(body).trim().to_owned()))
            }
            Err(e) => panic!("no answer from {address}: {e}"),
        }
    }

    /// Connects with further headers in the handshake, or says why not.
    pub async fn try_connect_with(address: &str, headers: &[(&str, &str)]) -> Result<Socket, Error> {
        let mut request = address.into_client_request()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            request.headers_mut().append(name, value.parse().expect("a header's value"));
        }
        let uri = request.uri();
        let port = uri.port_u16().expect("an address has a port");
        let host = uri.host().expect("an address has a host").to_owned();
        let connecting = async {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            let (ws, _) = tokio_tungstenite::client_async(request, tcp).await?;
            Ok::<_, Error>(ws)
        };
        let ws = within(DEADLINE, &format!("a connection to {address}"), connecting).await?;
        Ok(Socket { ws, name: address.to_owned() })
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_message(Message::binary(bytes.to_vec())).await;
    }

    /// Sends a text frame of any bytes, valid UTF-8 or not.
    pub async fn send_text_bytes(&mut self, bytes: &[u8]) {
        let frame = Frame::message(bytes.to_vec(), OpCode::Data(Data::Text), true);
        self.send_message(Message::Frame(frame)).await;
    }

    /// Sends a text frame and says whether the server took it. For input that it may hang up on.
    pub async fn try_send(&mut self, text: impl Into<String>) -> bool {
        let sending = self.ws.send(Message::text(text.into()));
        within(DEADLINE, &format!("{} to take a frame", self.name), sending).await.is_ok()
    }

    /// The next text frame, or the end of the connection.
    pub async fn next(&mut self, what: &str) -> Incoming {
        let what = format!("{what} from {}", self.name);
        within(DEADLINE, &what, self.receive()).await
    }

    /// The next text frame.
    pub async fn next_text(&mut self, what: &str) -> String {
        match self.next(what).await {
            Incoming::Text(text) => text,
            Incoming::Closed(code) => {
                panic!("waited for {what}, but {} closed the connection: {code:?}", self.name)
            }
        }
    }

    /// Drops everything that comes until the connection ends, and gives the code of the close frame.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Incoming::Closed(code) = self.next("the end of the connection").await {
                return code;
            }
        }
    }

    /// Starts a text frame, sends half of it and vanishes.
    pub async fn vanish_mid_frame(self) {
        let mut tcp = self.ws.into_inner();
        // Final text frame, masked, 200 bytes to come, of which only a few do.
        let half = [0x81, 0xfe, 0, 200, 1, 2, 3, 4, 5, 6, 7];
        tcp.write_all(&half).await.expect("the server reads");
    }

    /// The bare connection: who holds it answers no ping.
    pub fn into_inner(self) -> TcpStream {
        self.ws.into_inner()
    }

    async fn send_message(&mut self, message: Message) {
        let sending = self.ws.send(message);
        let sent = within(DEADLINE, &format!("{} to take a frame", self.name), sending).await;
        sent.unwrap_or_else(|e| panic!("{} does not take a frame: {e}", self.name));
    }

    async fn receive(&mut self) -> Incoming {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Text(text))) => return Incoming::Text(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(bytes))) => {
                    panic!("{} sent a binary frame of {} bytes", self.name, bytes.len())
                }
                Some(Ok(Message::Close(frame))) => {
                    // Sends the answer to the close. The server may be gone already.
                    let _ = self.ws.flush().await;
                    return Incoming::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Err(_)) | None => return Incoming::Closed(None),
            }
        }
    }
}

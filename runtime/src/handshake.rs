//! How a connection becomes a WebSocket: what it asks for, and the answer to that.
//!
//! The answer is written here and not by the WebSocket library, because it may have to be waited for.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tokio_tungstenite::tungstenite::http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Method, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::http::{Asked, HEAD_BYTES, Refusal, send};
use crate::socket::Opened;

/// The capability that makes a client set TCP_NODELAY on its side.
const CAPABILITIES: (&str, &str) = ("x-iii-capabilities", "tcp-nodelay");

/// Browsers send their token as a second subprotocol behind this one; they drop a connection that doesn't select it.
const AUTHORIZATION: &str = "Authorization";

/// A connection that asks to become a WebSocket.
pub(crate) struct Upgrade<S> {
    asked: Asked<S>,
    /// The answer, should it become one.
    response: Response,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Upgrade<S> {
    /// Reads the head of a request, for at most `patience`. What does not ask for a WebSocket is told `what_this_is`
    /// in an HTTP answer. `None` if nothing more is to be done.
    pub(crate) async fn read(
        stream: S,
        patience: Duration,
        what_this_is: &'static str,
    ) -> Option<Upgrade<S>> {
        let asked = Asked::read(stream, patience).await?;
        Upgrade::of(asked, patience, what_this_is).await
    }

    /// The same for a request whose head was read.
    pub(crate) async fn of(
        asked: Asked<S>,
        patience: Duration,
        what_this_is: &'static str,
    ) -> Option<Upgrade<S>> {
        match respond(asked.request(), what_this_is) {
            Ok(response) => Some(Upgrade { asked, response, patience }),
            Err(refusal) => {
                asked.refuse(&refusal).await;
                None
            }
        }
    }

    pub(crate) fn request(&self) -> &Request {
        self.asked.request()
    }

    /// Makes it a WebSocket.
    pub(crate) async fn accept(mut self, config: WebSocketConfig) -> Option<Opened<S>> {
        let mut bytes = Vec::new();
        // It was made here, of what can be written.
        write_response(&mut bytes, &self.response).ok()?;
        match timeout(self.patience, send(&mut self.asked.stream, &bytes)).await {
            Ok(Ok(())) => {}
            _ => {
                tracing::debug!("a connection did not take the answer to its handshake");
                return None;
            }
        }
        let Asked { stream, rest, .. } = self.asked;
        Some(Opened { stream: stream.into_inner(), rest, config })
    }

    /// Answers with an HTTP error, and ends the connection.
    pub(crate) async fn refuse(self, refusal: &Refusal) {
        self.asked.refuse(refusal).await;
    }

    /// Waits until the peer is gone. What it sends before it was answered is kept, as far as it is little.
    pub(crate) async fn abandoned(&mut self) {
        let Asked { stream, rest, .. } = &mut self.asked;
        while rest.len() < HEAD_BYTES {
            match stream.read_buf(rest).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
        std::future::pending().await
    }
}

/// Whether a request asks for what is at `path`, and not for a WebSocket, which may have any.
pub(crate) fn asks_for(request: &Request, path: &str) -> bool {
    request.uri().path() == path
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && !asks_for_websocket(request)
}

/// Whether a request asks for a WebSocket.
fn asks_for_websocket(request: &Request) -> bool {
    let protocol = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// The answer that makes a request's connection a WebSocket.
fn respond(request: &Request, what_this_is: &'static str) -> Result<Response, Refusal> {
    if !asks_for_websocket(request) {
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, what_this_is).with(UPGRADE, "websocket"));
    }
    let mut response = create_response(request).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("This is no WebSocket handshake. {error}."))
            .with(SEC_WEBSOCKET_VERSION, "13")
    })?;
    let headers = response.headers_mut();
    headers.insert(CAPABILITIES.0, HeaderValue::from_static(CAPABILITIES.1));
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut protocols =
        offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if protocols.any(|protocol| protocol.trim() == AUTHORIZATION) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(AUTHORIZATION));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::http::HEAD_FIELDS;

    const ASKS: &str = "GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    const PATIENCE: Duration = Duration::from_secs(1);

    /// What a peer that sends this and no more is answered, to the end of the connection.
    async fn answer_to(bytes: &[u8]) -> String {
        let (mut peer, own) = duplex(1 << 20);
        peer.write_all(bytes).await.expect("there is room");
        let serving = tokio::spawn(async {
            let upgrade = Upgrade::read(own, PATIENCE, "This is a test.").await?;
            upgrade.accept(WebSocketConfig::default()).await.map(drop)
        });
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.expect("the answer is text");
        drop(peer);
        serving.await.expect("no head makes it panic");
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_comes_byte_by_byte_is_answered_as_the_standard_says() {
        let (mut peer, own) = duplex(1);
        let serving = tokio::spawn(async {
            let upgrade = Upgrade::read(own, PATIENCE, "").await.expect("a handshake");
            upgrade.accept(WebSocketConfig::default()).await.expect("it is open")
        });
        peer.write_all(ASKS.as_bytes()).await.expect("the server reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(peer.read_u8().await.expect("an answer"));
        }
        let answer = String::from_utf8(answer).expect("the answer is text");
        let mut lines: Vec<_> = answer.lines().collect();
        lines.sort_unstable();
        // The key and its answer are those of RFC 6455, section 1.3.
        let expected = [
            "",
            "HTTP/1.1 101 Switching Protocols",
            "connection: Upgrade",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "upgrade: websocket",
            "x-iii-capabilities: tcp-nodelay",
        ];
        assert_eq!(lines, expected);
        serving.await.expect("a socket");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_right_behind_the_head_are_not_lost() {
        let (mut peer, own) = duplex(1 << 10);
        // "Hi", masked with zeros.
        let sent = [ASKS.as_bytes(), b"\x81\x82\0\0\0\0Hi\x81\x82\0\0"].concat();
        peer.write_all(&sent).await.expect("there is room");
        let upgrade = Upgrade::read(own, PATIENCE, "").await.expect("a handshake");
        let Opened { stream, rest, config } =
            upgrade.accept(WebSocketConfig::default()).await.expect("it is open");
        let mut socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
        peer.write_all(b"\0\0Ho").await.expect("there is room");
        for text in ["Hi", "Ho"] {
            let message = socket.next().await.expect("it is open").expect("a frame");
            assert_eq!(message, Message::text(text));
        }
    }

    #[test]
    fn what_a_port_gives_out_is_asked_for_by_its_path_with_get_or_head_and_not_by_a_websocket() {
        let request = |method: Method, path: &str| {
            let mut request = Request::new(());
            *request.uri_mut() = path.parse().expect("a path");
            *request.method_mut() = method;
            request
        };
        for (method, path, asks) in [
            (Method::GET, "/metrics", true),
            (Method::HEAD, "/metrics", true),
            (Method::GET, "/metrics?name=a", true),
            (Method::GET, "/metrics/", false),
            (Method::GET, "/x/metrics", false),
            (Method::GET, "/?metrics", false),
            (Method::POST, "/metrics", false),
        ] {
            assert_eq!(asks_for(&request(method.clone(), path), "/metrics"), asks, "{method} {path}");
        }
        let mut upgraded = request(Method::GET, "/metrics");
        upgraded.headers_mut().insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(!asks_for(&upgraded, "/metrics"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_ask_for_a_websocket_is_told_what_this_is() {
        let expected = "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade, close\r\n\
                        content-type: text/plain; charset=utf-8\r\ncontent-length: 16\r\n\
                        upgrade: websocket\r\n\r\n";
        for request in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\n\n", "POST /x HTTP/1.1\r\n\r\n{\"a\":1}"] {
            assert_eq!(
                answer_to(request.as_bytes()).await,
                format!("{expected}This is a test.\n"),
                "{request}"
            );
        }
        assert_eq!(answer_to(b"HEAD / HTTP/1.1\r\n\r\n").await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_wrong_is_told_what_is_wrong() {
        let long = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(HEAD_BYTES));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEAD_FIELDS + 1));
        for (wrong, status) in [
            (ASKS.replace("GET", "PUT"), 400),
            (ASKS.replace("HTTP/1.1", "HTTP/1.0"), 400),
            (ASKS.replace("13", "8"), 400),
            (ASKS.replace("Sec-WebSocket-Key", "X-Key"), 400),
            (ASKS.replace("Connection", "X-Connection"), 400),
            (ASKS.replace("HTTP/1.1", "HTTP/2.0"), 400),
            (ASKS.replace("Host:", "Ho st:"), 400),
            (ASKS.replace("/a/b", "a b"), 400),
            ("\u{16}\u{3}\u{1}".to_owned(), 400),
            ("\0".to_owned(), 400),
            (long, 431),
            (many, 431),
        ] {
            let answer = answer_to(wrong.as_bytes()).await;
            let shown = wrong.get(..99).unwrap_or(&wrong);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
            assert!(answer.ends_with(".\n"), "{shown}: {answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_in_time_is_not_waited_for() {
        for begun in ["", "GET / HTTP/1.1\r\nHost: "] {
            assert_eq!(answer_to(begun.as_bytes()).await, "");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_what_the_peer_still_sends_but_not_for_ever() {
        let (mut peer, own) = duplex(16);
        let serving = tokio::spawn(Upgrade::read(own, PATIENCE, "This is a test."));
        let (mut from_server, mut to_server) = tokio::io::split(&mut peer);
        let body = async {
            to_server.write_all(b"POST / HTTP/1.1\r\n\r\n").await.expect("the server reads");
            to_server.write_all(&[b'x'; 10_000]).await.expect("the server goes on reading");
        };
        let mut answer = String::new();
        let (_, read) = tokio::join!(body, from_server.read_to_string(&mut answer));
        read.expect("the answer is text");
        assert!(answer.ends_with("This is a test.\n"), "{answer}");
        assert!(serving.await.expect("it does not panic").is_none());
    }
}

//! How a connection becomes a WebSocket: the head of its HTTP request, and the answer to that.
//!
//! Both are read and written here and not by the WebSocket library, because an answer may have to be waited for. What
//! the head says is never logged beyond its path: tokens are in the rest.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tokio_tungstenite::tungstenite::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Method, StatusCode, Version};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::progress::Counted;
use crate::socket::{CLOSE_TIMEOUT, Socket, drop_rest};

/// The most that a head may hold: browsers and proxies stay far below.
const HEAD_BYTES: usize = 32 << 10;
const HEAD_FIELDS: usize = 128;

/// The capability that makes a client set TCP_NODELAY on its side.
const CAPABILITIES: (&str, &str) = ("x-iii-capabilities", "tcp-nodelay");

/// Browsers send their token as a second subprotocol behind this one; they drop a connection that doesn't select it.
const AUTHORIZATION: &str = "Authorization";

/// A connection that asks to become a WebSocket.
pub(crate) struct Upgrade<S> {
    stream: Counted<S>,
    request: Request,
    /// The answer, should it become one.
    response: Response,
    /// What came behind the head.
    rest: Vec<u8>,
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
        let mut stream = Counted::new(stream);
        let mut bytes = Vec::new();
        let head = match timeout(patience, read_head(&mut stream, &mut bytes)).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection ended within its handshake");
                return None;
            }
            Err(_) => {
                tracing::debug!("a connection did not finish its handshake in time");
                return None;
            }
        };
        let (len, request) = match head {
            Ok(head) => head,
            Err(refusal) => {
                answer(&mut stream, &refusal, true).await;
                return None;
            }
        };
        let rest = bytes.split_off(len);
        match respond(&request, what_this_is) {
            Ok(response) => Some(Upgrade { stream, request, response, rest, patience }),
            Err(refusal) => {
                answer(&mut stream, &refusal, request.method() != Method::HEAD).await;
                None
            }
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Makes it a WebSocket.
    pub(crate) async fn accept(mut self, config: WebSocketConfig) -> Option<Socket<S>> {
        let mut bytes = Vec::new();
        // It was made here, of what can be written.
        write_response(&mut bytes, &self.response).ok()?;
        match timeout(self.patience, send(&mut self.stream, &bytes)).await {
            Ok(Ok(())) => {}
            _ => {
                tracing::debug!("a connection did not take the answer to its handshake");
                return None;
            }
        }
        let Upgrade { stream, rest, .. } = self;
        Some(WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await)
    }

    /// Answers with an HTTP error, and ends the connection.
    pub(crate) async fn refuse(mut self, refusal: &Refusal) {
        answer(&mut self.stream, refusal, true).await;
    }

    /// Waits until the peer is gone. What it sends before it was answered is kept, as far as it is little.
    pub(crate) async fn abandoned(&mut self) {
        while self.rest.len() < HEAD_BYTES {
            match self.stream.read_buf(&mut self.rest).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
        std::future::pending().await
    }
}

/// An HTTP answer to what does not become a WebSocket: a status, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    header: Option<(HeaderName, &'static str)>,
    sentence: Cow<'static, str>,
}

impl Refusal {
    /// The peer must show who it is, or has shown something wrong.
    pub(crate) fn unauthorized(sentence: &'static str) -> Refusal {
        Refusal { header: Some((WWW_AUTHENTICATE, "Bearer")), ..new(StatusCode::UNAUTHORIZED, sentence) }
    }

    /// Whoever the peer is, it may not come in this way.
    pub(crate) fn forbidden(sentence: &'static str) -> Refusal {
        new(StatusCode::FORBIDDEN, sentence)
    }

    /// Not now.
    pub(crate) fn unavailable(sentence: &'static str) -> Refusal {
        new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What the peer is told.
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    fn encode(&self, with_body: bool) -> Vec<u8> {
        let Refusal { status, header, sentence } = self;
        let mut out = format!("HTTP/1.1 {status}\r\n");
        // A status that asks for an upgrade is to say which, and what it says is to be named here.
        let connection = match header {
            Some((name, _)) if *name == UPGRADE => "upgrade, close",
            _ => "close",
        };
        let len = (sentence.len() + 1).to_string();
        let fields = [
            (CONNECTION.as_str(), connection),
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", &len),
        ];
        let header = header.as_ref().map(|(name, value)| (name.as_str(), *value));
        for (name, value) in fields.into_iter().chain(header) {
            out.extend([name, ": ", value, "\r\n"]);
        }
        out.push_str("\r\n");
        if with_body {
            out.extend([sentence.as_ref(), "\n"]);
        }
        out.into_bytes()
    }
}

fn new(status: StatusCode, sentence: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal { status, header: None, sentence: sentence.into() }
}

/// Reads a head into `bytes`: its length there and the request, or what is wrong with it.
async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> io::Result<Result<(usize, Request), Refusal>> {
    loop {
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(bytes) {
            Ok(None) => {}
            Ok(Some(head)) => return Ok(Ok(head)),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

/// Reads a head from the start of `bytes`: its length and the request. `None` if it goes on.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(Status::Complete(len)) if len <= HEAD_BYTES => {
            let request = request(&head).ok_or_else(|| new(StatusCode::BAD_REQUEST, MALFORMED))?;
            Ok(Some((len, request)))
        }
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            let sentence = format!(
                "The head of this request is too large: the limits are {HEAD_BYTES} bytes and {HEAD_FIELDS} fields."
            );
            Err(new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, sentence))
        }
        Err(_) => Err(new(StatusCode::BAD_REQUEST, MALFORMED)),
    }
}

const MALFORMED: &str = "This is no HTTP/1.1 request.";

/// A request in the types of the WebSocket library. `None` if it is not one by their stricter rules.
fn request(head: &httparse::Request<'_, '_>) -> Option<Request> {
    let mut request = Request::new(());
    *request.method_mut() = head.method?.parse().ok()?;
    *request.uri_mut() = head.path?.parse().ok()?;
    *request.version_mut() = if head.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(request)
}

/// The answer that makes a request's connection a WebSocket.
fn respond(request: &Request, what_this_is: &'static str) -> Result<Response, Refusal> {
    let asks = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    if !asks.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        let header = Some((UPGRADE, "websocket"));
        return Err(Refusal { header, ..new(StatusCode::UPGRADE_REQUIRED, what_this_is) });
    }
    let mut response = create_response(request).map_err(|error| Refusal {
        header: Some((SEC_WEBSOCKET_VERSION, "13")),
        ..new(StatusCode::BAD_REQUEST, format!("This is no WebSocket handshake. {error}."))
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

/// Sends an HTTP answer and lets go of the connection, so that the peer reads it: what the peer still sends is read
/// and dropped, else the system would answer it with a reset that can overtake the answer.
async fn answer<S>(stream: &mut Counted<S>, refusal: &Refusal, with_body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tracing::debug!(status = refusal.status.as_u16(), "a connection is answered and not served");
    let answered = async {
        send(stream, &refusal.encode(with_body)).await?;
        stream.shutdown().await?;
        drop_rest(stream).await;
        io::Result::Ok(())
    };
    // A peer that is gone, or does not go, had its answer.
    let _ = timeout(CLOSE_TIMEOUT, answered).await;
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::duplex;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

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

    #[test]
    fn a_head_is_read_wherever_it_is_cut() {
        let with_more = [ASKS.as_bytes(), b"more"].concat();
        for cut in 0..ASKS.len() {
            assert_eq!(parse(&with_more[..cut]).expect("so far so good").map(|(len, _)| len), None, "{cut}");
        }
        for cut in ASKS.len()..=with_more.len() {
            let (len, request) = parse(&with_more[..cut]).expect("it is one").expect("it is whole");
            assert_eq!(len, ASKS.len());
            assert_eq!(request.uri(), "/a/b?c=d");
            assert_eq!(request.headers()["host"], "h");
            assert_eq!(request.headers().len(), 5);
        }
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
        let mut socket = upgrade.accept(WebSocketConfig::default()).await.expect("it is open");
        peer.write_all(b"\0\0Ho").await.expect("there is room");
        for text in ["Hi", "Ho"] {
            let message = socket.next().await.expect("it is open").expect("a frame");
            assert_eq!(message, Message::text(text));
        }
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

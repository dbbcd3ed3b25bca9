//! The heads of HTTP requests, and short answers to them.
//!
//! What a head says is never logged beyond its path: tokens are in the rest.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::http::header::{CONNECTION, HeaderName, UPGRADE, WWW_AUTHENTICATE};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Method, StatusCode, Version};

use crate::progress::Counted;
use crate::socket::{CLOSE_TIMEOUT, drop_rest};

/// The most that a head may hold: browsers and proxies stay far below.
pub(crate) const HEAD_BYTES: usize = 32 << 10;
/// The most fields that it may have.
pub(crate) const HEAD_FIELDS: usize = 128;

/// A connection whose first request has been read, up to its body.
pub(crate) struct Asked<S> {
    pub(crate) stream: Counted<S>,
    request: Request,
    /// What came behind the head.
    pub(crate) rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asked<S> {
    /// Reads the head of a request, for at most `patience`. What is none is told so. `None` if nothing more is to be
    /// done.
    pub(crate) async fn read(stream: S, patience: Duration) -> Option<Asked<S>> {
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
        match head {
            Ok((len, request)) => {
                let rest = bytes.split_off(len);
                Some(Asked { stream, request, rest })
            }
            Err(refusal) => {
                refuse(&mut stream, &refusal, true).await;
                None
            }
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Answers with an HTTP error, and ends the connection.
    pub(crate) async fn refuse(mut self, refusal: &Refusal) {
        let with_body = self.request.method() != Method::HEAD;
        refuse(&mut self.stream, refusal, with_body).await;
    }

    /// Answers with these bytes, which the peer takes within `patience`, and ends the connection.
    pub(crate) async fn answer(mut self, bytes: &[u8], patience: Duration) {
        answer(&mut self.stream, bytes, patience).await;
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
    pub(crate) fn new(status: StatusCode, sentence: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, header: None, sentence: sentence.into() }
    }

    /// The same with another field in its head.
    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Refusal {
        Refusal { header: Some((name, value)), ..self }
    }

    /// The peer must show who it is, or has shown something wrong.
    pub(crate) fn unauthorized(sentence: &'static str) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, sentence).with(WWW_AUTHENTICATE, "Bearer")
    }

    /// Whoever the peer is, it may not come in this way.
    pub(crate) fn forbidden(sentence: &'static str) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, sentence)
    }

    /// Not now.
    pub(crate) fn unavailable(sentence: &'static str) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
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
            let request = request(&head).ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, MALFORMED))?;
            Ok(Some((len, request)))
        }
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            let sentence = format!(
                "The head of this request is too large: the limits are {HEAD_BYTES} bytes and {HEAD_FIELDS} fields."
            );
            Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, sentence))
        }
        Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, MALFORMED)),
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

async fn refuse<S>(stream: &mut Counted<S>, refusal: &Refusal, with_body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tracing::debug!(status = refusal.status.as_u16(), "a connection is answered and not served");
    answer(stream, &refusal.encode(with_body), CLOSE_TIMEOUT).await;
}

/// Sends an HTTP answer and lets go of the connection, so that the peer reads it: what the peer still sends is read
/// and dropped for a moment, else the system would answer it with a reset that can overtake the answer.
async fn answer<S>(stream: &mut Counted<S>, bytes: &[u8], patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = async {
        send(stream, bytes).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(patience, sent).await {
        // A peer that does not go had its answer.
        let _ = timeout(CLOSE_TIMEOUT, drop_rest(stream)).await;
    }
}

/// Sends bytes, all of them.
pub(crate) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    const HEAD: &str = "GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn a_head_is_read_wherever_it_is_cut() {
        let with_more = [HEAD.as_bytes(), b"more"].concat();
        for cut in 0..HEAD.len() {
            assert_eq!(parse(&with_more[..cut]).expect("so far so good").map(|(len, _)| len), None, "{cut}");
        }
        for cut in HEAD.len()..=with_more.len() {
            let (len, request) = parse(&with_more[..cut]).expect("it is one").expect("it is whole");
            assert_eq!(len, HEAD.len());
            assert_eq!(request.uri(), "/a/b?c=d");
            assert_eq!(request.headers()["host"], "h");
            assert_eq!(request.headers().len(), 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_go_after_its_answer_is_not_waited_for_as_long_as_it_may_take_to_read_that()
    {
        let (mut peer, own) = duplex(1 << 10);
        peer.write_all(HEAD.as_bytes()).await.expect("there is room");
        let begun = Instant::now();
        let asked = Asked::read(own, CLOSE_TIMEOUT).await.expect("a request");
        asked.answer(b"answer", CLOSE_TIMEOUT * 100).await;
        assert_eq!(begun.elapsed(), CLOSE_TIMEOUT);
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.expect("the answer is text");
        assert_eq!(answer, "answer");
    }
}

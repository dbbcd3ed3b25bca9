//! `GET /export` on the worker port of a running server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_core::name::{GroupName, GroupPath, StreamName};
use headwater_core::wire::stream::query_params;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::http::{Method, StatusCode};

use super::Wanted;
use crate::handshake::asks_for;
use crate::http::{Asked, Refusal, send};
use crate::inbox::{Inbox, Message};
use crate::socket::{CLOSE_TIMEOUT, drop_rest};

/// The path that is asked for.
const PATH: &str = "/export";

/// How many exports there may be at the same time: each reads all that is stored, and keeps what it was.
const MOST: usize = 2;

/// What the connections of a port share of it.
#[derive(Clone, Debug)]
pub(crate) struct Exports(Arc<Semaphore>);

impl Default for Exports {
    fn default() -> Exports {
        Exports(Arc::new(Semaphore::new(MOST)))
    }
}

/// Whether this asks for an export, and not for a WebSocket, which may have any path.
pub(crate) fn is_export(request: &Request) -> bool {
    asks_for(request, PATH)
}

/// No length: it is not known before the end. The last line tells whether all of it came.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\
                      cache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n";

/// Answers it. A peer that takes nothing for `patience` is given up.
pub(crate) async fn serve<S>(mut asked: Asked<S>, exports: &Exports, inbox: &Inbox, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wanted = match wanted(asked.request()) {
        Ok(wanted) => wanted,
        Err(refusal) => return asked.refuse(&refusal).await,
    };
    let chunks = if *asked.request().method() == Method::HEAD {
        None
    } else {
        let Ok(place) = exports.0.try_acquire() else {
            let sentence = format!("There are {MOST} exports already, which is the most: try again later.");
            return asked.refuse(&Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)).await;
        };
        match begin(inbox, wanted).await {
            Ok(chunks) => Some((chunks, place)),
            Err(refusal) => return asked.refuse(&refusal).await,
        }
    };
    let Asked { stream, .. } = &mut asked;
    let moved = stream.written.clone();
    let sent = async {
        send(stream, HEAD).await?;
        if let Some((mut chunks, _place)) = chunks {
            while let Some(chunk) = chunks.recv().await {
                send(stream, &chunk).await?;
            }
        }
        stream.shutdown().await
    };
    // Nothing moves while the next chunk is read either, which takes far less.
    match moved.or_stalled(patience, sent).await {
        Some(Ok(())) => drop(timeout(CLOSE_TIMEOUT, drop_rest(&mut asked.stream)).await),
        Some(Err(error)) => tracing::debug!(%error, "an export was not taken to its end"),
        None => tracing::warn!("an export is cut off: its reader has read nothing for too long"),
    }
}

/// What the query asks for.
fn wanted(request: &Request) -> Result<Wanted, Refusal> {
    let wrong = |sentence: String| Refusal::new(StatusCode::BAD_REQUEST, sentence);
    let (mut stream, mut group) = (None, None);
    for (key, name) in query_params(request.uri().query().unwrap_or_default()) {
        let place = match &*key {
            "stream" => &mut stream,
            "group" => &mut group,
            _ => return Err(wrong("An export takes `stream` and `group`, and nothing else.".to_owned())),
        };
        if name.is_empty() || place.replace(name).is_some() {
            return Err(wrong(format!("An export takes one `{key}`, which is not empty.")));
        }
    }
    match (stream, group) {
        (None, None) => Ok(Wanted::All),
        (Some(stream), None) => Ok(Wanted::Stream(StreamName::trusted(&stream))),
        (Some(stream), Some(group)) => {
            let (stream, group) = (StreamName::trusted(&stream), GroupName::trusted(&group));
            Ok(Wanted::Group(GroupPath { stream, group }))
        }
        (None, Some(_)) => Err(wrong("A `group` is one of a `stream`: name that, too.".to_owned())),
    }
}

/// Has the engine take the snapshot.
async fn begin(inbox: &Inbox, wanted: Wanted) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let (answer, answered) = oneshot::channel();
    // Without the engine there is no answer.
    let _ = inbox.send(Message::Export { wanted, answer }).await;
    match answered.await {
        Ok(Ok(chunks)) => Ok(chunks),
        Ok(Err(reason)) => {
            tracing::error!(reason, "an export can't begin");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("There is no export: {reason}.")))
        }
        Err(_) => Err(Refusal::unavailable("The server is stopping.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().expect("a path");
        request
    }

    #[test]
    fn an_export_is_asked_for_by_its_path_and_not_by_a_websocket() {
        assert!(is_export(&request("/export")));
        assert!(is_export(&request("/export?stream=a")));
        for other in ["/", "/exports", "/export/", "/x/export", "/?export"] {
            assert!(!is_export(&request(other)), "{other}");
        }
        let mut posted = request("/export");
        *posted.method_mut() = Method::POST;
        assert!(!is_export(&posted));
        let mut upgraded = request("/export");
        upgraded.headers_mut().insert("upgrade", "websocket".parse().expect("a value"));
        assert!(!is_export(&upgraded));
    }

    #[test]
    fn a_query_that_is_not_understood_is_refused_and_does_not_give_everything() {
        let of = |path: &str| wanted(&request(path)).map_err(|refusal| refusal.status());
        let stream = || StreamName::trusted("a b/é");
        assert_eq!(of("/export"), Ok(Wanted::All));
        assert_eq!(of("/export?"), Ok(Wanted::All));
        assert_eq!(of("/export?stream=a+b%2F%C3%A9"), Ok(Wanted::Stream(stream())));
        let group = GroupName::trusted("g=&");
        let path = GroupPath { stream: stream(), group };
        assert_eq!(of("/export?group=g%3D%26&stream=a%20b/%C3%A9"), Ok(Wanted::Group(path)));
        for wrong in ["streem=a", "stream=", "group=a", "stream=a&stream=b", "stream=a&group=", "stream"] {
            assert_eq!(of(&format!("/export?{wrong}")), Err(400), "{wrong}");
        }
    }
}

//! An export is set again, item by item, in a running server: by a worker like others.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use headwater_core::config::Limits;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Address;
use super::lines::{Item, Line, put_json};

/// How an import ended, and how far it got.
#[derive(Debug)]
pub struct Imported {
    /// How many items are set for good.
    pub items: u64,
    /// Why not all of them are.
    pub error: Option<ImportError>,
}

/// Why an import ended before its end. Items before that are set; importing again sets them again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nobody is there, or it takes no worker.
    #[error("can't connect to {host}:{port}: {reason}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// A line is wrong. Nothing behind it was read.
    #[error("line {line}: {reason}")]
    Line {
        /// Which, from 1 on.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The server refuses an item.
    #[error("line {line}: the server refuses the item: {message} ({code})")]
    Refused {
        /// The item's line.
        line: u64,
        /// Why, for programs.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// The file is not whole.
    #[error("the file was cut off: its last line does not say that it is the end")]
    CutOff,
    /// The file can't be read.
    #[error("can't read the file: {0}")]
    Input(std::io::Error),
    /// The connection ended.
    #[error("the connection to the server ended: {0}")]
    Disconnected(String),
    /// Nothing comes any more.
    #[error("the server has said nothing for {} s", PATIENCE.as_secs())]
    Silent,
}

/// What the server has refused.
#[derive(Default)]
struct Refusal {
    first: OnceCell<ImportError>,
    /// For one who waits for more of the file.
    told: Notify,
}

type Socket = WebSocketStream<TcpStream>;

/// How many items may be unanswered.
const WINDOW: usize = 256;
/// The longest line: the largest value that a server can be made to take, and names.
const LINE_BYTES: usize = Limits::MAX_VALUE_BYTES + (2 << 20);
/// The longest answer: with the value before and the one after.
const ANSWER_BYTES: usize = 512 << 20;
/// About how much is read ahead at once.
const READ_AHEAD: usize = 64 << 10;
/// How long a server may take to greet.
const GREETING: Duration = Duration::from_secs(10);
/// How long the server may take to hear that this is all.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long nothing may come: a server pings all the time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sets every item of an export. `progress` is told how many are set, whenever that was answered.
pub async fn import(
    address: &Address,
    file: impl Read + Send + 'static,
    mut progress: impl FnMut(u64),
) -> Imported {
    let items = Cell::new(0);
    let refused = Refusal::default();
    let done = async {
        let (sink, stream) = connect(address).await?.split();
        let window = Semaphore::new(WINDOW);
        let set = || {
            items.set(items.get() + 1);
            progress(items.get());
        };
        // Both at once: a server that can't get rid of its answers reads no more.
        tokio::select! {
            biased;
            error = receive(stream, &window, set, &refused) => Err(error),
            sent = send(sink, read_ahead(file), &window, &refused) => sent,
        }
    };
    let ended = done.await.err();
    // It is about an earlier line than what was found in the file.
    Imported { items: items.get(), error: refused.first.into_inner().or(ended) }
}

async fn connect(address: &Address) -> Result<Socket, ImportError> {
    let failed =
        |reason: String| ImportError::Connect { host: address.host.clone(), port: address.port, reason };
    let connecting = async {
        let mut request = address.worker_url().into_client_request()?;
        if let Some(authorization) = address.authorization() {
            request.headers_mut().insert(AUTHORIZATION, authorization.parse()?);
        }
        let tcp = TcpStream::connect(address.lookup()).await?;
        tcp.set_nodelay(true)?;
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(ANSWER_BYTES);
        config.max_frame_size = Some(ANSWER_BYTES);
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, tcp, Some(config)).await?;
        // A worker port greets whoever connects; a stream port says nothing.
        let greets = matches!(
            timeout(GREETING, socket.next()).await,
            Ok(Some(Ok(Message::Text(text)))) if text.contains(r#""workerregistered""#)
        );
        Ok::<_, Error>((socket, greets))
    };
    match timeout(PATIENCE, connecting).await {
        Ok(Ok((socket, true))) => Ok(socket),
        Ok(Ok((_, false))) => {
            Err(failed("this is no worker port: the server's other port is for subscribers".to_owned()))
        }
        Ok(Err(Error::Http(answer))) => {
            let sentence =
                String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).trim().to_owned();
            let status = answer.status().as_u16();
            Err(failed(format!("status {status}: {sentence}{}", super::token_hint(status))))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it does not answer".to_owned())),
    }
}

/// Lines of the file with the number of the first.
type Lines = Result<(u64, Vec<Vec<u8>>), std::io::Error>;

/// Reads the file on a thread of its own, for a file may block.
fn read_ahead(file: impl Read + Send + 'static) -> mpsc::Receiver<Lines> {
    let (batches, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(READ_AHEAD, file);
        let mut number = 1;
        loop {
            let (mut lines, mut bytes, mut failure) = (Vec::new(), 0, None);
            while bytes < READ_AHEAD {
                let mut line = Vec::new();
                let read = (&mut reader).take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
                match read {
                    Ok(0) => break,
                    Ok(len) => bytes += len,
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
                lines.push(line);
                // What is there already is not held up by what has yet to come.
                if !reader.buffer().contains(&b'\n') {
                    break;
                }
            }
            let count = lines.len() as u64;
            if count > 0 && batches.blocking_send(Ok((number, lines))).is_err() {
                return;
            }
            if let Some(error) = failure {
                // Whoever does not read on has ended already.
                let _ = batches.blocking_send(Err(error));
                return;
            }
            if count == 0 {
                return;
            }
            number += count;
        }
    });
    receiver
}

/// Sends every item until one is refused, and waits until all that were sent are answered.
async fn send(
    mut sink: SplitSink<Socket, Message>,
    lines: mpsc::Receiver<Lines>,
    window: &Semaphore,
    refused: &Refusal,
) -> Result<(), ImportError> {
    let sent = send_items(&mut sink, lines, window, refused).await;
    // All places are free then.
    drop(window.acquire_many(u32::try_from(WINDOW).unwrap_or(u32::MAX)).await);
    // The server is not needed for anything any more.
    let _ = timeout(GOODBYE, sink.send(Message::Close(None))).await;
    sent
}

async fn send_items(
    sink: &mut SplitSink<Socket, Message>,
    mut batches: mpsc::Receiver<Lines>,
    window: &Semaphore,
    refused: &Refusal,
) -> Result<(), ImportError> {
    // Since the last end: files may come one after the other.
    let (mut items, mut ended) = (0, false);
    loop {
        let batch = tokio::select! {
            biased;
            () = refused.told.notified() => return Ok(()),
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { break };
        let (first, lines) = batch.map_err(ImportError::Input)?;
        for (line, text) in (first..).zip(&lines) {
            if refused.first.get().is_some() {
                return Ok(());
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |reason| ImportError::Line { line, reason };
            if text.len() > LINE_BYTES {
                return Err(wrong(format!("it is longer than {LINE_BYTES} bytes")));
            }
            match Line::parse(text) {
                Ok(Line::Item(item)) => {
                    (items, ended) = (items + 1, false);
                    if let Ok(place) = window.acquire().await {
                        place.forget();
                    }
                    let frame = Message::text(frame(line, &item));
                    sink.send(frame).await.map_err(|error| ImportError::Disconnected(error.to_string()))?;
                }
                Ok(Line::End { items: said }) if said == items => (items, ended) = (0, true),
                Ok(Line::End { items: said }) => {
                    return Err(wrong(format!("the file says that it has {said} items, and has {items}")));
                }
                Ok(Line::Broken { reason }) => {
                    return Err(wrong(format!("the export could not go on: {reason}")));
                }
                Err(_) if !text.ends_with(b"\n") => return Err(ImportError::CutOff),
                Err(reason) => return Err(wrong(reason)),
            }
        }
    }
    if ended { Ok(()) } else { Err(ImportError::CutOff) }
}

/// The call that sets an item.
fn frame(line: u64, item: &Item<'_>) -> String {
    let Item { stream, group, id, value } = item;
    let mut out = format!(
        r#"{{"type":"invokefunction","invocation_id":"{CALL}{line:012x}","function_id":"stream::set","data":{{"stream_name":"#
    )
    .into_bytes();
    put_json(&mut out, stream);
    for (key, name) in [(r#","group_id":"#, group), (r#","item_id":"#, id)] {
        out.extend_from_slice(key.as_bytes());
        put_json(&mut out, name);
    }
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(value.get().as_bytes());
    out.extend_from_slice(b"}}");
    String::from_utf8(out).expect("it was made of texts")
}

/// The start of a call's id; its line in hexadecimal digits is the rest.
const CALL: &str = "00000000-0000-4000-8000-";

/// What a server sends, as far as it is of interest here.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    invocation_id: Option<String>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    message: String,
}

/// Takes answers until the connection ends.
async fn receive(
    mut stream: SplitStream<Socket>,
    window: &Semaphore,
    mut set: impl FnMut(),
    refused: &Refusal,
) -> ImportError {
    loop {
        let message = match timeout(PATIENCE, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return ImportError::Disconnected(error.to_string()),
            Ok(None) => return ImportError::Disconnected("without a goodbye".to_owned()),
            // Nobody needs to say anything while nothing is asked.
            Err(_) if window.available_permits() == WINDOW => continue,
            Err(_) => return ImportError::Silent,
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Close(Some(close)) => {
                return ImportError::Disconnected(format!("{} ({})", close.reason, close.code));
            }
            _ => continue,
        };
        let Ok(Answer { kind, invocation_id: Some(id), error }) = serde_json::from_str(&text) else {
            continue;
        };
        let line = id.strip_prefix(CALL).and_then(|line| u64::from_str_radix(line, 16).ok());
        let Some(line) = line.filter(|_| kind == "invocationresult") else { continue };
        match error {
            None => set(),
            Some(Failure { code, message }) => {
                // Only the first is of interest: others may follow from it.
                let _ = refused.first.set(ImportError::Refused { line, code, message });
                refused.told.notify_one();
            }
        }
        window.add_permits(1);
    }
}

//! A worker that calls, and checks what it is answered.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::BenchError;
use super::clock::{Moment, Times};
use super::sequence::Faults;
use super::websocket::{Broken, Connection, put_text};
use crate::backup::Address;

/// How long nothing may come that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The start of a call's id; its number in hexadecimal digits is the rest.
const CALL: &str = "00000000-0000-4000-8000-";

/// A connection to the worker port.
pub(super) struct Worker {
    connection: Connection,
    /// What is to be sent.
    out: Vec<u8>,
    scratch: Vec<u8>,
    waiting: BTreeMap<u64, Waiting>,
    calls: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    about: u64,
    sent: Moment,
}

/// What the server said.
pub(super) enum Heard<'a> {
    /// To a call about `about`, how long it took, and the result or an error as it came.
    Answer { about: u64, took: Duration, outcome: Result<Option<&'a RawValue>, &'a RawValue> },
    /// A function is to be run.
    Invoked { id: Option<&'a str>, function: &'a str, data: &'a RawValue },
    /// It does not want what was registered.
    Rejected(&'a str),
}

/// What the worker port sends, as far as it is of interest here.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    invocation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Worker {
    pub(super) async fn connect(address: &Address) -> Result<Worker, BenchError> {
        let failed = |reason: String| BenchError::Connect { address: address.shown(), reason };
        let connecting = async {
            let mut connection = Connection::open(address).await?;
            let mut greeted = false;
            // A worker port greets whoever connects; a stream port says nothing.
            let greeting = async {
                while !greeted {
                    connection
                        .read(|text| greeted |= text.windows(16).any(|word| word == b"workerregistered"))
                        .await?;
                }
                Ok::<_, Broken>(())
            };
            timeout(PATIENCE, greeting).await.map_err(|_| {
                Broken::Io(
                    "this is no worker port: it does not greet; is it the port of subscribers?".to_owned(),
                )
            })??;
            Ok::<_, Broken>(connection)
        };
        let connection = match timeout(2 * PATIENCE, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(Broken::Refused(answer))) if answer.starts_with("401") => {
                return Err(failed(format!("{answer} (the token comes from HEADWATER_TOKEN or --token)")));
            }
            Ok(Err(broken)) => return Err(failed(broken.to_string())),
            Err(_) => return Err(failed("it does not answer".to_owned())),
        };
        let (out, scratch) = Default::default();
        Ok(Worker { connection, out, scratch, waiting: BTreeMap::new(), calls: 0 })
    }

    /// How many calls have no answer yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a call. Its input is what `input` appends; `about` comes back with the answer.
    pub(super) fn call(&mut self, function: &str, about: u64, input: impl FnOnce(&mut Vec<u8>, Moment)) {
        self.calls += 1;
        let sent = Moment::now();
        self.waiting.insert(self.calls, Waiting { about, sent });
        let frame = &mut self.scratch;
        frame.clear();
        let _ = write!(
            frame,
            r#"{{"type":"invokefunction","invocation_id":"{CALL}{:012x}","function_id":"{function}","data":"#,
            self.calls
        );
        input(frame, sent);
        frame.push(b'}');
        put_text(&mut self.out, frame);
    }

    /// Queues a frame that is no call.
    pub(super) fn say(&mut self, frame: &str) {
        put_text(&mut self.out, frame.as_bytes());
    }

    /// Sends what was queued.
    pub(super) async fn flush(&mut self) -> Result<(), BenchError> {
        if !self.out.is_empty() {
            self.connection.write(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Sends frames that were made with [`put_text`].
    pub(super) async fn send(&mut self, frames: &[u8]) -> Result<(), BenchError> {
        if frames.is_empty() { Ok(()) } else { Ok(self.connection.write(frames).await?) }
    }

    /// Reads once, and hands over what came. It loses nothing if it is dropped.
    pub(super) async fn read(&mut self, mut heard: impl FnMut(Heard<'_>)) -> Result<(), BenchError> {
        let waiting = &mut self.waiting;
        let reading = self.connection.read(|text| {
            let Ok(frame) = serde_json::from_slice::<Frame<'_>>(text) else { return };
            let Frame { kind, invocation_id, function_id, result, data, error } = frame;
            let id = invocation_id.as_deref();
            match &*kind {
                "invocationresult" => {
                    let number = id.and_then(|id| u64::from_str_radix(id.strip_prefix(CALL)?, 16).ok());
                    let Some(Waiting { about, sent }) = number.and_then(|number| waiting.remove(&number))
                    else {
                        return heard(Heard::Rejected("a call was answered that nobody made, or twice"));
                    };
                    let outcome = error.map_or(Ok(result), Err);
                    heard(Heard::Answer { about, took: Moment::now().since(sent), outcome });
                }
                "invokefunction" => {
                    if let (Some(function), Some(data)) = (function_id.as_deref(), data) {
                        heard(Heard::Invoked { id, function, data });
                    }
                }
                "triggerregistrationresult" | "registrationrejected" => {
                    heard(Heard::Rejected(&String::from_utf8_lossy(text)));
                }
                _ => {}
            }
        });
        Ok(reading.await?)
    }

    /// Makes one call and waits for its answer: the result, or what went wrong.
    pub(super) async fn ask(
        &mut self,
        function: &str,
        input: impl FnOnce(&mut Vec<u8>, Moment),
    ) -> Result<Option<Box<RawValue>>, BenchError> {
        self.call(function, 0, input);
        self.flush().await?;
        let mut answer = None;
        while answer.is_none() {
            let reading = self.read(|heard| match heard {
                Heard::Answer { outcome, .. } => {
                    answer = Some(outcome.map(|it| it.map(ToOwned::to_owned)).map_err(|it| it.to_string()));
                }
                Heard::Rejected(why) => answer = Some(Err(why.to_owned())),
                Heard::Invoked { .. } => {}
            });
            timeout(PATIENCE, reading).await.map_err(|_| BenchError::Silent)??;
        }
        answer
            .unwrap_or(Ok(None))
            .map_err(|error| BenchError::Refused { function: function.to_owned(), error })
    }

    /// Makes calls, always `window` of them unanswered, until `next` has none any more and all are answered. `next`
    /// queues one call and says whether it did; `check` says whether the result of a call is right.
    pub(super) async fn drive(
        &mut self,
        window: usize,
        mut next: impl FnMut(&mut Worker) -> bool,
        mut check: impl FnMut(u64, Option<&RawValue>) -> bool,
    ) -> Result<Answers, BenchError> {
        let mut answers = Answers::new();
        let mut more = true;
        loop {
            while more && self.waiting() < window {
                more = next(self);
            }
            self.flush().await?;
            if self.waiting() == 0 {
                return Ok(answers);
            }
            if !answers.read(self, &mut check).await? {
                return Ok(answers);
            }
        }
    }
}

/// What came of many calls.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// How many succeeded.
    pub(super) count: u64,
    /// How long they took.
    pub(super) times: Times,
    pub(super) faults: Faults,
}

impl Answers {
    pub(super) fn new() -> Answers {
        Answers { count: 0, times: Times::new(), faults: Faults::default() }
    }

    pub(super) fn add(&mut self, other: &Answers) {
        self.count += other.count;
        self.times.add(&other.times);
        self.faults.add(&other.faults);
    }

    /// Takes the answers that are there, and waits for one if there are none. `false` if none comes any more: then
    /// what is waited for counts as unanswered.
    pub(super) async fn read(
        &mut self,
        worker: &mut Worker,
        check: &mut impl FnMut(u64, Option<&RawValue>) -> bool,
    ) -> Result<bool, BenchError> {
        let reading = worker.read(|heard| self.hear(&heard, check));
        match timeout(PATIENCE, reading).await {
            Ok(read) => read.map(|()| true),
            Err(_) => {
                self.faults.unanswered += worker.waiting() as u64;
                Ok(false)
            }
        }
    }

    pub(super) fn hear(&mut self, heard: &Heard<'_>, check: &mut impl FnMut(u64, Option<&RawValue>) -> bool) {
        match heard {
            Heard::Answer { about, took, outcome: Ok(result) } => {
                self.count += 1;
                self.times.record(*took);
                if !check(*about, *result) {
                    self.faults.wrong(|| match result {
                        Some(result) => format!("a call was answered with {}", shortened(result.get())),
                        None => "a call was answered without a result".to_owned(),
                    });
                }
            }
            Heard::Answer { outcome: Err(error), .. } => {
                self.faults.wrong(|| format!("a call was refused: {}", shortened(error.get())));
            }
            Heard::Rejected(why) => self.faults.wrong(|| shortened(why).to_owned()),
            Heard::Invoked { .. } => {}
        }
    }
}

/// The start of a text that may be long.
fn shortened(text: &str) -> &str {
    text.get(..300).unwrap_or(text)
}

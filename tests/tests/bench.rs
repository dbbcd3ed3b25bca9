//! `headwater bench` measures a real server without a complaint, and notices one that loses, repeats or reorders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use headwater_tests::{Process, Server, Setup, Worker, spawn_with_env, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long all scenarios together may take, each of them small.
const LONG: Duration = Duration::from_secs(120);

/// Runs it and gives its exit code, its lines of JSON, and what it said otherwise.
async fn bench(workers: &str, streams: &str, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let mut all = vec!["bench", "--workers", workers, "--streams", streams, "--json", "--seconds", "1"];
    all.extend_from_slice(arguments);
    finished(spawn_with_env(&all, &[])).await
}

async fn finished(mut process: Process) -> (Option<i32>, Vec<Value>, String) {
    process.close_stdin();
    let code = process.exited(LONG).await.code();
    let lines = process.printed().iter().map(|line| serde_json::from_str(line).expect("a line of JSON"));
    (code, lines.collect(), process.stderr())
}

async fn bench_server(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let (code, lines, said) = bench(server.workers(), server.streams(), arguments).await;
    assert_eq!(code, Some(0), "{said}{lines:?}");
    for line in &lines {
        for fault in ["lost", "repeated", "out_of_order", "unanswered", "wrong", "disconnected"] {
            assert_eq!(line[fault], 0, "{fault} of {line}");
        }
        assert_eq!(line["clean"], true, "{line}");
    }
    lines
}

#[track_caller]
fn positive(line: &Value, key: &str) -> f64 {
    let value = line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
    assert!(value > 0.0, "{key} of {line}");
    value
}

#[tokio::test]
async fn every_scenario_finds_a_server_that_loses_nothing_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let small =
        ["all", "--subscribers", "20", "--writes", "30", "--items", "50", "--rate", "50", "--groups", "8"];
    let lines = bench_server(&server, &small).await;
    let scenarios: Vec<&str> = lines.iter().filter_map(|line| line["scenario"].as_str()).collect();
    let expected = [
        "idle",
        "latency",
        "throughput",
        "increments",
        "fan-out-burst",
        "fan-out-paced",
        "selective",
        "triggers",
        "triggers",
        "slow",
        "reconnect",
        "accept",
    ];
    assert_eq!(scenarios, expected);
    let [idle, latency, throughput, increments, burst, paced, selective, many, one, slow, reconnect, accept] =
        &lines[..]
    else {
        panic!("twelve tables")
    };
    positive(idle, "kib_with");
    for line in [latency, throughput] {
        positive(line, "sets_per_second");
        assert!(positive(line, "call_p50_us") <= positive(line, "call_p99_us"));
        positive(line, "cpu_us_per_call");
    }
    assert_eq!(increments["sum"], increments["increments"]);
    assert_eq!((&burst["deliveries"], &burst["calls"]), (&json!(20 * 30), &json!(30)));
    assert_eq!((&paced["deliveries"], &paced["calls"]), (&json!(20 * 50), &json!(50)));
    for line in [burst, paced] {
        for key in ["p50_us", "p99_us", "cpu_us_per_delivery"] {
            let floor = positive(line, &format!("{key}_floor"));
            let ratio = positive(line, &format!("{key}_ratio"));
            assert!((positive(line, key) / floor - ratio).abs() < 0.01 * ratio + 0.001, "{key} of {line}");
        }
    }
    positive(selective, "cpu_us_per_write_ratio");
    assert_eq!((&many["groups"], &one["groups"]), (&json!(8), &json!(1)));
    for line in [many, one] {
        assert_eq!(line["events"], line["calls"], "{line}");
        positive(line, "events_per_second");
    }
    // Two halves without, one whole with it: the halves are rounded up.
    assert_eq!(slow["deliveries"], 19 * 50 * 3);
    positive(slow, "p99_us_ratio");
    positive(reconnect, "seconds");
    positive(accept, "connections_per_second");

    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(streams(&mut worker).await, 0);
}

#[tokio::test]
async fn it_shows_the_servers_token_and_says_so_when_it_is_refused() {
    let server = Setup::new().own(json!({ "worker_token": "secret" })).start().await;
    let lines = bench_server(&server, &["latency", "--token", "secret"]).await;
    assert_eq!(lines.len(), 1);
    let (code, lines, said) = bench(server.workers(), server.streams(), &["latency"]).await;
    assert_eq!((code, lines.len()), (Some(1), 0));
    assert!(said.contains("401") && said.contains("--token"), "{said}");
}

#[tokio::test]
async fn what_can_not_be_measured_is_an_error_that_says_why() {
    let server = Server::start().await;
    let (workers, streams) = (server.workers(), server.streams());
    let nobody = format!("ws://127.0.0.1:{}", free_port().await);
    for (workers, streams, arguments, why) in [
        (&*nobody, streams, &["latency"][..], "refused"),
        (workers, &*nobody, &["accept", "--subscribers", "3"][..], "refused"),
        (streams, streams, &["latency"][..], "no worker port"),
        (workers, workers, &["idle", "--subscribers", "3"][..], "a subscriber can't join"),
        (workers, streams, &["idle", "--pid", "4294967295"][..], "no process"),
    ] {
        let (code, lines, said) = bench(workers, streams, arguments).await;
        assert_eq!((code, lines.len()), (Some(1), 0), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn an_interrupted_bench_deletes_what_it_has_written() {
    let server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let process = started(&server, &mut worker).await;
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it is there");
    let (code, lines, said) = finished(process).await;
    assert_eq!((code, lines.len()), (Some(1), 0), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(streams(&mut worker).await, 0);
}

#[tokio::test]
async fn a_server_that_goes_away_meanwhile_is_an_error() {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let process = started(&server, &mut worker).await;
    server.kill9().await;
    let (code, lines, said) = finished(process).await;
    assert_eq!((code, lines.len()), (Some(1), 0), "{said}");
    assert!(said.contains("connection has ended"), "{said}");
}

/// A bench that would measure for long, and has begun to write.
async fn started(server: &Server, worker: &mut Worker) -> Process {
    let (workers, streams_at) = (server.workers(), server.streams());
    let latency = ["bench", "latency", "--workers", workers, "--streams", streams_at, "--seconds", "600"];
    let process = spawn_with_env(&latency, &[]);
    within(LONG, "something to be written", async { while streams(worker).await == 0 {} }).await;
    process
}

/// How many streams hold something.
async fn streams(worker: &mut Worker) -> u64 {
    let list = worker.call("stream::list_all", json!({})).await.expect("it is listed");
    let list: Value = serde_json::from_str(&list.expect("there is a result")).expect("JSON");
    list["count"].as_u64().expect("a number")
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    listener.local_addr().expect("it listens").port()
}

#[tokio::test]
async fn a_server_that_does_one_thing_wrong_once_is_noticed() {
    let mut noticed = JoinSet::new();
    for (misdeed, faults) in [
        (Misdeed::None, json!({})),
        (Misdeed::Lose, json!({ "lost": 1 })),
        (Misdeed::LoseLast, json!({ "lost": 1 })),
        (Misdeed::Repeat, json!({ "repeated": 1 })),
        (Misdeed::RepeatLast, json!({ "repeated": 1 })),
        (Misdeed::Reorder, json!({ "out_of_order": 1 })),
        (Misdeed::OtherRevision, json!({ "wrong": 1 })),
        (Misdeed::SyncAgain, json!({ "wrong": 1 })),
        (Misdeed::HangUp, json!({ "disconnected": 1, "lost": 5 })),
        (Misdeed::AnswerWrongly, json!({ "wrong": 1 })),
        (Misdeed::NoAnswer, json!({ "unanswered": 1 })),
    ] {
        noticed.spawn(notices(misdeed, faults));
    }
    while let Some(noticed) = noticed.join_next().await {
        noticed.expect("it was noticed");
    }
}

/// Runs a small burst on a server that does this, and looks for these faults and no others.
async fn notices(misdeed: Misdeed, faults: Value) {
    let fake = Fake::start(misdeed).await;
    let burst = ["fan-out-burst", "--subscribers", "3", "--writes", "10"];
    let (code, lines, said) = bench(&fake.workers, &fake.streams, &burst).await;
    let clean = misdeed == Misdeed::None;
    assert_eq!(code, Some(if clean { 0 } else { 1 }), "{misdeed:?}: {said}");
    let [line] = &lines[..] else { panic!("{misdeed:?}: one table, not {lines:?}: {said}") };
    assert_eq!(line["clean"], clean, "{misdeed:?}: {line}");
    for fault in ["lost", "repeated", "out_of_order", "unanswered", "wrong", "disconnected"] {
        let expected = faults.get(fault).cloned().unwrap_or(json!(0));
        assert_eq!(line[fault], expected, "{misdeed:?}: {fault} of {line}");
    }
}

/// What a server does that it should not, once, to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misdeed {
    None,
    Lose,
    LoseLast,
    Repeat,
    RepeatLast,
    Reorder,
    OtherRevision,
    SyncAgain,
    HangUp,
    AnswerWrongly,
    NoAnswer,
}

/// As much of a server as the bench needs, kept in memory.
struct Fake {
    workers: String,
    streams: String,
}

/// Who gets what a worker sets: each subscriber's frames, and how many changes there were.
#[derive(Default)]
struct Group {
    revision: u64,
    subscribers: BTreeMap<usize, UnboundedSender<Message>>,
}

impl Fake {
    async fn start(misdeed: Misdeed) -> Fake {
        let group = Arc::new(Mutex::new(Group::default()));
        let (workers, at_workers) = listen().await;
        let (streams, at_streams) = listen().await;
        let shared = Arc::clone(&group);
        tokio::spawn(async move {
            while let Ok((stream, _)) = workers.accept().await {
                tokio::spawn(worker(stream, Arc::clone(&shared), misdeed));
            }
        });
        tokio::spawn(async move {
            for index in 0.. {
                let Ok((stream, _)) = streams.accept().await else { return };
                tokio::spawn(subscriber(stream, Arc::clone(&group), index));
            }
        });
        Fake { workers: at_workers, streams: at_streams }
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    let port = listener.local_addr().expect("it listens").port();
    (listener, format!("ws://127.0.0.1:{port}"))
}

async fn upgraded(stream: TcpStream) -> WebSocketStream<TcpStream> {
    tokio_tungstenite::accept_async(stream).await.expect("the bench speaks WebSocket")
}

async fn worker(stream: TcpStream, group: Arc<Mutex<Group>>, misdeed: Misdeed) {
    let mut socket = upgraded(stream).await;
    let greeting = json!({ "type": "workerregistered", "worker_id": "w", "reattach_token": "t" });
    let _ = socket.send(Message::text(greeting.to_string())).await;
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else { continue };
        let Ok(call) = serde_json::from_str::<Value>(text) else { continue };
        let (function, data) = (&call["function_id"], &call["data"]);
        let mut new_value = data["data"].clone();
        if function == "stream::set" {
            let revision = group.lock().unwrap_or_else(PoisonError::into_inner).set(data, misdeed);
            if misdeed == Misdeed::NoAnswer && revision == 10 {
                continue;
            }
            if misdeed == Misdeed::AnswerWrongly && revision == 5 {
                new_value = Value::Null;
            }
        }
        let answer = json!({
            "type": "invocationresult",
            "invocation_id": call["invocation_id"],
            "function_id": function,
            "result": { "old_value": null, "new_value": new_value },
        });
        if socket.send(Message::text(answer.to_string())).await.is_err() {
            return;
        }
    }
}

impl Group {
    /// Tells everybody of a set, the first of them not quite as it should be. Gives its revision.
    fn set(&mut self, data: &Value, misdeed: Misdeed) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let frame = |revision: u64| {
            let event = json!({ "type": "update", "data": data["data"] });
            let (stream, group) = (&data["stream_name"], &data["group_id"]);
            let frame = json!({
                "type": "stream", "timestamp": revision, "streamName": stream, "groupId": group, "id": data["item_id"],
                "event": event, "revision": revision,
            });
            Message::text(frame.to_string())
        };
        for (index, subscriber) in &self.subscribers {
            let mut frames = vec![frame(revision)];
            match misdeed {
                _ if *index != 0 => {}
                Misdeed::Lose if revision == 5 => frames.clear(),
                Misdeed::LoseLast if revision == 10 => frames.clear(),
                Misdeed::Repeat if revision == 5 => frames.push(frame(revision)),
                Misdeed::RepeatLast if revision == 10 => frames.push(frame(revision)),
                // The change before it comes again and again, but was not sent in its turn.
                Misdeed::Reorder if revision == 5 => frames.clear(),
                Misdeed::Reorder if revision == 6 => frames.push(frame_before(data, revision)),
                Misdeed::OtherRevision if revision == 5 => frames = vec![frame(revision + 1)],
                Misdeed::SyncAgain if revision == 5 => frames.push(sync(data)),
                Misdeed::HangUp if revision == 6 => frames = vec![Message::Close(None)],
                _ => {}
            }
            for frame in frames {
                // Whoever has gone needs none.
                let _ = subscriber.send(frame);
            }
        }
        revision
    }
}

/// The frame of the change before this one, as the bench numbers its values: from 0 on, one for each revision.
fn frame_before(data: &Value, revision: u64) -> Message {
    let number = revision - 2;
    let sent = data["data"]["mark"].as_str().and_then(|mark| mark.split(' ').nth(1)).expect("a mark");
    let value = json!({ "id": format!("i{number}"), "mark": format!("{number} {sent}") });
    let frame = json!({
        "type": "stream", "timestamp": revision, "streamName": data["stream_name"], "groupId": data["group_id"],
        "id": value["id"], "event": { "type": "update", "data": value }, "revision": revision - 1,
    });
    Message::text(frame.to_string())
}

fn sync(data: &Value) -> Message {
    let frame = json!({
        "type": "stream", "timestamp": 0, "streamName": data["stream_name"], "groupId": data["group_id"], "id": null,
        "event": { "type": "sync", "data": [] },
    });
    Message::text(frame.to_string())
}

async fn subscriber(stream: TcpStream, group: Arc<Mutex<Group>>, index: usize) {
    let mut socket = upgraded(stream).await;
    let Some(Ok(message)) = socket.next().await else { return };
    let join: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
    let target = json!({ "stream_name": join["data"]["streamName"], "group_id": join["data"]["groupId"] });
    let (sender, mut frames) = unbounded_channel();
    let _ = sender.send(sync(&target));
    group.lock().unwrap_or_else(PoisonError::into_inner).subscribers.insert(index, sender);
    while let Some(frame) = frames.recv().await {
        if socket.send(frame).await.is_err() {
            return;
        }
    }
}

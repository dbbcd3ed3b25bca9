//! Who asks for too much, or takes too little of what it is sent, is told so or slowed down; nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater_tests::{
    Bystander, Frame, Outcome, Refusal, Server, Setup, Subscriber, Worker, item, stored, within,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

// Subscribers.

/// A group as a subscriber of it knows it.
#[derive(Default)]
struct View {
    values: Vec<Value>,
    revision: u64,
    syncs: usize,
}

impl View {
    /// Takes a frame: a sync, or the very next change.
    fn take(&mut self, frame: &Frame) {
        let revision = frame.revision.expect("no error");
        let value = frame.data();
        match frame.event.kind.as_str() {
            "sync" => {
                assert!(revision >= self.revision, "from {} back to {frame:?}", self.revision);
                self.values = value.as_array().expect("a group is an array").clone();
                self.syncs += 1;
            }
            kind => {
                assert_eq!(revision, self.revision + 1, "a gap without a sync: {frame:?}");
                match (kind, self.values.iter().position(|known| known["id"] == value["id"])) {
                    ("create", None) => self.values.push(value),
                    ("update", Some(at)) => self.values[at] = value,
                    (_, at) => panic!("an item at {at:?}: {frame:?}"),
                }
            }
        }
        self.revision = revision;
    }
}

impl View {
    /// Follows the group up to a revision.
    async fn follow(&mut self, subscriber: &mut Subscriber, end: u64) {
        while self.revision < end {
            self.take(&subscriber.next().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_too_slow_gets_a_sync_after_every_overflow_and_ends_with_the_stored_state() {
    const ROUNDS: u64 = 3;
    // More than the system takes on behalf of a peer that does not read.
    const SETS: u64 = 16_000;
    const PADDING: usize = 1_000;
    // Two events at once are one too many.
    let server = Setup::new().limits(json!({ "outbox_bytes": 1 })).start().await;
    let mut writer = Worker::connect(server.workers()).await;
    let (mut eager, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    let eager = tokio::spawn(async move {
        let mut view = View::default();
        view.take(&sync);
        view.follow(&mut eager, ROUNDS * SETS).await;
        view
    });
    let (mut lazy, sync) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut view = View::default();
    view.take(&sync);

    let set = |n: u64| {
        let id = format!("i{:02}", n % 50);
        stored("s", "g", &id, json!({ "id": id, "n": n, "padding": "x".repeat(PADDING) }))
    };
    for round in 1..=ROUNDS {
        // This one reads nothing before everything is written.
        writer.pipeline("stream::set", 128, (0..SETS).map(set)).await;
        view.follow(&mut lazy, round * SETS).await;
        assert!(view.syncs > usize::try_from(round).expect("a few"), "{} syncs in round {round}", view.syncs);
    }
    let list = writer.list("s", "g").await;
    assert_eq!(view.values, list);
    assert_eq!(eager.await.expect("the eager subscriber is told everything").values, list);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_too_slow_is_told_how_many_sent_events_it_has_missed() {
    const ROUNDS: u64 = 3;
    // More than the system takes on behalf of a peer that does not read.
    const SENT: u64 = 16_000;
    let server = Setup::new().limits(json!({ "outbox_bytes": 1 })).start().await;
    let mut writer = Worker::connect(server.workers()).await;
    let (mut whole, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut item = Subscriber::connect(server.streams()).await;
    item.join("item", "s", "g", Some("i")).await;
    let mut all_missed = 0;

    for round in 1..=ROUNDS {
        // Each second one is sent to the item, and the others to the group.
        let send = |n: u64| {
            let id = if n.is_multiple_of(2) { "i" } else { "" };
            let data = "x".repeat(1_000);
            json!({ "stream_name": "s", "group_id": "g", "id": id, "type": "typing", "data": data })
                .to_string()
        };
        writer.pipeline("stream::send", 128, (0..SENT).map(send)).await;
        writer.set("s", "g", "i", round).await;
        for (subscriber, of) in [(&mut whole, SENT), (&mut item, SENT / 2)] {
            let (mut got, mut missed) = (0, 0);
            loop {
                let frame = subscriber.next().await;
                missed += frame.skipped;
                match frame.event.kind.as_str() {
                    "event" => got += 1,
                    // The round's end, in the way in which it is told: to the group or to the item.
                    "sync" if ![json!(round), json!([round])].contains(&frame.data()) => {}
                    "sync" | "create" | "update" => break,
                    other => panic!("unexpected: {other}"),
                }
            }
            assert!(missed > 0, "round {round}: it was not too slow");
            assert_eq!(got + missed, of, "round {round}: {got} were got");
            all_missed += missed;
        }
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics["headwater_skipped_events_total"], all_missed);
    assert!(metrics["headwater_overflows_total"] >= 2 * ROUNDS, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_reads_no_answers_is_not_read_from() {
    // More than the system takes on behalf of a peer that does not read.
    const MOST: usize = 96 << 20;
    let join = json!({ "subscriptionId": "1", "streamName": "s", "groupId": "g" });
    // The first is answered with an error each time. The second is a duplicate: of its syncs only the newest waits,
    // but not one that the system has taken; they are large, so that it soon has taken all that it does.
    let frames = [
        format!("{:500}", r#"{"type":"nonsense"}"#),
        format!("{:130}", json!({ "type": "join", "data": join }).to_string()),
    ];
    for frame in frames {
        let server = Server::start().await;
        let mut bystander = Bystander::of(&server).await;
        bystander.worker.set("s", "g", "i", json!("x".repeat(1 << 20))).await;
        let before = server.memory();
        let taken = Arc::new(AtomicUsize::new(0));
        let mut tcp = Subscriber::connect(server.streams()).await.into_socket().into_inner();
        let bytes = client_frame(&frame).repeat(64);
        let pushing = {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                while tcp.write_all(&bytes).await.is_ok() {
                    taken.fetch_add(bytes.len(), Ordering::Relaxed);
                }
            })
        };
        let (mut last, mut rounds) = (0, 0);
        while rounds < 200 {
            bystander.notices_nothing().await;
            let now = taken.load(Ordering::Relaxed);
            assert!(now < MOST, "the server reads on and on: {frame:.60}");
            rounds = if now == last { rounds + 1 } else { 0 };
            last = now;
        }
        assert!(last > 0 && !pushing.is_finished(), "read at first, then slowed down, not disconnected");
        let grown = server.memory().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes for a peer that does not read: {frame:.60}");
        pushing.abort();
    }
}

/// A text frame as a client sends it, masked with nothing but zeros. For texts of 126 bytes and more.
fn client_frame(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("a short text").to_be_bytes();
    [&[0x81, 0xfe, len[0], len[1], 0, 0, 0, 0], text.as_bytes()].concat()
}

// Workers.

/// Waits for the answer to a call of the server's own, and gives the refusals that came before it.
async fn refusals_so_far(worker: &mut Worker) -> Vec<Refusal> {
    let asked = worker.start("stream::get", item("no", "such", "item")).await;
    let mut refusals = Vec::new();
    loop {
        let (call, outcome): (_, Outcome) = worker.next_outcome().await.expect("the connection lives");
        refusals.extend(outcome.err());
        if call == asked {
            return refusals;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_find_no_room_at_their_worker_are_refused_and_it_lives_on() {
    let server = Setup::new().limits(json!({ "worker_outbox_bytes": 1 << 20 })).start().await;
    let mut caller = Worker::connect(server.workers()).await;
    let mut callee = Worker::connect(server.workers()).await;
    callee.register("takes::its::time").await;

    // The callee reads nothing, so at some point neither the system nor the server takes any more for it.
    let large = json!("x".repeat(256 << 10));
    let mut started = 0;
    let refusals = loop {
        caller.start("takes::its::time", &large).await;
        started += 1;
        let refusals = refusals_so_far(&mut caller).await;
        if !refusals.is_empty() {
            break refusals;
        }
    };
    assert_eq!(refusals[0].code, "overloaded");
    assert!(refusals[0].message.contains("too many bytes"), "{refusals:?}");
    for _ in 0..8 {
        caller.call_void("takes::its::time", large.clone()).await;
    }
    assert_eq!(refusals_so_far(&mut caller).await, []);

    // Now it reads: its own calls are answered, and so is every call that was not refused.
    callee.set("s", "g", "i", json!("of the callee")).await;
    let mut answered = 0;
    while answered < started - 1 {
        let invocation = callee.next_invocation().await;
        if invocation.id.is_some() {
            callee.answer(&invocation, json!("at last")).await;
            caller.next_outcome().await.expect("the connection lives").1.expect("an answer");
            answered += 1;
        }
    }
    let call = caller.start("takes::its::time", json!("small")).await;
    let invocation = loop {
        let invocation = callee.next_invocation().await;
        if invocation.id.is_some() {
            break invocation;
        }
    };
    callee.answer(&invocation, json!("room again")).await;
    assert_eq!(caller.finish(&call).await, Ok(Some(r#""room again""#.to_owned())));
}

#[tokio::test]
async fn a_call_times_out_on_time_also_when_nothing_else_happens() {
    let server = Setup::new().timeouts(json!({ "call_ms": 200 })).start().await;
    let mut caller = Worker::connect(server.workers()).await;
    let mut silent = Worker::connect(server.workers()).await;
    silent.register("never::answers").await;
    let called = caller.call("never::answers", json!(1));
    let refusal = within(Duration::from_secs(10), "the call to time out", called).await;
    assert_eq!(refusal.expect_err("nobody answers").code, "TIMEOUT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_times_out_on_time_also_when_the_server_never_rests() {
    let limits = json!({ "inbox": 64 });
    let server = Setup::new().limits(limits).timeouts(json!({ "call_ms": 200 })).start().await;
    let mut caller = Worker::connect(server.workers()).await;
    let mut silent = Worker::connect(server.workers()).await;
    silent.register("never::answers").await;
    // The more groups, the longer a list of them takes.
    let sets = (0..10_000).map(|n| stored("s", &format!("g{n}"), "i", 1));
    caller.pipeline("stream::set", 256, sets).await;

    let listed = Arc::new(AtomicUsize::new(0));
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut worker = Worker::connect(server.workers()).await;
        let listed = Arc::clone(&listed);
        busy.push(tokio::spawn(async move {
            loop {
                worker.call_void("stream::list_all", json!({})).await;
                listed.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let full = async {
        while listed.load(Ordering::Relaxed) < 1_000 {
            tokio::task::yield_now().await;
        }
    };
    within(headwater_tests::DEADLINE, "the server to be busy", full).await;
    let before = listed.load(Ordering::Relaxed);
    let called = caller.call("never::answers", json!(1));
    let refusal = within(Duration::from_secs(10), "the call to time out", called).await;
    assert_eq!(refusal.expect_err("nobody answers").code, "TIMEOUT");
    assert!(listed.load(Ordering::Relaxed) > before, "the server was busy meanwhile");
    for worker in busy {
        worker.abort();
    }
}

//! Many connections, and those that take nothing: what there is room for lives on, what there is none for is told so.

use std::time::Duration;

use headwater_tests::{Bystander, DEADLINE, Setup, Socket, Subscriber, Worker, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Waits until the server has logged this.
async fn logged(server: &headwater_tests::Server, words: &str) {
    let heard = async {
        while !server.stderr().contains(words) {
            // The server has the processor to itself meanwhile.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(DEADLINE, words, heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_takes_nothing_is_closed_with_1013_and_nobody_else_notices() {
    let server = Setup::new().timeouts(json!({ "slow_timeout_ms": 1_000 })).start().await;
    let mut bystander = Bystander::of(&server).await;
    let (stuck, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut worker = Worker::connect(server.workers()).await;
    // More than the system takes on behalf of a peer that does not read.
    for n in 0..32 {
        worker.set("s", "g", &format!("i{n}"), json!("x".repeat(1 << 20))).await;
        bystander.notices_nothing().await;
    }
    logged(&server, "it has read nothing for too long").await;
    // What it gets now are whole frames, and then the goodbye.
    assert_eq!(stuck.into_socket().closed().await, Some(1013));
    assert_eq!(server.metrics().await["headwater_stuck_disconnects_total"], 1);
    bystander.notices_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_file_left_is_told_so_and_those_who_are_there_live_on() {
    let server = Setup::new().open_files(300).start().await;
    let report = server.report().join("\n");
    assert!(report.contains("300 may be open: 56 workers and 169 subscribers"), "{report}");
    let mut bystander = Bystander::of(&server).await;
    let mut open = Vec::new();
    let refused = loop {
        match Socket::connect_with(server.streams(), &[]).await {
            Ok(socket) => open.push(socket),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, (503, "The server has as many connections as it may: try again later.".to_owned()));
    assert_eq!(open.len(), 168, "the bystander is one, too");
    // A crowd that is refused takes nothing away from those who are there.
    for _ in 0..300 {
        let refused = Socket::connect_with(server.streams(), &[]).await;
        assert_eq!(refused.err().map(|(status, _)| status), Some(503));
    }
    bystander.notices_nothing().await;
    drop(open);
    let free = async {
        while Socket::connect_with(server.streams(), &[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(DEADLINE, "a place that was given back", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_in_line_with_frames_and_one_who_reads_no_answers_is_slowed_down() {
    let server = Setup::new().start().await;
    let mut bystander = Bystander::of(&server).await;
    let before = server.memory();
    let mut tcp = Subscriber::connect(server.streams()).await.into_socket().into_inner();
    // Pings of 125 bytes, masked with zeros, answered with as much, and nobody reads that.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'p'; 125]].concat().repeat(500);
    let pushing = async {
        // More than the system takes on both sides.
        for _ in 0..1_500 {
            if tcp.write_all(&ping).await.is_err() {
                break;
            }
        }
    };
    let bystanding = async {
        for _ in 0..200 {
            bystander.notices_nothing().await;
        }
    };
    tokio::select! {
        () = pushing => {}
        () = bystanding => {}
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes of answers to pings");
    let mut pong = [0; 127];
    within(DEADLINE, "an answer", tcp.read_exact(&mut pong)).await.expect("it is open");
    assert_eq!((pong[0], pong[1]), (0x8a, 125));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_sets_that_nobody_waits_for_take_little_memory() {
    const SETS: u32 = 1_000_000;
    const GROUPS: u32 = 64;
    let server = Setup::new().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    for group in 0..GROUPS {
        worker.set("s", &format!("g{group}"), "i", json!(0)).await;
    }
    let before = server.memory();
    let (mut tcp, mut most) = (worker.into_socket().into_inner(), before);
    let (mut answers, mut sets) = tcp.split();
    let writing = async {
        let mut bytes = Vec::new();
        for n in 1..=SETS {
            let data = json!({ "stream_name": "s", "group_id": format!("g{}", n % GROUPS), "item_id": "i", "data": n });
            let call = json!({
                "type": "invokefunction", "invocation_id": format!("00000000-0000-0000-0000-{n:012}"),
                "function_id": "stream::set", "data": data,
            });
            let text = call.to_string();
            let len = u16::try_from(text.len()).expect("a short frame").to_be_bytes();
            bytes.extend([0x81, 0xfe, len[0], len[1], 0, 0, 0, 0]);
            bytes.extend(text.as_bytes());
            if bytes.len() > 1 << 18 || n == SETS {
                sets.write_all(&bytes).await.expect("it is slowed down and not disconnected");
                bytes.clear();
            }
        }
    };
    let reading = async {
        let mut buffer = vec![0; 1 << 20];
        let last = format!("{SETS:012}").into_bytes();
        let mut tail = Vec::new();
        loop {
            let len = answers.read(&mut buffer).await.expect("it is open");
            assert_ne!(len, 0, "the connection has ended");
            most = most.max(server.memory());
            tail.extend_from_slice(&buffer[..len]);
            // Answers of one worker come in the order of its calls.
            if tail.windows(last.len()).any(|window| window == last) {
                return;
            }
            tail.drain(..tail.len().saturating_sub(last.len()));
        }
    };
    within(10 * DEADLINE, "a million answers", async { tokio::join!(writing, reading) }).await;
    let grown = most - before;
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    let mut other = Worker::connect(server.workers()).await;
    for group in 0..GROUPS {
        let last = SETS - (SETS - group) % GROUPS;
        assert_eq!(other.list("s", &format!("g{group}")).await, [json!(last)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_follows_a_goodbye_also_while_much_is_sent() {
    const CLOSE: u8 = 0x88;
    let server = Setup::new().start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let writing = tokio::spawn(async move {
        for n in 0.. {
            worker.set("s", "g", "i", json!(n)).await;
        }
    });
    for _ in 0..20 {
        let (subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
        let mut tcp = subscriber.into_socket().into_inner();
        // No client sends frames of this kind.
        tcp.write_all(&[0x83, 0x80, 0, 0, 0, 0]).await.expect("the server reads");
        let mut bytes = Vec::new();
        let end = tcp.read_to_end(&mut bytes);
        within(DEADLINE, "the end of the connection", end).await.expect("an end in good order");
        let (mut rest, mut kinds) = (&bytes[..], Vec::new());
        while let [kind, len, ..] = *rest {
            kinds.push(kind);
            let (head, len) = match len {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                len => (2, usize::from(len)),
            };
            rest = &rest[head + len..];
        }
        assert!(rest.is_empty(), "only whole frames");
        assert_eq!(kinds.iter().position(|kind| *kind == CLOSE), kinds.len().checked_sub(1), "{kinds:x?}");
    }
    writing.abort();
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered() {
    let server = Setup::new().start().await;
    for address in [server.workers(), server.streams()] {
        let mut tcp = Socket::connect(address).await.into_inner();
        // 1000, masked with zeros.
        tcp.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.expect("the server reads");
        let mut bytes = Vec::new();
        within(DEADLINE, "the end of the connection", tcp.read_to_end(&mut bytes))
            .await
            .expect("an end in good order");
        assert!(bytes.ends_with(&[0x88, 0x02, 0x03, 0xe8]), "{bytes:x?}");
    }
}

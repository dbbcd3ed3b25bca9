//! `GET /metrics`: what a running server counts, for those who may be workers.

use std::time::Duration;

use headwater_tests::{DEADLINE, Server, Setup, Socket, Subscriber, Worker, say, to_the_end, within};
use serde_json::json;

const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";

/// Waits until a metric is this.
async fn until(server: &Server, name: &str, value: u64) {
    let mut last = None;
    let reached = async {
        while last != Some(value) {
            last = server.metrics().await.get(name).copied();
        }
    };
    within(DEADLINE, &format!("{name} {value}"), reached).await;
}

/// Binds a worker's function to all changes of stream `s`.
async fn handles(worker: &mut Worker, function: &str) {
    worker.register(function).await;
    let frame = json!({
        "type": "registertrigger",
        "id": function,
        "trigger_type": "stream",
        "function_id": function,
        "config": { "stream_name": "s" },
    });
    worker.socket().send(frame.to_string()).await;
    // Its answer comes after the binding.
    worker.list("s", "g").await;
}

#[tokio::test]
async fn what_a_server_does_is_counted() {
    let server = Setup::new().limits(json!({ "stream_connections": 2 })).start().await;
    let before = server.metrics().await;
    assert_eq!(before["headwater_connections{port=\"workers\"}"], 1, "the one that asks");
    assert_eq!(before["headwater_deliveries_total"], 0);

    let mut worker = Worker::connect(server.workers()).await;
    let (mut one, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let (mut other, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    assert!(Socket::connect_with(server.streams(), &[]).await.is_err(), "there are as many as may be");
    for n in 0..10 {
        worker.set("s", "g", "i", n).await;
    }
    for subscriber in [&mut one, &mut other] {
        for _ in 0..10 {
            subscriber.next().await;
        }
    }
    let after = server.metrics().await;
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(after["headwater_connections{port=\"workers\"}"], 2);
    assert_eq!(after["headwater_connections{port=\"subscribers\"}"], 2);
    assert_eq!(after["headwater_connections_refused_total{port=\"subscribers\"}"], 1);
    assert_eq!(grown("headwater_deliveries_total"), 2 + 2 * 10, "two states, and each set to both");
    assert_eq!(grown("headwater_log_writes_total"), 10, "each was acknowledged before the next");
    assert!(grown("headwater_log_bytes_total") > 10 * 20, "{after:?}");
    for nothing in ["overflows_total", "skipped_events_total", "log_failures_total"] {
        assert_eq!(after[&format!("headwater_{nothing}")], 0, "{nothing}");
    }
    until(&server, "headwater_log_backlog_bytes", 0).await;
    drop((worker, one));
    until(&server, "headwater_connections{port=\"workers\"}", 1).await;
    until(&server, "headwater_connections{port=\"subscribers\"}", 1).await;
}

#[tokio::test]
async fn each_failure_of_a_handler_is_counted_and_is_logged_or_told_of_when_the_second_is_over() {
    const FAILURES: u64 = 50;
    let server = Server::start().await;
    let (mut writer, mut handler) =
        (Worker::connect(server.workers()).await, Worker::connect(server.workers()).await);
    handles(&mut handler, "fails").await;
    for n in 0..FAILURES {
        writer.set("s", "g", "i", n).await;
    }
    for _ in 0..FAILURES {
        let call = handler.next_invocation().await;
        handler.refuse(&call, "E", "it broke").await;
    }
    until(&server, "headwater_handler_failures_total", FAILURES).await;
    let told = |stderr: &str| -> u64 {
        let of_line = |line: &str| match line.split_once("held_back=") {
            Some((_, count)) => count.split(' ').next().expect("a count").parse().expect("a number"),
            None => u64::from(line.contains("the handler of a trigger, or its condition, failed")),
        };
        stderr.lines().map(of_line).sum()
    };
    let all = async {
        while told(&server.stderr()) < FAILURES {
            // The server has the processor to itself meanwhile.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(DEADLINE, "the log to tell of all failures", all).await;
    assert_eq!(told(&server.stderr()), FAILURES);
}

#[tokio::test]
async fn events_that_a_handler_is_too_slow_for_are_counted_while_it_still_is() {
    let server = Setup::new().limits(json!({ "trigger_events": 3 })).start().await;
    let (mut writer, mut handler) =
        (Worker::connect(server.workers()).await, Worker::connect(server.workers()).await);
    handles(&mut handler, "slow").await;
    for n in 0..10 {
        writer.set("s", "g", "i", n).await;
    }
    until(&server, "headwater_handler_dropped_events_total", 7).await;
    assert_eq!(server.metrics().await["headwater_handler_failures_total"], 0);
    handler.next_invocation().await;
}

#[tokio::test]
async fn the_answer_is_what_monitoring_expects() {
    let server = Server::start().await;
    let answer = to_the_end(say(server.workers(), format!("{REQUEST}\r\n").as_bytes()).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0;"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    let asked = REQUEST.replace("GET", "HEAD");
    let answer = to_the_end(say(server.workers(), format!("{asked}\r\n").as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn without_a_token_metrics_are_not_for_those_who_ask_by_a_name() {
    let server = Server::start().await;
    for (host, status) in [("evil.example", "403 Forbidden"), ("127.0.0.1", "200 OK")] {
        let request = format!("{}\r\n", REQUEST.replace("localhost", host));
        let answer = to_the_end(say(server.workers(), request.as_bytes()).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{host}: {answer}");
    }
}

#[tokio::test]
async fn metrics_are_for_those_who_may_be_workers() {
    let server = Setup::new().own(json!({ "worker_token": "s3cret" })).start().await;
    for (address, header, status) in [
        (server.workers(), "", "401 Unauthorized"),
        (server.workers(), "Authorization: Bearer wrong\r\n", "401 Unauthorized"),
        (server.workers(), "Authorization: Bearer s3cret\r\n", "200 OK"),
        (
            server.workers(),
            "Authorization: Bearer s3cret\r\nOrigin: http://evil.example\r\n",
            "403 Forbidden",
        ),
        (server.streams(), "Authorization: Bearer s3cret\r\n", "426 Upgrade Required"),
    ] {
        let answer = to_the_end(say(address, format!("{REQUEST}{header}\r\n").as_bytes()).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{header:?} at {address}: {answer}");
    }
}

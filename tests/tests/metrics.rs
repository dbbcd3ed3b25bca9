//! `GET /metrics`: what a running server counts, for those who may be workers.

use headwater_tests::{Server, Setup, Socket, Subscriber, Worker, say, to_the_end};
use serde_json::json;

const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";

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
    for nothing in ["overflows_total", "skipped_events_total", "log_failures_total", "log_backlog_bytes"] {
        assert_eq!(after[&format!("headwater_{nothing}")], 0, "{nothing}");
    }
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

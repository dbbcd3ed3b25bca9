//! Who may connect, and what those are told who may not.

use headwater_tests::{
    Bystander, DEADLINE, Incoming, Script, Server, Setup, Socket, Subscriber, Worker, run_to_exit, say,
    to_the_end, within,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const TOKEN: &str = "t0ken-of-the-workers";

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

// Plain HTTP.

#[tokio::test]
async fn plain_http_is_told_what_the_port_is() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    for (address, port) in [(server.workers(), "worker port"), (server.streams(), "stream port")] {
        for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n"] {
            let answer = to_the_end(say(address, request.as_bytes()).await).await;
            assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains("\r\ncontent-type: text/plain"), "{answer}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{answer}");
            assert!(body.contains(port), "{answer}");
        }
        let mut posted = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n".to_vec();
        posted.resize(4_000_000, b'x');
        let answer = to_the_end(say(address, &posted).await).await;
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        let large = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(100_000));
        let answer = to_the_end(say(address, large.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let answer = to_the_end(say(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "TLS on a plain port: {answer}");
    }
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn what_is_not_served_does_not_keep_its_place() {
    let limits = json!({ "worker_connections": 2, "stream_connections": 2 });
    let server = Setup::new().limits(limits).own(json!({ "worker_token": TOKEN })).start().await;
    for _ in 0..10 {
        // As many at once as there may be, and again when they are gone.
        let requests = [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0"];
        for address in [server.workers(), server.streams()] {
            for request in requests {
                let answered = async {
                    // Their places are free again a little after their ends.
                    loop {
                        let mut tcp = say(address, request).await;
                        let mut answer = String::new();
                        if tcp.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 4") {
                            return;
                        }
                    }
                };
                within(DEADLINE, "a place for one more", answered).await;
            }
        }
    }
    let mut worker = within(DEADLINE, "a place for a worker", async {
        loop {
            let (name, value) = bearer(TOKEN);
            if let Ok(socket) = Socket::try_connect_with(server.workers(), &[(name, &value)]).await {
                return Worker::on(socket).await;
            }
        }
    })
    .await;
    worker.set("s", "g", "i", json!("unharmed")).await;
}

// The token of the worker port.

#[tokio::test]
async fn a_worker_without_the_token_gets_401_and_one_with_it_gets_in() {
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).start().await;
    let connect = async |path: &str, shown: &[(&'static str, String)]| {
        let address = format!("{}{path}", server.workers().trim_end_matches('/'));
        let headers: Vec<_> = shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Socket::connect_with(&address, &headers).await
    };
    for path in ["", "/", "/otel"] {
        for wrong in ["", "x", &TOKEN[1..], &TOKEN.to_uppercase(), &format!("{TOKEN}{TOKEN}")] {
            let Err((401, sentence)) = connect(path, &[bearer(wrong)]).await else {
                panic!("{path} {wrong}")
            };
            assert!(sentence.contains("token"), "{sentence}");
        }
        connect(path, &[bearer(TOKEN)]).await.expect("the token is right");
    }
    let Err((401, sentence)) = connect("/", &[]).await else { panic!("without a token") };
    assert!(sentence.contains("III_TOKEN"), "{sentence}");
    let in_the_query = format!("/?token={TOKEN}");
    assert!(matches!(connect(&in_the_query, &[]).await, Err((401, _))));

    let mut worker = Worker::on(connect("/", &[bearer(TOKEN)]).await.expect("the token is right")).await;
    worker.set("s", "g", "i", json!(1)).await;
    // Subscribers have nothing to do with it.
    Subscriber::of_group(server.streams(), "s", "g").await;
}

#[tokio::test]
async fn telemetry_of_strangers_is_taken_and_bounded() {
    let limits = json!({ "stream_frame_bytes": 10_000 });
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).limits(limits).start().await;
    let address = format!("{}/otel", server.workers().trim_end_matches('/'));
    let mut stranger = Socket::connect(&address).await;
    stranger.send_binary(&[b'x'; 10_000]).await;
    // It is no worker: what it says is dropped.
    stranger.send(r#"{"type":"invokefunction","invocation_id":"1","function_id":"stream::list_all"}"#).await;
    stranger.send_binary(&[b'x'; 10_001]).await;
    assert_eq!(stranger.next("the end").await, Incoming::Closed(Some(1009)));
    let (name, value) = bearer(TOKEN);
    let mut known = Socket::connect_with(&address, &[(name, &value)]).await.expect("the token is right");
    known.send_binary(&[b'x'; 10_001]).await;
    assert!(known.try_send("still there").await);
}

#[tokio::test]
async fn the_python_sdk_works_with_iii_token() {
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).log("debug").start().await;
    Script::python_with(&server, "functions.py", &[], TOKEN).succeeds().await;
    telemetry_came(&server);
}

#[tokio::test]
async fn the_node_sdk_works_with_the_token_in_its_headers() {
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).log("debug").start().await;
    Script::node_with(&server, "functions.mjs", &[], TOKEN).succeeds().await;
    telemetry_came(&server);
}

fn telemetry_came(server: &Server) {
    let said = server.stderr();
    assert!(said.contains(r#"path="/otel""#), "the SDK's telemetry connected: {said}");
    assert!(!said.contains("refused"), "{said}");
}

#[tokio::test]
async fn the_python_sdk_with_a_wrong_token_or_none_stays_outside() {
    let server = Setup::new().own(json!({ "worker_token": TOKEN })).start().await;
    let (name, value) = bearer(TOKEN);
    let socket = Socket::connect_with(server.workers(), &[(name, &value)]).await.expect("the token is right");
    let mut worker = Worker::on(socket).await;
    for (token, said) in [("wrong", "is not that of the worker port"), ("", "wants a token")] {
        let outside = Script::python_with(&server, "serve.py", &[], token);
        let refused = async {
            while !server.stderr().contains(said) {
                let refusal = worker.refusal_of("python::echo", json!({})).await;
                assert_eq!(refusal.code, "function_not_found");
            }
        };
        within(DEADLINE, "a worker to be refused", refused).await;
        drop(outside);
    }
}

#[tokio::test]
async fn a_worker_port_that_anybody_could_use_is_not_opened() {
    for host in ["0.0.0.0", "::", "example.org"] {
        let setup = Setup::new().own(json!({ "worker_host": host }));
        let (status, said) = setup.start_and_fail().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("worker_host") && said.contains("worker_token"), "{said}");
        let config = setup.write_config();
        let (status, _, said) = run_to_exit(&["check", "--config", config.to_str().expect("a path")]).await;
        assert_eq!(status.code(), Some(2), "{said}");
    }
    let guarded = json!({ "worker_host": "0.0.0.0", "worker_token": TOKEN });
    let mut server = Setup::new().own(guarded).start().await;
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(server.stderr().matches("WARN").count(), 0, "{}", server.stderr());
    let mut server = Setup::new().own(json!({ "worker_host": "0.0.0.0", "insecure": true })).start().await;
    assert_eq!(server.terminate().await, Some(0));
    assert!(server.stderr().contains("whoever reaches the worker port"), "{}", server.stderr());
}

// Origins.

const PAGE: (&str, &str) = ("origin", "https://example.org");
const OTHER_PAGE: (&str, &str) = ("origin", "https://evil.example");

#[tokio::test]
async fn a_page_can_not_work_unless_its_origin_is_listed() {
    let server = Server::start().await;
    let Err((403, sentence)) = Socket::connect_with(server.workers(), &[PAGE]).await else {
        panic!("a page gets in")
    };
    assert!(sentence.contains("worker_origins"), "{sentence}");
    let telemetry = format!("{}/otel", server.workers().trim_end_matches('/'));
    assert!(matches!(Socket::connect_with(&telemetry, &[PAGE]).await, Err((403, _))));

    let server = Setup::new().own(json!({ "worker_origins": ["https://example.org"] })).start().await;
    let page = Socket::connect_with(server.workers(), &[PAGE]).await.expect("it is listed");
    Worker::on(page).await.set("s", "g", "i", json!(1)).await;
    assert!(matches!(Socket::connect_with(server.workers(), &[OTHER_PAGE]).await, Err((403, _))));
}

#[tokio::test]
async fn a_page_can_subscribe_unless_other_origins_are_listed() {
    let server = Server::start().await;
    Socket::connect_with(server.streams(), &[PAGE]).await.expect("by default it may");

    let server =
        Setup::new().streams(json!({ "allowed_origins": ["https://example.org:443"] })).start().await;
    let page = Socket::connect_with(server.streams(), &[PAGE]).await.expect("it is listed");
    Subscriber::on(page).join("1", "s", "g", None).await;
    let Err((403, sentence)) = Socket::connect_with(server.streams(), &[OTHER_PAGE]).await else {
        panic!("another page gets in")
    };
    assert!(sentence.contains("allowed_origins"), "{sentence}");
    // What is no page says no origin.
    Subscriber::of_group(server.streams(), "s", "g").await;
}

#[tokio::test]
async fn authentication_with_every_origin_allowed_is_worth_a_warning() {
    for (origins, warned) in [(json!("*"), true), (json!(["https://example.org"]), false)] {
        let settings = json!({ "auth_function": "auth", "allowed_origins": origins });
        let mut server = Setup::new().streams(settings).start().await;
        assert_eq!(server.terminate().await, Some(0));
        assert_eq!(server.stderr().contains("allowed_origins"), warned, "{}", server.stderr());
    }
}

// Handshakes that wait for the core.

/// A server that answers handshakes with 101 only once its `auth_function` vouches for them, and the worker that
/// has it.
async fn with_auth(timeouts: Value) -> (Server, Worker) {
    let streams = json!({ "auth_function": "auth", "auth_failure": "http_401" });
    let server = Setup::new().streams(streams).timeouts(timeouts).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.register("auth").await;
    (server, worker)
}

#[tokio::test]
async fn a_handshake_waits_until_the_auth_function_vouches_for_it() {
    let (server, mut worker) = with_auth(json!({})).await;
    let address = format!("{}/stream/s/g?token=a%2Bb&token=c", server.streams().trim_end_matches('/'));
    let headers = [("sec-websocket-protocol", "Authorization, secret"), ("X-Custom", "1"), PAGE];
    let answering = async {
        let invocation = worker.next_invocation().await;
        assert_eq!(invocation.function, "auth");
        let (data, id) = (&invocation.data, invocation.id.is_some());
        assert!(id, "an answer is waited for");
        assert_eq!(data["path"], "/stream/s/g");
        assert_eq!(data["query_params"], json!({ "token": ["a+b", "c"] }));
        assert_eq!(data["headers"]["sec-websocket-protocol"], "Authorization, secret");
        assert_eq!(data["headers"]["x-custom"], "1");
        assert_eq!(data["headers"]["origin"], PAGE.1);
        let addr = data["addr"].as_str().expect("an address");
        assert!(addr.starts_with("127.0.0.1:"), "{addr}");
        worker.answer(&invocation, json!({ "context": { "user": 1 } })).await;
    };
    let (connected, ()) = tokio::join!(Socket::connect_with(&address, &headers), answering);
    let mut subscriber = Subscriber::on(connected.expect("it was vouched for"));
    assert_eq!(subscriber.next_of("sync").await.data(), json!([]));
}

#[tokio::test]
async fn a_handshake_that_the_auth_function_does_not_vouch_for_gets_401() {
    let (server, mut worker) = with_auth(json!({})).await;
    for answer in [json!({ "unauthorized": true }), json!(null), json!("yes")] {
        let answering = async {
            let invocation = worker.next_invocation().await;
            worker.answer(&invocation, answer.clone()).await;
        };
        let (outcome, ()) = tokio::join!(Socket::connect_with(server.streams(), &[]), answering);
        assert_eq!(outcome.err().map(|(status, _)| status), Some(401), "{answer}");
    }
    // Its worker vanishes over it.
    let vanishing = async {
        worker.next_invocation().await;
        drop(worker);
    };
    let (outcome, ()) = tokio::join!(Socket::connect_with(server.streams(), &[]), vanishing);
    assert_eq!(outcome.err().map(|(status, _)| status), Some(401));
}

#[tokio::test]
async fn a_handshake_that_nobody_vouches_for_in_time_gets_401() {
    let streams = json!({ "auth_function": "auth", "auth_failure": "http_401" });
    let server = Setup::new().streams(streams).timeouts(json!({ "auth_ms": 300 })).start().await;
    let outcome = Socket::connect_with(server.streams(), &[]).await;
    assert_eq!(outcome.err().map(|(status, _)| status), Some(401));
}

#[tokio::test]
async fn a_handshake_that_waits_when_the_server_stops_gets_503() {
    let (mut server, mut worker) = with_auth(json!({ "stop_ms": 200, "auth_ms": 600_000 })).await;
    let stopping = async {
        worker.next_invocation().await;
        server.ask_to_stop();
    };
    let (outcome, ()) = tokio::join!(Socket::connect_with(server.streams(), &[]), stopping);
    assert_eq!(outcome.err().map(|(status, _)| status), Some(503));
    assert_eq!(server.exited().await, Some(0));
}

#[tokio::test]
async fn a_peer_that_hangs_up_while_its_handshake_waits_harms_nobody() {
    let (server, mut worker) = with_auth(json!({})).await;
    let asks = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let gone = say(server.streams(), asks.as_bytes()).await;
    let invocation = worker.next_invocation().await;
    drop(gone);
    worker.answer(&invocation, json!({ "context": null })).await;
    let answering = async {
        let invocation = worker.next_invocation().await;
        worker.answer(&invocation, json!({ "context": null })).await;
    };
    let (outcome, ()) = tokio::join!(Socket::connect_with(server.streams(), &[]), answering);
    Subscriber::on(outcome.expect("it was vouched for")).join("1", "s", "g", None).await;
}

#[tokio::test]
async fn a_subscriber_that_nobody_vouches_for_is_told_so_and_closed() {
    let server = Setup::new().streams(json!({ "auth_function": "auth" })).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.register("auth").await;
    let headers = [("sec-websocket-protocol", "Authorization, secret")];
    let socket = Socket::connect_with(server.streams(), &headers).await.expect("it is accepted at once");
    let mut subscriber = Subscriber::on(socket);
    subscriber.send_join("1", "s", "g", None).await;
    let invocation = worker.next_invocation().await;
    worker.answer(&invocation, json!({ "unauthorized": true })).await;
    let frame = subscriber.next_of("unauthorized").await;
    assert_eq!((frame.stream_name.as_str(), frame.group_id.as_str()), ("s", "g"));
    assert_eq!(subscriber.socket().next("the end").await, Incoming::Closed(Some(1008)));
}

// What is logged.

#[tokio::test]
async fn no_token_is_ever_logged() {
    let secrets = ["s3cret-header", "s3cret-query", "s3cret-protocol", "s3cret-wrong", "s3cret-half", TOKEN];
    let [header, query, protocol, wrong, half, _] = secrets;
    for failure in ["close", "http_401"] {
        let streams = json!({ "auth_function": "auth", "auth_failure": failure });
        let setup = Setup::new().streams(streams).own(json!({ "worker_token": TOKEN })).log("trace");
        let mut server = setup.start().await;
        let (name, value) = bearer(TOKEN);
        let socket =
            Socket::connect_with(server.workers(), &[(name, &value)]).await.expect("the token is right");
        let mut worker = Worker::on(socket).await;
        worker.register("auth").await;
        let (name, value) = bearer(wrong);
        assert!(Socket::connect_with(server.workers(), &[(name, &value)]).await.is_err());
        for outcome in ["vouched for", "not vouched for", "failed"] {
            let address = format!("{}/stream/s/g?token={query}", server.streams().trim_end_matches('/'));
            let (name, value) = bearer(header);
            let protocols = format!("Authorization, {protocol}");
            let headers = [(name, value.as_str()), ("sec-websocket-protocol", protocols.as_str())];
            let answering = async {
                let invocation = worker.next_invocation().await;
                let told = invocation.data.to_string();
                assert!([header, query, protocol].iter().all(|secret| told.contains(secret)), "{told}");
                if outcome == "failed" {
                    return worker.refuse(&invocation, "auth_failed", &format!("who is {header}?")).await;
                }
                let unauthorized = outcome != "vouched for";
                let answer = json!({ "unauthorized": unauthorized, "context": { "token": header } });
                worker.answer(&invocation, answer).await;
            };
            let (connected, ()) = tokio::join!(Socket::connect_with(&address, &headers), answering);
            assert_eq!(connected.is_ok(), failure == "close" || outcome == "vouched for", "{outcome}");
            if let Ok(socket) = connected {
                // What the path joins is answered: so the function's answer has arrived, too.
                let answer = if outcome == "vouched for" { "sync" } else { "unauthorized" };
                Subscriber::on(socket).next_of(answer).await;
            }
        }
        for broken in ["\0\r\n\r\n", &format!("Cookie: {}", "c".repeat(40_000))] {
            let request = format!("GET /?token={half} HTTP/1.1\r\nAuthorization: Bearer {half}\r\n{broken}");
            for address in [server.workers(), server.streams()] {
                to_the_end(say(address, request.as_bytes()).await).await;
            }
        }
        assert_eq!(server.terminate().await, Some(0));
        let said = format!("{}\n{}", server.report().join("\n"), server.stderr());
        for expected in ["DEBUG", r#"path="/stream/s/g""#, "`auth_function` failed", "a worker is refused"] {
            assert!(said.contains(expected), "{expected} is not in the log: {said}");
        }
        for secret in secrets {
            assert!(!said.contains(secret), "{secret} is in the log: {said}");
        }
    }
}

//! How the server starts, stops and refuses to start, and whom it lets go.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use headwater_tests::{DEADLINE, Incoming, Server, Setup, Socket, Subscriber, Worker, run_to_exit, within};
use serde_json::json;
use tokio::io::AsyncReadExt;

const GOING_AWAY: Option<u16> = Some(1001);

// Stop.

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_and_closes_with_1001() {
    let mut server = Server::start().await;
    let mut caller = Worker::connect(server.workers()).await;
    let mut callee = Worker::connect(server.workers()).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    callee.register("slow::function").await;
    let call = caller.start("slow::function", json!(1)).await;
    let invocation = callee.next_invocation().await;

    server.ask_to_stop();
    stops_accepting(&server).await;
    callee.answer(&invocation, json!("in time")).await;

    assert_eq!(caller.finish(&call).await, Ok(Some(r#""in time""#.to_owned())));
    assert_eq!(subscriber.socket().closed().await, GOING_AWAY);
    assert_eq!(caller.socket().closed().await, GOING_AWAY);
    assert_eq!(callee.socket().closed().await, GOING_AWAY);
    assert_eq!(server.exited().await, Some(0));
}

/// Many at once, because it is about the order in which the parts of the server end, and that varies most on a busy
/// machine.
#[tokio::test]
async fn a_stop_with_nobody_connected_exits_with_0() {
    for _ in 0..10 {
        let mut servers = Vec::new();
        for _ in 0..20 {
            servers.push(Server::start().await);
        }
        servers.iter().for_each(Server::ask_to_stop);
        for mut server in servers {
            assert_eq!(server.exited().await, Some(0));
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_sigterm_is_there_after_it() {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", "i", json!("kept")).await;
    assert_eq!(server.terminate().await, Some(0));
    let mut server = server.restart().await;
    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.list("s", "g").await, [json!("kept")]);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    // Its own patience with a call is longer than this test's.
    let mut server = Setup::new().timeouts(json!({ "stop_ms": 600_000 })).start().await;
    let mut caller = Worker::connect(server.workers()).await;
    let mut callee = Worker::connect(server.workers()).await;
    callee.register("never::answers").await;
    caller.start("never::answers", json!(1)).await;
    callee.next_invocation().await;
    server.ask_to_stop();
    stops_accepting(&server).await;
    server.ask_to_stop();
    within(DEADLINE, "the end after a second signal", server.exited()).await;
}

#[tokio::test]
async fn a_stop_ends_telemetry_and_half_made_connections_too() {
    let mut server = Server::start().await;
    let telemetry = format!("{}/otel", server.workers().trim_end_matches('/'));
    let mut telemetry = Socket::connect(&telemetry).await;
    telemetry.send(r#"{"resourceSpans":[]}"#).await;
    let mut half_made = Vec::new();
    for address in [server.workers(), server.streams()] {
        for begun in ["", "GET / HTTP/1.1\r\nHost: "] {
            let host = address.trim_start_matches("ws://").trim_end_matches('/');
            let mut tcp = std::net::TcpStream::connect(host).expect("the port is open");
            tcp.write_all(begun.as_bytes()).expect("the server reads");
            half_made.push(tcp);
        }
        // Connections are accepted in their order: this one means that those are.
        Socket::connect(address).await;
    }
    server.ask_to_stop();
    assert_eq!(telemetry.closed().await, GOING_AWAY);
    assert_eq!(server.exited().await, Some(0));
    let said = server.stderr();
    assert!(!said.contains("did not close in time"), "it waited until it lost its patience: {said}");
}

/// Waits until a new connection is no longer served.
async fn stops_accepting(server: &Server) {
    let refused = async {
        loop {
            let connecting = Socket::try_connect(server.workers());
            match tokio::time::timeout(Duration::from_secs(1), connecting).await {
                Ok(Ok(mut socket)) => match socket.next("a greeting or the end").await {
                    Incoming::Text(_) => {}
                    Incoming::Closed(_) => return,
                },
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    within(DEADLINE, "the server to stop accepting", refused).await;
}

// Start.

#[tokio::test]
async fn the_report_says_what_listens_and_what_is_stored() {
    let mut server = Server::start().await;
    let report = server.report().join("\n");
    assert!(report.starts_with("headwater "), "the first line names the program: {report}");
    assert!(report.contains(server.workers()) && report.contains(server.streams()), "{report}");
    let (worker_port, stream_port) = server.ports();
    assert!(worker_port != 0 && stream_port != 0, "the real ports are shown: {report}");
    let mut worker = Worker::connect(server.workers()).await;
    for n in 0..3 {
        worker.set("s", &format!("g{}", n % 2), &format!("i{n}"), json!(n)).await;
    }
    server.kill9().await;
    let server = server.restart().await;
    let store = server.report().iter().find(|line| line.trim_start().starts_with("store"));
    let store = store.expect("the report names the store");
    let data = server.setup().folder().join("data");
    assert!(store.contains("file_based") && store.contains(&*data.to_string_lossy()), "{store}");
    assert!(store.contains("3 items") && store.contains("2 groups") && store.contains(" ms"), "{store}");
}

/// The start ended with this code, after one line on stderr that has all these words.
#[track_caller]
fn ended_with(ended: &(std::process::ExitStatus, String), code: i32, words: &[&str]) {
    let (status, stderr) = ended;
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one clear line, not {stderr:?}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_one_line_and_exit_code_1() {
    let server = Server::start().await;
    let (worker_port, stream_port) = server.ports();
    let ended = Setup::new().ports(worker_port, 0).start_and_fail().await;
    ended_with(&ended, 1, &[&worker_port.to_string()]);
    let ended = Setup::new().ports(0, stream_port).start_and_fail().await;
    ended_with(&ended, 1, &[&stream_port.to_string()]);
    Worker::connect(server.workers()).await.set("s", "g", "i", json!("unharmed")).await;
}

#[tokio::test]
async fn a_data_folder_in_use_is_one_line_and_exit_code_1() {
    let mut server = Server::start().await;
    let data = server.setup().folder().join("data");
    let ended = Setup::new().data(&data).start_and_fail().await;
    ended_with(&ended, 1, &[&data.to_string_lossy()]);
    Worker::connect(server.workers()).await.set("s", "g", "i", json!("unharmed")).await;
    // The lock goes with the process that had it.
    server.kill9().await;
    let other = Setup::new().data(&data).start().await;
    let mut worker = Worker::connect(other.workers()).await;
    assert_eq!(worker.list("s", "g").await, [json!("unharmed")]);
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_one_is_one_line_and_exit_code_1() {
    let setup = Setup::new();
    // A file and a socket are in the way; permissions would not stop root.
    let file = setup.folder().join("file");
    std::fs::write(&file, "in the way").expect("a file can be written");
    let socket = setup.folder().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket can be bound");
    for data in [file.clone(), file.join("below"), socket, "/proc/headwater".into()] {
        let ended = setup.clone().data(&data).start_and_fail().await;
        ended_with(&ended, 1, &[&data.to_string_lossy()]);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("the file is there"), "in the way");
}

#[tokio::test]
async fn a_bad_configuration_names_file_and_key_and_ends_with_exit_code_2() {
    let setup = Setup::new();
    let path = setup.write_config();
    let name = path.to_string_lossy();
    let stream = |config: &str| format!("- class: modules::stream::StreamModule\n  config: {config}\n");
    let bad = [
        (stream("{ prot: 3112 }"), "prot"),
        (stream("{ port: many }"), "port"),
        (stream("{ port: 70000 }"), "port"),
        (stream("{ port: \"${HEADWATER_TEST_UNSET}\" }"), "HEADWATER_TEST_UNSET"),
        ("- class: headwater\n  config: { worker_prot: 1 }\n".to_owned(), "worker_prot"),
        ("- class: headwater\n  config: { limits: { value_byte: 1 } }\n".to_owned(), "value_byte"),
        (
            "- class: headwater\n  config: { timeouts: { idle_timeout_ms: soon } }\n".to_owned(),
            "idle_timeout_ms",
        ),
        ("- class: modules::nothing::Nothing\n".to_owned(), "modules::nothing::Nothing"),
    ];
    for (config, key) in bad {
        std::fs::write(&path, &config).expect("the configuration can be written");
        for arguments in
            [vec!["--config", &*name], vec!["serve", "--config", &*name], vec!["check", "--config", &*name]]
        {
            let (status, stdout, stderr) = run_to_exit(&arguments).await;
            assert_eq!(status.code(), Some(2), "{arguments:?} {config}: {stdout}{stderr}");
            let said = format!("{stdout}{stderr}");
            assert!(said.contains(&*name) && said.contains(key), "{arguments:?} {config}: {said:?}");
        }
    }
    let missing = setup.folder().join("missing.yaml");
    let (status, _, stderr) = run_to_exit(&["--config", &missing.to_string_lossy()]).await;
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("missing.yaml"), "{stderr}");
}

#[tokio::test]
async fn a_log_filter_that_is_none_is_one_line_and_exit_code_2() {
    let ended = Setup::new().log("nonsense=thing=x").start_and_fail().await;
    ended_with(&ended, 2, &["HEADWATER_LOG", "headwater=debug"]);
    let mut server = Setup::new().log("headwater=debug,warn").start().await;
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn check_says_ok_and_touches_nothing() {
    let setup = Setup::new();
    let path = setup.write_config();
    let (status, stdout, stderr) = run_to_exit(&["check", "--config", &path.to_string_lossy()]).await;
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("ok"), "{stdout:?}");
    assert!(!setup.folder().join("data").exists(), "a check makes no data folder");
}

// Peers.

#[tokio::test]
async fn a_silent_peer_is_let_go_and_one_that_answers_pings_stays() {
    let timeouts = json!({ "ping_interval_ms": 100, "idle_timeout_ms": 1_000 });
    let server = Setup::new().timeouts(timeouts).start().await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.register("idle::function").await;

    // The live ones answer pings while they wait for something to happen, for longer than the timeout.
    let live = tokio::spawn(async move { (subscriber.next_of("create").await, subscriber) });
    let idle = tokio::spawn(async move {
        let invocation = worker.next_invocation().await;
        worker.answer(&invocation, json!("awake")).await;
        worker
    });
    for _ in 0..2 {
        for address in [server.workers(), server.streams()] {
            silent_until_closed(address).await;
        }
    }
    let mut other = Worker::connect(server.workers()).await;
    assert_eq!(other.result_of("idle::function", json!({})).await, Some(json!("awake")));
    other.set("s", "g", "i", json!(1)).await;
    let (created, _subscriber) = live.await.expect("the live subscriber is still there");
    assert_eq!(created.data(), json!(1));
    idle.await.expect("the live worker is still there");
}

/// Connects, says nothing, answers no ping, and waits until the server hangs up.
async fn silent_until_closed(address: &str) {
    let mut tcp = Socket::connect(address).await.into_inner();
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = within(DEADLINE, "the server to let a silent peer go", tcp.read_to_end(&mut bytes)).await;
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_handshake_is_let_go() {
    let timeouts = json!({ "handshake_timeout_ms": 500 });
    let server = Setup::new().timeouts(timeouts).start().await;
    for address in [server.workers(), server.streams()] {
        let host = address.trim_start_matches("ws://").trim_end_matches('/');
        let mut tcp = std::net::TcpStream::connect(host).expect("the port is open");
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: ").expect("the server reads");
        tcp.set_nonblocking(true).expect("a socket can be nonblocking");
        let mut tcp = tokio::net::TcpStream::from_std(tcp).expect("a socket can be registered");
        let mut bytes = Vec::new();
        let _ =
            within(DEADLINE, "the server to let go of half a handshake", tcp.read_to_end(&mut bytes)).await;
    }
    Worker::connect(server.workers()).await.set("s", "g", "i", json!("unharmed")).await;
}

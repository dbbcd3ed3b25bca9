//! `headwater export` and `headwater import`, with the real binary: what was exported is the state of one moment, and what
//! was imported is the same again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_tests::{
    DEADLINE, Server, Setup, Worker, run_to_exit, run_with_env, spawn_with_env, stored, within,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Limits with which next to nothing stays in memory, and checkpoints are made all the time.
fn small() -> Value {
    json!({ "cache_bytes": 65_536, "checkpoint_log_bytes": 65_536, "segment_bytes": 65_536 })
}

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.ports().0)
}

/// What an export gives, which must succeed.
async fn export(arguments: &[&str]) -> String {
    let (status, stdout, stderr) = run_to_exit(&[&["export"], arguments].concat()).await;
    assert!(status.success(), "{stderr}");
    stdout
}

async fn export_of(server: &Server) -> String {
    export(&["--url", &url(server)]).await
}

/// An import that fails: its code and what it says.
async fn import_fails(server: &Server, file: &Path) -> String {
    let (status, stdout, stderr) = import(server, file).await;
    assert_eq!(status, Some(1), "{stderr}");
    assert_eq!(stdout, "");
    stderr
}

async fn import(server: &Server, file: &Path) -> (Option<i32>, String, String) {
    let file = file.to_str().expect("a path is text");
    let (status, stdout, stderr) = run_to_exit(&["import", "--url", &url(server), file]).await;
    (status.code(), stdout, stderr)
}

fn save(folder: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.join("export.jsonl");
    fs::write(&file, text).expect("a file can be written");
    file
}

fn end(items: usize) -> String {
    format!("{{\"end\":{{\"items\":{items}}}}}")
}

// What an export is.

/// One writer sets `GROUPS` groups in turn, each when the one before was acknowledged, so what is stored at any moment is what came up to some write
/// and nothing else; wherever each group is at that moment.
#[tokio::test]
async fn an_export_while_writers_write_is_the_state_of_one_moment() {
    const GROUPS: u64 = 300;
    let server = Setup::new().limits(small()).start().await;
    let filler = "x".repeat(2_000);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = Worker::connect(server.workers()).await;
    let writing = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let calls = (0..).take_while(|_| !stop.load(Ordering::Relaxed)).map(|n: u64| {
                let value = json!({ "n": n, "filler": filler });
                stored("s", &format!("g{:03}", n % GROUPS), "i", value)
            });
            writer.pipeline("stream::set", 1, calls).await
        }
    });
    let mut reader = Worker::connect(server.workers()).await;
    while reader.list("s", "g299").await.is_empty() {}
    let checkpoint = server.setup().folder().join("data/checkpoint.redb");
    within(DEADLINE, "a checkpoint", async {
        while !checkpoint.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mut before = 0;
    for _ in 0..8 {
        let export = export_of(&server).await;
        let mut found = BTreeMap::new();
        for line in export.lines().filter(|line| line.contains("\"value\"")) {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            let group = line["group"].as_str().expect("a group").to_owned();
            let n = line["value"]["n"].as_u64().expect("a number");
            assert_eq!(found.insert(group, n), None, "each item once");
        }
        let last = *found.values().max().expect("there are items");
        let expected: BTreeMap<_, _> = (0..=last).map(|n| (format!("g{:03}", n % GROUPS), n)).collect();
        let differ = found.iter().find(|(group, n)| expected.get(*group) != Some(n));
        assert_eq!((found.len(), differ), (expected.len(), None), "what was there after write {last}");
        assert!(last > before, "the writer is not held up: {last}");
        before = last;
    }
    assert!(!writing.is_finished(), "there were writes all the time");
    stop.store(true, Ordering::Relaxed);
    let written = within(DEADLINE, "the writer", writing).await.expect("all was written");
    assert!(written as u64 > before);
}

#[tokio::test]
async fn what_was_exported_and_imported_is_the_same_again_from_a_server_and_from_its_folder() {
    let mut server = Setup::new().limits(small()).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    // More than stays in memory, and some of it gone again.
    let value = |n: usize| json!({ "n": n, "text": "y".repeat(500) });
    let calls = (0..2_000).map(|n| stored("many", &format!("g{:02}", n % 50), &format!("i{n}"), value(n)));
    worker.pipeline("stream::set", 64, calls).await;
    for n in [0, 777, 1_999] {
        let item = headwater_tests::item("many", &format!("g{:02}", n % 50), &format!("i{n}"));
        worker.result_of("stream::delete", item).await;
    }
    let deep = "[".repeat(128) + &"]".repeat(128);
    let values: [&str; 8] = [
        "1e400",
        "12345678901234567890123.0",
        "null",
        r#"{ "b" : [ ], "a":1.0, "a":"\ud800é\n" }"#,
        r#""line\nbreak and \"quotes\"""#,
        &deep,
        "-0",
        r#""""#,
    ];
    let names = ["a \"quoted\" name", "line\nbreak", "😀/ü\u{2028}", "\u{0}\u{7f}\\", " "];
    for name in names {
        for (n, value) in values.iter().enumerate() {
            let call = stored(name, name, &format!("{name}{n}"), value);
            worker.call("stream::set", call).await.expect("it can be stored");
        }
    }

    let first = export_of(&server).await;
    let lines: Vec<&str> = first.lines().collect();
    let items = 1_997 + names.len() * values.len();
    assert_eq!(lines.len(), items + 1);
    assert_eq!(lines[items], end(items));
    for name in names {
        for (n, value) in values.iter().enumerate() {
            let [group, id] = [name.to_owned(), format!("{name}{n}")].map(Value::from);
            let line = format!(r#"{{"stream":{group},"group":{group},"id":{id},"value":{value}}}"#);
            assert!(lines.contains(&line.as_str()), "{line}");
        }
    }
    let places: Vec<(String, String)> = lines[..items]
        .iter()
        .map(|line| {
            let line: Place = serde_json::from_str(line).expect("a line is JSON");
            (line.stream, line.group)
        })
        .collect();
    assert!(places.is_sorted(), "groups in byte order");

    let other = Server::start().await;
    let mut live = Worker::connect(other.workers()).await;
    live.set("live", "g", "i", json!(1)).await;
    let file = save(other.setup().folder(), first.clone() + "\n");
    let (status, _, told) = import(&other, &file).await;
    assert_eq!((status, told.as_str()), (Some(0), format!("headwater: {items} items set\n").as_str()));
    live.result_of("stream::delete", headwater_tests::item("live", "g", "i")).await;
    assert!(export_of(&other).await == first, "the same file");
    // Once more changes nothing.
    assert_eq!(import(&other, &file).await.0, Some(0));
    assert!(export_of(&other).await == first, "the same file");

    let data = server.setup().folder().join("data");
    let data = data.to_str().expect("a path is text");
    let (status, _, refusal) = run_to_exit(&["export", "--data", data]).await;
    assert_eq!(status.code(), Some(1));
    assert!(refusal.contains("in use") && refusal.contains("--url"), "{refusal}");
    server.kill9().await;
    assert!(export(&["--data", data]).await == first, "the same file");
    server.restart().await;
    let foreign = other.setup().folder();
    for nothing in [foreign.to_path_buf(), foreign.join("nowhere")] {
        let (status, _, refusal) = run_to_exit(&["export", "--data", &nothing.display().to_string()]).await;
        assert_eq!(status.code(), Some(1));
        assert!(refusal.contains("there is no store"), "{refusal}");
        assert!(!nothing.join("lock").exists(), "nothing is made");
    }
}

#[derive(serde::Deserialize)]
struct Place {
    stream: String,
    group: String,
}

#[tokio::test]
async fn one_stream_or_one_group_can_be_exported_alone() {
    let mut server = Setup::new().limits(small()).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let long = "z".repeat(3_000);
    let names = ["a", "a&b=ü", "ab", "b"];
    for n in 0..400 {
        let value = json!([n, long]);
        worker.set(names[n % 4], names[n / 4 % 4], &format!("i{n}"), value).await;
    }
    for round in 0..2 {
        let all = export_of(&server).await;
        let all: Vec<&str> = all.lines().collect();
        let of = |stream: &str, group: Option<&str>| {
            let lines = all[..400].iter().filter(|line| {
                let line: Place = serde_json::from_str(line).expect("a line is JSON");
                line.stream == stream && group.is_none_or(|group| line.group == group)
            });
            let mut lines: Vec<String> = lines.map(|&line| line.to_owned()).collect();
            lines.push(end(lines.len()));
            lines.join("\n")
        };
        for stream in names {
            let alone = export(&["--url", &url(&server), "--stream", stream]).await;
            assert!(alone == of(stream, None), "{stream} in round {round}");
            for group in names {
                let arguments = ["--url", &url(&server), "--stream", stream, "--group", group];
                assert!(export(&arguments).await == of(stream, Some(group)), "{stream} > {group}");
            }
        }
        let none = export(&["--url", &url(&server), "--stream", "no such stream"]).await;
        assert_eq!(none, end(0));
        server = server.restart().await;
    }
}

// What is wrong.

#[tokio::test]
async fn a_file_that_is_not_whole_is_imported_as_far_as_it_goes_and_said_to_be_cut_off() {
    let server = Server::start().await;
    let line = |n: usize| format!("{{\"stream\":\"s\",\"group\":\"g\",\"id\":\"i{n}\",\"value\":{n}}}\n");
    let lines: String = (0..3).map(line).collect();
    let mut worker = Worker::connect(server.workers()).await;
    for (text, items, said) in [
        (lines.clone(), 3, "cut off"),
        (lines.clone() + &line(3)[..30], 3, "cut off"),
        (String::new(), 0, "cut off"),
        (lines.clone() + "{\"end\":{\"items\":3", 3, "cut off"),
        (lines.clone() + "{\"end\":{\"items\":4}}\n", 3, "4 items, and has 3"),
        (lines.clone() + "{\"error\":{\"message\":\"the disk\"}}\n", 3, "could not go on: the disk"),
        (line(0) + "no item\n" + &line(1) + &end(2) + "\n", 1, "line 2: it is no item"),
        (line(0) + "{\"stream\":\"\",\"group\":\"g\",\"id\":\"i\",\"value\":1}\n" + &end(2), 1, "line 2: "),
    ] {
        let file = save(server.setup().folder(), &text);
        let told = import_fails(&server, &file).await;
        assert!(told.contains(said), "{told}");
        let set = if items == 1 { "1 item set".to_owned() } else { format!("{items} items set") };
        assert!(told.contains(&set), "{told}");
        let values: Vec<Value> = (0..items).map(Value::from).collect();
        assert_eq!(worker.list("s", "g").await, values, "{text:?}");
        for n in 0..items {
            let item = headwater_tests::item("s", "g", &format!("i{n}"));
            worker.result_of("stream::delete", item).await;
        }
    }
    // Two files, one after the other, are both whole.
    let two = format!("{}\n{}{}", end(0), lines, end(3));
    let (status, _, told) = import(&server, &save(server.setup().folder(), two)).await;
    assert_eq!((status, told.as_str()), (Some(0), "headwater: 3 items set\n"));
}

#[tokio::test]
async fn what_comes_by_a_pipe_is_set_as_it_comes() {
    let server = Server::start().await;
    let mut import = spawn_with_env(&["import", "--url", &url(&server)], &[]);
    let mut worker = Worker::connect(server.workers()).await;
    for n in 0..3 {
        import.send_line(&format!("{{\"stream\":\"s\",\"group\":\"g\",\"id\":\"i{n}\",\"value\":{n}}}"));
        within(DEADLINE, "the item to be set", async { while worker.list("s", "g").await.len() == n {} })
            .await;
    }
    // The answer to a wrong one is not held up by what has yet to come.
    import.send_line("{\"stream\":\"\",\"group\":\"g\",\"id\":\"i\",\"value\":1}");
    assert_eq!(import.exited(DEADLINE).await.code(), Some(1));
    assert!(import.stderr().contains("line 4: the server refuses the item"), "{}", import.stderr());
}

#[tokio::test]
async fn an_export_and_an_import_need_the_token_that_workers_need() {
    let setup = Setup::new().own(json!({ "worker_token": "s3cret" }));
    let server = setup.start().await;
    let url = url(&server);
    let file = save(server.setup().folder(), end(0));
    let file = file.to_str().expect("a path is text");
    for command in [&["export", "--url", &url][..], &["import", "--url", &url, file]] {
        for (token, env) in
            [(None, None), (Some("wrong"), None), (None, Some("wrong")), (Some("wrong"), Some("s3cret"))]
        {
            let shown: Vec<&str> = token.map_or(Vec::new(), |token| vec!["--token", token]);
            let env: Vec<(&str, &str)> = env.map(|env| ("HEADWATER_TOKEN", env)).into_iter().collect();
            let (status, stdout, stderr) = run_with_env(&[command, &shown].concat(), &env).await;
            assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{command:?}");
            assert!(stderr.contains("401") && stderr.contains("token"), "{stderr}");
            assert!(!stderr.contains("wrong") && !stderr.contains("s3cret"), "{stderr}");
        }
        let (status, _, stderr) = run_with_env(&[command, &["--token", "s3cret"]].concat(), &[]).await;
        assert!(status.success(), "{stderr}");
        let (status, _, stderr) = run_with_env(command, &[("HEADWATER_TOKEN", "s3cret")]).await;
        assert!(status.success(), "{stderr}");
    }
}

#[tokio::test]
async fn what_is_no_server_is_told_from_one_that_refuses() {
    let (status, _, stderr) = run_to_exit(&["export", "--url", "https://127.0.0.1:1"]).await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("`https` is not supported"), "{stderr}");
    let server = Server::start().await;
    // The stream port has no export.
    let streams = format!("http://127.0.0.1:{}", server.ports().1);
    let (status, _, stderr) = run_to_exit(&["export", "--url", &streams]).await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("426"), "{stderr}");
}

// What an export costs the server.

/// A connection that has asked for an export.
async fn ask(server: &Server) -> TcpStream {
    let (port, _) = server.ports();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
    stream.write_all(b"GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("the server reads");
    stream
}

async fn status_of(stream: &mut TcpStream) -> String {
    let mut head = [0; 12];
    within(DEADLINE, "an answer", stream.read_exact(&mut head)).await.expect("an answer");
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn two_exports_at_a_time_are_the_most_and_one_that_nobody_reads_is_given_up() {
    let timeouts = json!({ "ping_interval_ms": 1_000, "idle_timeout_ms": 3_000 });
    let server = Setup::new().timeouts(timeouts).start().await;
    let mut worker = Worker::connect(server.workers()).await;
    // More than the system keeps for a connection.
    let large = json!("x".repeat(4 << 20));
    for n in 0..8 {
        worker.set("s", &format!("g{n}"), "i", large.clone()).await;
    }
    let (mut first, mut second) = (ask(&server).await, ask(&server).await);
    for stream in [&mut first, &mut second] {
        assert_eq!(status_of(stream).await, "HTTP/1.1 200");
    }
    let mut third = ask(&server).await;
    assert_eq!(status_of(&mut third).await, "HTTP/1.1 503");
    // Writers don't wait for them.
    worker.set("s", "g0", "j", json!(1)).await;

    let whole = within(DEADLINE, "a place for another export", async {
        loop {
            let (status, stdout, _) = run_to_exit(&["export", "--url", &url(&server)]).await;
            if status.success() {
                return stdout;
            }
        }
    })
    .await;
    assert!(whole.ends_with(&end(9)));
    // What the one that read nothing has is not taken for a whole export.
    let mut rest = Vec::new();
    let _ = within(DEADLINE, "the end of the connection", first.read_to_end(&mut rest)).await;
    assert!(!String::from_utf8_lossy(&rest).contains("{\"end\""));
    assert!(server.stderr().contains("an export is cut off"), "{}", server.stderr());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_export() {
    let mut server = Server::start().await;
    let mut worker = Worker::connect(server.workers()).await;
    let large = json!("x".repeat(4 << 20));
    for n in 0..8 {
        worker.set("s", &format!("g{n}"), "i", large.clone()).await;
    }
    let mut stream = ask(&server).await;
    assert_eq!(status_of(&mut stream).await, "HTTP/1.1 200");
    assert_eq!(server.terminate().await, Some(0));
    assert!(!server.stderr().contains("did not close in time"), "{}", server.stderr());
}

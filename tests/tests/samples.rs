//! The samples of public documentation do what they say, with the published SDKs.

use headwater_tests::{Puppet, Script, Sdk, Server, Setup, Subscriber, Worker, item};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A sample that runs.
struct Sample {
    script: Script,
    _folder: TempDir,
}

impl Sample {
    /// Starts a sample and waits until everything that it registers is known.
    async fn serving(server: &Server, sdk: Sdk, name: &str) -> Sample {
        let ready = match sdk {
            Sdk::Node => {
                "await iii.trigger({ function_id: 'stream::list_all', payload: {} })\nconsole.log('ready')\n"
            }
            Sdk::Python => {
                "iii.trigger({'function_id': 'stream::list_all', 'payload': {}})\nprint('ready', flush=True)\n"
            }
            Sdk::Rust => "",
        };
        let mut sample = Sample::start(server, sdk, name, ready);
        sample.script.wait_for("ready").await;
        sample
    }

    /// Starts a sample with some more lines at its end. Those in Rust were built with what they need.
    fn start(server: &Server, sdk: Sdk, name: &str, more: &str) -> Sample {
        let folder = TempDir::with_prefix("headwater-sample-").expect("a temporary folder can be made");
        let (language, file) = match sdk {
            Sdk::Node => ("node", format!("{name}.mjs")),
            Sdk::Python => ("python", format!("{name}.py")),
            Sdk::Rust => return Sample { script: Script::rust_sample(server, name), _folder: folder },
        };
        let path = format!("{}/samples/{language}/{file}", env!("CARGO_MANIFEST_DIR"));
        let code = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(code.contains("ws://localhost:49134"), "a sample connects to where it is documented");
        let code = code.replace("ws://localhost:49134", server.workers());
        // Earlier samples call their worker a bridge.
        let more =
            if code.contains("const bridge") { more.replace("iii", "bridge") } else { more.to_owned() };
        std::fs::write(folder.path().join(&file), format!("{code}\n{more}"))
            .expect("a script can be written");
        Sample { script: Script::elsewhere(server, folder.path(), &file), _folder: folder }
    }

    /// Waits until it has printed all of these, in lines from now on.
    async fn prints(&mut self, words: &[&str]) {
        let mut printed = String::new();
        while !words.iter().all(|word| printed.contains(word)) {
            printed += &self.script.wait_for("").await;
            printed += "\n";
        }
    }
}

/// A server that asks this function about every connection.
async fn server_with_auth(function: &str) -> Server {
    Setup::new().streams(json!({ "auth_function": function })).start().await
}

/// Tells the contexts of all joins.
async fn observer(server: &Server) -> Puppet {
    let mut observer = Puppet::named(server, Sdk::Node, "observer");
    observer.registers("joined", json!({ "kind": "nothing" })).await;
    observer.binds("joined", "stream:join", json!({})).await;
    observer.is_ready().await;
    observer
}

async fn connect_with_token(server: &Server) -> Subscriber {
    Subscriber::connect_with(server.streams(), &[("authorization", "Bearer anything")]).await
}

/// Tests of a sample in its languages.
macro_rules! samples {
    ($($sample:ident: $($test:ident = $sdk:ident),*;)*) => {
        $($(#[tokio::test]
        async fn $test() {
            $sample(Sdk::$sdk).await;
        })*)*
    };
}

samples! {
    presence: presence_in_node = Node, presence_in_python = Python, presence_in_rust = Rust;
    on_auth: on_auth_in_node = Node, on_auth_in_python = Python, on_auth_in_rust = Rust;
    on_join: on_join_in_node = Node, on_join_in_python = Python, on_join_in_rust = Rust;
    join_with_context: join_with_context_in_node = Node, join_with_context_in_python = Python,
        join_with_context_in_rust = Rust;
    conditional_join: conditional_join_in_node = Node, conditional_join_in_python = Python,
        conditional_join_in_rust = Rust;
    projection: projection_in_node = Node, projection_in_python = Python, projection_in_rust = Rust;
    filtered_watch: filtered_watch_in_node = Node, filtered_watch_in_python = Python;
    authorize: authorize_in_node = Node, authorize_in_python = Python;
}

async fn presence(sdk: Sdk) {
    let server = Server::start().await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "presence", "room-1").await;
    let print = match sdk {
        Sdk::Node => {
            "console.log('user', JSON.stringify(user)); console.log('members', JSON.stringify(roomMembers))\n"
        }
        Sdk::Python => {
            "import json\nprint('user', json.dumps(user))\nprint('members', json.dumps(room_members), flush=True)\n"
        }
        Sdk::Rust => "",
    };
    let mut sample = Sample::start(&server, sdk, "presence", print);
    let created = subscriber.next_of("create").await;
    assert_eq!(created.id.as_deref(), Some("user-123"));
    let alice = created.data();
    assert_eq!((&alice["name"], &alice["online"]), (&json!("Alice"), &json!(true)));
    assert_eq!(alice["lastSeen"].is_string(), sdk != Sdk::Rust, "it is not printed in Rust");

    let json = |text: String| serde_json::from_str::<Value>(&text).expect("it printed JSON");
    assert_eq!(json(sample.script.wait_for("user").await), alice);
    assert_eq!(json(sample.script.wait_for("members").await), json!([alice]));
    assert_eq!(subscriber.next_of("delete").await.data(), alice);
    let mut worker = Worker::connect(server.workers()).await;
    assert_eq!(worker.list("presence", "room-1").await, Vec::<Value>::new());
}

async fn on_auth(sdk: Sdk) {
    let server = server_with_auth("onAuth").await;
    let mut observer = observer(&server).await;
    let _sample = Sample::serving(&server, sdk, "on_auth").await;
    let mut subscriber = Subscriber::connect(server.streams()).await;
    subscriber.join("j", "chat", "room-1", None).await;
    assert_eq!(observer.heard_of("joined").await["context"], json!({ "name": "John Doe" }));
}

async fn on_join(sdk: Sdk) {
    let server = Server::start().await;
    let mut sample = Sample::serving(&server, sdk, "on_join").await;
    let mut subscriber = Subscriber::connect(server.streams()).await;
    subscriber.join("the subscription", "chat", "room-1", Some("m1")).await;
    sample.prints(&["Joined stream", "the subscription", "chat", "room-1", "m1"]).await;
}

async fn join_with_context(sdk: Sdk) {
    let server = server_with_auth("stream::auth").await;
    let mut observer = observer(&server).await;
    let mut sample = Sample::serving(&server, sdk, "join_with_context").await;
    let mut nobody = Subscriber::connect(server.streams()).await;
    nobody.join("of nobody", "chat", "room-1", None).await;
    assert_eq!(observer.heard_of("joined").await["context"], Value::Null);
    let mut user = connect_with_token(&server).await;
    user.join("of a user", "chat", "room-2", Some("m1")).await;
    assert_eq!(observer.heard_of("joined").await["context"], json!({ "userId": "user-from-token" }));
    // And of nobody it printed nothing.
    assert_eq!(sample.script.wait_for("User").await, "user-from-token joined chat/room-2/m1");
}

async fn conditional_join(sdk: Sdk) {
    let server = server_with_auth("stream::auth").await;
    let mut sample = Sample::serving(&server, sdk, "conditional_join").await;
    let mut nobody = Subscriber::connect(server.streams()).await;
    nobody.join("of nobody", "chat", "room-1", None).await;
    let mut user = connect_with_token(&server).await;
    user.join("of a user", "presence", "room-1", None).await;
    // And of nobody it printed nothing.
    assert_eq!(sample.script.wait_for("User joined:").await, "user-from-token presence");
}

async fn projection(sdk: Sdk) {
    let server = Server::start().await;
    let _sample = Sample::serving(&server, sdk, "projection").await;
    let (mut stats, _) = Subscriber::of_group(server.streams(), "presence-stats", "room-1").await;
    let mut writer = Worker::connect(server.workers()).await;
    for n in 0..3 {
        writer.set("presence", "room-1", "user-123", json!({ "n": n })).await;
        writer.set("presence", "room-2", "user-123", json!({ "n": n })).await;
    }
    writer.result_of("stream::delete", item("presence", "room-1", "user-123")).await;
    let send = json!({ "stream_name": "presence", "group_id": "room-1", "type": "wave", "data": null });
    writer.result_of("stream::send", send).await;
    let mut counts = Value::Null;
    for n in 0..5 {
        counts = stats.next_of(if n == 0 { "create" } else { "update" }).await.data();
    }
    assert_eq!(counts, json!({ "create": 1, "update": 2, "delete": 1, "event": 1 }));
}

async fn filtered_watch(sdk: Sdk) {
    let server = Server::start().await;
    let mut sample = Sample::serving(&server, sdk, "filtered_watch").await;
    let mut writer = Worker::connect(server.workers()).await;
    let user = |name: &str, online: bool| json!({ "name": name, "online": online });
    writer.set("presence", "room-1", "user-123", user("Alice", false)).await;
    writer.set("presence", "room-1", "user-124", user("Bob", true)).await;
    writer.set("presence", "room-2", "user-123", user("Carol", true)).await;
    writer.set("presence", "room-1", "user-123", user("Alice", true)).await;
    writer.result_of("stream::delete", item("presence", "room-1", "user-123")).await;
    let mut printed = Vec::new();
    while printed.len() < 2 {
        // The SDKs print lines of their own.
        let line = sample.script.wait_for("").await;
        if ["create ", "update ", "delete "].iter().any(|kind| line.starts_with(kind)) {
            printed.push(line);
        }
    }
    assert_eq!(printed, ["update user-123 Alice", "delete user-123 Alice"]);
}

async fn authorize(sdk: Sdk) {
    let server = server_with_auth("stream::auth").await;
    let mut sample = Sample::serving(&server, sdk, "authorize").await;
    let mut nobody = Subscriber::connect(server.streams()).await;
    nobody.send_join("of nobody", "presence", "private", None).await;
    nobody.next_of("unauthorized").await;
    nobody.join("of nobody", "presence", "public", None).await;
    let mut user = connect_with_token(&server).await;
    user.join("of a user", "presence", "private", None).await;
    drop(user);
    assert_eq!(sample.script.wait_for("left").await, "private");
    drop(nobody);
    assert_eq!(sample.script.wait_for("left").await, "public");
}

#[tokio::test]
async fn on_auth_and_on_join_as_they_were_printed_earlier() {
    let server = server_with_auth("onAuth").await;
    let mut on_join = Sample::serving(&server, Sdk::Node, "on_join_earlier").await;
    let mut on_auth = Sample::serving(&server, Sdk::Node, "on_auth_earlier").await;
    let mut subscriber = connect_with_token(&server).await;
    subscriber.join("the subscription", "chat", "room-1", None).await;
    on_auth.prints(&["Authenticated request", "Bearer anything", "query_params", "addr"]).await;
    on_join.prints(&["Joined stream", "the subscription", "chat", "room-1", "John Doe"]).await;
}

//! Every shape that a file may have, and what it means.

use headwater_core::config::{Access, AuthFailure, CoreConfig, JoinGate, Limits, Timeouts};
use headwater_core::name::FunctionId;

use super::super::{Config, Listen, NetConfig, Origins, PortAccess, StoreConfig, Token};
use super::{parse, parse_with};

fn streams(host: &str, port: u16) -> Config {
    Config { streams: Listen { host: host.into(), port }, ..Config::default() }
}

fn file_based(path: &str) -> StoreConfig {
    StoreConfig::FileBased { path: path.into() }
}

#[test]
fn what_is_left_out_has_its_default() {
    for text in [
        "",
        "# nothing but a comment\n",
        "---\n",
        "~",
        "[]",
        "{}",
        "modules:",
        "workers: []",
        "modules: []\nworkers: []",
        "- class: modules::stream::StreamModule",
        "- class: modules::stream::StreamModule\n  config:",
        "- class: modules::stream::StreamModule\n  config:\n    port:\n    adapter:\n    auth_function:",
        "- name: headwater\n  config: {limits: , timeouts: {}}",
        "\u{feff}- name: iii-stream",
    ] {
        assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
    }
    assert_eq!(Config::default().streams, Listen { host: "0.0.0.0".into(), port: 3112 });
    assert_eq!(Config::default().workers, Listen { host: "127.0.0.1".into(), port: 49134 });
    assert_eq!(Config::default().store, file_based("./data"));
}

#[test]
fn every_shape_of_file_says_the_same() {
    let expected = Config { store: file_based("./data/stream_store"), ..streams("::1", 4000) };
    for text in [
        r"
- class: modules::stream::StreamModule
  config:
    port: ${STREAM_PORT:4000}
    host: ::1
    adapter:
      class: modules::stream::adapters::KvStore
      config:
        store_method: file_based
        file_path: ./data/stream_store
",
        r"
- class : modules::streams::StreamModule
  config :
    port : 4000
    host : ::1
    adapter :
      class: modules::streams::adapters::KvStore
      config:
        file_path: ./data/stream_store
",
        r"
modules:
  - class: modules::stream::StreamModule
    config:
      port: 4000
      host: '::1'
      adapter: { class: 'modules::streams::adapters::KvStore', config: { file_path: ./data/stream_store } }
",
        r"
workers:
  - name: iii-stream
    config:
      port: 4000
      host: ${HOST:::1}
      adapter:
        name: kv
        config:
          store_method: ${STORE:file_based}
          file_path: ${FOLDER:./data}/stream_store
",
    ] {
        assert_eq!(parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn the_older_class_has_the_older_default_port() {
    assert_eq!(parse("- class: modules::stream::StreamModule").unwrap(), streams("0.0.0.0", 3112));
    assert_eq!(parse("- class: modules::streams::StreamModule").unwrap(), streams("0.0.0.0", 31112));
    assert_eq!(parse("- name: iii-stream").unwrap(), streams("0.0.0.0", 3112));
    let text = "- class: modules::streams::StreamModule\n  config:\n    port: ${STREAMS_PORT:31112}";
    assert_eq!(parse_with(text, &[("STREAMS_PORT", "0")]).unwrap(), streams("0.0.0.0", 0));
}

#[test]
fn every_kind_of_store_has_its_spelling() {
    for (adapter, store) in [
        ("{name: kv}", file_based("./data")),
        ("{class: 'modules::stream::adapters::KvStore', config: {}}", file_based("./data")),
        ("{name: kv, config: {store_method: file_based}}", file_based("./data")),
        ("{name: kv, config: {file_path: /var/lib/headwater}}", file_based("/var/lib/headwater")),
        ("{name: kv, config: {store_method: in_memory}}", StoreConfig::InMemory),
        ("{name: kv, config: {store_method: in_memory, file_path: ./data}}", StoreConfig::InMemory),
    ] {
        let text = format!("- name: iii-stream\n  config:\n    adapter: {adapter}");
        assert_eq!(parse(&text).unwrap().store, store, "{adapter}");
    }
}

#[test]
fn headwaters_own_settings_stand_in_every_shape_of_file() {
    const ENTRY: &str = "{CLASS: headwater, config: {worker_host: '::1', worker_port: 5000}}";
    let expected = Config { workers: Listen { host: "::1".into(), port: 5000 }, ..Config::default() };
    for shape in ["- ENTRY", "- ENTRY\n- name: iii-stream", "modules: [ENTRY]", "workers: [ENTRY]"] {
        for key in ["class", "name"] {
            let text = shape.replace("ENTRY", ENTRY).replace("CLASS", key);
            assert_eq!(parse(&text).unwrap(), expected, "{text}");
        }
    }
}

/// A file with these settings of the streams.
fn streams_with(settings: &str) -> Config {
    parse(&format!("- name: iii-stream\n  config: {{{settings}}}")).unwrap()
}

#[test]
fn who_may_subscribe_has_its_spellings() {
    for (settings, access) in [
        ("auth_function: 'stream::auth'", Access { auth_function: id("stream::auth"), ..Access::default() }),
        ("auth_failure: close, join_gate: fail_open", Access::default()),
        ("auth_failure: http_401", Access { auth_failure: AuthFailure::Http401, ..Access::default() }),
        ("join_gate: '${GATE:fail_closed}'", Access { join_gate: JoinGate::FailClosed, ..Access::default() }),
    ] {
        let core = CoreConfig { access, ..CoreConfig::default() };
        assert_eq!(streams_with(settings), Config { core, ..Config::default() }, "{settings}");
    }
}

fn id(function: &str) -> Option<FunctionId> {
    Some(FunctionId::trusted(function))
}

#[test]
fn origins_are_kept_as_browsers_write_them() {
    let only = |origins: &[&str]| Origins::Only(origins.iter().map(|origin| (*origin).into()).collect());
    for (origins, expected) in [
        ("'*'", Origins::Any),
        ("['*']", Origins::Any),
        ("['https://example.org', '*']", Origins::Any),
        ("[]", only(&[])),
        ("https://example.org", only(&["https://example.org"])),
        ("['${ORIGIN:https://Example.ORG:443}']", only(&["https://example.org"])),
        ("['http://localhost:5173', 'http://a:80']", only(&["http://localhost:5173", "http://a"])),
        ("['http://a:443', 'https://a:80']", only(&["http://a:443", "https://a:80"])),
        ("['http://[::1]:81', 'http://[::1]']", only(&["http://[::1]:81", "http://[::1]"])),
        (
            "['null', 'app://my-app', 'https://127.0.0.1']",
            only(&["null", "app://my-app", "https://127.0.0.1"]),
        ),
    ] {
        let found = streams_with(&format!("allowed_origins: {origins}")).access.stream_origins;
        assert_eq!(found, expected, "{origins}");
    }
    for origins in ["http://localhost:5173", "['http://localhost:5173']"] {
        let text = format!("- name: headwater\n  config: {{worker_origins: {origins}}}");
        assert_eq!(parse(&text).unwrap().access.worker_origins, only(&["http://localhost:5173"]));
    }
}

#[test]
fn a_worker_port_listens_on_loopback_or_wants_a_token_or_is_called_insecure() {
    let settings = |settings: &str| parse(&format!("- name: headwater\n  config: {{{settings}}}"));
    for host in ["localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "'::1'", "'::ffff:127.0.0.1'"] {
        let config = settings(&format!("worker_host: {host}")).unwrap();
        assert_eq!(config.access, PortAccess::default(), "{host}");
    }
    let token = Token::new("s3cret!=,}\"");
    let env = [("WORKER_TOKEN", "s3cret!=,}\""), ("INSECURE", "true")];
    let text = "- name: headwater\n  config:\n    worker_host: 0.0.0.0\n    worker_token: ${WORKER_TOKEN}";
    let config = parse_with(text, &env).unwrap();
    assert_eq!(config.access, PortAccess { worker_token: token, ..PortAccess::default() });
    for insecure in ["true", "'${INSECURE:false}'"] {
        let text = format!("- name: headwater\n  config: {{worker_host: example.org, insecure: {insecure}}}");
        let config = parse_with(&text, &env).unwrap();
        assert_eq!(config.access, PortAccess { insecure: true, ..PortAccess::default() });
    }
}

#[test]
fn a_configuration_does_not_show_its_token() {
    let config = parse("- name: headwater\n  config: {worker_token: s3cret}").unwrap();
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let token = config.access.worker_token.expect("it has one");
    assert!(token.is(b"s3cret") && !token.is(b"s3cre") && !token.is(b"S3cret") && !token.is(b""));
}

#[test]
fn every_limit_and_timeout_has_a_key_of_its_own() {
    let text = r"
- name: headwater
  config:
    limits:
      name_bytes: 1
      value_bytes: 2
      group_bytes: 65536
      update_ops: 16
      json_depth: 4
      subscriptions: 5
      registrations: 6
      calls_in_flight: 7
      trigger_events: 20
      trigger_bytes: 21
      worker_frame_bytes: 8
      stream_frame_bytes: 9
      worker_connections: 10
      stream_connections: 11
      outbox_bytes: 12
      worker_outbox_bytes: 13
      inbox: 14
      commit_backlog_bytes: 15
    timeouts:
      call_ms: 16
      stop_ms: 0
      auth_ms: 22
      gate_grace_ms: 23
      ping_interval_ms: 17
      idle_timeout_ms: 18
      slow_timeout_ms: 24
      handshake_timeout_ms: 19
";
    let limits = Limits {
        name_bytes: 1,
        value_bytes: 2,
        group_bytes: 65536,
        update_ops: 16,
        json_depth: 4,
        subscriptions: 5,
        registrations: 6,
        calls_in_flight: 7,
        trigger_events: 20,
        trigger_bytes: 21,
    };
    let net = NetConfig {
        worker_frame_bytes: 8,
        stream_frame_bytes: 9,
        worker_connections: 10,
        stream_connections: 11,
        outbox_bytes: 12,
        worker_outbox_bytes: 13,
        inbox: 14,
        commit_backlog_bytes: 15,
        ping_interval_ms: 17,
        idle_timeout_ms: 18,
        slow_timeout_ms: 24,
        handshake_timeout_ms: 19,
    };
    let timeouts = Timeouts { call_ms: 16, stop_ms: 0, auth_ms: 22, gate_grace_ms: 23 };
    let core = CoreConfig { limits, timeouts, ..CoreConfig::default() };
    assert_eq!(parse(text).unwrap(), Config { core, net, ..Config::default() });
}

#[test]
fn a_file_means_what_its_text_means() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headwater.yaml");
    std::fs::write(&path, "- name: iii-stream\n  config: {port: '${PORT}'}").unwrap();
    let config = Config::from_file(&path, &|name| (name == "PORT").then(|| "4000".into()));
    assert_eq!(config.unwrap(), streams("0.0.0.0", 4000));
}

#[test]
fn a_variables_text_never_changes_the_files_structure() {
    let text = "- name: iii-stream\n  config:\n    host: ${HOST}\n    port: ${PORT:1}${ZERO:}";
    let env = [("HOST", "a, port: 9 # [{\n- name: headwater"), ("ZERO", "0")];
    assert_eq!(parse_with(text, &env).unwrap(), streams(env[0].1, 10));
}

#[test]
fn anchors_and_json_are_yaml_too() {
    let text = r"
- class: headwater
  config: { worker_port: &port 4000 }
- class: modules::stream::StreamModule
  config: { port: *port }
";
    assert_eq!(parse(text).unwrap().streams.port, 4000);
    let text = r#"{"workers": [{"name": "iii-stream", "config": {"port": 4000}}]}"#;
    assert_eq!(parse(text).unwrap().streams.port, 4000);
}

//! Every shape that a file may have, and what it means.

use headwater_core::config::{CoreConfig, Limits, Timeouts};

use super::super::{Config, Listen, NetConfig, StoreConfig};
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
    const ENTRY: &str = "{CLASS: headwater, config: {worker_host: 0.0.0.0, worker_port: 5000}}";
    let expected = Config { workers: Listen { host: "0.0.0.0".into(), port: 5000 }, ..Config::default() };
    for shape in ["- ENTRY", "- ENTRY\n- name: iii-stream", "modules: [ENTRY]", "workers: [ENTRY]"] {
        for key in ["class", "name"] {
            let text = shape.replace("ENTRY", ENTRY).replace("CLASS", key);
            assert_eq!(parse(&text).unwrap(), expected, "{text}");
        }
    }
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

//! What is said about a file that can't be used: the file, the key, what was expected, what was found.

use std::fs;

use insta::assert_snapshot;

use super::super::Config;
use super::{errors, parse_with};

/// Files with one line in the settings of the streams.
fn stream_errors(lines: &[&str]) -> String {
    let files: Vec<_> =
        lines.iter().map(|line| format!("- name: iii-stream\n  config:\n    {line}")).collect();
    errors(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Files with one line in Headwater's own settings.
fn own_errors(lines: &[&str]) -> String {
    let files: Vec<_> =
        lines.iter().map(|line| format!("modules:\n- class: headwater\n  config:\n    {line}")).collect();
    errors(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn broken_yaml_is_refused_with_its_line() {
    assert_snapshot!(errors(&[
        "- name: iii-stream\n  config: [",
        "- name: iii-stream\n\tconfig: 1",
        "- name: 'iii-stream",
        "a: 1\n b: 2",
        "- name: *nobody",
        "- name: iii-stream\n---\n- name: iii-stream",
        "- name: iii-stream\n  config:\n    port: 1\n    host: a\n    port: 1",
        "- name: iii-stream\n  config:\n    port: .nan",
        "- name: \0",
    ]), @r#"
    headwater.yaml: line 2, column 11: expected valid YAML: unclosed bracket '['
    headwater.yaml: line 1, column 9: expected valid YAML: while scanning a plain scalar, found a tab
    headwater.yaml: line 1, column 9: expected valid YAML: unclosed quote
    headwater.yaml: line 2, column 3: expected valid YAML: mapping values are not allowed in this context
    headwater.yaml: line 1, column 9: expected valid YAML: reference to unknown value
    headwater.yaml: line 3, column 1: expected one YAML document, found a second one
    headwater.yaml: line 5, column 5: expected each key once, found "port" twice
    headwater.yaml: line 3, column 11: expected valid YAML: value `.nan` is not a finite number
    headwater.yaml: line 1, column 9: expected valid YAML: unexpected character: `\u{0}'
    "#);
}

#[test]
fn a_file_of_another_shape_is_refused() {
    assert_snapshot!(errors(&[
        "just a text",
        "5",
        "streams: []",
        "modules: {class: headwater}",
        "- iii-stream",
        "- []",
        "-",
        "- config: {}",
        "- class: headwater\n  name: headwater",
        "- class: 5",
        "- class: ''",
        "- class: headwater\n  config: text",
        "- class: headwater\n  settings: {}",
    ]), @r#"
    headwater.yaml: expected a list of entries, or `modules` or `workers` with one, found the text "just a text"
    headwater.yaml: expected a list of entries, or `modules` or `workers` with one, found the number 5
    headwater.yaml: streams: unknown key; expected `modules` or `workers`
    headwater.yaml: modules: expected a list of entries (`- class: …` or `- name: …`), found a mapping
    headwater.yaml: [0]: expected an entry with `class` or `name`, and `config`, found the text "iii-stream"
    headwater.yaml: [0]: expected an entry with `class` or `name`, and `config`, found a list
    headwater.yaml: [0]: expected `class` or `name`, found neither
    headwater.yaml: [0]: expected `class` or `name`, found neither
    headwater.yaml: [0]: expected `class` or `name`, found both
    headwater.yaml: [0].class: expected `modules::stream::StreamModule`, `modules::streams::StreamModule` or `headwater`, found the number 5
    headwater.yaml: [0].class: expected `modules::stream::StreamModule`, `modules::streams::StreamModule` or `headwater`, found the text ""
    headwater.yaml: [0].config: expected a mapping of settings, found the text "text"
    headwater.yaml: [0].settings: unknown key; expected `class`, `name` or `config`
    "#);
}

#[test]
fn an_entry_of_another_product_is_refused_by_its_name() {
    assert_snapshot!(errors(&[
        "modules:\n- class: modules::stream::StreamModule\n- class: modules::api::RestApiModule",
        "workers:\n- name: iii-http\n  config: {port: 3111}",
        "- class: iii-stream",
        "- class: modules::stream::StreamModul",
    ]), @r#"
    headwater.yaml: modules[1].class: expected `modules::stream::StreamModule`, `modules::streams::StreamModule` or `headwater`, found the text "modules::api::RestApiModule"; headwater serves streams only: remove this entry if it is meant for something else
    headwater.yaml: workers[0].name: expected `iii-stream` or `headwater`, found the text "iii-http"; headwater serves streams only: remove this entry if it is meant for something else
    headwater.yaml: [0].class: expected `modules::stream::StreamModule`, `modules::streams::StreamModule` or `headwater`, found the text "iii-stream"; headwater serves streams only: remove this entry if it is meant for something else
    headwater.yaml: [0].class: expected `modules::stream::StreamModule`, `modules::streams::StreamModule` or `headwater`, found the text "modules::stream::StreamModul"; headwater serves streams only: remove this entry if it is meant for something else
    "#);
}

#[test]
fn an_entry_comes_once() {
    assert_snapshot!(errors(&[
        "- class: modules::stream::StreamModule\n- class: modules::streams::StreamModule",
        "modules:\n- class: headwater\nworkers:\n- name: headwater",
    ]), @r"
    headwater.yaml: [1].class: expected one entry of this kind, found a second; the first is [0]
    headwater.yaml: workers[0].name: expected one entry of this kind, found a second; the first is modules[0]
    ");
}

#[test]
fn an_unknown_key_is_refused_with_the_known_ones() {
    assert_snapshot!(stream_errors(&[
        "prot: 3112",
        "\"a\\nb\": 1",
        "adapter: {name: kv, path: x}",
        "adapter: {name: kv, config: {redis_url: 'redis://localhost'}}",
    ]), @r#"
    headwater.yaml: [0].config.prot: unknown key; expected `host`, `port`, `auth_function`, `auth_failure`, `join_gate`, `allowed_origins` or `adapter`
    headwater.yaml: [0].config["a\nb"]: unknown key; expected `host`, `port`, `auth_function`, `auth_failure`, `join_gate`, `allowed_origins` or `adapter`
    headwater.yaml: [0].config.adapter.path: unknown key; expected `class`, `name` or `config`
    headwater.yaml: [0].config.adapter.config.redis_url: unknown key; expected `store_method`, `file_path`, `durability` or `save_interval_ms`
    "#);
    assert_snapshot!(own_errors(&["port: 1", "limits: {frames: 1}", "timeouts: {call: 1}"]), @r"
    headwater.yaml: modules[0].config.port: unknown key; expected `worker_host`, `worker_port`, `worker_token`, `worker_origins`, `insecure`, `limits` or `timeouts`
    headwater.yaml: modules[0].config.limits.frames: unknown key; expected `name_bytes`, `value_bytes`, `group_bytes`, `update_ops`, `json_depth`, `subscriptions`, `registrations`, `calls_in_flight`, `trigger_events`, `trigger_bytes`, `worker_frame_bytes`, `stream_frame_bytes`, `worker_connections`, `stream_connections`, `outbox_bytes`, `worker_outbox_bytes`, `inbox`, `commit_backlog_bytes`, `segment_bytes`, `checkpoint_log_bytes` or `cache_bytes`
    headwater.yaml: modules[0].config.timeouts.call: unknown key; expected `call_ms`, `stop_ms`, `load_ms`, `auth_ms`, `gate_grace_ms`, `ping_interval_ms`, `idle_timeout_ms`, `slow_timeout_ms` or `handshake_timeout_ms`
    ");
}

#[test]
fn a_value_of_another_type_is_refused() {
    assert_snapshot!(stream_errors(&[
        "port: text",
        "port: '3112'",
        "port: true",
        "port: 3112.5",
        "port: [3112]",
        "host: 127",
        "host: {}",
        "host: ''",
        "host: ${HOST:}",
        "adapter: kv",
        "adapter: {name: sqlite}",
        "adapter: {class: 'modules::state::adapters::KvStore'}",
        "adapter: {}",
        "adapter: {name: kv, config: {store_method: on_disk}}",
        "adapter: {name: kv, config: {store_method: no}}",
        "adapter: {name: kv, config: {file_path: 5}}",
        "adapter: {name: kv, config: {durability: fsync}}",
        "adapter: {name: kv, config: {durability: in_memory, store_method: file_based}}",
        "adapter: {name: kv, config: {durability: sync, store_method: in_memory}}",
        "adapter: {name: kv, config: {save_interval_ms: 100}}",
        "adapter: {name: kv, config: {durability: interval, save_interval_ms: 0}}",
    ]), @r#"
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the text "text"
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the text "3112"
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found true
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the number 3112.5
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found a list
    headwater.yaml: [0].config.host: expected a host name or an IP address, found the number 127
    headwater.yaml: [0].config.host: expected a host name or an IP address, found a mapping
    headwater.yaml: [0].config.host: expected a host name or an IP address, found the text ""
    headwater.yaml: [0].config.host: expected a host name or an IP address, found the text "" (from "${HOST:}")
    headwater.yaml: [0].config.adapter: expected a mapping with `class` or `name`, and `config`, found the text "kv"
    headwater.yaml: [0].config.adapter.name: expected `kv` or `redis`, found the text "sqlite"; this version of headwater has no Redis store; use the embedded one: `name: kv`, or `class: modules::stream::adapters::KvStore`
    headwater.yaml: [0].config.adapter.class: expected `modules::stream::adapters::KvStore`, `modules::stream::adapters::RedisAdapter`, `modules::streams::adapters::KvStore` or `modules::streams::adapters::RedisAdapter`, found the text "modules::state::adapters::KvStore"; this version of headwater has no Redis store; use the embedded one: `name: kv`, or `class: modules::stream::adapters::KvStore`
    headwater.yaml: [0].config.adapter: expected `class` or `name`, found neither
    headwater.yaml: [0].config.adapter.config.store_method: expected `file_based` or `in_memory`, found the text "on_disk"
    headwater.yaml: [0].config.adapter.config.store_method: expected `file_based` or `in_memory`, found the text "no"
    headwater.yaml: [0].config.adapter.config.file_path: expected the path of a folder, found the number 5
    headwater.yaml: [0].config.adapter.config.durability: expected `sync`, `interval` or `in_memory`, found the text "fsync"
    headwater.yaml: [0].config.adapter.config.durability: expected `sync` or `interval` beside `store_method: file_based`, found `in_memory`
    headwater.yaml: [0].config.adapter.config.durability: expected `in_memory` beside `store_method: in_memory`, or nothing
    headwater.yaml: [0].config.adapter.config.save_interval_ms: expected `durability: interval` beside it; without that everything is synced before it is acknowledged
    headwater.yaml: [0].config.adapter.config.save_interval_ms: expected a whole number of milliseconds from 1 to 3600000, found the number 0
    "#);
}

#[test]
fn a_number_out_of_bounds_is_refused() {
    assert_snapshot!(stream_errors(&["port: 65536", "port: -1", "port: ${PORT:65536}", "port: ${PORT:+1}"]), @r#"
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the number 65536
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the number -1
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the text "65536" (from "${PORT:65536}")
    headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the text "+1" (from "${PORT:+1}")
    "#);
    assert_snapshot!(own_errors(&[
        "worker_port: 100000",
        "limits: {value_bytes: 0}",
        "limits: {value_bytes: 99999999999999999999}",
        "limits: {json_depth: 100000}",
        "limits: {inbox: 0}",
        "timeouts: {call_ms: 0}",
        "timeouts: {stop_ms: 18446744073709551615}",
        "timeouts: {idle_timeout_ms: 20000}",
    ]), @r"
    headwater.yaml: modules[0].config.worker_port: expected a port from 0 to 65535, found the number 100000
    headwater.yaml: modules[0].config.limits.value_bytes: expected a whole number of bytes from 1 to 134217728, found the number 0
    headwater.yaml: modules[0].config.limits.value_bytes: expected a whole number of bytes from 1 to 134217728, found the number 1e+20
    headwater.yaml: modules[0].config.limits.json_depth: expected a whole number of levels from 1 to 1024, found the number 100000
    headwater.yaml: modules[0].config.limits.inbox: expected a whole number from 1 to 100000000, found the number 0
    headwater.yaml: modules[0].config.timeouts.call_ms: expected a whole number of milliseconds from 1 to 2592000000, found the number 0
    headwater.yaml: modules[0].config.timeouts.stop_ms: expected a whole number of milliseconds from 0 to 2592000000, found the number 18446744073709551615
    headwater.yaml: modules[0].config.timeouts: expected `ping_interval_ms` below `idle_timeout_ms`, found 20000 and 20000
    ");
}

#[test]
fn a_variable_that_can_not_be_filled_in_is_refused_by_its_name() {
    assert_snapshot!(stream_errors(&["port: ${STREAM_PORT}", "host: ${HOST", "host: ${MY HOST:x}"]), @r#"
    headwater.yaml: [0].config.port: the environment variable STREAM_PORT is not set and the file has no default for it; set it, or write ${STREAM_PORT:default}
    headwater.yaml: [0].config.host: expected a `}` after `${`, found the end of the text
    headwater.yaml: [0].config.host: expected the name of an environment variable after `${` (letters, digits, `_`), found "MY HOST"
    "#);
    let error =
        parse_with("- name: iii-stream\n  config:\n    port: ${STREAM_PORT:3112}", &[("STREAM_PORT", " 80")]);
    assert_snapshot!(error.unwrap_err(), @r#"headwater.yaml: [0].config.port: expected a port from 0 to 65535, found the text " 80" (from "${STREAM_PORT:3112}")"#);
}

#[test]
fn redis_is_refused_in_every_spelling() {
    let redis = |adapter: &str| stream_errors(&[&format!("adapter: {{{adapter}}}")]);
    assert_snapshot!(redis("name: redis, config: {redis_url: '${REDIS_URL:redis://localhost:6379}'}"), @r"headwater.yaml: [0].config.adapter.name: this version of headwater has no Redis store; use the embedded one: `name: kv`, or `class: modules::stream::adapters::KvStore`");
    for class in ["modules::stream::adapters::RedisAdapter", "modules::streams::adapters::RedisAdapter"] {
        assert!(redis(&format!("class: '{class}'")).contains("has no Redis store"));
    }
}

#[test]
fn who_may_subscribe_is_not_guessed() {
    assert_snapshot!(stream_errors(&[
        "auth_function: ''",
        "auth_function: [a]",
        "auth_failure: http_403",
        "auth_failure: 401",
        "join_gate: ${GATE:closed}",
        "allowed_origins: example.org",
        "allowed_origins: {}",
        "allowed_origins: ['https://example.org/']",
        "allowed_origins: ['https://*.example.org']",
        "allowed_origins: ['https://a.example, https://b.example']",
        "allowed_origins: ['*', 'https://bücher.example']",
        "allowed_origins: ['https://user@example.org', 5]",
        "allowed_origins: ['https://example.org:', 'https://']",
        "allowed_origins: ['http://::1']",
    ]), @r#"
    headwater.yaml: [0].config.auth_function: expected the id of a function, found the text ""
    headwater.yaml: [0].config.auth_function: expected the id of a function, found a list
    headwater.yaml: [0].config.auth_failure: expected `close` or `http_401`, found the text "http_403"
    headwater.yaml: [0].config.auth_failure: expected `close` or `http_401`, found the number 401
    headwater.yaml: [0].config.join_gate: expected `fail_open` or `fail_closed`, found the text "closed" (from "${GATE:closed}")
    headwater.yaml: [0].config.allowed_origins: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "example.org"
    headwater.yaml: [0].config.allowed_origins: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found a mapping
    headwater.yaml: [0].config.allowed_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "https://example.org/"
    headwater.yaml: [0].config.allowed_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "https://*.example.org"
    headwater.yaml: [0].config.allowed_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "https://a.example, https://b.example"
    headwater.yaml: [0].config.allowed_origins[1]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "https://bücher.example"
    headwater.yaml: [0].config.allowed_origins[1]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the number 5
    headwater.yaml: [0].config.allowed_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "https://example.org:"
    headwater.yaml: [0].config.allowed_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "http://::1"
    "#);
}

#[test]
fn a_worker_port_that_anybody_could_use_is_refused() {
    let error = own_errors(&["worker_host: ${HOST:0.0.0.0}"]);
    assert_snapshot!(error, @r#"headwater.yaml: modules[0].config.worker_host: expected `localhost` or an address of this machine's loopback, found the text "0.0.0.0" (from "${HOST:0.0.0.0}"); whoever reaches this port may read, write and call everything: set `worker_token`, or write `insecure: true` if something else keeps others away"#);
    let named = ["'::'", "10.0.0.1", "'::ffff:10.0.0.1'", "example.org", "localhost.example.org", "'127.1'"];
    for host in named.map(|host| format!("worker_host: {host}")) {
        assert!(own_errors(&[&host]).contains("set `worker_token`"), "{host}");
    }
    let text = "- name: headwater\n  config: {worker_host: 0.0.0.0, insecure: false}";
    assert!(errors(&[text]).contains("set `worker_token`"));
}

#[test]
fn what_workers_must_show_is_not_guessed() {
    assert_snapshot!(own_errors(&[
        "worker_token: ''",
        "worker_token: ${WORKER_TOKEN:}",
        "worker_token: ${WORKER_TOKEN}",
        "worker_origins: {}",
        "worker_origins: ['*']",
        "insecure: yes",
        "insecure: 'true'",
        "insecure: ${INSECURE:1}",
    ]), @r#"
    headwater.yaml: modules[0].config.worker_token: expected a token of letters, digits and other visible ASCII characters, without spaces, found the text ""
    headwater.yaml: modules[0].config.worker_token: expected a token of letters, digits and other visible ASCII characters, without spaces, found the text "" (from "${WORKER_TOKEN:}")
    headwater.yaml: modules[0].config.worker_token: the environment variable WORKER_TOKEN is not set and the file has no default for it; set it, or write ${WORKER_TOKEN:default}
    headwater.yaml: modules[0].config.worker_origins: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found a mapping
    headwater.yaml: modules[0].config.worker_origins[0]: expected an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`, found the text "*"
    headwater.yaml: modules[0].config.insecure: expected `true` or `false`, found the text "yes"
    headwater.yaml: modules[0].config.insecure: expected `true` or `false`, found the text "true"
    headwater.yaml: modules[0].config.insecure: expected `true` or `false`, found the text "1" (from "${INSECURE:1}")
    "#);
}

#[test]
fn a_token_that_can_not_be_used_is_not_shown() {
    for token in [
        "'s3 cret'",
        "\"s3cret\\n\"",
        "' s3cret'",
        "s3crét",
        "[s3cret]",
        "{s3cret: s3cret}",
        "'${A:s3}${B: cret}'",
    ] {
        let error = own_errors(&[&format!("worker_token: {token}")]);
        assert!(
            error.starts_with("headwater.yaml: modules[0].config.worker_token: expected a token"),
            "{error}"
        );
        assert!(!error.contains("s3"), "{error}");
    }
    assert!(!own_errors(&["worker_token: 8273645"]).contains("8273645"));
}

#[test]
fn a_file_that_can_not_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str| {
        let path = folder.path().join(name);
        let error = Config::from_file(&path, &|_| None).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "")
    };
    fs::write(folder.path().join("binary"), b"port: \xff").unwrap();
    fs::write(folder.path().join("large"), vec![b'#'; (1 << 20) + 1]).unwrap();
    fs::write(folder.path().join("wrong"), "streams:").unwrap();
    assert_snapshot!(["missing", ".", "binary", "large", "wrong"].map(error).join("\n"), @r"
    /missing: can't be read: No such file or directory (os error 2)
    /.: can't be read: Is a directory (os error 21)
    /binary: expected UTF-8 text, found invalid utf-8 sequence of 1 bytes from index 6
    /large: expected a configuration file of at most 1048576 bytes, found more
    /wrong: streams: unknown key; expected `modules` or `workers`
    ");
}

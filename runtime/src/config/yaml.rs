//! The YAML of the file as plain values.

use serde_json::Value;
use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter};

use super::ConfigError;

/// Parses one YAML document; an empty one is null. Keys that occur twice, deep nesting and aliases that grow
/// into something large are errors.
pub(super) fn parse(file: &str, text: &str) -> Result<Value, ConfigError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| describe(file, &error))
}

fn options() -> Options {
    serde_saphyr::options! {
        // Far above any configuration, far below what takes time or memory to refuse.
        budget: serde_saphyr::budget! { max_events: 100_000, max_nodes: 50_000, max_depth: 64 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        // `no` and `on` are texts, as in YAML 1.2.
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    }
}

fn describe(file: &str, error: &Error) -> ConfigError {
    let problem = match error {
        Error::MultipleDocuments { .. } => "expected one YAML document, found a second one".into(),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("expected each key once, found {key:?} twice")
        }
        other => format!("expected valid YAML: {}", UserMessageFormatter.format_message(other)),
    };
    match error.location() {
        Some(at) => ConfigError::at(file, format!("line {}, column {}", at.line(), at.column()), problem),
        None => ConfigError::file(file, problem),
    }
}

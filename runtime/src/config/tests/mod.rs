//! What configuration files mean, and what is said about those that mean nothing.

mod errors;
mod hostile;
mod spellings;

use super::{Config, ConfigError};

/// Reads a file with these environment variables.
fn parse_with(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
    Config::parse("headwater.yaml", text, &lookup)
}

/// Reads a file without any environment variable.
fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, &[])
}

/// What is said about each of these files, a line each.
fn errors(texts: &[&str]) -> String {
    let error = |text: &&str| parse(text).expect_err(text).to_string();
    texts.iter().map(error).collect::<Vec<_>>().join("\n")
}

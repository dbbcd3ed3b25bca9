//! Typed access to the file's values. Every value knows its path, so that every error can name it.

use std::fmt::Write;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ConfigError;
use super::env::expand;

/// Where values come from: the file, for errors, and the environment.
pub(super) struct Origin<'a> {
    /// The file's name.
    pub(super) file: &'a str,
    /// Looks up an environment variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
}

/// A value and where it stands, such as `modules[0].config.port`.
#[derive(Clone)]
pub(super) struct Place<'a> {
    value: &'a Value,
    path: String,
    origin: &'a Origin<'a>,
}

impl<'a> Place<'a> {
    /// The whole file.
    pub(super) fn root(value: &'a Value, origin: &'a Origin<'a>) -> Place<'a> {
        Place { value, path: String::new(), origin }
    }

    /// Its path; empty for the whole file.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// An error about this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> ConfigError {
        match self.path.as_str() {
            "" => ConfigError::file(self.origin.file, problem),
            path => ConfigError::at(self.origin.file, path, problem),
        }
    }

    /// The error that something else stands here than what belongs here.
    pub(super) fn expected(&self, what: &str) -> ConfigError {
        self.error(format!("expected {what}, found {}", describe(self.value)))
    }

    /// The same for a text that variables were filled into.
    pub(super) fn unexpected(&self, what: &str, text: &str) -> ConfigError {
        let from = match self.value {
            Value::String(written) if written != text => format!(" (from {})", quote(written)),
            _ => String::new(),
        };
        self.error(format!("expected {what}, found the text {}{from}", quote(text)))
    }

    /// A text that is not empty, with its variables filled in. `what` says what it means.
    pub(super) fn text(&self, what: &str) -> Result<String, ConfigError> {
        let Value::String(written) = self.value else {
            return Err(self.expected(what));
        };
        let text = self.expand(written)?;
        match text.is_empty() {
            true => Err(self.unexpected(what, &text)),
            false => Ok(text),
        }
    }

    /// The same for a text that no error may show.
    pub(super) fn secret(&self, what: &str) -> Result<String, ConfigError> {
        let Value::String(written) = self.value else {
            return Err(self.error(format!("expected {what}, found something that is no text")));
        };
        let text = self.expand(written)?;
        match text.is_empty() {
            true => Err(self.unexpected(what, &text)),
            false => Ok(text),
        }
    }

    /// One of these texts, and what it means.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let expected = one_of(&choices.iter().map(|(text, _)| *text).collect::<Vec<_>>());
        let text = self.text(&expected)?;
        let chosen = choices.iter().find(|(choice, _)| *choice == text);
        chosen.map(|(_, meaning)| *meaning).ok_or_else(|| self.unexpected(&expected, &text))
    }

    /// True or false: as such, or as a text with variables that comes out as one of them.
    pub(super) fn truth(&self) -> Result<bool, ConfigError> {
        match self.value {
            Value::Bool(truth) => Ok(*truth),
            Value::String(written) if written.contains("${") => {
                self.choice(&[("true", true), ("false", false)])
            }
            _ => Err(self.expected("`true` or `false`")),
        }
    }

    /// A whole number within bounds: a number, or a text with variables that comes out as one. `what` says
    /// what it counts.
    pub(super) fn number(&self, what: &str, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let what = format!("{what} from {} to {}", range.start(), range.end());
        let number = match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(written) if written.contains("${") => {
                let text = self.expand(written)?;
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse().ok().filter(|number| digits && range.contains(number));
                return number.ok_or_else(|| self.unexpected(&what, &text));
            }
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| self.expected(&what))
    }

    /// The entries of a list.
    pub(super) fn list(&self, what: &str) -> Result<Vec<Place<'a>>, ConfigError> {
        let Value::Array(values) = self.value else {
            return Err(self.expected(what));
        };
        let place = |(index, value)| self.child(format!("{}[{index}]", self.path), value);
        Ok(values.iter().enumerate().map(place).collect())
    }

    /// The keys of a mapping. Null has none: a section whose lines are all commented out.
    pub(super) fn section(&self, what: &str) -> Result<Section<'a>, ConfigError> {
        let fields = match self.value {
            Value::Object(fields) => Some(fields),
            Value::Null => None,
            _ => return Err(self.expected(what)),
        };
        Ok(Section { place: self.clone(), fields })
    }

    fn expand(&self, text: &str) -> Result<String, ConfigError> {
        expand(text, self.origin.env).map_err(|error| self.error(error.to_string()))
    }

    fn child(&self, path: String, value: &'a Value) -> Place<'a> {
        Place { value, path, origin: self.origin }
    }
}

/// A mapping and where it stands.
pub(super) struct Section<'a> {
    place: Place<'a>,
    fields: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    /// Where it stands.
    pub(super) fn place(&self) -> &Place<'a> {
        &self.place
    }

    /// Refuses every key that is not one of these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        for (key, value) in self.fields.into_iter().flatten() {
            if !known.contains(&key.as_str()) {
                let place = self.place.child(self.path_of(key), value);
                return Err(place.error(format!("unknown key; expected {}", one_of(known))));
            }
        }
        Ok(())
    }

    /// The value of a key. A key without a value (`port:`) counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<Place<'a>> {
        let value = self.fields?.get(key).filter(|value| !value.is_null())?;
        Some(self.place.child(self.path_of(key), value))
    }

    /// The section under a key; without any keys when it is absent.
    pub(super) fn section(&self, key: &str, what: &str) -> Result<Section<'a>, ConfigError> {
        match self.get(key) {
            Some(place) => place.section(what),
            None => {
                let place = Place { path: self.path_of(key), ..self.place.clone() };
                Ok(Section { place, fields: None })
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        match (plain, self.place.path()) {
            (false, path) => format!("{path}[{}]", quote(key)),
            (true, "") => key.into(),
            (true, path) => format!("{path}.{key}"),
        }
    }
}

/// A choice as a reader says it: `a`, `b` or `c`.
pub(super) fn one_of(choices: &[&str]) -> String {
    let mut out = String::new();
    for (index, choice) in choices.iter().enumerate() {
        let before = match index {
            0 => "",
            _ if index + 1 == choices.len() => " or ",
            _ => ", ",
        };
        // Writing to a String can't fail.
        let _ = write!(out, "{before}`{choice}`");
    }
    out
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    }
}

/// A text of somebody else's in one short line.
fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{:?}… ({} bytes)", &text[..cut], text.len()),
        None => format!("{text:?}"),
    }
}

//! Environment variables in the file's texts: `${NAME}` and `${NAME:default}`.

/// A text with variables in it that can't be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvError {
    /// No value and no default.
    #[error(
        "the environment variable {0} is not set and the file has no default for it; \
         set it, or write ${{{0}:default}}"
    )]
    Unset(String),
    /// A `${` that doesn't end.
    #[error("expected a `}}` after `${{`, found the end of the text")]
    Open,
    /// Something that is no name of a variable.
    #[error("expected the name of an environment variable after `${{` (letters, digits, `_`), found {0:?}")]
    Name(String),
    /// A `${` in a default: its first `}` would end the outer one.
    #[error("expected a plain text as the default of {0}, found another `${{` in it")]
    Nested(String),
}

/// Fills in the variables of a text. What a variable holds is not looked at again.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, EnvError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').ok_or(EnvError::Open)?;
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(EnvError::Name(name.into()));
        }
        if default.is_some_and(|default| default.contains("${")) {
            return Err(EnvError::Nested(name.into()));
        }
        out.push_str(before);
        match (env(name), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(EnvError::Unset(name.into())),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("4000".into()),
            "HOST_1" => Some("example.org".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${PORT}}: [".into()),
            _ => None,
        }
    }

    #[test]
    fn a_variable_beats_its_default_and_its_own_text_is_left_alone() {
        for (text, expanded) in [
            ("", ""),
            ("plain", "plain"),
            ("${PORT}", "4000"),
            ("${PORT:3112}", "4000"),
            ("${NONE:3112}", "3112"),
            ("${NONE:}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:default}", ""),
            ("${REDIS_URL:redis://localhost:6379}", "redis://localhost:6379"),
            ("${NONE:a b/c?d=e}", "a b/c?d=e"),
            ("${NONE:{}", "{"),
            ("ws://${HOST_1}:${PORT}/x", "ws://example.org:4000/x"),
            ("${PORT}${PORT}", "40004000"),
            ("${PORT}}", "4000}"),
            ("$PORT $$ { } $ {PORT}", "$PORT $$ { } $ {PORT}"),
            ("$${PORT}", "$4000"),
            ("${TRICKY}", "${PORT}}: ["),
            ("héé${PORT}ü", "héé4000ü"),
        ] {
            assert_eq!(expand(text, &env), Ok(expanded.into()), "{text:?}");
        }
    }

    #[test]
    fn what_can_not_be_filled_in_is_refused() {
        for (text, error) in [
            ("a ${NONE} b", EnvError::Unset("NONE".into())),
            ("${PORT", EnvError::Open),
            ("${", EnvError::Open),
            ("${}", EnvError::Name("".into())),
            ("${:3112}", EnvError::Name("".into())),
            ("${MY PORT}", EnvError::Name("MY PORT".into())),
            ("${PORT-3112}", EnvError::Name("PORT-3112".into())),
            ("${1}", EnvError::Name("1".into())),
            ("${NONE:${PORT}}", EnvError::Nested("NONE".into())),
        ] {
            assert_eq!(expand(text, &env), Err(error), "{text:?}");
        }
    }
}

//! Arithmetic on JSON numbers: integers exact over the range of i64 and u64 together, floats as IEEE has them.

/// The integers that clients of every language can be told: those of i64 and of u64.
pub(super) const MIN: i128 = i64::MIN as i128;
pub(super) const MAX: i128 = u64::MAX as i128;

/// A number that can be added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// From [`MIN`] to [`MAX`].
    Integer(i128),
    /// Finite. What was written with a point or an exponent is a float and stays one.
    Float(f64),
}

impl Number {
    /// Reads a JSON number. `None` if it is an integer out of range or a float that is infinite.
    pub(super) fn read(text: &str) -> Option<Number> {
        if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            return text.parse().ok().and_then(Number::float);
        }
        text.parse().ok().and_then(Number::integer)
    }

    /// The sum, or why there is none: the end of a sentence that starts with where the number is.
    pub(super) fn plus(self, by: i128) -> Result<Number, String> {
        let sum = match self {
            Number::Integer(integer) => integer.checked_add(by).and_then(Number::integer),
            // To the nearest float, as arithmetic on floats has it.
            Number::Float(float) => Number::float(float + by as f64),
        };
        sum.ok_or_else(|| {
            format!("is {}; with {by} added it would be outside of {MIN} to {MAX}", self.text())
        })
    }

    /// The JSON text. A float keeps its point or exponent.
    pub(super) fn text(self) -> String {
        match self {
            Number::Integer(integer) => integer.to_string(),
            // A finite float always has a text; the other one is what JSON has for all the rest.
            Number::Float(float) => serde_json::to_string(&float).unwrap_or_else(|_| "null".into()),
        }
    }

    pub(super) fn integer(integer: i128) -> Option<Number> {
        (MIN..=MAX).contains(&integer).then_some(Number::Integer(integer))
    }

    fn float(float: f64) -> Option<Number> {
        float.is_finite().then_some(Number::Float(float))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str, by: i128) -> Option<String> {
        Number::read(text)?.plus(by).ok().map(Number::text)
    }

    #[test]
    fn integers_are_exact_up_to_both_ends_of_their_range() {
        for (number, by, expected) in [
            ("0", 5, Some("5")),
            ("-0", 0, Some("0")),
            ("9007199254740993", 1, Some("9007199254740994")),
            ("9223372036854775807", 1, Some("9223372036854775808")),
            ("18446744073709551614", 1, Some("18446744073709551615")),
            ("18446744073709551615", 1, None),
            ("18446744073709551616", -1, None),
            ("-9223372036854775808", -1, None),
            ("-9223372036854775809", 1, None),
            ("-9223372036854775808", i128::from(i64::MAX), Some("-1")),
            ("123456789012345678901234567890", -1, None),
        ] {
            assert_eq!(sum(number, by).as_deref(), expected, "{number} + {by}");
        }
    }

    #[test]
    fn floats_stay_floats_and_finite() {
        for (number, by, expected) in [
            ("2.5", 1, Some("3.5")),
            ("2.0", 1, Some("3.0")),
            ("0.1", 0, Some("0.1")),
            ("-1.0", 1, Some("0.0")),
            ("1e2", 1, Some("101.0")),
            ("1E2", 1, Some("101.0")),
            ("1e300", 1, Some("1e+300")),
            ("9007199254740992.0", 1, Some("9007199254740992.0")),
            ("1.0", -(i128::from(i64::MIN)), Some("9.223372036854776e+18")),
            ("1e400", -1, None),
            ("-1e400", 1, None),
        ] {
            assert_eq!(sum(number, by).as_deref(), expected, "{number} + {by}");
        }
    }
}

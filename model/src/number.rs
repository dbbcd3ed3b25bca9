//! Numbers by their exact value.

/// What a JSON number is worth: `digits` times ten to the power of `exponent`, without zeros at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    /// Reads a JSON number. `None` if its exponent is beyond all reason: then two are the same if their texts are.
    pub(crate) fn read(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let trimmed = digits.trim_end_matches('0');
        if trimmed.is_empty() {
            return Some(Decimal { negative: false, digits: "0".into(), exponent: 0 });
        }
        let zeros = i128::try_from(digits.len() - trimmed.len()).ok()?;
        let after_point = i128::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i128>().ok()?.checked_add(zeros)?.checked_sub(after_point)?;
        Some(Decimal { negative, digits: trimmed.into(), exponent })
    }
}

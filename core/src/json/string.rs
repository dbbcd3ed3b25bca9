//! What the text of a JSON string stands for.

/// What a string's text, without its quotes, stands for, as UTF-8. Half of a surrogate pair without its other half
/// becomes the three bytes that UTF-8 would have for it, which are in no text.
pub(crate) fn decode_string(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    decode(text, &mut out);
    out
}

/// Appends what [`decode_string`] returns.
pub(super) fn decode(mut text: &str, out: &mut Vec<u8>) {
    while let Some((plain, escape)) = text.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let mut chars = escape.chars();
        let decoded = match chars.next() {
            Some('u') => {
                let (code_point, rest) = code_point(chars.as_str());
                push_code_point(code_point, out);
                text = rest;
                continue;
            }
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(itself) => itself,
            None => '\\',
        };
        push_code_point(decoded.into(), out);
        text = chars.as_str();
    }
    out.extend_from_slice(text.as_bytes());
}

/// Reads what follows `\u`: four digits, and for the first half of a surrogate pair the escape of the second.
fn code_point(text: &str) -> (u32, &str) {
    let unit = |text: &'_ str| {
        let digits = text.get(..4).unwrap_or_default();
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(high) = unit(text) else { return (u32::from('u'), text) };
    let rest = &text[4..];
    let low = rest.strip_prefix("\\u").and_then(unit);
    match (high, low) {
        (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
            (0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), &rest[6..])
        }
        _ => (high, rest),
    }
}

fn push_code_point(code_point: u32, out: &mut Vec<u8>) {
    match char::from_u32(code_point) {
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        // Half of a pair: the three bytes that UTF-8 would have for it, which no text has.
        None => {
            let [_, _, high, low] = code_point.to_be_bytes();
            out.extend_from_slice(&[0xe0 | high >> 4, 0x80 | (high & 15) << 2 | low >> 6, 0x80 | low & 63]);
        }
    }
}

//! Whether two JSON texts are the same value, however they are spelled.
//!
//! Numbers are compared by their exact decimal value (`1`, `1.0` and `10e-1` are one number, and so are `0` and
//! `-0`), strings by what their escapes stand for, objects without the order of their members; of a key that
//! comes twice the last one counts. Nothing is rounded, so what differs in the thirtieth digit differs.
//!
//! Each text is read once into a flat list of tokens, and the lists are compared with a stack of their own: the
//! cost is that of sorting the keys, and no nesting is too deep.

#[cfg(test)]
mod tests;

use super::string::decode;

/// Whether two valid JSON texts are the same value. Texts that are no JSON get some answer, too.
pub(super) fn same_value(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    if shape(a) != shape(b) {
        return false;
    }
    match (Tape::read(a), Tape::read(b)) {
        (Some(a), Some(b)) => same_tapes(&a, &b),
        _ => false,
    }
}

/// What tells most values apart at once: the first byte, one for all numbers.
fn shape(text: &str) -> Option<u8> {
    let first = text.bytes().find(|byte| !is_space(*byte));
    first.map(|byte| if byte == b'-' || byte.is_ascii_digit() { b'0' } else { byte })
}

fn same_tapes(a: &Tape<'_>, b: &Tape<'_>) -> bool {
    let mut pairs = vec![(0, 0)];
    while let Some((at, bt)) = pairs.pop() {
        let (a_token, b_token) = (a.get(at), b.get(bt));
        if a_token.kind != b_token.kind {
            return false;
        }
        match a_token.kind {
            Kind::Literal | Kind::String if a.bytes(at) != b.bytes(bt) => return false,
            Kind::Number if !same_number(a.text(at), b.text(bt)) => return false,
            Kind::Literal | Kind::Number | Kind::String => {}
            Kind::Array => {
                let (mut a_values, mut b_values) = (a.children(at), b.children(bt));
                loop {
                    match (a_values.next(), b_values.next()) {
                        (Some(a_value), Some(b_value)) => pairs.push((a_value, b_value)),
                        (None, None) => break,
                        _ => return false,
                    }
                }
            }
            Kind::Object => {
                let (a_members, b_members) = (a.members(at), b.members(bt));
                if a_members.len() != b_members.len() {
                    return false;
                }
                for ((a_key, a_value), (b_key, b_value)) in a_members.into_iter().zip(b_members) {
                    if a.bytes(a_key) != b.bytes(b_key) {
                        return false;
                    }
                    pairs.push((a_value, b_value));
                }
            }
        }
    }
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Literal,
    Number,
    String,
    Array,
    Object,
}

/// A value or a key, and where it stands. Sixteen bytes, whatever it is.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// Where its text starts; that of a string without its quotes, in what was decoded if it has escapes.
    start: u32,
    /// Where its text ends; for an array or an object, where that of its opening bracket does.
    end: u32,
    /// The token after it and all that is within it.
    next: u32,
    kind: Kind,
    /// A string that has escapes.
    escaped: bool,
}

/// A text as tokens: a value, and after it what is within. An object's are a key, its value, a key, ...
#[derive(Debug)]
struct Tape<'a> {
    text: &'a str,
    /// The strings that have escapes, without them.
    decoded: Vec<u8>,
    tokens: Vec<Token>,
}

impl<'a> Tape<'a> {
    /// Reads a text that is valid JSON. What can't be one value is `None`; apart from that it is not checked again.
    fn read(text: &'a str) -> Option<Tape<'a>> {
        u32::try_from(text.len()).ok()?;
        let bytes = text.as_bytes();
        let mut tape = Tape { text, decoded: Vec::new(), tokens: Vec::new() };
        let mut open: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let end = at + 1;
            at = match byte {
                b'[' | b'{' => {
                    open.push(tape.tokens.len());
                    tape.push(if byte == b'[' { Kind::Array } else { Kind::Object }, at, end);
                    end
                }
                b']' | b'}' => {
                    tape.close(open.pop()?, if byte == b']' { Kind::Array } else { Kind::Object })?;
                    end
                }
                b'"' => tape.push_string(end)?,
                b',' | b':' => end,
                _ if is_space(byte) => end,
                _ => {
                    let word = bytes.get(end..)?.iter().take_while(|byte| !ends_a_word(**byte)).count();
                    let is_number = byte == b'-' || byte.is_ascii_digit();
                    tape.push(if is_number { Kind::Number } else { Kind::Literal }, at, end + word);
                    end + word
                }
            };
        }
        let is_one_value = tape.tokens.first().is_some_and(|root| root.next as usize == tape.tokens.len());
        (open.is_empty() && is_one_value).then_some(tape)
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let (start, end, next) = (offset(start), offset(end), offset(self.tokens.len() + 1));
        self.tokens.push(Token { start, end, next, kind, escaped: false });
    }

    /// Takes the string whose text starts at `start`; returns what is behind its closing quote.
    fn push_string(&mut self, start: usize) -> Option<usize> {
        let (quote, escaped) = string_end(self.text.as_bytes(), start)?;
        if escaped {
            let decoded_start = self.decoded.len();
            decode(self.text.get(start..quote)?, &mut self.decoded);
            self.push(Kind::String, decoded_start, self.decoded.len());
            self.tokens.last_mut()?.escaped = true;
        } else {
            self.push(Kind::String, start, quote);
        }
        Some(quote + 1)
    }

    /// All tokens after this array or object are within it; `None` if it is something else.
    fn close(&mut self, opener: usize, kind: Kind) -> Option<()> {
        let next = offset(self.tokens.len());
        let token = self.tokens.get_mut(opener).filter(|token| token.kind == kind)?;
        token.next = next;
        Some(())
    }

    fn get(&self, at: usize) -> Token {
        const NOTHING: Token =
            Token { start: 0, end: 0, next: u32::MAX, kind: Kind::Literal, escaped: false };
        self.tokens.get(at).copied().unwrap_or(NOTHING)
    }

    /// The text of a token that is no string.
    fn text(&self, at: usize) -> &'a str {
        let token = self.get(at);
        self.text.get(token.start as usize..token.end as usize).unwrap_or_default()
    }

    /// The text of a token, that of a string without escapes.
    fn bytes(&self, at: usize) -> &[u8] {
        let token = self.get(at);
        let bytes = if token.escaped { &self.decoded } else { self.text.as_bytes() };
        bytes.get(token.start as usize..token.end as usize).unwrap_or_default()
    }

    /// The tokens right below an array or an object.
    fn children(&self, at: usize) -> impl Iterator<Item = usize> {
        let end = self.get(at).next as usize;
        let mut child = at + 1;
        std::iter::from_fn(move || {
            let this = child;
            child = self.get(this).next as usize;
            (this < end).then_some(this)
        })
    }

    /// An object's keys and their values by key, each key once.
    fn members(&self, at: usize) -> Vec<(usize, usize)> {
        let mut children = self.children(at);
        let mut members: Vec<_> = std::iter::from_fn(|| children.next().zip(children.next())).collect();
        // Stable, and then turned around: of equal keys the last one comes first, and stays.
        members.reverse();
        members.sort_by(|a, b| self.bytes(a.0).cmp(self.bytes(b.0)));
        members.dedup_by(|later, kept| self.bytes(later.0) == self.bytes(kept.0));
        members
    }
}

/// A place in a text, or in its tokens, which are not more than its bytes: [`Tape::read`] takes none that is too long.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether a number or a literal is over before this byte.
fn ends_a_word(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"')
}

/// Where the closing quote of a string is whose text starts at `at`, and whether there are escapes before it.
fn string_end(bytes: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((at, escaped)),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// Whether two numbers are equal as decimals. One whose exponent is beyond 64 bits is equal to its own spelling
/// only, unless it is zero.
fn same_number(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (a, b) = (Decimal::read(a), Decimal::read(b));
    if a.is_zero() || b.is_zero() {
        return a.is_zero() && b.is_zero();
    }
    let same_digits = || a.digits().eq(b.digits());
    a.negative == b.negative && a.exponent.is_some() && a.exponent == b.exponent && same_digits()
}

/// A number as `0.d₁d₂…dₙ × 10^exponent`, where neither the first nor the last digit is zero.
struct Decimal<'a> {
    negative: bool,
    /// From the first digit to the last that is not zero, the point among them; empty for zero.
    digits: &'a str,
    /// `None` if it is beyond 64 bits.
    exponent: Option<i64>,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a str) -> Decimal<'a> {
        let unsigned = text.strip_prefix('-');
        let negative = unsigned.is_some();
        let unsigned = unsigned.unwrap_or(text);
        let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let digits = mantissa.trim_start_matches(['0', '.']);
        // How far the point is to the right of the first digit that counts; to its left, if there are zeros between.
        let places = match mantissa.split_once('.') {
            Some((whole, fraction)) => match whole.trim_start_matches('0') {
                "" => -((fraction.len() - fraction.trim_start_matches('0').len()) as i64),
                whole => whole.len() as i64,
            },
            None => digits.len() as i64,
        };
        let digits = match mantissa.contains('.') {
            true => digits.trim_end_matches('0').trim_end_matches('.'),
            false => digits,
        };
        let exponent = power.parse::<i64>().ok().and_then(|power| power.checked_add(places));
        Decimal { negative, digits: digits.trim_end_matches('0'), exponent }
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.digits.bytes().filter(|byte| *byte != b'.')
    }
}

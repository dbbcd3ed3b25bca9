//! JSON values that keep how they were spelled: numbers and strings to the letter, members in order, duplicates too.

use std::fmt;

use crate::number::Decimal;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was spelled.
    Number(String),
    /// A finite float that the model computed: its value is known, its spelling is free.
    Computed(f64),
    /// What stands between the quotes of a string, as it was spelled.
    String(String),
    /// The elements.
    Array(Vec<Value>),
    /// The members in order, duplicate keys included: of those the last one counts.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What stands between the quotes of the key, as it was spelled.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// A text is no JSON value, or nests deeper than the model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// The byte where it goes wrong.
    pub at: usize,
}

/// Deeper values are not read: reading is recursive.
const DEEPEST: usize = 1_000;

impl Value {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Value, NotJson> {
        let mut reader = Reader { bytes: text.as_bytes(), text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at < text.len() { Err(NotJson { at: reader.at }) } else { Ok(value) }
    }

    /// A text that was not spelled yet, as a string.
    pub fn string(text: &str) -> Value {
        Value::String(spell(text))
    }

    /// An integer.
    pub fn integer(integer: impl Into<i128>) -> Value {
        Value::Number(integer.into().to_string())
    }

    /// An object of these members.
    pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
        Value::Object(members.map(|(name, value)| Member { key: spell(name), value }).into())
    }

    /// The value of a member: of duplicates the last one. `None` also of what is no object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Value::Object(members) = self else { return None };
        let key = spell(name);
        members.iter().rev().find(|member| member.is_named_as(&key)).map(|member| &member.value)
    }

    /// What a string says; `None` of everything else, and of a string that is no Unicode text.
    pub fn text(&self) -> Option<String> {
        let Value::String(spelled) = self else { return None };
        String::from_utf16(&units(spelled)).ok()
    }

    /// How deep it nests; `[]` and `{}` count 1.
    pub fn depth(&self) -> usize {
        match self {
            Value::Array(elements) => 1 + elements.iter().map(Value::depth).max().unwrap_or(0),
            Value::Object(members) => {
                1 + members.iter().map(|member| member.value.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Whether `found` is what this, a value of the model, says: the same to the letter, but for the whitespace and
    /// for how a computed float is spelled.
    pub fn is_spelled(&self, found: &Value) -> bool {
        match (self, found) {
            (Value::Computed(float), Value::Number(text)) => {
                text.contains(['.', 'e', 'E']) && text.parse() == Ok(*float)
            }
            (Value::Array(expected), Value::Array(found)) => {
                expected.len() == found.len() && expected.iter().zip(found).all(|(e, f)| e.is_spelled(f))
            }
            (Value::Object(expected), Value::Object(found)) => {
                let same = |(e, f): (&Member, &Member)| e.key == f.key && e.value.is_spelled(&f.value);
                expected.len() == found.len() && expected.iter().zip(found).all(same)
            }
            _ => self == found,
        }
    }

    /// Whether two values mean the same: numbers by their exact decimal value, strings by what they say, members in any
    /// order, of duplicates the last one.
    pub fn means(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(_) | Value::Computed(_), Value::Number(_) | Value::Computed(_)) => {
                let (one, other) = (self.to_string(), other.to_string());
                match (Decimal::read(&one), Decimal::read(&other)) {
                    (None, None) => one == other,
                    (one, other) => one == other,
                }
            }
            (Value::String(one), Value::String(other)) => units(one) == units(other),
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.means(other))
            }
            (Value::Object(one), Value::Object(other)) => {
                let (one, other) = (that_count(one), that_count(other));
                let in_other = |member: &&Member| {
                    other.iter().any(|o| o.is_named_as(&member.key) && member.value.means(&o.value))
                };
                one.len() == other.len() && one.iter().all(in_other)
            }
            _ => self == other,
        }
    }
}

impl Member {
    /// What the key says, in UTF-16: a lone surrogate is a unit like any other, and no path names it.
    pub fn name(&self) -> Vec<u16> {
        units(&self.key)
    }

    /// Whether the key says this.
    pub fn is_named(&self, name: &str) -> bool {
        self.is_named_as(&spell(name))
    }

    /// Whether the key says the same as another one, as that is spelled.
    pub fn is_named_as(&self, key: &str) -> bool {
        let is_escaped = self.key.contains('\\') || key.contains('\\');
        self.key == key || is_escaped && units(&self.key) == units(key)
    }
}

/// The members without those that a later one of the same name hides.
fn that_count(members: &[Member]) -> Vec<&Member> {
    let hidden = |at: usize| members[at + 1..].iter().any(|later| later.is_named_as(&members[at].key));
    (0..members.len()).filter(|at| !hidden(*at)).map(|at| &members[at]).collect()
}

/// What a spelled string says, in UTF-16.
pub fn units(spelled: &str) -> Vec<u16> {
    let mut units = Vec::new();
    let mut chars = spelled.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match chars.next() {
            Some('b') => 8,
            Some('t') => 9,
            Some('n') => 10,
            Some('f') => 12,
            Some('r') => 13,
            Some('u') => {
                let hex: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&hex, 16).expect("reading has checked the escape")
            }
            other => u16::try_from(u32::from(other.expect("reading has checked the escape"))).expect("ASCII"),
        });
    }
    units
}

/// A text as it is spelled between quotes: only what must be is escaped, as short as it can be.
pub fn spell(text: &str) -> String {
    let mut spelled = String::new();
    for char in text.chars() {
        match char {
            '"' => spelled.push_str("\\\""),
            '\\' => spelled.push_str("\\\\"),
            '\u{8}' => spelled.push_str("\\b"),
            '\t' => spelled.push_str("\\t"),
            '\n' => spelled.push_str("\\n"),
            '\u{c}' => spelled.push_str("\\f"),
            '\r' => spelled.push_str("\\r"),
            control if control < ' ' => spelled.push_str(&format!("\\u{:04x}", u32::from(control))),
            char => spelled.push(char),
        }
    }
    spelled
}

/// The text without whitespace.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(bool) => write!(f, "{bool}"),
            Value::Number(text) => f.write_str(text),
            Value::Computed(float) => write!(f, "{float:?}"),
            Value::String(spelled) => write!(f, "\"{spelled}\""),
            Value::Array(elements) => {
                f.write_str("[")?;
                for (at, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Object(members) => {
                f.write_str("{")?;
                for (at, Member { key, value }) in members.iter().enumerate() {
                    write!(f, "{}\"{key}\":{value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, NotJson> {
        if depth > DEEPEST {
            return self.wrong();
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words =
                    [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
                for (word, value) in words {
                    if self.bytes[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.wrong()
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, NotJson> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.expect(b':')?;
            members.push(Member { key, value: self.value(depth + 1)? });
            if self.takes(b'}') {
                return Ok(Value::Object(members));
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, NotJson> {
        let mut elements = Vec::new();
        self.expect(b'[')?;
        if self.takes(b']') {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.takes(b']') {
                return Ok(Value::Array(elements));
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        if self.peek() != Some(b'"') {
            return self.wrong();
        }
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                    return self.wrong();
                                }
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        _ => return self.wrong(),
                    }
                }
                Some(byte) if byte >= b' ' => {}
                _ => return self.wrong(),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(self.text[start..self.at - 1].to_owned())
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1
        } else {
            self.digits()?
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.wrong() } else { Ok(()) }
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.takes(byte) { Ok(()) } else { self.wrong() }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self) -> Result<T, NotJson> {
        Err(NotJson { at: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        Value::parse(text).unwrap()
    }

    #[test]
    fn a_value_keeps_its_spelling_but_for_whitespace() {
        for text in [
            "null",
            "-0.0e-00",
            r#""\ud800\u00e9\/é""#,
            r#"{"a":1,"a":[1.0,{}],"":true}"#,
            "[[],[false]]",
            "1e400",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed(" { \"a\" :\n[ 1 , 2 ] } ").to_string(), r#"{"a":[1,2]}"#);
    }

    #[test]
    fn what_is_no_json_is_not_read() {
        for text in
            ["", "{", "nul", "01", "-", "1.", "1e", "'a'", "[1,]", "{\"a\"}", "\"\u{1}\"", "\"\\x\"", "1 2"]
        {
            assert!(Value::parse(text).is_err(), "{text:?}");
        }
        assert!(Value::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn of_duplicates_the_last_one_counts_by_what_it_says() {
        let value = parsed(r#"{"a":1,"\u0061":2,"\ud800":3}"#);
        assert_eq!(value.get("a"), Some(&Value::integer(2)));
        assert_eq!(value.get("\u{fffd}"), None);
    }

    #[test]
    fn values_mean_the_same_however_they_are_spelled() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("-0", "0.000e7"),
            ("123456789012345678901234567890", "1.23456789012345678901234567890E29"),
            (r#""a\/""#, r#""\u0061/""#),
            (r#"{"a":1,"b":2}"#, r#"{"b":2.0,"a":7,"\u0061":1}"#),
            ("[1,[]]", "[1.0,[]]"),
        ] {
            assert!(parsed(one).means(&parsed(other)) && parsed(other).means(&parsed(one)), "{one} {other}");
        }
        for (one, other) in [
            ("1", "-1"),
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.10000000000000001"),
            ("1", r#""1""#),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            ("[1,2]", "[2,1]"),
            ("null", "false"),
            (r#""\ud800""#, r#""\ud801""#),
        ] {
            assert!(
                !parsed(one).means(&parsed(other)) && !parsed(other).means(&parsed(one)),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_computed_float_may_be_spelled_in_any_way_a_given_one_in_its_own() {
        let float = Value::Array(vec![Value::Computed(1e300)]);
        for text in ["[1e300]", "[1e+300]", "[10.0E299]"] {
            assert!(float.is_spelled(&parsed(text)), "{text}");
        }
        assert!(!float.is_spelled(&parsed("[1e301]")));
        assert!(!Value::Computed(1.0).is_spelled(&parsed("1")), "a float stays one");
        assert!(!parsed("1.0").is_spelled(&parsed("1.00")));
        assert!(!parsed("1.0").is_spelled(&Value::Computed(1.0)));
    }
}

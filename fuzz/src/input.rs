//! Structured input: choices that bytes of the fuzzing engine make. When they run out, every choice is the first one.

use arbitrary::Unstructured;

pub(crate) struct Input<'a> {
    choices: Unstructured<'a>,
    /// Whether there was a value of a thousand keys: another one would only make a run slow.
    had_many_keys: bool,
    /// Whether the call at hand may be malformed. Most must not be: one malformed operation fails all of a call.
    may_be_malformed: bool,
}

/// Keys as a value spells them, some of them the same in several ways.
const KEYS: [&str; 9] = [
    r#""a""#,
    r#""b""#,
    r#""\u0061""#,
    r#""a.b""#,
    r#""""#,
    r#""\ud800""#,
    r#""\uD800""#,
    r#""é""#,
    r#""__proto__""#,
];
const SCALARS: [&str; 24] = [
    "1",
    "null",
    r#""x""#,
    "true",
    "0",
    "-0",
    "1.0",
    "10e-1",
    "-0.0",
    "2.5e3",
    "1e300",
    "1.7976931348623157e308",
    "1e400",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    r#""""#,
    r#""\u0078""#,
    r#""\n\/""#,
    r#""\ud83d""#,
    r#""\ude00""#,
];
const SEGMENTS: [&str; 7] = [r#""a""#, r#""b""#, r#""c""#, r#""a.b""#, r#""é""#, r#""\u0061""#, r#""k7""#];

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { choices: Unstructured::new(bytes), had_many_keys: false, may_be_malformed: false }
    }

    /// Whether all bytes are used up.
    pub(crate) fn is_over(&self) -> bool {
        self.choices.is_empty()
    }

    /// A number below `end`, 0 when the input is over.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.choices.choose_index(end).unwrap_or(0)
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True once in `times`; never when the input is over.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    /// A JSON value.
    pub(crate) fn value(&mut self) -> String {
        self.value_of(3)
    }

    fn value_of(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 16 } else { 32 }) {
            0..16 => self.pick(&SCALARS).to_owned(),
            16..20 => {
                let elements = (0..self.below(4)).map(|_| self.value_of(depth - 1)).collect::<Vec<_>>();
                format!("[{}]", elements.join(self.pick(&[",", " ,\n"])))
            }
            31 => {
                // Enough for the core to look keys up in an index.
                let members = (0..40).map(|key| format!(r#""k{key}":{key}"#)).collect::<Vec<_>>();
                format!("{{{},{}:{}}}", members.join(","), self.pick(&KEYS), self.value_of(depth - 1))
            }
            _ => self.object(depth),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        let colon = self.pick(&[":", " : "]);
        let members = (0..self.below(5))
            .map(|_| format!("{}{colon}{}", self.pick(&KEYS), self.value_of(depth.saturating_sub(1))))
            .collect::<Vec<_>>();
        format!("{{{}}}", members.join(","))
    }

    /// What is put somewhere, merged or appended: a value, or one at a limit.
    fn operand(&mut self) -> String {
        match self.below(120) {
            0..60 => self.value(),
            118 if !self.had_many_keys => {
                self.had_many_keys = true;
                let keys = 1_023 + self.below(3);
                let members = (0..keys).map(|key| format!(r#""k{key}":0"#)).collect::<Vec<_>>();
                format!("{{{}}}", members.join(","))
            }
            60..=118 => self.object(2),
            _ => {
                let depth = self.pick(&[15, 16, 17, 128, 129]);
                format!("{}{}", r#"{"a":"#.repeat(depth - 1) + "[]", "}".repeat(depth - 1))
            }
        }
    }

    fn path(&mut self) -> String {
        match self.below(12) {
            0..5 => self.segment(),
            10 => {
                let mut segments = vec![r#""a""#.to_owned(); 30 + self.below(3)];
                segments.push(self.segment());
                format!("[{}]", segments.join(","))
            }
            11 if self.may_be_malformed => self.pick(&["null", "{}"]).to_owned(),
            _ => {
                let segments = (0..self.below(5)).map(|_| self.segment()).collect::<Vec<_>>();
                format!("[{}]", segments.join(","))
            }
        }
    }

    fn segment(&mut self) -> String {
        match self.below(40) {
            37 => format!("\"{}\"", "x".repeat(255 + self.below(3))),
            38 => self.pick(&[r#""""#, r#""constructor""#]).to_owned(),
            39 if self.may_be_malformed => self.pick(&[r#""\ud800""#, "7"]).to_owned(),
            _ => self.pick(&SEGMENTS).to_owned(),
        }
    }

    /// The update operations of a call, at least one.
    pub(crate) fn ops(&mut self, most: usize) -> Vec<String> {
        self.may_be_malformed = self.once_in(8);
        (0..=self.below(most)).map(|_| self.op()).collect()
    }

    fn op(&mut self) -> String {
        let name = self.pick(&["set", "merge", "increment", "decrement", "append", "remove"]);
        let mut fields = vec![format!(r#""type":"{name}""#), format!(r#""path":{}"#, self.path())];
        match name {
            "increment" | "decrement" => fields.push(format!(r#""by":{}"#, self.by())),
            "remove" => {}
            _ => fields.push(format!(r#""value":{}"#, self.operand())),
        }
        match self.below(32) {
            29 if self.may_be_malformed => drop(fields.remove(self.below(fields.len()))),
            30 => fields
                .push(self.pick(&[r#""typ\u0065":"set""#, r#""path":"b""#, r#""value":[],"by":2"#]).into()),
            31 if self.may_be_malformed => fields[0] = r#""type":"replace""#.to_owned(),
            _ => {}
        }
        format!("{{{}}}", fields.join(","))
    }

    fn by(&mut self) -> &'static str {
        match self.below(16) {
            15 if self.may_be_malformed => self.pick(&["9223372036854775808", "1.0", "null"]),
            _ => {
                self.pick(&["1", "-1", "0", "3", "1000000007", "9223372036854775807", "-9223372036854775808"])
            }
        }
    }
}

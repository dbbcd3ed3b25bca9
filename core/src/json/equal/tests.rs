//! Values that are the same, values that are not, and a comparison that is too plain to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// Every text is the same value as those of its own line, and as no other one.
const VALUES: &[&[&str]] = &[
    &["null", " null\n"],
    &["true"],
    &["false"],
    &["0", "-0", "0.0", "-0.0e9", "0e99999999999999999999", "0.000E-99999999999999999999"],
    &["1", "1.0", "1e0", "10e-1", "0.1e1", "0.001E+3", "1000e-0003", "1.000e-00"],
    &["-1", "-1.0", "-10e-1"],
    &["10", "1e1", "1E+1", "10.0", "0.1e2", "100e-1"],
    &["100.5", "1005e-1", "0.1005e3", "100.50"],
    &["1005", "1.005e3"],
    &["0.1", "1e-1", "0.10"],
    &["0.1000000000000000055"],
    &["0.01", "1e-2"],
    &["123456789012345678901234567890", "12345678901234567890123456789.0e1"],
    &["123456789012345678901234567891"],
    &["9007199254740992", "9007199254740992.0"],
    &["9007199254740993"],
    &["1e400", "10e399", "0.1e401"],
    &["1e-400"],
    &["1e9223372036854775806", "0.1e9223372036854775807"],
    &["1e9223372036854775808"],
    &["10e9223372036854775807"],
    &["1e-99999999999999999999"],
    &[r#""""#],
    &[r#""a""#, r#""\u0061""#],
    &[r#""0""#, r#""\u0030""#],
    &[r#""A""#],
    &[r#""é""#, r#""\u00e9""#, r#""\u00E9""#],
    &[r#""😀""#, r#""\ud83d\ude00""#, r#""\uD83D\uDE00""#],
    &[r#""\ud83d""#, r#""\uD83D""#],
    &[r#""\ude00""#],
    &[r#""\ude00\ud83d""#],
    &[r#""\ud83dx""#],
    &[r#""\ud83d\ud83d\ude00""#, r#""\ud83d😀""#],
    &[r#""/\"\\\b\f\n\r\t""#, r#""\/\u0022\u005c\u0008\u000c\u000a\u000d\u0009""#],
    &[r#""\\u0061""#],
    &["[]", "[ ]"],
    &["{}", "{\t}"],
    &["[[]]", "[ [ ] ]"],
    &["[{}]"],
    &["[null]"],
    &["[1,2]", "[1.0, 2e0]"],
    &["[2,1]"],
    &["[1,2,3]"],
    &["[12]"],
    &["[[1],2]"],
    &["[1,[2]]"],
    &[r#"["1,2"]"#],
    &[r#"{"a":1}"#, r#"{ "\u0061" : 1.0 }"#, r#"{"a":2,"a":1}"#, r#"{"a":[{}],"\u0061":1}"#],
    &[r#"{"a":2}"#, r#"{"a":1,"a":2}"#],
    &[r#"{"a":null}"#],
    &[r#"{"a":1,"b":[2,{"c":3}]}"#, r#"{"b":[2,{"c":30e-1}],"a":1}"#, r#"{"b":0,"a":1,"b":[2,{"c":3}]}"#],
    &[r#"{"a":1,"b":[2,{"c":4}]}"#],
    &[r#"{"\ud800":1,"\udc00":2}"#, r#"{"\udc00":2,"\uD800":1}"#],
    &[r#"{"😀":1,"\uffff":2}"#, r#"{"\uffff":2,"\ud83d\ude00":1}"#],
];

#[test]
fn a_value_is_the_same_however_it_is_spelled_and_no_other_is() {
    for (row, a) in VALUES.iter().enumerate().flat_map(|(row, texts)| texts.iter().map(move |a| (row, a))) {
        assert!(serde_json::from_str::<&RawValue>(a).is_ok(), "{a} is JSON");
        for (other_row, texts) in VALUES.iter().enumerate() {
            for b in *texts {
                assert_eq!(same_value(a, b), row == other_row, "{a} and {b}");
            }
        }
    }
}

#[test]
fn neither_depth_nor_length_is_too_much() {
    let nested = |n: usize, leaf: &str| "[".repeat(n) + leaf + &"]".repeat(n);
    assert!(same_value(&nested(200_000, "1"), &nested(200_000, "1.0")));
    assert!(!same_value(&nested(200_000, "1"), &nested(200_000, "2")));
    assert!(!same_value(&nested(200_000, "1"), &nested(199_999, "[1 ,2]")));
    let deep = |n: usize, leaf: &str| r#"{"b":0,"a":"#.repeat(n) + leaf + &"}".repeat(n);
    let turned = |n: usize, leaf: &str| r#"{"a":"#.repeat(n) + leaf + &r#","b":0}"#.repeat(n);
    assert!(same_value(&deep(1_024, "1"), &turned(1_024, "1")));
    assert!(!same_value(&deep(1_024, "1"), &turned(1_024, "2")));
    let members = |order: &mut dyn Iterator<Item = u32>| {
        let members: Vec<_> = order.map(|n| format!(r#""k{n}":{n}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(same_value(&members(&mut (0..100_000)), &members(&mut (0..100_000).rev())));
}

/// What a text stands for, in the most obvious way; its numbers must not be large.
#[derive(Debug, PartialEq)]
enum Plain {
    Literal(String),
    /// All digits up to a hundred places on both sides of the point.
    Number(bool, String),
    Text(String),
    Array(Vec<Plain>),
    Object(BTreeMap<String, Plain>),
}

fn plain(raw: &RawValue) -> Plain {
    let text = raw.get();
    match text.as_bytes()[0] {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap();
            Plain::Object(members.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
        b'[' => Plain::Array(
            serde_json::from_str::<Vec<&RawValue>>(text).unwrap().into_iter().map(plain).collect(),
        ),
        b'"' => Plain::Text(serde_json::from_str(text).unwrap()),
        b't' | b'f' | b'n' => Plain::Literal(text.to_owned()),
        _ => {
            let (mantissa, power) = text
                .trim_start_matches('-')
                .split_once(['e', 'E'])
                .unwrap_or((text.trim_start_matches('-'), "0"));
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let places = power.parse::<i32>().unwrap() - i32::try_from(fraction.len()).unwrap();
            let zeros = "0".repeat(usize::try_from(100 + places).unwrap());
            let digits = format!("{whole}{fraction}{zeros}");
            let digits = digits.trim_start_matches('0');
            Plain::Number(text.starts_with('-') && !digits.is_empty(), digits.to_owned())
        }
    }
}

/// A value, to be spelled in any way.
#[derive(Clone, Debug)]
enum Value {
    Literal(&'static str),
    Number { negative: bool, digits: u32, power: i32 },
    Text(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(&["null", "true", "false"][..]).prop_map(Value::Literal),
        (any::<bool>(), prop_oneof![0..20_u32, any::<u32>()], -20..20_i32)
            .prop_map(|(negative, digits, power)| Value::Number { negative, digits, power }),
        "[ab\"\\\\\n/é😀]{0,4}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map("[ab\\\\é😀]{0,2}", inner, 0..5).prop_map(Value::Object),
        ]
    })
}

/// Small choices, one after the other.
struct Choices(u64);

impl Choices {
    fn of(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

fn spell(value: &Value, choices: &mut Choices) -> String {
    let space = |choices: &mut Choices| ["", "", " ", "\n\t"][choices.of(4)];
    let text = match value {
        Value::Literal(text) => (*text).to_owned(),
        Value::Number { negative, digits, power } => {
            let zeros = choices.of(4);
            let mut digits = format!("{digits}{}", "0".repeat(zeros));
            let mut power = power - i32::try_from(zeros).unwrap();
            if digits.len() > 1 && choices.of(2) == 0 {
                let point = 1 + choices.of(digits.len() - 1);
                power += i32::try_from(digits.len() - point).unwrap();
                digits.insert(point, '.');
            } else if choices.of(3) == 0 {
                power += i32::try_from(digits.len() + 2).unwrap();
                digits = format!("0.00{digits}");
            }
            // `0` has no digit before it that would make a leading zero.
            let digits = if digits.starts_with("00") { "0".to_owned() } else { digits };
            let sign = if *negative { "-" } else { "" };
            let exponent = match (power, choices.of(2)) {
                (0, 0) => String::new(),
                (0.., 1) => format!("E+{power}"),
                _ => format!("e{power}"),
            };
            format!("{sign}{digits}{exponent}")
        }
        Value::Text(text) => spell_text(text, choices),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(|value| spell(value, choices)).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(members) => {
            let mut spelled = Vec::new();
            let mut shadowed = Vec::new();
            for (key, value) in members {
                let at = choices.of(spelled.len() + 1);
                let member = format!("{}:{}", spell_text(key, choices), spell(value, choices));
                spelled.insert(at, member);
                if choices.of(4) == 0 {
                    shadowed.push(format!("{}:[[7],{{}}]", spell_text(key, choices)));
                }
            }
            shadowed.append(&mut spelled);
            format!("{{{}{}}}", space(choices), shadowed.join(","))
        }
    };
    format!("{}{text}{}", space(choices), space(choices))
}

fn spell_text(text: &str, choices: &mut Choices) -> String {
    let mut out = String::from('"');
    for char in text.chars() {
        match choices.of(3) {
            0 => {
                char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")))
            }
            _ => out.push_str(serde_json::to_string(&char).unwrap()[1..].strip_suffix('"').unwrap()),
        }
    }
    out.push('"');
    out
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(members) => members.values().map(leaves).sum(),
        _ => 1,
    }
}

/// Changes the leaf of this number; `false` if there are fewer.
fn change_leaf(value: &mut Value, leaf: &mut usize) -> bool {
    match value {
        Value::Array(values) => return values.iter_mut().any(|value| change_leaf(value, leaf)),
        Value::Object(members) => return members.values_mut().any(|value| change_leaf(value, leaf)),
        _ if *leaf > 0 => {
            *leaf -= 1;
            return false;
        }
        Value::Literal(text) => *text = if *text == "null" { "true" } else { "null" },
        Value::Number { digits, .. } => *digits = digits.wrapping_add(1),
        Value::Text(text) => text.push('x'),
    }
    true
}

proptest! {
    #[test]
    fn a_value_equals_each_of_its_spellings(value in value(), seed: u64, other: u64) {
        let [a, b] = [seed, other].map(|seed| spell(&value, &mut Choices(seed)));
        prop_assert!(serde_json::from_str::<&RawValue>(&a).is_ok(), "{}", a);
        prop_assert!(same_value(&a, &a));
        prop_assert!(same_value(&a, &b), "{} and {}", a, b);
        prop_assert!(same_value(&b, &a), "{} and {}", b, a);
    }

    #[test]
    fn a_value_with_another_leaf_is_another_value(value in value().prop_filter("no leaf", |value| leaves(value) > 0), seed: u64, leaf: prop::sample::Index) {
        let mut other = value.clone();
        prop_assert!(change_leaf(&mut other, &mut leaf.index(leaves(&value))));
        let [a, b] = [&value, &other].map(|value| spell(value, &mut Choices(seed)));
        prop_assert!(!same_value(&a, &b), "{} and {}", a, b);
        prop_assert!(!same_value(&b, &a), "{} and {}", b, a);
    }

    #[test]
    fn it_is_what_the_plainest_comparison_says(values in prop::array::uniform2(value()), seed: u64) {
        let [a, b] = values.each_ref().map(|value| spell(value, &mut Choices(seed)));
        let [plain_a, plain_b] = [&a, &b].map(|text| plain(serde_json::from_str(text).unwrap()));
        prop_assert_eq!(same_value(&a, &b), plain_a == plain_b, "{} and {}", a, b);
    }

    #[test]
    fn any_text_has_an_answer(a in r#"[\[\]{}",:0-9eE.+\\uda-f -]{0,20}"#, b in r#"[\[\]{}",:0-9eE.+\\uda-f -]{0,20}"#) {
        prop_assert!(same_value(&a, &a));
        prop_assert_eq!(same_value(&a, &b), same_value(&b, &a));
    }
}

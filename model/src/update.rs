//! Update operations, row by row as the protocol's table of them has it.
//!
//! Where the table is silent, these were decided: of duplicate keys the last one counts, and a write at a path drops
//! the others of each key on it; the path of an operation is checked before its value, and segment by segment; what is
//! made below the first level by `append` is an array; `-0.0` is as good as `0.0`.

use crate::json::{Member, Value};

/// What an update makes of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    /// The value that is stored, even if every operation was skipped.
    pub after: Value,
    /// The operations that were skipped: which, and the code that says why.
    pub errors: Vec<(usize, String)>,
}

/// The whole call fails with `deserialization_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// Applies the `ops` of a call to an item, or to a missing one, both as JSON text.
pub fn update(before: Option<&str>, ops: &str) -> Result<Updated, Refused> {
    let before = before.map(Value::parse).transpose().map_err(|_| Refused("the item is no JSON"))?;
    apply(before, &Value::parse(ops).map_err(|_| Refused("`ops` is no JSON"))?)
}

/// Applies the `ops` of a call to an item, or to a missing one.
pub fn apply(before: Option<Value>, ops: &Value) -> Result<Updated, Refused> {
    let Value::Array(ops) = ops else { return Err(Refused("`ops` is no array")) };
    // All of them are read before the first is applied: one that can't be read fails the call.
    let ops = ops.iter().map(Op::read).collect::<Result<Vec<_>, _>>()?;
    let mut item = before;
    let mut errors = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        match op.applied_to(item.as_ref()) {
            Ok(after) => item = Some(after),
            Err(reason) => errors.push((index, format!("{}.{reason}", op.name))),
        }
        // Only the first operation can meet a missing item.
        item.get_or_insert(empty());
    }
    Ok(Updated { after: item.unwrap_or(empty()), errors })
}

/// Why an operation is skipped: the end of its code.
type Reason = &'static str;

const TARGET_NOT_OBJECT: Reason = "target_not_object";
const NOT_NUMBER: Reason = "not_number";
const TYPE_MISMATCH: Reason = "type_mismatch";

/// How deep values may be nested.
pub(crate) const DEEPEST: usize = 128;

/// The keys that no operation may write.
const PROTOTYPES: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// An operation whose form is right.
struct Op {
    name: &'static str,
    path: Vec<String>,
    /// Of `set`, `merge` and `append`.
    value: Value,
    /// Of `increment` and `decrement`.
    by: i64,
}

impl Op {
    fn read(op: &Value) -> Result<Op, Refused> {
        if !matches!(op, Value::Object(_)) {
            return Err(Refused("an operation is no object"));
        }
        let name = op.get("type").and_then(Value::text).ok_or(Refused("`type` is missing or no text"))?;
        let names = ["set", "merge", "increment", "decrement", "append", "remove"];
        let name = names.into_iter().find(|known| *known == name).ok_or(Refused("an unknown `type`"))?;
        let value = match (name, op.get("value")) {
            ("set" | "merge" | "append", Some(value)) if value.depth() > DEEPEST => {
                return Err(Refused("`value` is too deep"));
            }
            ("merge" | "append", None) => return Err(Refused("`value` is missing")),
            (_, Some(value)) => value.clone(),
            (_, None) => Value::Null,
        };
        let by = match name {
            "increment" | "decrement" => read_by(op.get("by"))?,
            _ => 0,
        };
        Ok(Op { name, path: read_path(name, op.get("path"))?, value, by })
    }

    fn applied_to(&self, item: Option<&Value>) -> Result<Value, Reason> {
        check_path(&self.path)?;
        match self.name {
            "set" => set(item, &self.path, &self.value),
            "merge" => merge(item, &self.path, &self.value),
            "increment" => add(item, &self.path, i128::from(self.by)),
            "decrement" => add(item, &self.path, -i128::from(self.by)),
            "append" => append(item, &self.path, &self.value),
            _ => remove(item, &self.path),
        }
    }
}

/// A string is one literal key, `""` the root; an array is literal segments, `[]` the root. Only `merge` and `append`
/// may do without: null or nothing is the root, too.
fn read_path(name: &str, path: Option<&Value>) -> Result<Vec<String>, Refused> {
    match path {
        Some(path @ Value::String(_)) => {
            let key = path.text().ok_or(Refused("`path` is no Unicode text"))?;
            Ok(if key.is_empty() { Vec::new() } else { vec![key] })
        }
        Some(Value::Array(segments)) => {
            let segments: Option<Vec<String>> = segments.iter().map(Value::text).collect();
            segments.ok_or(Refused("a segment of `path` is no Unicode text"))
        }
        Some(Value::Null) | None if matches!(name, "merge" | "append") => Ok(Vec::new()),
        _ => Err(Refused("`path` is missing or of a wrong type")),
    }
}

/// An integer of 64 bits, without a point or an exponent.
fn read_by(by: Option<&Value>) -> Result<i64, Refused> {
    match by {
        Some(Value::Number(text)) => text.parse().map_err(|_| Refused("`by` is no integer of 64 bits")),
        _ => Err(Refused("`by` is missing or no number")),
    }
}

/// `<op>.path.<reason>`
fn check_path(path: &[String]) -> Result<(), Reason> {
    if path.len() > 32 {
        return Err("path.too_deep");
    }
    for segment in path {
        if segment.is_empty() {
            return Err("path.empty_segment");
        }
        if segment.len() > 256 {
            return Err("path.segment_too_long");
        }
        if PROTOTYPES.contains(&segment.as_str()) {
            return Err("path.proto_polluted");
        }
    }
    Ok(())
}

/// `merge.value.<reason>`
fn check_mergeable(value: &Value) -> Result<&[Member], Reason> {
    let Value::Object(members) = value else { return Err("value.not_an_object") };
    let mut names: Vec<_> = members.iter().map(Member::name).collect();
    names.sort();
    names.dedup();
    if names.len() > 1_024 {
        return Err("value.too_many_keys");
    }
    if members.iter().any(|member| PROTOTYPES.iter().any(|name| member.is_named(name))) {
        return Err("value.proto_polluted");
    }
    if value.depth() > 16 {
        return Err("value.too_deep");
    }
    Ok(members)
}

fn set(item: Option<&Value>, path: &[String], value: &Value) -> Result<Value, Reason> {
    at(item, path, NoObject::Stays, &|_| Ok(value.clone()))
}

/// Shallow. At the root what is no object stays, and that is no error; at a path it gives way to an object.
fn merge(item: Option<&Value>, path: &[String], value: &Value) -> Result<Value, Reason> {
    let merged = check_mergeable(value)?;
    at(item, path, NoObject::GivesWay, &|found| match found {
        Some(Value::Object(members)) => Ok(merged_into(members, merged)),
        Some(other) if path.is_empty() => Ok(other.clone()),
        _ => Ok(merged_into(&[], merged)),
    })
}

fn merged_into(members: &[Member], merged: &[Member]) -> Value {
    let mut members = members.to_vec();
    for Member { key, value } in merged {
        put(&mut members, key, value.clone());
    }
    Value::Object(members)
}

/// Nothing becomes the number. Integers are exact, from the least of i64 to the most of u64; what was written with a
/// point or an exponent is a float, and stays one.
fn add(item: Option<&Value>, path: &[String], by: i128) -> Result<Value, Reason> {
    at(item, path, NoObject::Stays, &|found| {
        let in_range = |sum: i128| {
            let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&sum);
            if fits { Ok(Value::integer(sum)) } else { Err(NOT_NUMBER) }
        };
        let float = |float: f64| {
            let sum = float + by as f64;
            if float.is_finite() && sum.is_finite() { Ok(Value::Computed(sum)) } else { Err(NOT_NUMBER) }
        };
        match found {
            None => in_range(by),
            Some(Value::Computed(found)) => float(*found),
            Some(Value::Number(text)) if text.contains(['.', 'e', 'E']) => {
                float(text.parse().expect("every JSON number is a float"))
            }
            Some(Value::Number(text)) => match text.parse::<i128>() {
                Ok(integer) => in_range(integer).and_then(|_| in_range(integer + by)),
                Err(_) => Err(NOT_NUMBER),
            },
            Some(_) => Err(NOT_NUMBER),
        }
    })
}

fn append(item: Option<&Value>, path: &[String], value: &Value) -> Result<Value, Reason> {
    at(item, path, NoObject::Stays, &|found| match (found, value) {
        // A string on nothing or on null is that string; below the first level, nothing becomes an array.
        (None, Value::String(_)) if path.len() < 2 => Ok(value.clone()),
        (Some(Value::Null), Value::String(_)) => Ok(value.clone()),
        (None | Some(Value::Null), _) => Ok(Value::Array(vec![value.clone()])),
        (Some(Value::Array(elements)), _) => {
            Ok(Value::Array(elements.iter().chain([value]).cloned().collect()))
        }
        (Some(Value::String(before)), Value::String(more)) => Ok(Value::String(format!("{before}{more}"))),
        _ => Err(TYPE_MISMATCH),
    })
}

/// Makes nothing on the way: where something is missing there is nothing to remove. The root becomes null.
fn remove(item: Option<&Value>, path: &[String]) -> Result<Value, Reason> {
    let Some((key, rest)) = path.split_first() else { return Ok(Value::Null) };
    let Some(item) = item else { return Ok(empty()) };
    let Value::Object(members) = item else { return Err(TARGET_NOT_OBJECT) };
    let Some(child) = item.get(key) else { return Ok(item.clone()) };
    let mut members = members.clone();
    if rest.is_empty() {
        members.retain(|member| !member.is_named(key));
        return Ok(Value::Object(members));
    }
    let after = remove(Some(child), rest)?;
    // A write drops the hidden duplicates of a key on its path; where nothing was removed, nothing was written.
    if after != *child {
        put(&mut members, &crate::json::spell(key), after);
    }
    Ok(Value::Object(members))
}

/// What becomes of something on a path that is no object.
#[derive(Clone, Copy)]
enum NoObject {
    /// It stays, and the operation is skipped.
    Stays,
    /// An object takes its place.
    GivesWay,
}

/// A value after `change` was made at the path below it. Objects that are missing on the way are made.
fn at(
    value: Option<&Value>,
    path: &[String],
    no_object: NoObject,
    change: &dyn Fn(Option<&Value>) -> Result<Value, Reason>,
) -> Result<Value, Reason> {
    let Some((key, rest)) = path.split_first() else { return change(value) };
    let mut members = match (value, no_object) {
        (Some(Value::Object(members)), _) => members.clone(),
        (None, _) | (Some(_), NoObject::GivesWay) => Vec::new(),
        (Some(_), NoObject::Stays) => return Err(TARGET_NOT_OBJECT),
    };
    let child = value.and_then(|value| value.get(key));
    let after = at(child, rest, no_object, change)?;
    put(&mut members, &crate::json::spell(key), after);
    Ok(Value::Object(members))
}

/// Gives a key a value: in the place of the member that counts, else at the end. The member's own spelling of the key
/// stays, its hidden duplicates go.
fn put(members: &mut Vec<Member>, key: &str, value: Value) {
    let Some(last) = members.iter().rposition(|member| member.is_named_as(key)) else {
        return members.push(Member { key: key.into(), value });
    };
    members[last].value = value;
    let mut at = 0;
    members.retain(|member| {
        at += 1;
        at > last || !member.is_named_as(key)
    });
}

fn empty() -> Value {
    Value::Object(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table that are one value, one operation and what comes of it.
    #[test]
    fn the_table_of_the_protocol() {
        for (before, op, after) in [
            ("", r#"{"type":"set","path":"a","value":1}"#, r#"{"a":1}"#),
            ("", r#"{"type":"increment","path":"n","by":3}"#, r#"{"n":3}"#),
            ("", r#"{"type":"decrement","path":"n","by":3}"#, r#"{"n":-3}"#),
            ("", r#"{"type":"increment","path":"","by":3}"#, "3"),
            ("", r#"{"type":"append","path":"","value":"s"}"#, r#""s""#),
            ("", r#"{"type":"append","path":"","value":{}}"#, "[{}]"),
            (r#"{"x":1}"#, r#"{"type":"set","path":"","value":5}"#, "5"),
            (r#"{"x":1}"#, r#"{"type":"set","path":"a.b","value":1}"#, r#"{"x":1,"a.b":1}"#),
            (r#"{"a":{"x":1}}"#, r#"{"type":"merge","value":{"a":{"y":2}}}"#, r#"{"a":{"y":2}}"#),
            (r#""s""#, r#"{"type":"merge","value":{"a":1}}"#, r#""s""#),
            ("[1]", r#"{"type":"merge","path":"k","value":{}}"#, r#"{"k":{}}"#),
            (
                r#"{"s":{"abc":"str"}}"#,
                r#"{"type":"merge","path":["s","abc"],"value":{}}"#,
                r#"{"s":{"abc":{}}}"#,
            ),
            (r#"{"n":2.5}"#, r#"{"type":"increment","path":"n","by":1}"#, r#"{"n":3.5}"#),
            (
                r#"{"n":9223372036854775807}"#,
                r#"{"type":"increment","path":"n","by":1}"#,
                r#"{"n":9223372036854775808}"#,
            ),
            ("{}", r#"{"type":"append","path":"a","value":1}"#, r#"{"a":[1]}"#),
            ("[1]", r#"{"type":"append","value":[2,3]}"#, "[1,[2,3]]"),
            (r#""x""#, r#"{"type":"append","value":"y"}"#, r#""xy""#),
            ("null", r#"{"type":"append","value":"y"}"#, r#""y""#),
            ("{}", r#"{"type":"append","path":["a","b"],"value":"x"}"#, r#"{"a":{"b":["x"]}}"#),
            (r#"{"a":1}"#, r#"{"type":"remove","path":""}"#, "null"),
            ("{}", r#"{"type":"set","path":["a","b"],"value":1}"#, r#"{"a":{"b":1}}"#),
            ("", r#"{"type":"remove","path":["a","b"]}"#, "{}"),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"type":"remove","path":["a","b"]}"#, r#"{"a":{"c":2}}"#),
        ] {
            let before = Some(before).filter(|before| !before.is_empty());
            let updated = update(before, &format!("[{op}]")).unwrap();
            assert_eq!((updated.after.to_string().as_str(), updated.errors), (after, vec![]), "{op}");
        }
    }

    #[test]
    fn what_is_skipped_says_why_and_changes_nothing() {
        for (before, op, code) in [
            ("[1]", r#"{"type":"set","path":"a"}"#, "set.target_not_object"),
            (r#"{"a":1}"#, r#"{"type":"remove","path":["a","b"]}"#, "remove.target_not_object"),
            (r#"{"n":"3"}"#, r#"{"type":"increment","path":"n","by":1}"#, "increment.not_number"),
            (
                r#"{"n":18446744073709551615}"#,
                r#"{"type":"increment","path":"n","by":1}"#,
                "increment.not_number",
            ),
            (r#""x""#, r#"{"type":"append","value":1}"#, "append.type_mismatch"),
            ("{}", r#"{"type":"append","path":["a",""],"value":1}"#, "append.path.empty_segment"),
            ("{}", r#"{"type":"merge","value":[]}"#, "merge.value.not_an_object"),
        ] {
            let updated = update(Some(before), &format!("[{op}]")).unwrap();
            assert_eq!(updated.after.to_string(), before);
            assert_eq!(updated.errors, [(0, code.to_owned())]);
        }
    }
}

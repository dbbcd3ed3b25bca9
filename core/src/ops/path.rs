//! Where in a value an operation works.

use std::fmt;

use serde_json::Value;

use super::error::{Reason, Refusal, excerpt};

/// Most segments of a path.
const MOST_SEGMENTS: usize = 32;
/// Longest segment of a path, in bytes.
const LONGEST_SEGMENT: usize = 256;

/// Literal keys from the root down, none for the root itself. Checked: at most 32 segments of 1 to 256 bytes,
/// and none of them a name that is dangerous in JavaScript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn root() -> Path {
        Path(Vec::new())
    }

    /// A path that is one string: one literal key, or `""` for the root.
    pub(super) fn of_key(key: String) -> Result<Path, Refusal> {
        if key.is_empty() {
            return Ok(Path::root());
        }
        Path::of_segments(vec![key])
    }

    pub(super) fn of_segments(segments: Vec<String>) -> Result<Path, Refusal> {
        if segments.len() > MOST_SEGMENTS {
            let detail = format!("`path` has {} segments; the limit is {MOST_SEGMENTS}", segments.len());
            return Err(Refusal::new(Reason::PathTooDeep, detail));
        }
        segments.iter().try_for_each(|segment| check(segment))?;
        Ok(Path(segments))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn segments(&self) -> &[String] {
        &self.0
    }

    /// The place of the value that `depth` segments lead to.
    pub(super) fn up_to(&self, depth: usize) -> String {
        Spelled(&self.0[..depth.min(self.0.len())]).to_string()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Spelled(&self.0).fmt(f)
    }
}

/// Segments as a caller would write them as a path.
struct Spelled<'a>(&'a [String]);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("the root"),
            [key] => f.write_str(&excerpt(&Value::from(key.as_str()).to_string())),
            keys => f.write_str(&excerpt(&Value::from(keys).to_string())),
        }
    }
}

/// Whether a key is one that JavaScript code must not be made to assign: it would change every object there.
pub(super) fn pollutes_prototypes(key: &[u8]) -> bool {
    matches!(key, b"__proto__" | b"constructor" | b"prototype")
}

fn check(segment: &str) -> Result<(), Refusal> {
    if segment.is_empty() {
        let detail = "`path` has an empty segment; the root is \"\" or []";
        return Err(Refusal::new(Reason::PathEmptySegment, detail));
    }
    if segment.len() > LONGEST_SEGMENT {
        let len = segment.len();
        let detail = format!("`path` has a segment of {len} bytes; the limit is {LONGEST_SEGMENT}");
        return Err(Refusal::new(Reason::PathSegmentTooLong, detail));
    }
    if pollutes_prototypes(segment.as_bytes()) {
        let detail = format!("`path` must not name {segment:?}, which is dangerous in JavaScript");
        return Err(Refusal::new(Reason::PathProtoPolluted, detail));
    }
    Ok(())
}

//! The names of the functions that serve a stream, such as `stream::set(todo)`.

use crate::name::{FunctionId, StreamName};
use crate::store::Builtin;

/// The functions that a stream can be served with.
const SERVING: [Builtin; 6] =
    [Builtin::Set, Builtin::Get, Builtin::Delete, Builtin::Update, Builtin::List, Builtin::ListGroups];

/// What a function serves, if it serves a stream.
pub(crate) fn serving(id: &FunctionId) -> Option<(Builtin, StreamName)> {
    let (function, stream) = id.as_str().strip_suffix(')')?.split_once('(')?;
    let builtin = SERVING.into_iter().find(|builtin| builtin.name() == function)?;
    // The function's id is within the limit of names, so this part of it is, too.
    (!stream.is_empty()).then(|| (builtin, StreamName::trusted(stream)))
}

/// The function that serves a stream.
pub(super) fn function(builtin: Builtin, stream: &StreamName) -> FunctionId {
    FunctionId::trusted(&format!("{}({stream})", builtin.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_serves_the_stream_that_stands_in_its_parentheses() {
        let serves = |id: &str| {
            serving(&FunctionId::trusted(id)).map(|(builtin, stream)| (builtin, stream.to_string()))
        };
        assert_eq!(serves("stream::set(todo)"), Some((Builtin::Set, "todo".to_owned())));
        assert_eq!(serves("stream::list_groups(a (b))"), Some((Builtin::ListGroups, "a (b)".to_owned())));
        for other in
            ["stream::set", "stream::set()", "stream::send(todo)", "stream::list_all(x)", "set(todo)"]
        {
            assert_eq!(serves(other), None, "{other}");
        }
        for builtin in SERVING {
            let stream = StreamName::trusted("a)(b");
            assert_eq!(serving(&function(builtin, &stream)), Some((builtin, stream)));
        }
    }
}

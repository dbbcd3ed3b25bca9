//! Update operations (`stream::update`): their parsing and their meaning.
//!
//! [`parse`] turns the `ops` of a call into [`UpdateOp`]s, or refuses the whole call. [`apply`] runs them on a
//! value; a [`Document`] does the same and stays taken apart for the next call. All are pure and total, and cost
//! time linear in the size of what they are given (times the logarithm of the number of keys, and at most the
//! length of a path).
//!
//! What no operation touches keeps its exact text: `1.0`, `1e400`, big integers, escapes, the order of keys.
//! So a value is never read into numbers and strings as a whole. `tree` takes apart only the objects on the
//! paths of operations; all the rest is ranges of the text that came in.

mod document;
mod error;
mod index;
mod node;
mod number;
mod object;
mod parse;
mod path;
#[cfg(test)]
mod tests;
mod tree;

pub use document::Document;
pub use error::{Code, OpError, OpFault, OpName, OpsError, Reason};
pub use parse::parse;

use crate::json::Json;
use error::Refusal;
use node::Node;
use number::Number;
use object::Object;
use path::Path;
use tree::{OnTheWay, Tree};

/// One operation of `stream::update`, parsed and checked as far as its own text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateOp {
    name: OpName,
    /// What to do, or why this operation will be skipped whatever the value is.
    plan: Result<Plan, Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    path: Path,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Set(Json),
    /// The members of an object, put into the one at the path.
    Merge(Json),
    /// An increment, or a decrement with its sign turned: any i64, or one more than the largest.
    Add(i128),
    Append(Json),
    Remove,
}

/// What [`apply`] made of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The value to store, even if every operation was skipped. Its size and depth are the caller's to check
    /// ([`Document::check`]): it is at most as long as the value before and the `ops`
    /// together, with a few bytes for each operation, and at most 33 levels deeper than the deepest of them.
    /// The very value from before, not a copy, if nothing changed.
    pub after: Json,
    /// The operations that were skipped, in order.
    pub errors: Vec<OpError>,
}

/// Applies operations in order to the value of an item, or to a missing one (`None`).
///
/// An operation that can't be applied is skipped, changes nothing in the value and is reported. A list does what its
/// operations do one by one: only the first of them can meet a missing item. After it there is one, `{}` if that
/// operation was skipped, because an item is stored in any case.
pub fn apply(before: Option<&Json>, ops: &[UpdateOp]) -> Applied {
    Document::new(before).apply(ops)
}

impl UpdateOp {
    fn apply(&self, tree: &mut Tree) -> Result<(), Refusal> {
        let Plan { path, change } = self.plan.as_ref().map_err(Refusal::clone)?;
        match change {
            Change::Set(value) => set(tree, path, value),
            Change::Merge(value) => merge(tree, path, value),
            Change::Add(by) => add(tree, path, *by),
            Change::Append(value) => append(tree, path, value),
            Change::Remove => return remove(tree, path),
        }?;
        tree.drop_shadowed(path);
        Ok(())
    }
}

fn set(tree: &mut Tree, path: &Path, value: &Json) -> Result<(), Refusal> {
    tree.place(path, OnTheWay::MustBeObjects)?.put(Node::value(value));
    Ok(())
}

/// What is not there needs no removing, and nothing is made on the way to it.
fn remove(tree: &mut Tree, path: &Path) -> Result<(), Refusal> {
    if let Some(mut place) = tree.existing_place(path)?
        && place.remove()
    {
        tree.drop_shadowed(path);
    }
    Ok(())
}

fn add(tree: &mut Tree, path: &Path, by: i128) -> Result<(), Refusal> {
    let mut place = tree.place(path, OnTheWay::MustBeObjects)?;
    match place.get() {
        Some(node) => node.add(by).map_err(|problem| problem.at(path)),
        None => {
            place.put(Node::Number(Number::Integer(by)));
            Ok(())
        }
    }
}

/// Shallow: a key of `value` replaces the whole value of that key. What is no object at the path gives way to
/// one; at the root it stays, and that is no error.
fn merge(tree: &mut Tree, path: &Path, value: &Json) -> Result<(), Refusal> {
    let mut place = tree.place(path, OnTheWay::BecomeObjects)?;
    match place.get().map(|node| node.object().is_some()) {
        Some(true) => {}
        Some(false) if path.is_root() => return Ok(()),
        _ => place.put(Node::Object(Object::new())),
    }
    if let Some(object) = place.get().and_then(Node::object) {
        object.merge(value);
    }
    Ok(())
}

/// A missing value becomes the string, or an array of whatever else is appended. Below the first level it
/// becomes an array in either case: what an older client makes at `["sessions", "x"]` is a list.
fn append(tree: &mut Tree, path: &Path, value: &Json) -> Result<(), Refusal> {
    let mut place = tree.place(path, OnTheWay::MustBeObjects)?;
    match place.get() {
        Some(node) => node.append(value).map_err(|problem| problem.at(path)),
        None if path.len() > 1 => {
            place.put(Node::array_of(value));
            Ok(())
        }
        None => {
            place.put(Node::first_appended(value));
            Ok(())
        }
    }
}

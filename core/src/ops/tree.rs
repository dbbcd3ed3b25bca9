//! A value as far as operations have gone into it: text below, objects taken apart on the paths, and what is
//! being appended to kept open at its end.
//!
//! A tree is at most as deep as the longest path; what is deeper in the value is text.

use super::error::{Reason, Refusal};
use super::node::Node;
use super::object::Object;
use super::path::Path;
use crate::json::Json;

/// The value of an item, or the lack of one.
#[derive(Debug)]
pub(super) struct Tree {
    root: Option<Node>,
}

/// What a path may lead through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnTheWay {
    /// Objects, or nothing; anything else is refused.
    MustBeObjects,
    /// Anything; what is no object is replaced by one.
    BecomeObjects,
}

impl Tree {
    pub(super) fn new(before: Option<&Json>) -> Tree {
        Tree { root: before.map(Node::value) }
    }

    /// Makes a missing item an empty object.
    pub(super) fn ensure_present(&mut self) {
        self.root.get_or_insert_with(|| Node::Object(Object::new()));
    }

    /// The place that a path leads to. Objects that are missing on the way are made: behind the first of
    /// them everything is missing, so nothing is made if this fails.
    pub(super) fn place<'t>(&'t mut self, path: &'t Path, way: OnTheWay) -> Result<Place<'t>, Refusal> {
        let Some((last, parents)) = path.segments().split_last() else {
            return Ok(Place::Root(&mut self.root));
        };
        let mut node = self.root.get_or_insert_with(|| Node::Object(Object::new()));
        for (depth, key) in parents.iter().enumerate() {
            node = node
                .object_on(way)
                .and_then(|object| object.get_or_new(key).ok_or("nothing"))
                .map_err(|found| blocked(path, depth, found))?;
        }
        let object = node.object_on(way).map_err(|found| blocked(path, parents.len(), found))?;
        Ok(Place::Member(object, last))
    }

    /// The place that a path leads to, `None` if something is missing on the way. Makes nothing.
    pub(super) fn existing_place<'t>(&'t mut self, path: &'t Path) -> Result<Option<Place<'t>>, Refusal> {
        let Some((last, parents)) = path.segments().split_last() else {
            return Ok(Some(Place::Root(&mut self.root)));
        };
        let mut next = self.root.as_mut();
        for (depth, key) in parents.iter().enumerate() {
            let Some(node) = next else { return Ok(None) };
            let object =
                node.object_on(OnTheWay::MustBeObjects).map_err(|found| blocked(path, depth, found))?;
            next = object.get(key);
        }
        let Some(node) = next else { return Ok(None) };
        let object =
            node.object_on(OnTheWay::MustBeObjects).map_err(|found| blocked(path, parents.len(), found))?;
        Ok(Some(Place::Member(object, last)))
    }

    /// After a write at a path: removes the duplicates of the keys on it that do not count.
    pub(super) fn drop_shadowed(&mut self, path: &Path) {
        let mut next = self.root.as_mut();
        for key in path.segments() {
            let Some(object) = next.and_then(Node::object) else {
                return;
            };
            next = object.get_sole(key);
        }
    }

    /// The value as text, null if there is none, and about how many bytes of memory the tree takes beside it. From
    /// then on the tree is of that text: what was changed is text again, objects stay taken apart.
    pub(super) fn settle(&mut self) -> (Json, usize) {
        self.root.as_mut().map_or_else(|| (Json::null(), 0), Node::settle)
    }
}

fn blocked(path: &Path, depth: usize, found: &str) -> Refusal {
    let detail = format!("the path {path} needs an object at {}, found {found}", path.up_to(depth));
    Refusal::new(Reason::TargetNotObject, detail)
}

/// Where an operation works: there may be a value or none.
#[derive(Debug)]
pub(super) enum Place<'t> {
    Root(&'t mut Option<Node>),
    Member(&'t mut Object, &'t str),
}

impl Place<'_> {
    pub(super) fn get(&mut self) -> Option<&mut Node> {
        match self {
            Place::Root(root) => root.as_mut(),
            Place::Member(object, key) => object.get(key),
        }
    }

    pub(super) fn put(&mut self, value: Node) {
        match self {
            Place::Root(root) => **root = Some(value),
            Place::Member(object, key) => object.insert(key, value),
        }
    }

    /// Removes the key, and says whether it was there; at the root, where there is none, leaves null.
    pub(super) fn remove(&mut self) -> bool {
        match self {
            Place::Root(root) => {
                **root = Some(Node::value(&Json::null()));
                true
            }
            Place::Member(object, key) => object.remove(key),
        }
    }
}

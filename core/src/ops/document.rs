//! Values that stay taken apart from one update to the next.

use super::tree::Tree;
use super::{Applied, Change, OpError, Plan, UpdateOp};
use crate::config::Limits;
use crate::json::{Json, JsonError, depth};

/// The value of an item, or the lack of one, with what operations have learnt about it so far: the objects on
/// their paths stay taken apart, so that the next update of the same item neither reads the whole text nor
/// prints it member by member.
#[derive(Debug)]
pub struct Document {
    tree: Tree,
    /// About how many bytes of memory the tree takes.
    tree_bytes: usize,
    text: Option<Json>,
    /// How deep the value is nested, at most.
    depth: usize,
}

impl Document {
    /// The document of a value.
    pub fn new(value: Option<&Json>) -> Document {
        Document {
            tree: Tree::new(value),
            tree_bytes: 0,
            text: value.cloned(),
            depth: value.map_or(0, |value| depth(value.as_str())),
        }
    }

    /// Whether this is the document of that value: not only of an equal one, but of the same text in memory.
    pub fn is_of(&self, value: Option<&Json>) -> bool {
        match (&self.text, value) {
            (Some(text), Some(value)) => text.is_same_text(value),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Applies operations in order, as [`apply`](super::apply) does. From then on this is the document of the
    /// value after them.
    pub fn apply(&mut self, ops: &[UpdateOp]) -> Applied {
        let mut errors = Vec::new();
        for (op_index, op) in ops.iter().enumerate() {
            match op.apply(&mut self.tree) {
                Ok(()) => self.depth = self.depth.max(op.depth()),
                Err(refusal) => errors.push(OpError::new(op_index, op.name, refusal)),
            }
            // After the first operation no item is missing.
            self.tree.ensure_present();
        }
        self.tree.ensure_present();
        let (after, tree_bytes) = self.tree.settle();
        self.tree_bytes = tree_bytes;
        self.depth = self.depth.max(1);
        self.text = Some(after.clone());
        Applied { after, errors }
    }

    /// Checks the value against [`Limits::value_bytes`] and [`Limits::json_depth`].
    pub fn check(&mut self, limits: &Limits) -> Result<(), JsonError> {
        let Some(text) = &self.text else { return Ok(()) };
        text.check_size(limits)?;
        if self.depth > limits.json_depth {
            // What made it that deep may be gone.
            self.depth = depth(text.as_str());
        }
        match self.depth > limits.json_depth {
            true => Err(JsonError::TooDeep { limit: limits.json_depth }),
            false => Ok(()),
        }
    }

    /// Whether there is an object in it that is taken apart: if not, its text tells all that it knows.
    pub fn is_apart(&self) -> bool {
        self.tree_bytes > 0
    }

    /// About how many bytes of memory it holds on to, its text included.
    pub fn bytes(&self) -> usize {
        size_of::<Document>() + self.tree_bytes + self.text.as_ref().map_or(0, |text| text.as_str().len())
    }
}

impl UpdateOp {
    /// How deep what the operation puts into a value is nested there, at most.
    fn depth(&self) -> usize {
        let Ok(Plan { path, change }) = &self.plan else { return 0 };
        path.len()
            + match change {
                Change::Set(value) | Change::Merge(value) => depth(value.as_str()),
                Change::Append(value) => 1 + depth(value.as_str()),
                Change::Add(_) | Change::Remove => 0,
            }
    }
}

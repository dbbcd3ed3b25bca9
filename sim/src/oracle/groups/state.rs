//! A group at one revision.

use std::fmt;
use std::rc::Rc;

use serde_json::Value;

use super::history::Change;
use crate::oracle::frame::Kind;

/// The items of a group in creation order.
#[derive(Clone, Debug, Default)]
pub(super) struct State(Vec<Held>);

/// An item. A sync does not name it: but where its value tells its id, it is known.
#[derive(Clone, Debug)]
struct Held {
    item: Option<Rc<str>>,
    value: Rc<Value>,
}

/// Two states are the same if they show the same.
impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, other)| one.value == other.value)
    }
}

impl State {
    /// What is shown.
    pub(super) fn shown(values: &[Value]) -> State {
        let held =
            |value: &Value| Held { item: value["id"].as_str().map(Rc::from), value: Rc::new(value.clone()) };
        State(values.iter().map(held).collect())
    }

    /// Whether this is what it shows.
    pub(super) fn holds(&self, values: &[Value]) -> bool {
        self.0.len() == values.len() && self.0.iter().zip(values).all(|(held, value)| *held.value == *value)
    }

    /// The least number of changes that lead from here to there.
    pub(super) fn distance(&self, values: &[Value]) -> usize {
        let mut left: Vec<&Value> = values.iter().collect();
        let mut gone = 0;
        for held in &self.0 {
            match left.iter().position(|value| **value == *held.value) {
                Some(at) => drop(left.swap_remove(at)),
                None => gone += 1,
            }
        }
        gone.max(left.len())
    }

    /// The value of an item; `None` if it may be one of those whose names are not known.
    pub(super) fn get(&self, item: &str) -> Option<Option<&Value>> {
        match self.0.iter().find(|held| held.item.as_deref() == Some(item)) {
            Some(held) => Some(Some(&*held.value)),
            None => self.names_all().then_some(None),
        }
    }

    fn names_all(&self) -> bool {
        self.0.iter().all(|held| held.item.is_some())
    }

    /// Whether it knows the names of more of its items than another that shows the same.
    pub(super) fn names_more_than(&self, other: &State) -> bool {
        self.0.iter().zip(&other.0).any(|(one, other)| one.item.is_some() && other.item.is_none())
    }

    /// The state after a change; `None` if it can't be told which item that was. Or why there can't be such a change.
    pub(super) fn after(&self, change: &Change) -> Result<Option<State>, String> {
        let Some(at) = self.find(change) else { return Ok(None) };
        let held = at.map(|at| &*self.0[at].value);
        let (item, how) =
            (&change.item, || format!("{:?} of {}, which was {held:?}", change.kind, change.item));
        let fits = match change.kind {
            Some(Kind::Create) => held.is_none(),
            Some(Kind::Update | Kind::Delete) => held.is_some(),
            None => held.is_some() || change.after.is_some(),
        };
        if !fits {
            return Err(how());
        }
        if let Some(before) = &change.before
            && before.as_deref() != held
        {
            return Err(format!("{}, but is said to have been {before:?}", how()));
        }
        let mut after = self.clone();
        match (at, &change.after) {
            (Some(at), Some(value)) => after.0[at] = Held { item: Some(item.clone()), value: value.clone() },
            (Some(at), None) => drop(after.0.remove(at)),
            (None, Some(value)) => after.0.push(Held { item: Some(item.clone()), value: value.clone() }),
            (None, None) => {}
        }
        Ok(Some(after))
    }

    /// Where a change's item is: `None` if that can't be told, `Some(None)` if it is not there.
    fn find(&self, change: &Change) -> Option<Option<usize>> {
        if let Some(at) = self.0.iter().position(|held| held.item.as_deref() == Some(&*change.item)) {
            return Some(Some(at));
        }
        let before = change.before.as_ref();
        if change.kind == Some(Kind::Create) || before.is_some_and(Option::is_none) {
            return Some(None);
        }
        let may_be = |held: &Held| {
            held.item.is_none() && before.is_none_or(|before| before.as_deref() == Some(&*held.value))
        };
        let mut found = (0..self.0.len()).filter(|at| may_be(&self.0[*at]));
        match (found.next(), found.next()) {
            (None, _) => Some(None),
            // Of a change of which only the value is known, it may as well be another item, and this one new.
            (Some(at), None) if change.kind.is_some() || before.is_some() => Some(Some(at)),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, held) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}", held.value)?;
        }
        f.write_str("]")
    }
}

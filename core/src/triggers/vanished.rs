//! The bindings of workers that vanished: until when each is waited for, and which is taken up by whom.

use std::collections::{BTreeMap, BTreeSet};

use super::binding::Kind;
use crate::key::BindingKey;
use crate::name::FunctionId;
use crate::time::Mono;

/// All of them. Both maps always name the same bindings.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    by_deadline: BTreeSet<(Mono, BindingKey)>,
    /// By what a worker that is back asks for again.
    alike: BTreeMap<(Kind, FunctionId), BTreeSet<(Mono, BindingKey)>>,
}

impl Vanished {
    pub(super) fn insert(&mut self, until: Mono, key: BindingKey, kind: &Kind, function: &FunctionId) {
        self.by_deadline.insert((until, key));
        self.alike.entry((kind.clone(), function.clone())).or_default().insert((until, key));
    }

    pub(super) fn remove(&mut self, until: Mono, key: BindingKey, kind: &Kind, function: &FunctionId) {
        self.by_deadline.remove(&(until, key));
        let place = (kind.clone(), function.clone());
        if let Some(alike) = self.alike.get_mut(&place) {
            alike.remove(&(until, key));
            if alike.is_empty() {
                self.alike.remove(&place);
            }
        }
    }

    /// Those of this kind and function, first the one that vanished first.
    pub(super) fn alike(
        &self,
        kind: &Kind,
        function: &FunctionId,
    ) -> impl Iterator<Item = (Mono, BindingKey)> {
        self.alike.get(&(kind.clone(), function.clone())).into_iter().flatten().copied()
    }

    /// The one that is waited for no longer than any other.
    pub(super) fn first(&self) -> Option<(Mono, BindingKey)> {
        self.by_deadline.first().copied()
    }
}

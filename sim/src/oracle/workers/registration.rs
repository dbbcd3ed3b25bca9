//! What becomes of what workers register, and take back.

use serde_json::Value;

use super::Workers;
use super::binding::{Binding, Held, Holder, Wanted};
use crate::oracle::frame::text;
use crate::trace::Who;

impl Workers {
    pub(super) fn register_function(&mut self, who: &Who, id: &str) {
        let since = self.rules.tells_server.then_some(self.index);
        let new = Held { holder: Holder::Worker(who.clone()), asked: self.index, since };
        let before = self.functions.get(id).cloned();
        let held = match &before {
            // It is refused.
            Some(Held { holder: Holder::Worker(_), .. }) => return,
            Some(old) if self.is_waited_for(&old.holder) => Held { since: old.since, ..new },
            _ => new,
        };
        self.functions.insert(id.to_owned(), held);
        self.registered = Some((id.to_owned(), before));
    }

    pub(super) fn register_trigger(&mut self, who: &Who, id: &str, wanted: Wanted) {
        let known = self.bindings.values().find(|binding| binding.is_of(who, id));
        if known.is_some_and(|binding| binding.wanted == wanted) {
            return;
        }
        self.end_binding(who, id);
        let process = self.born.get(who).copied().unwrap_or(self.process);
        let since = self.rules.tells_server.then_some(self.index);
        let held = Held { holder: Holder::Worker(who.clone()), asked: self.index, since };
        // Of those alike the one that vanished first is taken up.
        let waits_until = |binding: &Binding| match binding.held.holder {
            Holder::Nobody { until } if binding.wanted == wanted && binding.process == process => Some(until),
            _ => None,
        };
        let alike =
            self.bindings.iter().filter_map(|(number, binding)| Some((waits_until(binding)?, *number)));
        let first = alike.filter(|(until, _)| self.now < *until).min();
        match first.and_then(|(_, number)| self.bindings.get_mut(&number)) {
            Some(binding) => {
                let since = binding.held.since;
                binding.before = Some(std::mem::replace(&mut binding.held, Held { since, ..held }));
                id.clone_into(&mut binding.id);
            }
            None => {
                self.next += 1;
                let (id, registered, at) = (id.to_owned(), self.index, self.now);
                let binding = Binding { wanted, registered, at, process, id, held, before: None };
                self.bindings.insert(self.next, binding);
            }
        }
    }

    pub(super) fn end_binding(&mut self, who: &Who, id: &str) {
        match self.rules.tells_server {
            true => self.bindings.retain(|_, binding| !binding.is_of(who, id)),
            // It is not known when the server takes that: it may go on.
            false => {
                for binding in self.bindings.values_mut().filter(|binding| binding.is_of(who, id)) {
                    binding.held.holder = Holder::TakenBack;
                    binding.held.since = None;
                }
            }
        }
    }

    /// A registration was refused: it is as it was before.
    pub(super) fn refused(&mut self, who: &Who, id: &str) {
        let found = self.bindings.iter_mut().find(|(_, binding)| binding.is_of(who, id));
        if let Some((number, binding)) = found {
            match binding.before.take() {
                Some(before) => binding.held = before,
                None => {
                    let number = *number;
                    self.bindings.remove(&number);
                }
            }
        }
    }

    /// A worker is back on another connection, and says so: the old one is retired at once.
    pub(super) fn reattach(&mut self, who: &Who, message: &Value) {
        let previous = self.identities.get(text(&message["previous_worker_id"]));
        if let Some((token, old)) = previous
            && *token == message["reattach_token"]
            && old != who
            && self.rules.tells_server
        {
            let old = old.clone();
            self.goes(&old);
        }
    }
}

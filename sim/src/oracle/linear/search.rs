//! The search itself: the ways in which a history can have happened, from one event to the next.

use std::collections::{BTreeMap, VecDeque};

use super::{Fate, Model, Operation};

/// How many operations of one history may be under way at once.
const SLOTS: usize = 128;

/// How many steps of the model one history may cost, before it is given up as not decided. Histories of a world cost a
/// few hundred.
const MOST_STEPS: u64 = 500_000;

/// All the ways in which it can have happened so far.
#[derive(Debug)]
pub(super) struct Search<S> {
    pub(super) ways: Vec<Way<S>>,
    /// The operations that are under way, by the bit that stands for each.
    slots: Vec<Option<usize>>,
    /// The bits of those without answers.
    maybes: u128,
    pub(super) steps: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Way<S> {
    pub(super) state: S,
    /// Which of the operations under way have happened.
    done: u128,
}

pub(super) enum Stop {
    /// No way is left.
    Impossible,
    /// The search would cost too much.
    TooMuch,
}

impl<S: Clone> Search<S> {
    pub(super) fn new(state: S) -> Search<S> {
        Search { ways: vec![Way { state, done: 0 }], slots: Vec::new(), maybes: 0, steps: 0 }
    }

    pub(super) fn called(&mut self, number: usize, fate: Fate) -> Result<(), Stop> {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() == SLOTS => return Err(Stop::TooMuch),
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = Some(number);
        if fate == Fate::Maybe {
            self.maybes |= 1 << slot;
        }
        Ok(())
    }

    /// An operation has happened by now.
    pub(super) fn answered<M: Model<State = S>>(
        &mut self,
        model: &mut M,
        operations: &[Operation<M::Op>],
        number: usize,
    ) -> Result<(), Stop> {
        let bit = self.bit(number);
        let ways = self.search(model, operations, bit, true)?;
        if ways.is_empty() {
            return Err(Stop::Impossible);
        }
        self.go_on(ways, bit);
        Ok(())
    }

    /// Operations have happened by now, or never.
    pub(super) fn ended<M: Model<State = S>>(
        &mut self,
        model: &mut M,
        operations: &[Operation<M::Op>],
        numbers: &[usize],
    ) -> Result<(), Stop> {
        let bits = numbers.iter().fold(0, |bits, number| bits | self.bit(*number));
        let ways = self.search(model, operations, bits, false)?;
        self.go_on(ways, bits);
        Ok(())
    }

    fn bit(&self, number: usize) -> u128 {
        let slot = self.slots.iter().position(|slot| *slot == Some(number));
        slot.map_or(0, |slot| 1 << slot)
    }

    fn go_on(&mut self, ways: Vec<Way<S>>, ended: u128) {
        self.ways = ways;
        self.maybes &= !ended;
        for (slot, number) in self.slots.iter_mut().enumerate() {
            if ended >> slot & 1 == 1 {
                *number = None;
            }
        }
    }

    /// The ways in which one of the last operations to happen was one of `last`, and those there were, as far as it `must` not
    /// be so.
    fn search<M: Model<State = S>>(
        &mut self,
        model: &mut M,
        operations: &[Operation<M::Op>],
        last: u128,
        must: bool,
    ) -> Result<Vec<Way<S>>, Stop> {
        let mut found = Ways::new(self.maybes & !last);
        let mut seen = Ways::new(self.maybes);
        let mut queue = VecDeque::new();
        for way in &self.ways {
            let is_done = way.done & last != 0;
            if is_done || !must {
                found.add(model, Way { done: way.done & !last, ..way.clone() });
            }
            if !(is_done && must) && seen.add(model, way.clone()) {
                queue.push_back(way.clone());
            }
        }
        while let Some(way) = queue.pop_front() {
            if must && let Some(next) = self.at_once(model, operations, &way, last) {
                found.add(model, next);
                continue;
            }
            for (slot, number) in self.slots.iter().enumerate() {
                let bit = 1 << slot;
                let Some(operation) =
                    number.filter(|_| way.done & bit == 0).map(|number| &operations[number])
                else {
                    continue;
                };
                if self.maybes & bit != 0 && self.comes_later(model, operations, &way, slot) {
                    continue;
                }
                self.steps += 1;
                if self.steps > MOST_STEPS {
                    return Err(Stop::TooMuch);
                }
                let Some(state) = model.step(&way.state, &operation.op) else { continue };
                let next = Way { state, done: way.done | bit };
                let is_last = bit & last != 0;
                if is_last {
                    found.add(model, Way { done: next.done & !last, ..next.clone() });
                }
                if !(is_last && must) && seen.add(model, next.clone()) {
                    queue.push_back(next);
                }
            }
        }
        Ok(found.by_class.into_values().flatten().collect())
    }

    /// What an operation that tells all makes of this way, if it can come next and only operations that need not happen wait
    /// beside it: then what else could come before it would be for nothing.
    fn at_once<M: Model<State = S>>(
        &mut self,
        model: &mut M,
        operations: &[Operation<M::Op>],
        way: &Way<S>,
        bit: u128,
    ) -> Option<Way<S>> {
        let slots = self.slots.iter().enumerate().filter(|(_, number)| number.is_some());
        let open = slots.fold(0, |bits, (slot, _)| bits | 1 << slot) & !way.done;
        let number = self.slots.get(bit.trailing_zeros() as usize).copied().flatten()?;
        let op = &operations[number].op;
        if open & !self.maybes != bit || !model.tells_all(op) {
            return None;
        }
        self.steps += 1;
        model.step(&way.state, op).map(|state| Way { state, done: way.done })
    }

    /// Whether another operation, which is just like this one, is to happen before it.
    fn comes_later<M: Model<State = S>>(
        &self,
        model: &M,
        operations: &[Operation<M::Op>],
        way: &Way<S>,
        slot: usize,
    ) -> bool {
        let open = self.maybes & !way.done;
        let Some(this) = self.slots[slot] else { return false };
        let before = self.slots[..slot].iter().enumerate().filter(|(slot, _)| open >> slot & 1 == 1);
        before
            .filter_map(|(_, number)| *number)
            .any(|number| model.alike(&operations[number].op, &operations[this].op))
    }
}

/// What sets ways apart for good: the class of the state, and which operations with answers have happened.
type Class<M> = (<M as Model>::Class, u128);

/// Ways, without those that another one makes superfluous: whatever can follow them can follow it.
struct Ways<M: Model> {
    by_class: BTreeMap<Class<M>, Vec<Way<M::State>>>,
    /// An operation without an answer may happen or not, so a way in which fewer of them have is as good.
    maybes: u128,
}

impl<M: Model> Ways<M> {
    fn new(maybes: u128) -> Ways<M> {
        Ways { by_class: BTreeMap::new(), maybes }
    }

    /// Whether this one is not superfluous.
    fn add(&mut self, model: &M, way: Way<M::State>) -> bool {
        let class = (model.class(&way.state), way.done & !self.maybes);
        let ways = self.by_class.entry(class).or_default();
        let covers = |one: &Way<M::State>, other: &Way<M::State>| {
            one.done & !other.done == 0 && model.covers(&one.state, &other.state)
        };
        if ways.iter().any(|one| covers(one, &way)) {
            return false;
        }
        ways.retain(|other| !covers(&way, other));
        ways.push(way);
        true
    }
}

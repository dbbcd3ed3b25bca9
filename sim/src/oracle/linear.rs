//! Whether operations that overlapped can have happened one at a time, each at a moment between its call and its answer:
//! a search in the manner of Wing & Gong, forward in time, with a memory of what it has tried.
//!
//! It keeps every way in which the operations so far can have happened, as a state and the set of those that wait for their
//! answers and have happened already. An operation is made to happen as late as possible: when its answer came, which is when
//! the ways that can't explain the answer die. Where nothing is under way, few ways are left, usually one.

use search::{Search, Stop};

mod search;
#[cfg(test)]
mod tests;

/// What an object does, one operation at a time.
pub(super) trait Model {
    type State: Clone;
    /// An operation, with its answer if that is known.
    type Op;
    /// States of different classes have nothing to do with each other.
    type Class: Ord;

    /// The state after an operation; `None` if it can't have happened in this state, answered as it was. Without an answer
    /// also if it would have changed nothing: it may as well not have happened.
    fn step(&mut self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    fn class(&self, state: &Self::State) -> Self::Class;

    /// Whether all that can follow another state of the class can follow this one.
    fn covers(&self, state: &Self::State, other: &Self::State) -> bool;

    /// Whether it makes no difference which of two operations without answers has happened. They have to end together.
    fn alike(&self, _op: &Self::Op, _other: &Self::Op) -> bool {
        false
    }

    /// Whether an operation's answer tells what the state was before it, so that the state after it is the same in whatever way
    /// that came about.
    fn tells_all(&self, _op: &Self::Op) -> bool {
        false
    }

    /// Whether the model understood everything so far. If not, nothing is decided.
    fn is_sure(&self) -> bool {
        true
    }
}

/// The operations of one object.
#[derive(Debug)]
pub(super) struct History<M: Model> {
    pub(super) model: M,
    operations: Vec<Operation<M::Op>>,
    /// What happened since the history was settled last, by place in the trace.
    events: Vec<(u64, Event)>,
    search: Search<M::State>,
    decided: bool,
}

/// An operation, and what is known of it.
#[derive(Debug)]
pub(super) struct Operation<O> {
    pub(super) op: O,
    pub(super) fate: Fate,
    pub(super) called: u64,
    /// When it was answered, or could not happen any more.
    pub(super) ended: Option<u64>,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may be answered yet.
    Open,
    /// It has happened.
    Answered,
    /// It has happened or not, or will yet.
    Maybe,
    /// It has not happened.
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Called(usize),
    Ended(usize),
}

/// There is no order in which it can have happened: this operation can't have had its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impossible(pub(super) usize);

impl<M: Model> History<M> {
    pub(super) fn new(model: M, state: M::State) -> History<M> {
        let search = Search::new(state);
        History { model, operations: Vec::new(), events: Vec::new(), search, decided: true }
    }

    /// An operation was called; its number.
    pub(super) fn called(&mut self, at: u64, op: M::Op) -> usize {
        let number = self.operations.len();
        self.operations.push(Operation { op, fate: Fate::Open, called: at, ended: None });
        self.events.push((at, Event::Called(number)));
        number
    }

    /// It was answered: it has happened, and this is what is known of it now.
    pub(super) fn answered(&mut self, at: u64, number: usize, op: M::Op) {
        self.operations[number].op = op;
        self.operations[number].fate = Fate::Answered;
        self.end(at, number);
    }

    /// It will not be answered: it may have happened, or may still.
    pub(super) fn may_be(&mut self, number: usize) {
        self.operations[number].fate = Fate::Maybe;
    }

    /// If it has not happened by now, it won't.
    pub(super) fn end(&mut self, at: u64, number: usize) {
        let ended = &mut self.operations[number].ended;
        if ended.is_none() {
            *ended = Some(at);
            self.events.push((at, Event::Ended(number)));
        }
    }

    /// It has not happened.
    pub(super) fn never(&mut self, number: usize) {
        self.operations[number].fate = Fate::Never;
    }

    /// Whether a search that came to its end has found an order.
    pub(super) fn is_decided(&self) -> bool {
        self.decided
    }

    pub(super) fn operation(&self, number: usize) -> &Operation<M::Op> {
        &self.operations[number]
    }

    /// All operations, in the order in which they became known.
    pub(super) fn operations(&self) -> impl Iterator<Item = &Operation<M::Op>> {
        self.operations.iter()
    }

    /// What the object may be now.
    pub(super) fn states(&self) -> impl Iterator<Item = &M::State> {
        self.search.ways.iter().map(|way| &way.state)
    }

    /// Searches on, as far as the history is known. No operation may be open.
    pub(super) fn settle(&mut self) -> Result<(), Impossible> {
        let mut events = std::mem::take(&mut self.events);
        events.sort_by_key(|(at, _)| *at);
        let mut events = events.into_iter().peekable();
        while self.decided
            && let Some((at, event)) = events.next()
        {
            let within = match event {
                Event::Called(number) | Event::Ended(number)
                    if self.operations[number].fate == Fate::Never =>
                {
                    Ok(())
                }
                Event::Called(number) => self.search.called(number, self.operations[number].fate),
                Event::Ended(number) if self.operations[number].fate == Fate::Answered => {
                    self.search.answered(&mut self.model, &self.operations, number)
                }
                Event::Ended(number) => {
                    let mut ended = vec![number];
                    while let Some((_, event)) = events.next_if(|(next, event)| {
                        matches!(event, Event::Ended(next) if self.operations[*next].fate == Fate::Maybe)
                            && *next == at
                    }) {
                        let (Event::Called(number) | Event::Ended(number)) = event;
                        ended.push(number);
                    }
                    self.search.ended(&mut self.model, &self.operations, &ended)
                }
            };
            match within {
                Err(Stop::Impossible) if self.model.is_sure() => {
                    let (Event::Called(number) | Event::Ended(number)) = event;
                    return Err(Impossible(number));
                }
                Ok(()) => {}
                Err(_) => self.decided = false,
            }
        }
        self.decided &= self.model.is_sure();
        Ok(())
    }
}

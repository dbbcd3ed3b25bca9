use proptest::prelude::*;

use super::{Fate, History, Impossible, Model};
use Kind::{Add, Read, Set};

/// A number that is set, added to, and read.
#[derive(Debug)]
struct Number;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Set(i64),
    Add(i64),
    Read,
}

/// What is done to the number, and what the answer said it was before, or when it can't happen any more.
type Op = (Kind, Result<i64, Option<u64>>);

impl Model for Number {
    type State = i64;
    type Op = Op;
    type Class = i64;

    fn step(&mut self, state: &i64, (kind, before): &Op) -> Option<i64> {
        match (before, kind) {
            (Ok(before), _) if before != state => None,
            (_, Set(number)) => Some(*number),
            (_, Add(number)) => Some(state + number),
            (Ok(_), Read) => Some(*state),
            (Err(_), Read) => None,
        }
    }

    fn class(&self, state: &i64) -> i64 {
        *state
    }

    fn covers(&self, _: &i64, _: &i64) -> bool {
        true
    }

    fn tells_all(&self, (_, before): &Op) -> bool {
        before.is_ok()
    }

    fn alike(&self, op: &Op, other: &Op) -> bool {
        op == other
    }
}

/// What is done from when to when, and what it was told; who is told nothing may have done it.
#[derive(Clone, Copy, Debug)]
struct Done {
    kind: Kind,
    from: u64,
    to: Option<u64>,
    told: Option<i64>,
}

fn done(kind: Kind, from: u64, to: u64, told: i64) -> Done {
    Done { kind, from, to: Some(to), told: Some(told) }
}

fn maybe(kind: Kind, from: u64, to: Option<u64>) -> Done {
    Done { kind, from, to, told: None }
}

impl Done {
    fn op(&self) -> Op {
        (self.kind, self.told.ok_or(self.to))
    }
}

fn history(all: &[Done]) -> History<Number> {
    let mut history = History::new(Number, 0);
    for one in all {
        let number = history.called(one.from, one.op());
        match (one.to, one.told) {
            (Some(to), Some(_)) => history.answered(to, number, one.op()),
            (to, _) => {
                history.may_be(number);
                to.into_iter().for_each(|to| history.end(to, number));
            }
        }
    }
    history
}

/// Which operation can't have had its answer.
fn check(all: &[Done]) -> Option<usize> {
    let mut history = history(all);
    let found = history.settle();
    assert!(history.is_decided());
    found.err().map(|Impossible(number)| number)
}

#[test]
fn one_after_the_other_is_linearizable() {
    assert_eq!(
        check(&[done(Set(1), 0, 1, 0), done(Read, 2, 3, 1), done(Add(2), 4, 5, 1), done(Read, 6, 7, 3)]),
        None
    );
}

#[test]
fn what_overlaps_happens_in_either_order() {
    let first = [done(Set(1), 0, 5, 2), done(Set(2), 1, 4, 0), done(Read, 6, 7, 1)];
    let second = [done(Set(1), 0, 5, 0), done(Set(2), 1, 4, 1), done(Read, 6, 7, 2)];
    assert_eq!((check(&first), check(&second)), (None, None));
}

#[test]
fn a_stale_read_is_not_linearizable() {
    assert_eq!(check(&[done(Set(1), 0, 1, 0), done(Read, 2, 3, 0)]), Some(1));
}

#[test]
fn a_read_during_a_write_may_see_either_and_a_later_one_no_older_value() {
    let write = maybe(Set(1), 0, None);
    assert_eq!(check(&[write, done(Read, 1, 2, 0), done(Read, 3, 4, 1)]), None);
    assert_eq!(check(&[write, done(Read, 1, 2, 1), done(Read, 3, 4, 0)]), Some(2));
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let both = [done(Add(1), 0, 2, 0), done(Add(1), 1, 3, 0)];
    assert_eq!(check(&both), Some(1));
}

#[test]
fn a_write_that_maybe_happened_may_surface_late_and_only_once() {
    let all = [
        maybe(Set(7), 0, None),
        done(Read, 1, 2, 0),
        done(Set(1), 3, 4, 0),
        done(Read, 5, 6, 1),
        done(Read, 7, 8, 7),
        done(Set(2), 9, 10, 7),
    ];
    assert_eq!(check(&all), None);
    let again = [&all[..], &[done(Read, 11, 12, 7)]].concat();
    assert_eq!(check(&again), Some(6));
}

#[test]
fn a_write_that_maybe_happened_does_not_surface_after_its_end() {
    assert_eq!(check(&[maybe(Set(7), 0, Some(3)), done(Read, 1, 2, 0), done(Read, 4, 5, 7)]), None);
    assert_eq!(check(&[maybe(Set(7), 0, Some(3)), done(Read, 4, 5, 0), done(Read, 6, 7, 7)]), Some(2));
}

#[test]
fn all_that_was_added_and_some_of_what_maybe_was_is_the_sum() {
    let added =
        [done(Add(5), 0, 1, 0), maybe(Add(3), 2, None), done(Add(10), 3, 4, 5), maybe(Add(4), 5, None)];
    for sum in 0..40 {
        let all = [&added[..], &[done(Read, 6, 7, sum)]].concat();
        let expected = [15, 18, 19, 22].contains(&sum);
        assert_eq!(check(&all).is_none(), expected, "{sum}");
    }
}

#[test]
fn what_never_happened_leaves_nothing() {
    let mut history = history(&[done(Set(1), 0, 1, 0)]);
    let refused = history.called(2, (Set(5), Err(None)));
    history.never(refused);
    let read = history.called(4, (Read, Err(None)));
    history.answered(5, read, (Read, Ok(5)));
    assert_eq!(history.settle(), Err(Impossible(read)));
}

#[test]
fn a_history_can_be_settled_bit_by_bit() {
    let mut history = history(&[maybe(Set(7), 0, None), done(Read, 1, 2, 0)]);
    assert_eq!(history.settle(), Ok(()));
    let read = history.called(3, (Read, Err(None)));
    history.answered(4, read, (Read, Ok(7)));
    history.end(5, 0);
    assert_eq!(history.settle(), Ok(()));
    assert_eq!(history.states().collect::<Vec<_>>(), [&7]);
    let read = history.called(6, (Read, Err(None)));
    history.answered(7, read, (Read, Ok(0)));
    assert_eq!(history.settle(), Err(Impossible(read)));
}

#[test]
fn many_writes_that_maybe_happened_cost_little() {
    let sets = (1..21).map(|n| maybe(Set(100 * n), 0, None));
    let adds = (0..10).map(|_| maybe(Add(1), 0, None));
    let reads = (0..40).map(|n| done(Read, 2 * n + 1, 2 * n + 2, 100 * (n as i64 / 2) + (n as i64 + 1) / 40));
    let mut history = history(&sets.chain(adds).chain(reads).collect::<Vec<_>>());
    assert_eq!(history.settle(), Ok(()));
    assert!(history.search.steps < 100_000, "{}", history.search.steps);
}

#[test]
fn what_would_cost_too_much_is_not_decided() {
    let adds = (0..60).map(|n| maybe(Add(1 << n), 0, None));
    let mut history = history(&adds.chain([done(Read, 1, 2, -1)]).collect::<Vec<_>>());
    assert_eq!(history.settle(), Ok(()));
    assert!(!history.is_decided());
}

/// Tries all orders of all selections.
fn brute_force(state: i64, left: &[Done]) -> bool {
    let may_end_here = left.iter().all(|one| one.told.is_none());
    may_end_here
        || left.iter().enumerate().any(|(at, one)| {
            let others = || left.iter().enumerate().filter(move |(other, _)| *other != at);
            // Nothing that was over before this was called may come after it; what maybe happened then did not.
            let is_next =
                others().all(|(_, other)| other.told.is_none() || other.to.is_none_or(|to| to > one.from));
            let Some(state) = Number.step(&state, &one.op()) else { return false };
            let left: Vec<_> = others()
                .map(|(_, other)| *other)
                .filter(|other| other.told.is_some() || other.to.is_none_or(|to| to > one.from))
                .collect();
            is_next && brute_force(state, &left)
        })
}

fn operations() -> impl Strategy<Value = Vec<Done>> {
    let kind = prop_oneof![(1..4i64).prop_map(Set), (1..3i64).prop_map(Add), Just(Read)];
    let one = (kind, 0..30u64, 1..12u64, prop::option::weighted(0.75, 0..6i64), any::<bool>());
    prop::collection::vec(one, 1..7).prop_map(|all| {
        let mut all: Vec<_> = all
            .into_iter()
            .map(|(kind, from, long, told, ends)| Done {
                kind,
                from: from * 16,
                to: (ends || told.is_some()).then_some((from + long) * 16),
                told,
            })
            .collect();
        // No two things at the same place.
        for (number, one) in all.iter_mut().enumerate() {
            one.from += number as u64;
            one.to = one.to.map(|to| to + number as u64 + 8);
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_finds_what_trying_everything_finds(all in operations()) {
        prop_assert_eq!(check(&all).is_none(), brute_force(0, &all));
    }

    #[test]
    fn what_happened_one_at_a_time_is_found_to_have(all in operations(), at in prop::collection::vec(0..1_000u64, 7)) {
        // Each happens at a moment of its own, and is told what was there.
        let mut moments: Vec<_> = all
            .iter()
            .zip(at)
            .enumerate()
            .map(|(number, (one, at))| (one.from + at % (one.to.unwrap_or(one.from + 200) - one.from), number))
            .collect();
        moments.sort_unstable();
        let (mut all, mut state) = (all, 0);
        for (_, number) in moments {
            all[number].told = all[number].told.map(|_| state);
            state = Number.step(&state, &all[number].op()).unwrap_or(state);
        }
        prop_assert_eq!(check(&all), None);
    }
}

#[test]
fn an_open_operation_is_told_apart_from_one_that_was_answered() {
    let history = history(&[done(Set(1), 0, 1, 0), maybe(Set(2), 0, None)]);
    let fates: Vec<_> = history.operations().map(|operation| operation.fate).collect();
    assert_eq!(fates, [Fate::Answered, Fate::Maybe]);
}

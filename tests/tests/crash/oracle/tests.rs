//! The oracle says no to each way of being wrong, and yes to every way of being right.

use super::*;

const GROUP: &str = "g";
const ID: &str = "1-0";

fn set(oracle: &mut Oracle, id: &str, seq: u64) -> Ticket {
    oracle.sends(GROUP, writer_of(id), id, Change::Set { seq, text: String::new() })
}

fn content(id: &str, seq: u64) -> Content {
    Content { id: id.to_owned(), writer: writer_of(id), seq, ..Content::default() }
}

fn shown(id: &str, seq: u64, revision: u64) -> Shown {
    Shown { id: id.to_owned(), content: content(id, seq), revision }
}

fn told(id: &str, seq: u64, created: bool, revision: u64) -> Told {
    Told {
        id: id.to_owned(),
        content: Some(content(id, seq)),
        created,
        revision,
        stamp: 1_000 + 2 * revision,
    }
}

/// Three sets of one item, of which the first two are acknowledged.
fn two_of_three() -> Oracle {
    let mut oracle = Oracle::default();
    let tickets: Vec<Ticket> = (1..=3).map(|seq| set(&mut oracle, ID, seq)).collect();
    oracle.acknowledged(&tickets[0], None, Some(&content(ID, 1)), 1).expect("right");
    oracle.acknowledged(&tickets[1], Some(&content(ID, 1)), Some(&content(ID, 2)), 2).expect("right");
    oracle
}

/// One set of an item that a subscriber was told of, though its writer was not.
fn seen() -> (Oracle, Watcher) {
    let mut oracle = Oracle::default();
    let mut watcher = oracle.watch(GROUP, 0, 1_000, &[]).expect("right");
    set(&mut oracle, ID, 1);
    set(&mut oracle, ID, 2);
    oracle.told(&mut watcher, &told(ID, 1, true, 1)).expect("right");
    (oracle, watcher)
}

#[track_caller]
fn breaks<T: fmt::Debug>(law: Law, checked: Checked<T>) {
    assert_eq!(checked.expect_err("this is wrong").law, law);
}

#[test]
fn the_last_acknowledged_change_and_any_later_one_may_be_there() {
    assert_eq!(two_of_three().restarted(GROUP, 2, &[shown(ID, 2, 2)]), Ok(0));
    assert_eq!(two_of_three().restarted(GROUP, 3, &[shown(ID, 3, 3)]), Ok(1));
}

#[test]
fn a_lost_acknowledged_change_is_found() {
    breaks(Law::Kept, two_of_three().restarted(GROUP, 2, &[shown(ID, 1, 1)]));
    breaks(Law::Kept, two_of_three().restarted(GROUP, 2, &[]));
    breaks(Law::Revisions, two_of_three().restarted(GROUP, 1, &[shown(ID, 1, 1)]));
}

#[test]
fn a_lost_acknowledged_delete_is_found_and_a_later_unanswered_set_is_none() {
    let deleted = || {
        let mut oracle = Oracle::default();
        let first = set(&mut oracle, ID, 1);
        let delete = oracle.sends(GROUP, 1, ID, Change::Delete);
        set(&mut oracle, ID, 2);
        oracle.acknowledged(&first, None, Some(&content(ID, 1)), 1).expect("right");
        oracle.acknowledged(&delete, Some(&content(ID, 1)), None, 2).expect("right");
        oracle
    };
    assert_eq!(deleted().restarted(GROUP, 2, &[]), Ok(0));
    assert_eq!(deleted().restarted(GROUP, 3, &[shown(ID, 2, 3)]), Ok(1));
    breaks(Law::Kept, deleted().restarted(GROUP, 2, &[shown(ID, 1, 1)]));
}

#[test]
fn a_count_is_between_what_was_acknowledged_and_what_was_sent() {
    let counted = |n: u64, revision: u64| {
        let mut oracle = Oracle::default();
        let tickets: Vec<Ticket> =
            (1..=4).map(|seq| oracle.sends(GROUP, 1, ID, Change::Count { seq })).collect();
        let after = |n: u64| Some(Content { n, ..content(ID, n) });
        for n in 1..=2 {
            let old = after(n - 1).filter(|old| old.n > 0);
            let at = usize::try_from(n - 1).expect("small");
            oracle.acknowledged(&tickets[at], old.as_ref(), after(n).as_ref(), n).expect("right");
        }
        let item = Shown { id: ID.to_owned(), content: after(n).expect("content"), revision };
        oracle.restarted(GROUP, revision, &[item])
    };
    assert_eq!(counted(2, 2), Ok(0));
    assert_eq!(counted(4, 4), Ok(2));
    breaks(Law::Kept, counted(1, 2));
    breaks(Law::Kept, counted(5, 5));
}

#[test]
fn what_was_never_sent_is_found() {
    breaks(Law::Kept, two_of_three().restarted(GROUP, 2, &[shown(ID, 4, 2)]));
    breaks(Law::Kept, two_of_three().restarted(GROUP, 3, &[shown(ID, 2, 2), shown("1-1", 3, 3)]));
    breaks(Law::Kept, two_of_three().restarted(GROUP, 3, &[shown(ID, 2, 2), shown("2-0", 3, 3)]));
    let mut altered = shown(ID, 2, 2);
    altered.content.text.push('?');
    breaks(Law::Kept, two_of_three().restarted(GROUP, 2, &[altered]));
    breaks(Law::Kept, two_of_three().restarted(GROUP, 3, &[shown(ID, 2, 2), shown(ID, 2, 3)]));
}

#[test]
fn a_later_change_without_an_earlier_one_of_its_writer_is_found() {
    let mut oracle = Oracle::default();
    set(&mut oracle, "1-0", 1);
    set(&mut oracle, "1-1", 2);
    breaks(Law::Kept, oracle.restarted(GROUP, 1, &[shown("1-1", 2, 1)]));
}

#[test]
fn what_an_earlier_crash_took_back_may_not_come_back() {
    let mut oracle = two_of_three();
    assert_eq!(oracle.restarted(GROUP, 2, &[shown(ID, 2, 2)]), Ok(0));
    breaks(Law::Kept, oracle.restarted(GROUP, 3, &[shown(ID, 3, 3)]));
}

#[test]
fn what_nobody_touched_stays_as_it_was() {
    let mut oracle = two_of_three();
    assert_eq!(oracle.restarted(GROUP, 2, &[shown(ID, 2, 2)]), Ok(0));
    set(&mut oracle, "2-0", 1);
    breaks(Law::Kept, oracle.restarted(GROUP, 2, &[]));
    breaks(Law::Kept, oracle.restarted(GROUP, 3, &[shown(ID, 1, 2), shown("2-0", 1, 3)]));
    breaks(Law::Kept, oracle.restarted(GROUP, 3, &[shown(ID, 2, 1), shown("2-0", 1, 3)]));
    assert_eq!(oracle.restarted(GROUP, 3, &[shown(ID, 2, 2), shown("2-0", 1, 3)]), Ok(1));
}

#[test]
fn a_revision_gap_is_found() {
    breaks(Law::Revisions, two_of_three().restarted(GROUP, 4, &[shown(ID, 3, 4)]));
    breaks(Law::Revisions, two_of_three().restarted(GROUP, 3, &[shown(ID, 2, 2)]));
    let (mut oracle, mut watcher) = seen();
    breaks(Law::Revisions, oracle.told(&mut watcher, &told(ID, 2, false, 3)));
}

#[test]
fn a_revision_given_twice_is_found() {
    let mut oracle = two_of_three();
    let other = set(&mut oracle, "2-0", 1);
    breaks(Law::Revisions, oracle.acknowledged(&other, None, Some(&content("2-0", 1)), 2));

    let both = [shown(ID, 2, 2), shown("2-0", 1, 2)];
    let mut oracle = two_of_three();
    set(&mut oracle, "2-0", 1);
    breaks(Law::Revisions, oracle.restarted(GROUP, 3, &both));

    // Of a change before: the item that has it now was not what it changed.
    let mut oracle = two_of_three();
    set(&mut oracle, "2-0", 1);
    breaks(Law::Revisions, oracle.restarted(GROUP, 3, &[shown(ID, 2, 2), shown("2-0", 1, 1)]));

    // And across a crash.
    let mut oracle = two_of_three();
    assert_eq!(oracle.restarted(GROUP, 2, &[shown(ID, 2, 2)]), Ok(0));
    let again = set(&mut oracle, ID, 4);
    breaks(Law::Revisions, oracle.acknowledged(&again, Some(&content(ID, 2)), Some(&content(ID, 4)), 2));
}

#[test]
fn an_answer_that_tells_of_something_else_is_found() {
    let mut oracle = Oracle::default();
    let ticket = set(&mut oracle, ID, 1);
    breaks(Law::Answer, oracle.acknowledged(&ticket, Some(&content(ID, 0)), Some(&content(ID, 1)), 1));
    breaks(Law::Answer, oracle.acknowledged(&ticket, None, Some(&content(ID, 2)), 1));
}

#[test]
fn a_lost_seen_change_is_found() {
    assert_eq!(seen().0.restarted(GROUP, 1, &[shown(ID, 1, 1)]), Ok(0));
    assert_eq!(seen().0.restarted(GROUP, 2, &[shown(ID, 2, 2)]), Ok(1));
    breaks(Law::Revisions, seen().0.restarted(GROUP, 0, &[]));
    breaks(Law::Kept, seen().0.restarted(GROUP, 1, &[]));
}

#[test]
fn a_change_seen_twice_out_of_order_or_never_sent_is_found() {
    let (mut oracle, mut watcher) = seen();
    breaks(Law::Revisions, oracle.told(&mut watcher.clone(), &told(ID, 1, true, 1)));
    breaks(Law::Seen, oracle.told(&mut watcher.clone(), &told(ID, 1, true, 2)));
    breaks(Law::Seen, oracle.told(&mut watcher.clone(), &told(ID, 3, false, 2)));
    breaks(Law::Seen, oracle.told(&mut watcher.clone(), &told("2-0", 1, true, 2)));
    breaks(Law::Seen, oracle.told(&mut watcher.clone(), &told(ID, 2, true, 2)));
    assert_eq!(oracle.told(&mut watcher, &told(ID, 2, false, 2)), Ok(()));
}

#[test]
fn a_sync_that_is_not_what_is_there_is_found() {
    let (mut oracle, _) = seen();
    oracle.restarted(GROUP, 1, &[shown(ID, 1, 1)]).expect("right");
    breaks(Law::Seen, oracle.watch(GROUP, 1, 2_000, &[]));
    breaks(Law::Seen, oracle.watch(GROUP, 1, 2_000, &[content(ID, 2)]));
    breaks(Law::Revisions, oracle.watch(GROUP, 2, 2_000, &[content(ID, 1)]));
    assert!(oracle.watch(GROUP, 1, 2_000, &[content(ID, 1)]).is_ok());
}

#[test]
fn a_timestamp_that_does_not_increase_is_found() {
    let (mut oracle, mut watcher) = seen();
    let late = Told { stamp: 1_002, ..told(ID, 2, false, 2) };
    breaks(Law::Stamps, oracle.told(&mut watcher, &late));
    oracle.restarted(GROUP, 1, &[shown(ID, 1, 1)]).expect("right");
    breaks(Law::Stamps, oracle.watch(GROUP, 1, 1_002, &[content(ID, 1)]));
    oracle.watch(GROUP, 1, 1_003, &[content(ID, 1)]).expect("right");
    // Nothing happens until the next start.
    oracle.restarted(GROUP, 1, &[shown(ID, 1, 1)]).expect("right");
    breaks(Law::Stamps, oracle.watch(GROUP, 1, 1_002, &[content(ID, 1)]));
    let mut watcher = oracle.watch(GROUP, 1, 1_003, &[content(ID, 1)]).expect("right");
    set(&mut oracle, ID, 2);
    breaks(Law::Stamps, oracle.told(&mut watcher, &Told { stamp: 1_003, ..told(ID, 2, false, 2) }));
}

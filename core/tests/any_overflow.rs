//! No sent event is skipped silently: each reaches a subscriber, or is told as one that it has missed.

mod driver;

use headwater_core::key::SessionKey;
use proptest::prelude::*;

use driver::{Seen, World};

const GROUPS: [&str; 2] = ["g", "h"];
const ITEMS: [&str; 3] = ["", "a", "b"];

/// A place among groups and items.
type Place = (usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Join(Place),
    Leave(Place),
    Send(Place),
    Set(Place),
    Overflow,
    Drained,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..GROUPS.len(), 0..ITEMS.len());
    prop_oneof![
        3 => place().prop_map(Step::Join),
        1 => place().prop_map(Step::Leave),
        6 => place().prop_map(Step::Send),
        1 => (0..GROUPS.len(), 1..ITEMS.len()).prop_map(Step::Set),
        2 => Just(Step::Overflow),
        2 => Just(Step::Drained),
    ]
}

/// How many sent events a subscriber has got, and how many it was told that it has missed.
fn counted(world: &mut World, session: SessionKey) -> (u64, u64) {
    let seen: Vec<Seen> = world.frames(session).iter().map(|frame| Seen::read(frame)).collect();
    let sent = seen.iter().filter(|seen| seen.sent).count() as u64;
    (sent, seen.iter().filter_map(|seen| seen.skipped).sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two subscribers do the same, and one of them is too slow at times.
    #[test]
    fn who_is_slow_is_told_how_many_sent_events_another_got_meanwhile(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::in_memory();
        let (worker, slow, fast) = (world.worker(), world.session(), world.session());
        let (mut behind, mut left_behind) = (false, false);
        for step in &steps {
            match *step {
                Step::Join((group, item)) => {
                    for session in [slow, fast] {
                        world.join(session, &format!("{group} {item}"), GROUPS[group], ITEMS[item]);
                    }
                }
                Step::Leave((group, item)) => {
                    left_behind |= behind;
                    for session in [slow, fast] {
                        world.leave(session, &format!("{group} {item}"));
                    }
                }
                Step::Send((group, item)) => world.send(worker, "s", GROUPS[group], ITEMS[item], "typing"),
                Step::Set((group, item)) => world.set(worker, "w", GROUPS[group], ITEMS[item], "1"),
                Step::Overflow => {
                    behind = true;
                    world.overflow(slow);
                }
                Step::Drained => {
                    behind = false;
                    world.drained(slow);
                }
            }
        }
        world.drained(slow);
        let ((got, told), (all, none)) = (counted(&mut world, slow), counted(&mut world, fast));
        prop_assert_eq!(none, 0, "who is never behind misses nothing");
        // What was missed of what was left then is told to nobody.
        prop_assert!(if left_behind { got + told <= all } else { got + told == all }, "{} + {} of {}", got, told, all);
    }
}

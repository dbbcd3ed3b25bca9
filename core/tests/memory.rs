//! What a group's snapshot thinks that it takes, against what the allocator gave. Alone in its file: the allocator
//! counts for the whole process.

#[path = "../benches/filled/mod.rs"]
mod filled;

use filled::Filled;

/// About how many items there are of each size of group.
const ITEMS: usize = 20_000;

#[test]
fn a_snapshot_knows_about_how_much_memory_it_takes() {
    for items in [2, 3, 9, 16, 17, 24, 50, 1_000, ITEMS] {
        let groups = ITEMS / items;
        // What a group costs beside its items is not a snapshot's: groups of one item have it, too.
        let one = {
            let mut one = Filled::new(groups, 1, |i| i);
            (one.taken(), one.estimate())
        };
        let check = |filled: &mut Filled, left: usize, when: &str| {
            let (taken, estimate) = (filled.taken() - one.0, filled.estimate() - one.1);
            let off = (estimate as f64 / taken as f64 - 1.0) * 100.0;
            let overhead = filled.overhead(left);
            println!("{items:>6} items, {when:<9}: {overhead:>6.1} bytes an item, off by {off:>5.1} %");
            assert!(off.abs() < 20.0, "{items} items {when}: {estimate} of {taken} bytes");
        };
        let mut filled = Filled::new(groups, items, |i| i);
        check(&mut filled, items, "in order");
        filled.set_all(|i| i, 1);
        check(&mut filled, items, "set again");
        let left = filled.halve();
        if left > 1 {
            check(&mut filled, left, "half left");
        }
        check(&mut Filled::mixed(groups, items), items, "mixed up");
    }
}

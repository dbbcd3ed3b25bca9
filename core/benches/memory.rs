//! What a stored item costs in memory beside the texts of its id and value, in groups of different sizes.
//!
//! `cargo bench -p headwater-core --bench memory`. It prints numbers and judges nothing. Counted is what the C
//! library's allocator takes for a block: its size and a header of 8 bytes, rounded up to 16. The names of groups
//! don't count either; everything else does, so a group of one item pays for its group, too. The last column is what
//! the groups' snapshots think that they take an item, texts included.

mod filled;

use filled::Filled;

/// About how many items each row is of.
const ITEMS: usize = 100_000;

fn main() {
    println!("bytes an item beside id and value");
    let columns = ["items/group", "in order", "set again", "half left", "mixed up", "(estimate)"];
    println!("{}", columns.map(|column| format!("{column:>12}")).concat());
    for items in [1, 2, 4, 16, 17, 24, 32, 33, 40, 64, 100, 1_000, 100_000] {
        let groups = ITEMS / items;
        let mut filled = Filled::new(groups, items, |i| i);
        let in_order = filled.overhead(items);
        let estimate = filled.estimate() / (groups * items);
        filled.set_all(|i| i, 1);
        let again = filled.overhead(items);
        let left = filled.halve();
        let half = filled.overhead(left);
        drop(filled);
        let mixed = Filled::mixed(groups, items).overhead(items);
        println!("{items:>12}{in_order:>12.1}{again:>12.1}{half:>12.1}{mixed:>12.1}{estimate:>12}");
    }
}

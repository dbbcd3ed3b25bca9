//! Commands on a store with a log, and those who subscribe to what they change.

mod step;
mod world;

use crate::input::Input;
use world::World;

/// Runs a story of commands, subscriptions and writes to the disk, on the core and on the model of its store.
///
/// # Panics
///
/// If an answer or a frame to a subscriber is not what the model says, comes too early or not at all; or if replaying
/// the log does not give the same store.
pub fn commands(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..MOST_STEPS {
        world.take(&step::step(&mut input, world.model()));
        if input.is_over() {
            break;
        }
    }
    world.settle();
    world.restart().look_at_everything();
}

/// More steps than this only make a run slow.
const MOST_STEPS: usize = 64;

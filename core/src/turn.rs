//! One input's turn: what every room may need to handle it.

use crate::config::CoreConfig;
use crate::effect::Effect;
use crate::rng::Rng;
use crate::time::Now;

/// The moment, the rules, the dice, and where the effects go.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a CoreConfig,
    pub(crate) rng: &'a mut Rng,
    pub(crate) effects: &'a mut Vec<Effect>,
}

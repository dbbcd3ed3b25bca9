//! Headwater's whole behaviour as one pure, deterministic state machine.
//!
//! [`Core`] has no clock, no randomness, no I/O, no threads. Its owner tells it what happened, an [`Input`] and the
//! time of it, and carries out the [`Effect`]s that come back, in order:
//!
//! ```
//! use headwater_core::{Core, Input, config::CoreConfig, time::{Mono, Now, WallMs}};
//!
//! let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
//! let mut core = Core::new(CoreConfig::default(), [0; 32], now);
//! let mut effects = Vec::new();
//! core.handle(now, Input::Tick, &mut effects);
//! assert!(effects.is_empty());
//! // Wait for the next input, at most until then, and hand in `Input::Tick`:
//! assert_eq!(core.next_deadline(), None);
//! ```
//!
//! Nothing waits inside that is not told by [`Core::next_deadline`] or by an input that answers an effect.
//!
//! The rooms, from the bottom up; none knows one above it: [`json`], [`name`], [`key`] and [`time`] are the words;
//! [`ops`] is what updates mean; [`log`] is the store's form on disk; [`store`] holds streams, groups and items, and
//! what waits until it is durable; [`wire`] is both protocols; `functions` routes calls to workers; `triggers` is what
//! they are called for when something happens; `custom` is the streams that they keep themselves; [`hub`] knows who
//! subscribes to what.
#![forbid(unsafe_code)]

pub mod call;
pub mod config;
mod core;
mod custom;
mod effect;
pub mod error;
mod field;
mod functions;
pub mod hub;
mod input;
pub mod json;
pub mod key;
pub mod log;
pub mod name;
pub mod ops;
pub mod rng;
pub mod store;
pub mod time;
mod triggers;
mod turn;
pub mod wire;

pub use crate::core::Core;
pub use effect::{Effect, Notice};
pub use input::Input;

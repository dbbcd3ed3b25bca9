//! What the core must do, written a second time, slowly and obviously.
//!
//! Tests and fuzz targets do the same to the core and to this model, and compare. So the two share no code, and each
//! rule of the protocol stands here in one place, as it is worded there: [`update`] is its table of update operations,
//! [`store`] its functions and events, [`json`] values as they were spelled. Nothing is done twice to be fast: what
//! changes is copied, what is looked for is searched.
#![forbid(unsafe_code)]

pub mod json;
mod number;
pub mod store;
pub mod update;

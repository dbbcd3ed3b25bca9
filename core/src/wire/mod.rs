//! Both protocols: bytes to messages and back, pure. What the clients need is written down with each message.

pub mod stream;
pub(crate) mod text;
pub mod worker;

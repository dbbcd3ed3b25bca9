//! The worker port's frames: what the SDKs send and what they expect.

mod from_worker;
mod to_worker;

pub use from_worker::{
    BadFrame, BadFrameAnswer, FromWorker, Invoke, InvokeTarget, Payload, PayloadData, TriggerRequest, parse,
};
pub use to_worker::ToWorker;

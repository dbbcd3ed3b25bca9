use serde::Deserialize;
use serde_json::Value;

use crate::behaviour::Behaviour;

/// A line of stdin.
#[derive(Deserialize)]
pub(crate) struct Command {
    /// The answer repeats it.
    pub(crate) n: u64,
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// What is to be done.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Order {
    Function {
        id: String,
        does: Behaviour,
    },
    Trigger {
        #[serde(rename = "type")]
        kind: String,
        function: String,
        config: Value,
        metadata: Option<Value>,
    },
    Unbind {
        function: String,
    },
    Forget {
        id: String,
    },
    Call {
        function: String,
        payload: Value,
        metadata: Option<Value>,
        #[serde(default)]
        void: bool,
    },
    Release {
        function: String,
    },
}

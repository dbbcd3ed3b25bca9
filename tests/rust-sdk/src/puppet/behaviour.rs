use std::collections::HashMap;

use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{Error, IIIClient, TriggerAction};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::CALL_MS;

/// What a function does with its input.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Behaviour {
    Echo,
    Gives {
        #[serde(default)]
        value: Value,
    },
    Nothing,
    Throws {
        message: String,
    },
    /// Gives the value once it is released.
    Holds {
        #[serde(default)]
        value: Value,
    },
    /// Calls another function, with its own input unless there is a payload.
    Calls {
        function: String,
        payload: Option<Value>,
    },
    Voids {
        function: String,
    },
    If {
        path: Vec<String>,
        is: Value,
        then: Value,
        #[serde(rename = "else")]
        otherwise: Value,
    },
    Authenticates {
        tokens: HashMap<String, Value>,
    },
}

impl Behaviour {
    pub(crate) async fn run(
        self,
        iii: IIIClient,
        name: String,
        mut opened: watch::Receiver<bool>,
        input: Value,
    ) -> Result<Value, Error> {
        match self {
            Behaviour::Echo => Ok(json!({ "echo": input })),
            Behaviour::Gives { value } => Ok(value),
            Behaviour::Nothing => Ok(Value::Null),
            Behaviour::Throws { message } => Err(Error::Handler(message)),
            Behaviour::Holds { value } => {
                opened.wait_for(|opened| *opened).await.expect("the puppet keeps its gates");
                Ok(value)
            }
            Behaviour::Calls { function, payload } => {
                let payload = payload.unwrap_or(input);
                let request = TriggerRequest {
                    function_id: function,
                    payload,
                    action: None,
                    timeout_ms: Some(CALL_MS),
                };
                let got = iii.trigger(request).await?;
                Ok(json!({ "by": name, "got": got }))
            }
            Behaviour::Voids { function } => {
                let action = Some(TriggerAction::Void);
                let request =
                    TriggerRequest { function_id: function, payload: input, action, timeout_ms: None };
                iii.trigger(request).await
            }
            Behaviour::If { path, is, then, otherwise } => {
                let found = path.iter().try_fold(&input, |value, key| value.get(key)).unwrap_or(&Value::Null);
                Ok(if *found == is { then } else { otherwise })
            }
            Behaviour::Authenticates { tokens } => {
                Ok(match token(&input).and_then(|token| tokens.get(token)) {
                    Some(context) => json!({ "context": context }),
                    None => json!({ "unauthorized": true }),
                })
            }
        }
    }
}

/// The token of a handshake: a header, a query parameter or a subprotocol.
fn token(input: &Value) -> Option<&str> {
    let header = |name: &str| input["headers"][name].as_str();
    let bearer = || header("authorization")?.strip_prefix("Bearer ");
    let query = || input["query_params"]["token"][0].as_str();
    let subprotocol = || header("sec-websocket-protocol")?.strip_prefix("Authorization,").map(str::trim);
    bearer().or_else(query).or_else(subprotocol)
}

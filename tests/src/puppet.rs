use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{DEADLINE, Refusal, Script, Server};

/// A published SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `iii-sdk` of npm.
    Node,
    /// `iii-sdk` of PyPI.
    Python,
    /// `iii-sdk` of cargo's registry.
    Rust,
}

impl Sdk {
    /// All of them.
    pub const ALL: [Sdk; 3] = [Sdk::Node, Sdk::Python, Sdk::Rust];

    /// Its name, which is also that of its puppet if a test has one of each.
    pub fn name(self) -> &'static str {
        match self {
            Sdk::Node => "node",
            Sdk::Python => "python",
            Sdk::Rust => "rust",
        }
    }
}

/// A worker of a published SDK that does what a test tells it, so that a test is written once for all of them:
/// `puppet.mjs` and its siblings. A command is a JSON object on its stdin, and an answer repeats its `n`:
///
/// | command | |
/// |---|---|
/// | `{n, do: "function", id, does}` | registers a function, see [`Puppet::registers`] |
/// | `{n, do: "trigger", type, function, config, metadata?}` | binds a function |
/// | `{n, do: "unbind", function}` | takes the last binding of the function back |
/// | `{n, do: "forget", id}` | takes the function back |
/// | `{n, do: "call", function, payload, metadata?, void?}` | calls a function; only this one has a result or an error |
/// | `{n, do: "release", function}` | lets all calls of a function that holds them go on, also those to come |
///
/// Commands run beside each other, but what is to be sent for them is sent in their order. Whenever one of its
/// functions is called, it prints `{heard, data, metadata?}`, before the function does anything.
pub struct Puppet {
    script: Script,
    commands: u64,
    answers: BTreeMap<u64, Answer>,
    heard: VecDeque<Heard>,
}

/// A call that a puppet is making.
#[derive(Debug)]
pub struct PuppetCall(u64);

/// A call of one of a puppet's functions, as its handler got it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Heard {
    /// The function.
    #[serde(rename = "heard")]
    pub function: String,
    /// The input.
    pub data: Value,
    /// What came beside the input.
    pub metadata: Option<Value>,
}

#[derive(Deserialize)]
struct Answer {
    n: u64,
    result: Option<Value>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Heard(Heard),
    Answer(Answer),
}

impl Puppet {
    /// Starts a puppet, whose worker is called by the SDK's name.
    pub fn start(server: &Server, sdk: Sdk) -> Puppet {
        Puppet::named(server, sdk, sdk.name())
    }

    /// Starts a puppet with a name of its own for its worker.
    pub fn named(server: &Server, sdk: Sdk, name: &str) -> Puppet {
        Puppet::with_token(server, sdk, name, "")
    }

    /// Starts a puppet with a token for the worker port.
    pub fn with_token(server: &Server, sdk: Sdk, name: &str, token: &str) -> Puppet {
        let script = Script::puppet(server, sdk, name, token);
        Puppet { script, commands: 0, answers: BTreeMap::new(), heard: VecDeque::new() }
    }

    /// Registers a function. What it does is one of
    ///
    /// - `{kind: "echo"}`: gives `{echo: INPUT}`;
    /// - `{kind: "gives", value}`, `{kind: "nothing"}`, `{kind: "throws", message}`;
    /// - `{kind: "holds", value}`: gives the value once it is released;
    /// - `{kind: "calls", function, payload?}`: calls another function, with its own input if there is no payload, and
    ///   gives `{by: NAME OF THE WORKER, got: RESULT}`;
    /// - `{kind: "voids", function}`: calls another function with its own input and does not wait;
    /// - `{kind: "if", path, is, then, else}`: gives one thing or the other, after what the input has at a path of keys;
    /// - `{kind: "authenticates", tokens}`: takes the token from the header `authorization`, the query parameter
    ///   `token` or the subprotocols, and gives `{context: tokens[TOKEN]}` or `{unauthorized: true}`.
    pub async fn registers(&mut self, function: &str, does: Value) {
        self.does(json!({ "do": "function", "id": function, "does": does })).await;
    }

    /// Binds a function of it to a trigger.
    pub async fn binds(&mut self, function: &str, trigger: &str, config: Value) {
        self.does(json!({ "do": "trigger", "type": trigger, "function": function, "config": config })).await;
    }

    /// Binds a function of it to a trigger that has metadata for it.
    pub async fn binds_with(&mut self, function: &str, trigger: &str, config: Value, metadata: Value) {
        let command = json!({ "do": "trigger", "type": trigger, "function": function, "config": config,
                              "metadata": metadata });
        self.does(command).await;
    }

    /// Takes the last binding of a function back.
    pub async fn unbinds(&mut self, function: &str) {
        self.does(json!({ "do": "unbind", "function": function })).await;
    }

    /// Takes a function back.
    pub async fn forgets(&mut self, function: &str) {
        self.does(json!({ "do": "forget", "id": function })).await;
    }

    /// Lets the calls that a function holds go on.
    pub async fn releases(&mut self, function: &str) {
        self.does(json!({ "do": "release", "function": function })).await;
    }

    /// Returns when the server has handled all that it was sent: a worker's frames are handled in their order.
    pub async fn is_ready(&mut self) {
        self.result_of("stream::list_all", json!({})).await;
    }

    /// Calls a function and waits for its end. No result and a null look the same.
    pub async fn call(&mut self, function: &str, payload: Value) -> Result<Option<Value>, Refusal> {
        let call = self.starts(function, payload).await;
        self.finish(&call).await
    }

    /// Calls a function that must succeed.
    pub async fn result_of(&mut self, function: &str, payload: Value) -> Option<Value> {
        match self.call(function, payload).await {
            Ok(result) => result,
            Err(refusal) => panic!("{function} was refused: {refusal:?}"),
        }
    }

    /// Calls a function that must be refused.
    pub async fn refusal_of(&mut self, function: &str, payload: Value) -> Refusal {
        match self.call(function, payload).await {
            Ok(result) => panic!("{function} was to be refused, but gave {result:?}"),
            Err(refusal) => refusal,
        }
    }

    /// Calls a function with metadata; it must succeed.
    pub async fn result_with(&mut self, function: &str, payload: Value, metadata: Value) -> Option<Value> {
        let command = json!({ "do": "call", "function": function, "payload": payload, "metadata": metadata });
        let call = self.tell(command);
        self.finish(&call).await.unwrap_or_else(|refusal| panic!("{function} was refused: {refusal:?}"))
    }

    /// Calls a function and wants no answer.
    pub async fn call_void(&mut self, function: &str, payload: Value) {
        self.does(json!({ "do": "call", "function": function, "payload": payload, "void": true })).await;
    }

    /// Starts a call and does not wait for its end.
    pub async fn starts(&mut self, function: &str, payload: Value) -> PuppetCall {
        self.tell(json!({ "do": "call", "function": function, "payload": payload }))
    }

    /// Waits for the end of a call.
    pub async fn finish(&mut self, call: &PuppetCall) -> Result<Option<Value>, Refusal> {
        loop {
            if let Some(answer) = self.answers.remove(&call.0) {
                return match answer.error {
                    Some(Failure { code, message }) => Err(Refusal { code, message }),
                    None => Ok(answer.result),
                };
            }
            self.listen("the answer to a command").await;
        }
    }

    /// The next call that any of its functions got.
    pub async fn heard(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            self.listen("a call of one of its functions").await;
        }
    }

    /// The input of the next call of this function. Calls of others wait until they are asked for.
    pub async fn heard_of(&mut self, function: &str) -> Value {
        loop {
            let of_it = self.heard.iter().position(|heard| heard.function == function);
            if let Some(heard) = of_it.and_then(|at| self.heard.remove(at)) {
                return heard.data;
            }
            self.listen(&format!("a call of {function}")).await;
        }
    }

    /// The calls it got so far that nobody asked for.
    pub fn rest(&self) -> &VecDeque<Heard> {
        &self.heard
    }

    /// Kills it, as a crash would.
    pub async fn kill(mut self) {
        self.script.process().kill().await;
    }

    /// Lets it disconnect in good order and end.
    pub async fn finishes(self) {
        self.script.finish().await;
    }

    async fn does(&mut self, command: Value) {
        let call = self.tell(command);
        let result = self.finish(&call).await;
        assert_eq!(result, Ok(None), "a command has no result");
    }

    fn tell(&mut self, mut command: Value) -> PuppetCall {
        self.commands += 1;
        command["n"] = self.commands.into();
        self.script.process().send_line(&command.to_string());
        PuppetCall(self.commands)
    }

    async fn listen(&mut self, what: &str) {
        loop {
            let line = self.script.process().next_line(DEADLINE, what).await;
            let line = line.unwrap_or_else(|| panic!("the puppet ended, but {what} was to come"));
            // The SDKs print lines of their own.
            if !line.starts_with('{') {
                continue;
            }
            match serde_json::from_str(&line).unwrap_or_else(|e| panic!("no line of a puppet: {e}: {line}")) {
                Line::Heard(heard) => self.heard.push_back(heard),
                Line::Answer(answer) => {
                    self.answers.insert(answer.n, answer);
                }
            }
            return;
        }
    }
}

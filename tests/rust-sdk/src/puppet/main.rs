//! A worker of the published Rust SDK that does what it is told: `puppet NAME`.
//!
//! It reads commands from stdin, one JSON object a line, answers each on stdout, and says there what its functions are
//! called with. When stdin is closed, it shuts down. `HEADWATER_WORKERS` is the worker port's address; the SDK takes
//! `III_TOKEN` itself.

mod behaviour;
mod command;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;

use behaviour::Behaviour;
use command::{Command, Order};
use iii_sdk::errors::InvocationError;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::runtime::{FunctionRef, WorkerMetadata};
use iii_sdk::trigger::Trigger;
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, TriggerAction, register_worker};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

/// How long a call of a puppet waits, in milliseconds: longer than the server's own deadline.
const CALL_MS: u64 = 60_000;

#[tokio::main]
async fn main() {
    let name = std::env::args().nth(1).expect("the worker's name");
    let address = std::env::var("HEADWATER_WORKERS").expect("HEADWATER_WORKERS is set");
    let metadata = WorkerMetadata { name: name.clone(), ..WorkerMetadata::default() };
    let iii = register_worker(&address, InitOptions { metadata: Some(metadata), ..InitOptions::default() });
    let mut puppet = Puppet::new(name, iii.clone());

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("stdin is text") {
        match serde_json::from_str(&line) {
            Ok(command) => puppet.obey(command).await,
            Err(error) => {
                eprintln!("{error}: {line}");
                std::process::exit(1);
            }
        }
    }
    tokio::task::spawn_blocking(move || iii.shutdown()).await.expect("a shutdown does not panic");
    std::process::exit(0);
}

struct Puppet {
    name: String,
    iii: IIIClient,
    functions: HashMap<String, FunctionRef>,
    /// The last trigger that was bound to each function.
    triggers: HashMap<String, Trigger>,
    /// Whether calls of a function that holds them may go on.
    gates: HashMap<String, watch::Sender<bool>>,
}

impl Puppet {
    fn new(name: String, iii: IIIClient) -> Puppet {
        Puppet { name, iii, functions: HashMap::new(), triggers: HashMap::new(), gates: HashMap::new() }
    }

    async fn obey(&mut self, Command { n, order }: Command) {
        match order {
            Order::Function { id, does } => self.offer(id, does),
            Order::Trigger { kind, function, config, metadata } => {
                let mut input = RegisterTriggerInput::new(kind, function.clone(), config);
                input.metadata = metadata;
                #[allow(deprecated)]
                match self.iii.register_trigger(input) {
                    Ok(trigger) => drop(self.triggers.insert(function, trigger)),
                    Err(error) => return print(&json!({ "n": n, "error": error_of(error) })),
                }
            }
            Order::Unbind { function } => {
                self.triggers.remove(&function).expect("a bound function").unregister();
            }
            Order::Forget { id } => self.functions.remove(&id).expect("a function").unregister(),
            Order::Release { function } => drop(self.gates[&function].send_replace(true)),
            Order::Call { function, payload, metadata, void } => {
                return self.call(n, function, payload, metadata, void).await;
            }
        }
        print(&json!({ "n": n }));
    }

    fn offer(&mut self, id: String, behaviour: Behaviour) {
        let (gate, opened) = watch::channel(false);
        self.gates.insert(id.clone(), gate);
        let (iii, name, function) = (self.iii.clone(), self.name.clone(), id.clone());
        let handler = move |input: Value, metadata: Option<Value>| {
            let mut heard = json!({ "heard": function, "data": input });
            if let Some(metadata) = metadata {
                heard["metadata"] = metadata;
            }
            print(&heard);
            behaviour.clone().run(iii.clone(), name.clone(), opened.clone(), input)
        };
        let function = self.iii.register_function(id.clone(), RegisterFunction::new_async(handler));
        self.functions.insert(id, function);
    }

    /// Sends the call before it returns, and waits for its end beside the next commands.
    async fn call(&self, n: u64, function: String, payload: Value, metadata: Option<Value>, void: bool) {
        let iii = self.iii.clone();
        let mut call = Box::pin(async move {
            let action = void.then_some(TriggerAction::Void);
            let request =
                TriggerRequest { function_id: function, payload, action, timeout_ms: Some(CALL_MS) };
            let end = match metadata {
                Some(metadata) => iii.trigger(request.metadata(metadata)).await,
                None => iii.trigger(request).await,
            };
            match end {
                // This SDK has null for an answer without a result.
                Ok(Value::Null) => print(&json!({ "n": n })),
                Ok(result) => print(&json!({ "n": n, "result": result })),
                Err(error) => print(&json!({ "n": n, "error": error_of(error) })),
            }
        });
        let sent = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        if sent.is_pending() {
            tokio::spawn(call);
        }
    }
}

fn error_of(error: Error) -> Value {
    let InvocationError { code, message, .. } = error.invocation_error().unwrap_or_else(|| {
        let code = if matches!(error, Error::Timeout) { "TIMEOUT" } else { "CLIENT" };
        InvocationError { code: code.into(), message: error.to_string(), function_id: None, stacktrace: None }
    });
    json!({ "code": code, "message": message })
}

/// Writes one line at once: handlers run beside each other.
fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads what a puppet tells");
}

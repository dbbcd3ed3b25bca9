//! The client that ends a world.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::work::Mix;
use super::{AGAIN, Connection, END, Edge, LOOK, Next, STREAM, text};

/// Ends the world: once the faults are over and the workers are done, it tells every subscriber, and lists what is there.
pub(in crate::server) struct Closer {
    pub(in crate::server) edge: Edge,
    pub(in crate::server) mix: Mix,
    pub(in crate::server) workers: usize,
    pub(in crate::server) subscribers: usize,
    pub(in crate::server) calls: u64,
}

/// How long after the last fault something may still arrive that was sent before: longer than any way.
const SETTLING: Duration = Duration::from_millis(400);

impl Closer {
    pub(in crate::server) async fn run(mut self) {
        while !self.is_calm() {
            sleep(AGAIN).await;
        }
        while let Some(mut connection) = self.edge.connect(|_| "/".to_owned()).await {
            if self.closes(&mut connection).await.is_some() {
                break;
            }
            drop(connection);
            sleep(AGAIN).await;
        }
        self.edge.progress.state().over = true;
    }

    fn is_calm(&self) -> bool {
        let state = self.edge.progress.state();
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        state.healed.is_some_and(|at| at + SETTLING < elapsed) && state.resting.len() == self.workers
    }

    /// Whether no handler has anything more to do.
    fn is_quiet(&self) -> bool {
        self.edge.progress.state().busy_until < turmoil::sim_elapsed().unwrap_or_default()
    }

    /// `None` if the connection is lost.
    async fn closes(&mut self, connection: &mut Connection) -> Option<()> {
        // Who connects again at the wrong moment misses the first.
        while self.edge.progress.state().settled.len() < self.subscribers {
            let items = || self.mix.items().map(Some).chain([None]);
            let ends: Vec<Value> = (self.mix.groups().iter())
                .flat_map(|group| items().map(move |item| (group.clone(), item)))
                .map(|(group, item)| {
                    let mut data = json!({"stream_name": STREAM, "group_id": group, "type": END});
                    if let Some(item) = item {
                        data["id"] = json!(item);
                    }
                    data
                })
                .collect();
            let mut sent = BTreeSet::new();
            for mut data in ends {
                data["data"] = json!({"n": self.calls});
                sent.insert(self.calls("stream::send", &data, connection).await);
            }
            answers(connection, sent).await?;
            sleep(3 * AGAIN).await;
        }
        while !self.is_quiet() {
            if let Next::Lost = connection.next(Instant::now() + LOOK).await {
                return None;
            }
        }
        for group in self.mix.groups().to_vec() {
            let data = json!({"stream_name": STREAM, "group_id": group});
            let sent = self.calls("stream::list", &data, connection).await;
            answers(connection, BTreeSet::from([sent])).await?;
        }
        Some(())
    }

    async fn calls(&mut self, function: &str, data: &Value, connection: &mut Connection) -> String {
        self.calls += 1;
        let id = format!("{}:{}", self.edge.name, self.calls);
        connection.call(&id, function, data).await;
        id
    }
}

/// Waits until all calls are answered; `None` if the connection is lost before.
async fn answers(connection: &mut Connection, mut calls: BTreeSet<String>) -> Option<()> {
    while !calls.is_empty() {
        match connection.next(Instant::now() + LOOK).await {
            Next::Message(message) => {
                calls.remove(text(&message["invocation_id"]));
            }
            Next::Nothing => {}
            Next::Lost => return None,
        }
    }
    Some(())
}

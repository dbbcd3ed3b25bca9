//! The ways between the server and its clients.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::SERVER;
use super::fault::Bad;

/// What is wrong with them.
#[derive(Debug)]
pub(super) struct Links {
    clients: Vec<String>,
    /// The longest that a message takes if nothing is wrong.
    latency: Duration,
    /// The server's own end is cut off.
    is_unplugged: bool,
    cut: BTreeSet<usize>,
    held: BTreeSet<usize>,
}

impl Links {
    pub(super) fn new(clients: Vec<String>, latency: Duration) -> Links {
        Links { clients, latency, is_unplugged: false, cut: BTreeSet::new(), held: BTreeSet::new() }
    }

    /// The way to one of the clients gets bad.
    pub(super) fn worsen(&mut self, sim: &turmoil::Sim<'_>, client: usize, how: Bad) {
        match how {
            Bad::Cut => {
                self.cut.insert(client);
            }
            Bad::Held => {
                self.held.insert(client);
            }
            Bad::Slow(latency) => sim.set_link_latency(SERVER, &*self.clients[client], latency),
        }
        self.apply(sim, client);
    }

    /// It gets good again.
    pub(super) fn mend(&mut self, sim: &turmoil::Sim<'_>, client: usize, how: Bad) {
        let name = &*self.clients[client];
        match how {
            Bad::Cut => {
                self.cut.remove(&client);
            }
            Bad::Held => {
                self.held.remove(&client);
            }
            Bad::Slow(_) => {
                sim.set_link_latency(SERVER, name, Duration::from_millis(1));
                sim.set_link_max_message_latency(SERVER, name, self.latency);
            }
        }
        self.apply(sim, client);
    }

    /// The server's cable is pulled, or put in.
    pub(super) fn unplug(&mut self, sim: &turmoil::Sim<'_>, is_unplugged: bool) {
        if self.is_unplugged != is_unplugged {
            self.is_unplugged = is_unplugged;
            (0..self.clients.len()).for_each(|client| self.apply(sim, client));
        }
    }

    fn apply(&self, sim: &turmoil::Sim<'_>, client: usize) {
        let name = &*self.clients[client];
        if self.is_unplugged || self.cut.contains(&client) {
            sim.partition(SERVER, name);
        } else if self.held.contains(&client) {
            sim.hold(SERVER, name);
        } else {
            sim.release(SERVER, name);
        }
    }
}

//! Nobody gets what no allowed subscription covers.
//!
//! Where a world tells of the server, this is exact: a subscription covers from the moment at which the server hears of
//! the join to that at which it hears of the leave. Elsewhere what was left may still be on its way, for as long as the
//! connection lives.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::frame::{Frame, STREAM, Told, text};
use super::subscriptions::{Connection, Connections, Place, Target};
use super::{Checked, Law, Oracle, Rules, Violation};
use crate::trace::{Entry, What, Who};

/// Watches over who gets what.
#[derive(Debug)]
pub(super) struct Access {
    rules: Rules,
    connections: Connections,
    /// The functions that decide about joins.
    gates: BTreeSet<String>,
    /// What gates and the `auth` function are asked, by the call.
    asked: BTreeMap<String, Asked>,
    /// The last connection of each client.
    newest: BTreeMap<Arc<str>, u64>,
    /// The last join of each subscription id since the server was started.
    joins: BTreeMap<Arc<str>, Join>,
    /// Subscriptions that a gate has denied.
    denied: BTreeSet<(Who, Arc<str>)>,
    /// What the `auth` function has said of connections.
    vouched: BTreeMap<Who, Vouched>,
    /// Somebody was served whom nobody had vouched for. That is allowed if nobody has to be.
    served: Option<String>,
}

/// What a function is asked about.
#[derive(Debug)]
enum Asked {
    /// The how manieth join of a subscription.
    Gate {
        subscription: Arc<str>,
        join: u64,
    },
    Auth(Who),
}

#[derive(Clone, Copy, Debug)]
struct Join {
    number: u64,
    at: u64,
}

/// Whether somebody vouches for a connection.
#[derive(Debug, Default)]
struct Vouched {
    /// The last call about it.
    call: String,
    granted: bool,
    denied: bool,
}

impl Access {
    pub(super) fn new(rules: Rules) -> Access {
        Access {
            rules,
            connections: Connections::new(rules),
            gates: BTreeSet::new(),
            asked: BTreeMap::new(),
            newest: BTreeMap::new(),
            joins: BTreeMap::new(),
            denied: BTreeSet::new(),
            vouched: BTreeMap::new(),
            served: None,
        }
    }

    fn told(&mut self, who: &Who, message: &Value, checked: &mut Checked) -> Result<(), Violation> {
        if let Some(frame) = Frame::read(message) {
            return self.frame(who, &frame, checked);
        }
        if message["type"] == "invokefunction" {
            self.calls(message);
        }
        Ok(())
    }

    fn frame(&mut self, who: &Who, frame: &Frame<'_>, checked: &mut Checked) -> Result<(), Violation> {
        let broken = |how: &str| Err(Law::OnlyWhatIsAllowed.broken(how));
        let connection = self.connections.all.get(who).filter(|connection| connection.is_open);
        let Some(connection) = connection else { return broken("the server has no such connection") };
        let covers = |connection: &Connection| {
            let joined = connection.group(frame.stream, frame.group);
            joined.is_some_and(|joined| joined.covers(frame.item))
        };
        match frame.told {
            Told::Error { .. } => return Ok(()),
            Told::Unauthorized => {
                checked.unauthorized += 1;
                let is_open = |target: &Target| {
                    self.rules.tells_server
                        && target.surely
                        && target.at.is_some()
                        && target.joined.len() == 1
                };
                let target = connection.target_of(frame);
                let waits = target.is_some_and(|target| target.is_covered() && !is_open(target));
                return match waits {
                    true => Ok(()),
                    false => broken("no join waits that could be refused"),
                };
            }
            Told::Sync { .. } => {
                let target = connection.target_of(frame).filter(|target| target.is_covered());
                if target.is_none() && frame.stream != STREAM && covers(connection) {
                    // A worker's item that is null, or was: who subscribes to the group is told so, too.
                    return Ok(());
                }
                let Some(target) = target else { return broken("no subscription asks for this state") };
                if let [one] = &target.joined[..]
                    && !target.may
                    && self.denied.contains(&(who.clone(), one.clone()))
                {
                    return broken("a gate has denied the subscription");
                }
            }
            Told::Change { .. } | Told::Sent(_) => {
                if !covers(connection) {
                    return broken("no subscription covers this event");
                }
            }
        }
        let vouched = self.vouched.get(who);
        if vouched.is_some_and(|vouched| vouched.denied) {
            return broken("nobody vouches for the connection");
        }
        if self.served.is_none() && !vouched.is_some_and(|vouched| vouched.granted) {
            self.served = Some(format!("{who} was served before anybody vouched for it"));
        }
        Ok(())
    }

    /// The server calls a function.
    fn calls(&mut self, message: &Value) {
        let (id, data) = (text(&message["invocation_id"]), &message["data"]);
        let function = text(&message["function_id"]);
        if function == "auth" {
            let Some(who) =
                connection_at(text(&data["addr"])).filter(|who| self.connections.all.contains_key(who))
            else {
                return;
            };
            id.clone_into(&mut self.vouched.entry(who.clone()).or_default().call);
            self.asked.insert(id.to_owned(), Asked::Auth(who));
        } else if self.gates.contains(function)
            && let Some((subscription, join)) = self.joins.get_key_value(text(&data["subscription_id"]))
        {
            let asked = Asked::Gate { subscription: subscription.clone(), join: join.number };
            self.asked.insert(id.to_owned(), asked);
        }
    }

    fn asked(&mut self, at: u64, who: &Who, message: &Value) {
        match text(&message["type"]) {
            "registertrigger" if message["trigger_type"] == "stream:join" => {
                self.gates.insert(text(&message["function_id"]).to_owned());
            }
            // Who is asked then is not known.
            "unregistertrigger" | "unregisterfunction" => {
                self.asked.retain(|_, asked| matches!(asked, Asked::Auth(_)));
            }
            "invocationresult" => self.answered(at, who, message),
            "join" => {
                let id = text(&message["data"]["subscriptionId"]);
                let known = self.connections.all.get(who).and_then(|connection| connection.place(id));
                if known.is_none() {
                    let number = self.joins.get(id).map_or(1, |join| join.number + 1);
                    self.joins.insert(id.into(), Join { number, at });
                    self.denied.remove(&(who.clone(), id.into()));
                }
            }
            "leave" => {
                self.denied.remove(&(who.clone(), text(&message["data"]["subscriptionId"]).into()));
            }
            _ => {}
        }
    }

    fn answered(&mut self, at: u64, who: &Who, message: &Value) {
        let id = text(&message["invocation_id"]);
        let Some(asked) = self.asked.remove(id) else { return };
        // A worker's old connection may have been retired by its new one: what it says may not count.
        let counts = self.newest.get(&who.client) == Some(&who.connection);
        let denies = message["result"]["unauthorized"] == true && message["error"].is_null();
        match asked {
            Asked::Auth(of) => {
                let vouched = self.vouched.entry(of).or_default();
                let grants = !denies && message["error"].is_null() && message["result"].is_object();
                vouched.granted |= grants;
                vouched.denied |= !vouched.granted && counts && vouched.call == id;
            }
            Asked::Gate { subscription, join } => {
                let last = self.joins.get(&subscription);
                // What a gate says in time counts. Of a second join under the same id it is not known which of the two
                // a gate is asked about.
                let counts = counts
                    && self.rules.tells_server
                    && join == 1
                    && last
                        .is_some_and(|last| last.number == join && at < last.at + self.rules.limits.call_ms);
                if denies && counts {
                    self.denies(&subscription);
                }
            }
        }
    }

    /// A gate has denied a subscription, if it is known which.
    fn denies(&mut self, subscription: &Arc<str>) {
        let waits = |connection: &Connection| {
            connection.place(subscription).is_some_and(|place| {
                connection.target_at(place).is_some_and(|target| target.at.is_none() || !target.surely)
            })
        };
        let all = self.connections.all.iter();
        let mut waiting = all.filter(|(_, connection)| waits(connection)).map(|(who, _)| who);
        if let (Some(who), None) = (waiting.next(), waiting.next()) {
            self.denied.insert((who.clone(), subscription.clone()));
        }
    }
}

impl Oracle for Access {
    fn see(&mut self, entry: &Entry, checked: &mut Checked) -> Result<(), Violation> {
        match &entry.what {
            What::Connected(_) => {
                self.newest.insert(entry.who.client.clone(), entry.who.connection);
            }
            // Nobody is asked any more, and nothing that was asked before is answered.
            What::Crashed(_) | What::Stopped if self.rules.tells_server => {
                self.asked.clear();
                self.joins.clear();
            }
            what => {
                if let Some(message) = self.rules.asked(what) {
                    self.asked(entry.at, &entry.who, message);
                } else if let Some(message) = self.rules.told(what) {
                    self.told(&entry.who, message, checked)?;
                }
            }
        }
        self.connections.see(entry);
        Ok(())
    }

    fn end(&mut self, _checked: &mut Checked) -> Result<(), Violation> {
        match &self.served {
            Some(served) if !self.vouched.is_empty() => Err(Law::OnlyWhatIsAllowed.broken(served)),
            _ => Ok(()),
        }
    }
}

impl Connection {
    fn target_of(&self, frame: &Frame<'_>) -> Option<&Target> {
        let joined = self.group(frame.stream, frame.group)?;
        match frame.item {
            Some(item) => joined.items.get(item),
            None => Some(&joined.whole),
        }
    }

    fn target_at(&self, (stream, group, item): &Place) -> Option<&Target> {
        let joined = self.group(stream, group)?;
        match item {
            Some(item) => joined.items.get(item),
            None => Some(&joined.whole),
        }
    }
}

/// The connection at an address: worlds write `client#connection:1`.
fn connection_at(address: &str) -> Option<Who> {
    let (client, connection) = address.split(':').next()?.split_once('#')?;
    Some(Who::new(client, connection.parse().ok()?))
}

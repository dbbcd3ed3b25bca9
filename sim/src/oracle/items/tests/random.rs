//! A small store that does everything right, with many callers, lost connections, crashes and a disk that fails: nothing is
//! held against it. With a bug, something soon is.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::oracle::script::{Script, answer, call, failure};
use crate::oracle::{Checked, Violation};
use crate::random::Random;
use crate::trace::{Loss, What, Who};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// A crash takes back the last change.
    Forgets,
    /// An update is applied to what the item was before the last change.
    Stale,
    /// A change is made again.
    Twice,
    /// What is refused is done all the same.
    Refuses,
    /// Preconditions are not looked at.
    Unconditional,
    /// A revision is given twice.
    Again,
    /// A list leaves something out.
    Omits,
    /// What was going on when the server crashed is done after the start.
    GoesOn,
    /// What had failed comes back after other changes.
    ComesBack,
}

type Items = BTreeMap<(String, String), (Value, u64)>;

struct Store {
    bug: Bug,
    random: Random,
    script: Script,
    items: Items,
    /// The items before the last change.
    before: Items,
    heads: BTreeMap<String, u64>,
    clients: Vec<Client>,
    /// What was taken, and its answer once it is done.
    running: Vec<(Who, Value, Option<Value>)>,
    /// What failed on the disk, while it does.
    failed: Vec<Value>,
    fails: bool,
    next: u64,
}

struct Client {
    who: Who,
    /// Whether the client knows of no connection, and whether the server does not.
    lost: bool,
    gone: bool,
    sent: VecDeque<Value>,
    queued: VecDeque<Value>,
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

impl Store {
    fn new(seed: u64, tells_server: bool, bug: Bug) -> Store {
        let client = |number| Client {
            who: Who::new(&format!("worker{number}"), 0),
            lost: true,
            gone: true,
            sent: VecDeque::new(),
            queued: VecDeque::new(),
        };
        Store {
            bug,
            random: Random::new(seed),
            script: super::script(tells_server),
            items: Items::new(),
            before: Items::new(),
            heads: BTreeMap::new(),
            clients: (0..4).map(client).collect(),
            running: Vec::new(),
            failed: Vec::new(),
            fails: false,
            next: 0,
        }
    }

    fn tell(&mut self, who: &Who, what: What) {
        if self.script.rules.tells_server {
            self.script.note(who, what);
        }
    }

    fn run(mut self, steps: u64) -> Result<Checked, Violation> {
        for _ in 0..steps {
            let at = self.random.index(self.clients.len());
            match self.random.within(0..1_000) {
                0..300 => self.send(at),
                300..500 => self.take(at),
                500..700 => self.work(),
                700..800 => self.queue(),
                800..985 => self.get(at),
                985..990 => self.lose(at),
                990..994 => self.gone(at),
                994..996 => self.crash(),
                996..998 => self.fails = true,
                _ => self.mend(),
            }
        }
        self.script.check()
    }

    fn draw(&mut self) -> Value {
        self.next += 1;
        let random = &mut self.random;
        let item = format!("r{}", random.within(0..3));
        let mut data = json!({"stream_name": "world", "group_id": "g0", "item_id": item});
        if random.chance(40) {
            data["revision"] = json!(true);
        }
        let function = match random.within(0..12) {
            0..3 => "stream::set",
            3..7 => "stream::update",
            7 => "stream::delete",
            8..11 => "stream::get",
            _ => "stream::list",
        };
        match function {
            "stream::set" => data["data"] = json!({"id": item, "n": self.next * 1_000}),
            "stream::update" => {
                let by = random.within(1..6);
                data["ops"] = json!([{"type": "increment", "path": "n", "by": by}]);
            }
            _ => {}
        }
        let (value, at) = self.items.get(&("g0".to_owned(), item)).cloned().unwrap_or_default();
        match random.within(0..10) {
            _ if matches!(function, "stream::get" | "stream::list") => {}
            0 => data["expect"] = json!({"revision": random.within(at.saturating_sub(1)..at + 2)}),
            1 => data["expect"] = json!({"revision": at}),
            2 if !value.is_null() => data["expect"] = json!({"value": value}),
            _ => {}
        }
        call(&self.next.to_string(), function, data)
    }

    fn send(&mut self, at: usize) {
        if self.clients[at].lost {
            let client = &mut self.clients[at];
            client.who.connection += 1;
            (client.lost, client.gone) = (false, false);
            let who = client.who.clone();
            self.script.connects(&who);
        }
        let client = &self.clients[at];
        let running = self.running.iter().filter(|(who, ..)| *who == client.who).count();
        if client.sent.len() + running + client.queued.len() >= 3 {
            return;
        }
        let message = self.draw();
        self.script.sends(&self.clients[at].who, message.clone());
        self.clients[at].sent.push_back(message);
    }

    fn take(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(message) = client.sent.pop_front_if(|_| !client.gone) {
            let who = client.who.clone();
            self.tell(&who, What::Took(message.clone()));
            self.running.push((who, message, None));
        }
    }

    /// Does one of the calls that were taken.
    fn work(&mut self) {
        let waits: Vec<_> = (0..self.running.len()).filter(|at| self.running[*at].2.is_none()).collect();
        if !waits.is_empty() {
            let at = waits[self.random.index(waits.len())];
            let message = self.running[at].1.clone();
            self.running[at].2 = Some(self.answer(&message));
        }
    }

    fn answer(&mut self, message: &Value) -> Value {
        let (id, function) = (text(&message["invocation_id"]), text(&message["function_id"]));
        let data = &message["data"];
        if self.fails && !matches!(function, "stream::get" | "stream::list") {
            let unknown = self.random.chance(50) && self.failed.is_empty();
            if unknown {
                self.failed.push(message.clone());
            } else if self.bug == Bug::Refuses {
                let _ = self.apply(function, data);
            }
            let message = if unknown { "outcome_unknown" } else { "nothing was written" };
            return failure(id, function, json!({"code": "STREAM_SET_ERROR", "message": message}));
        }
        match self.apply(function, data) {
            Ok(Some(result)) => answer(id, function, result),
            Ok(None) => json!({"type": "invocationresult", "invocation_id": id, "function_id": function}),
            Err(error) => failure(id, function, error),
        }
    }

    fn apply(&mut self, function: &str, data: &Value) -> Result<Option<Value>, Value> {
        let group = text(&data["group_id"]).to_owned();
        if function == "stream::list" {
            let skip = usize::from(self.bug == Bug::Omits && self.random.chance(5));
            let items = self.items.iter().skip(skip);
            let list = items.map(|((_, id), (value, revision))| match data["revision"] == true {
                true => json!({"id": id, "value": value, "revision": revision}),
                false => value.clone(),
            });
            return Ok(Some(list.collect()));
        }
        let key = (group.clone(), text(&data["item_id"]).to_owned());
        let (old, at) = self.items.get(&key).cloned().unwrap_or_default();
        if function == "stream::get" {
            return Ok(match (data["revision"] == true, old.is_null()) {
                (true, _) => Some(json!({"value": old, "revision": at})),
                (false, true) => None,
                (false, false) => Some(old),
            });
        }
        let expect = &data["expect"];
        let holds = expect.get("revision").is_none_or(|revision| *revision == at)
            && expect.get("value").is_none_or(|value| *value == old);
        if !holds && self.bug != Bug::Unconditional {
            return Err(json!({"code": "STREAM_CONFLICT", "message": "no", "revision": at, "value": old}));
        }
        let tells = data["revision"] == true || !expect.is_null();
        let changed = |mut result: Value, revision: u64| {
            if tells {
                result["revision"] = json!(revision);
            }
            Ok(Some(result))
        };
        if function == "stream::delete" && old.is_null() {
            return changed(json!({"old_value": null}), 0);
        }
        let before =
            if self.bug == Bug::Stale && self.random.chance(10) { &self.before } else { &self.items };
        let mut new = match function {
            "stream::set" => data["data"].clone(),
            "stream::delete" => Value::Null,
            _ => before.get(&key).map_or(json!({}), |(value, _)| value.clone()),
        };
        if let Some(by) = data["ops"][0]["by"].as_i64() {
            let times = if self.bug == Bug::Twice && self.random.chance(5) { 2 } else { 1 };
            new["n"] = json!(new["n"].as_i64().unwrap_or(0) + times * by);
        }
        let head = self.heads.entry(group).or_default();
        *head += u64::from(!(self.bug == Bug::Again && self.random.chance(5)));
        let revision = *head;
        self.before = self.items.clone();
        if new.is_null() {
            self.items.remove(&key);
            return changed(json!({"old_value": old}), revision);
        }
        self.items.insert(key, (new.clone(), revision));
        changed(json!({"old_value": old, "new_value": new}), revision)
    }

    fn queue(&mut self) {
        let done: Vec<_> = (0..self.running.len()).filter(|at| self.running[*at].2.is_some()).collect();
        if done.is_empty() {
            return;
        }
        let (who, _, answer) = self.running.remove(done[self.random.index(done.len())]);
        let client = self.clients.iter_mut().find(|client| client.who == who && !client.gone);
        if let (Some(client), Some(answer)) = (client, answer) {
            client.queued.push_back(answer.clone());
            self.tell(&who, What::Queued(answer));
        }
    }

    fn get(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(message) = client.queued.pop_front_if(|_| !client.lost) {
            self.script.note(&client.who, What::Got(message));
        }
    }

    /// The client loses its connection; the server takes some more before it knows.
    fn lose(&mut self, at: usize) {
        if self.clients[at].lost {
            return;
        }
        self.clients[at].lost = true;
        self.script.note(&self.clients[at].who, What::Lost);
        (0..self.random.within(0..4)).for_each(|_| self.take(at));
        self.gone(at);
        self.clients[at].sent.clear();
        self.clients[at].queued.clear();
    }

    fn gone(&mut self, at: usize) {
        if !self.clients[at].gone {
            self.clients[at].gone = true;
            let who = self.clients[at].who.clone();
            self.tell(&who, What::Gone);
        }
    }

    fn crash(&mut self) {
        let server = Who::server();
        self.script.note(&server, What::Crashed(Loss::Power));
        let mut running = std::mem::take(&mut self.running);
        for message in std::mem::take(&mut self.failed) {
            if self.random.chance(50) {
                let _ = self.apply(text(&message["function_id"]), &message["data"]);
            }
        }
        if self.bug == Bug::Forgets {
            self.items = self.before.clone();
        }
        self.script.note(&server, What::Restarted);
        running.retain(|(_, _, answer)| answer.is_none() && self.bug == Bug::GoesOn);
        self.running = running;
        self.fails = false;
        for client in &mut self.clients {
            client.gone = true;
        }
        for at in 0..self.clients.len() {
            // Some learn of it late, and send more.
            if self.random.chance(30) && !self.clients[at].lost {
                self.send(at);
            }
            (0..3).for_each(|_| self.get(at));
            self.lose(at);
        }
    }

    fn mend(&mut self) {
        self.fails = false;
        for message in std::mem::take(&mut self.failed) {
            if self.bug == Bug::ComesBack {
                self.running.push((Who::new("nobody", 1), message, None));
            }
        }
    }
}

/// In how many of the worlds something was found, and how many histories were decided in the others.
fn found(bug: Bug, worlds: u64) -> (u64, u64) {
    let (mut broken, mut histories) = (0, 0);
    for seed in 0..worlds {
        match Store::new(seed, seed % 2 == 0, bug).run(1_500) {
            Ok(checked) => histories += checked.histories,
            Err(violation) if bug == Bug::None => panic!("seed {seed}: {violation}"),
            Err(_) => broken += 1,
        }
    }
    (broken, histories)
}

#[test]
fn a_store_that_does_everything_right_is_not_blamed() {
    let (_, histories) = found(Bug::None, 300);
    assert!(histories > 850, "{histories}");
}

#[test]
fn a_store_with_a_bug_is_found_out() {
    for (bug, at_least) in [
        (Bug::Forgets, 10),
        (Bug::Stale, 10),
        (Bug::Twice, 10),
        (Bug::Refuses, 10),
        (Bug::Unconditional, 10),
        (Bug::Again, 10),
        (Bug::Omits, 10),
        (Bug::GoesOn, 1),
        (Bug::ComesBack, 1),
    ] {
        let (broken, _) = found(bug, 40);
        assert!(broken >= at_least, "{bug:?}: {broken} of 40");
    }
}

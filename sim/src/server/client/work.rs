//! What a worker calls: drawn from a mix that each world has of its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kept::KEPT;
use super::{STREAM, text};
use crate::random::Random;

/// A call: the function and its input.
pub(super) type Call = (&'static str, Value);

/// What workers call, and how often.
#[derive(Clone, Debug)]
pub(in crate::server) struct Mix {
    /// Each with how often it is drawn among the others.
    kinds: Vec<(Kind, u64)>,
    groups: Vec<String>,
    /// How many items are written in each group.
    items: u64,
    /// How many percent of the calls want to know the revision.
    revisions: u64,
    /// How many percent of the writes expect something.
    expects: u64,
    /// How many bytes are added to values at most.
    padding: u64,
    /// How many percent of the calls are about the stream that a worker keeps.
    kept: u64,
    /// Whether functions may be called that nobody has.
    is_careless: bool,
}

/// What makes a stream a worker's; known once its worker has registered it.
const KEEPS: &str = "stream::set(kept)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Set,
    Update,
    Delete,
    Send,
    Get,
    List,
    Groups,
    All,
    Echo,
    Nobody,
}

/// What a worker knows of items: each with its revision and its value, 0 and none if it is not there.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<(String, String), (u64, Option<Value>)>);

impl Mix {
    pub(in crate::server) fn draw(
        random: &mut Random,
        groups: &[String],
        items: u64,
        is_careless: bool,
    ) -> Mix {
        use Kind::*;
        let others = [Update, Delete, Send, Get, List, Groups, All, Echo, Nobody];
        let drawn: Vec<_> = others.into_iter().filter(|_| random.chance(65)).collect();
        let mut kinds = vec![(Set, random.within(4..12))];
        kinds.extend(drawn.into_iter().map(|kind| match kind {
            Groups | All | Nobody => (kind, 1),
            _ => (kind, random.within(1..6)),
        }));
        Mix {
            kinds,
            groups: groups.to_vec(),
            items,
            revisions: if random.chance(70) { random.within(5..90) } else { 0 },
            expects: if random.chance(60) { random.within(5..60) } else { 0 },
            padding: if random.chance(30) { random.within(20..300) } else { 0 },
            // It may take its time.
            kept: if is_careless { 15 } else { 0 },
            is_careless,
        }
    }

    /// The groups that are written.
    pub(super) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The names of the items that are written in each of them.
    pub(super) fn items(&self) -> impl Iterator<Item = String> {
        (0..self.items).map(|number| format!("i{number}"))
    }

    /// A call; `n` is a number that no other call has, nor the 999 after it. `is_known` says whether a function may be
    /// called.
    pub(super) fn call(
        &self,
        random: &mut Random,
        n: u64,
        known: &Known,
        is_known: impl Fn(&str) -> bool,
    ) -> Call {
        let group = &self.groups[random.index(self.groups.len())];
        let item = &format!("i{}", random.within(0..self.items));
        let mut data = json!({"stream_name": STREAM, "group_id": group, "item_id": item});
        if self.kept > 0 && is_known(KEEPS) && random.chance(self.kept) {
            return kept_call(random, n, data);
        }
        let function = match self.kind(random) {
            Kind::Set => {
                data["data"] = json!({"id": item, "n": n});
                if random.chance(50) && self.padding > 0 {
                    let padding = usize::try_from(random.within(1..self.padding)).unwrap_or(1);
                    data["data"]["pad"] = json!("x".repeat(padding));
                }
                "stream::set"
            }
            Kind::Update => {
                data["ops"] = (0..random.within(1..4)).map(|_| self.operation(random, n)).collect();
                "stream::update"
            }
            Kind::Delete => "stream::delete",
            Kind::Send => {
                data["type"] = json!("note");
                data["data"] = json!({"n": n});
                if random.chance(40) {
                    data["id"] = json!(item);
                }
                return ("stream::send", data);
            }
            Kind::Get => return ("stream::get", self.with_revision(random, data)),
            Kind::List => return ("stream::list", self.with_revision(random, data)),
            Kind::Groups => return ("stream::list_groups", json!({"stream_name": STREAM})),
            Kind::All => return ("stream::list_all", json!({})),
            Kind::Echo if self.is_careless || is_known("echo") => return ("echo", json!({"n": n})),
            Kind::Echo | Kind::Nobody => return ("nobody", json!({"n": n})),
        };
        if random.chance(self.expects) {
            data["expect"] = known.expectation(random, group, item);
        }
        (function, self.with_revision(random, data))
    }

    fn kind(&self, random: &mut Random) -> Kind {
        let mut draw = random.within(0..self.kinds.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in &self.kinds {
            match draw.checked_sub(*weight) {
                Some(rest) => draw = rest,
                None => return *kind,
            }
        }
        Kind::Set
    }

    fn operation(&self, random: &mut Random, n: u64) -> Value {
        match random.chance(70) {
            true => json!({"type": "increment", "path": "n", "by": random.within(1..6)}),
            false => json!({"type": "set", "path": "v", "value": n}),
        }
    }

    fn with_revision(&self, random: &mut Random, mut data: Value) -> Value {
        if random.chance(self.revisions) {
            data["revision"] = json!(true);
        }
        data
    }
}

/// A call for the stream that a worker keeps.
fn kept_call(random: &mut Random, n: u64, mut data: Value) -> Call {
    data["stream_name"] = json!(KEPT);
    let function = match random.within(0..10) {
        0 => "stream::delete",
        1 => "stream::get",
        2 => "stream::list",
        3 => "stream::list_groups",
        4 => {
            data["ops"] = json!([{"type": "increment", "path": "n", "by": 1}]);
            "stream::update"
        }
        _ => {
            data["data"] = json!({"id": data["item_id"], "n": n});
            "stream::set"
        }
    };
    (function, data)
}

impl Known {
    /// What the answer to a call tells.
    pub(super) fn learn(&mut self, (function, data): &Call, answer: &Value) {
        if data["stream_name"] == KEPT {
            return;
        }
        let group = text(&data["group_id"]).to_owned();
        let result = match answer["error"]["code"] == "STREAM_CONFLICT" {
            true => &answer["error"],
            false => &answer["result"],
        };
        if *function == "stream::list" {
            for listed in result.as_array().into_iter().flatten() {
                if let Some(revision) = listed["revision"].as_u64() {
                    let item = text(&listed["id"]).to_owned();
                    self.0.insert((group.clone(), item), (revision, Some(listed["value"].clone())));
                }
            }
            return;
        }
        if let Some(revision) = result["revision"].as_u64() {
            let value = result.get("new_value").or(result.get("value"));
            let value = value.filter(|value| !value.is_null()).cloned();
            let revision = if value.is_some() { revision } else { 0 };
            self.0.insert((group, text(&data["item_id"]).to_owned()), (revision, value));
        }
    }

    fn expectation(&self, random: &mut Random, group: &str, item: &str) -> Value {
        let known = self.0.get(&(group.to_owned(), item.to_owned()));
        match known {
            Some((_, Some(value))) if random.chance(30) => json!({"value": value}),
            Some((revision, _)) => json!({"revision": revision}),
            None => json!({"revision": 0}),
        }
    }
}

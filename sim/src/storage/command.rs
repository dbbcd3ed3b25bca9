//! What callers of a world ask for, and what it makes of a group.

use crate::random::Random;

/// A call of the store, as the oracle remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) id: String,
    pub(super) group: String,
    /// Empty where it is about the group.
    pub(super) item: String,
    pub(super) kind: Kind,
    /// The revision at which a subscriber saw it.
    pub(super) done_at: Option<u64>,
}

/// What is asked for. Every value that is written is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Set { value: u64, padding: usize },
    Update { value: u64 },
    Delete,
    Send,
    List,
}

/// A group's items in creation order, as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Items(pub(super) Vec<(String, String)>);

impl Items {
    pub(super) fn get(&self, id: &str) -> Option<&str> {
        self.0.iter().find(|(item, _)| item == id).map(|(_, value)| value.as_str())
    }
}

impl Command {
    pub(super) fn draw(number: u64, groups: u64, items: u64, random: &mut Random) -> Command {
        let group = format!("g{}", random.within(0..groups));
        let item = format!("i{}", random.within(0..items));
        let longest = [4, 40, 400][random.index(3)];
        let padding = random.index(longest);
        let kind = match random.within(0..20) {
            0..9 => Kind::Set { value: number, padding },
            9..13 => Kind::Update { value: number },
            13..17 => Kind::Delete,
            17 => Kind::Send,
            _ => Kind::List,
        };
        let item = if matches!(kind, Kind::Send | Kind::List) { String::new() } else { item };
        Command { id: number.to_string(), group, item, kind, done_at: None }
    }

    /// The worker's frame.
    pub(super) fn frame(&self) -> String {
        let Command { id, group, item, kind, .. } = self;
        let (function, more) = match kind {
            Kind::Set { value, padding } => {
                ("set", format!(r#""revision":true,"data":{}"#, padded(*value, &"x".repeat(*padding))))
            }
            Kind::Update { value } => {
                ("update", format!(r#""revision":true,"ops":[{{"type":"set","path":"v","value":{value}}}]"#))
            }
            Kind::Delete => ("delete", r#""revision":true"#.to_owned()),
            Kind::Send => ("send", r#""type":"t","data":{}"#.to_owned()),
            Kind::List => ("list", r#""revision":false"#.to_owned()),
        };
        let item = if item.is_empty() { String::new() } else { format!(r#""item_id":"{item}","#) };
        format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"stream::{function}","data":{{"stream_name":"s","group_id":"{group}",{item}{more}}}}}"#
        )
    }

    /// Whether it makes a change of these items.
    pub(super) fn changes(&self, items: &Items) -> bool {
        match self.kind {
            Kind::Set { .. } | Kind::Update { .. } => true,
            Kind::Delete => items.get(&self.item).is_some(),
            Kind::Send | Kind::List => false,
        }
    }

    /// What it makes of these items.
    pub(super) fn applied(&self, items: &Items) -> Items {
        let mut items = items.clone();
        let old = items.get(&self.item);
        let new = match &self.kind {
            Kind::Set { value, padding } => padded(*value, &"x".repeat(*padding)),
            Kind::Update { value } => match old.and_then(|old| old.split_once(r#","p":""#)) {
                Some((_, padding)) => padded(*value, padding.trim_end_matches("\"}")),
                None => format!(r#"{{"v":{value}}}"#),
            },
            Kind::Delete => {
                items.0.retain(|(id, _)| *id != self.item);
                return items;
            }
            Kind::Send | Kind::List => return items,
        };
        match items.0.iter_mut().find(|(id, _)| *id == self.item) {
            Some((_, value)) => *value = new,
            None => items.0.push((self.item.clone(), new)),
        }
        items
    }
}

fn padded(value: u64, padding: &str) -> String {
    format!(r#"{{"v":{value},"p":"{padding}"}}"#)
}

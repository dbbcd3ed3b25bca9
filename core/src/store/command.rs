//! The built-in functions as typed commands: which name means which, and what its input must be.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Expect;
use crate::config::Limits;
use crate::error::{CallError, code};
use crate::field;
use crate::json::{Json, JsonError};
use crate::name::{GroupName, GroupPath, ItemId, NameError, StreamName};
use crate::ops::{self, OpsError, UpdateOp};

/// A call of a built-in `stream::` function, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `stream::set`: stores a value.
    Set {
        /// Where.
        item: ItemPath,
        /// What.
        data: Json,
        /// What must hold before.
        expect: Option<Expect>,
        /// Whether the answer tells the change's revision; it does with every `expect`.
        revision: bool,
    },
    /// `stream::get`: reads a value.
    Get {
        /// Which.
        item: ItemPath,
        /// Whether the answer tells the revision of the item's last change.
        revision: bool,
    },
    /// `stream::delete`: removes an item.
    Delete {
        /// Which.
        item: ItemPath,
        /// What must hold before.
        expect: Option<Expect>,
        /// Whether the answer tells the removal's revision; it does with every `expect`.
        revision: bool,
    },
    /// `stream::update`: applies operations to an item, atomically.
    Update {
        /// Which.
        item: ItemPath,
        /// In order.
        ops: Vec<UpdateOp>,
        /// The same as the caller spelled them, for a worker that keeps the stream.
        spelled: Json,
        /// What must hold before.
        expect: Option<Expect>,
        /// Whether the answer tells the change's revision; it does with every `expect`.
        revision: bool,
    },
    /// `stream::list`: reads a group in creation order.
    List {
        /// Which.
        group: GroupPath,
        /// Whether the answer tells ids and revisions.
        revision: bool,
    },
    /// `stream::list_groups`: the names of a stream's groups.
    ListGroups {
        /// Which stream.
        stream: StreamName,
    },
    /// `stream::list_all`: the names of all streams and groups.
    ListAll,
    /// `stream::send`: an event that is not stored.
    Send {
        /// To whose subscribers.
        group: GroupPath,
        /// With it, subscribers of that item get the event too.
        item: Option<ItemId>,
        /// The event's type, the users' own.
        kind: String,
        /// Its payload.
        data: Json,
    },
}

/// An item's full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemPath {
    /// The group it is in.
    pub group: GroupPath,
    /// Its id there.
    pub id: ItemId,
}

/// A built-in function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Builtin {
    /// `stream::set`
    Set,
    /// `stream::get`
    Get,
    /// `stream::delete`
    Delete,
    /// `stream::update`
    Update,
    /// `stream::list`
    List,
    /// `stream::list_groups`
    ListGroups,
    /// `stream::list_all`
    ListAll,
    /// `stream::send`
    Send,
}

impl Builtin {
    /// The built-in function of this name; earlier spellings are aliases.
    pub fn from_name(name: &str) -> Option<Builtin> {
        Some(match name {
            "stream::set" | "streams.set" => Builtin::Set,
            "stream::get" | "streams.get" => Builtin::Get,
            "stream::delete" | "streams.delete" => Builtin::Delete,
            "stream::update" | "streams.update" => Builtin::Update,
            "stream::list" | "streams.getGroup" => Builtin::List,
            "stream::list_groups" | "streams.listGroups" => Builtin::ListGroups,
            "stream::list_all" | "streams.listAll" => Builtin::ListAll,
            "stream::send" | "streams.send" => Builtin::Send,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Set => "stream::set",
            Builtin::Get => "stream::get",
            Builtin::Delete => "stream::delete",
            Builtin::Update => "stream::update",
            Builtin::List => "stream::list",
            Builtin::ListGroups => "stream::list_groups",
            Builtin::ListAll => "stream::list_all",
            Builtin::Send => "stream::send",
        }
    }

    /// Whether it changes something, or tells of something.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Builtin::Set | Builtin::Delete | Builtin::Update | Builtin::Send)
    }

    /// The code of an error that is neither the caller's spelling nor a missing function.
    pub fn error_code(self) -> &'static str {
        match self {
            Builtin::Set => "STREAM_SET_ERROR",
            Builtin::Get => "STREAM_GET_ERROR",
            Builtin::Delete => "STREAM_DELETE_ERROR",
            Builtin::Update => "STREAM_UPDATE_ERROR",
            Builtin::List => "STREAM_GET_GROUP_ERROR",
            Builtin::ListGroups => "STREAM_LIST_GROUPS_ERROR",
            Builtin::ListAll => "STREAM_LIST_ALL_ERROR",
            Builtin::Send => "STREAM_SEND_ERROR",
        }
    }

    /// Checks the input of a call.
    pub fn parse(self, input: &RawValue, limits: &Limits) -> Result<Command, CallError> {
        let input = Input::read(self, input, limits)?;
        Ok(match self {
            Builtin::Set => {
                let (item, data) = (input.item()?, input.value("data", input.fields.data)?);
                let (expect, revision) = input.expect()?;
                Command::Set { item, data, expect, revision }
            }
            Builtin::Get => Command::Get { item: input.item()?, revision: input.revision()? },
            Builtin::Delete => {
                let item = input.item()?;
                let (expect, revision) = input.expect()?;
                Command::Delete { item, expect, revision }
            }
            Builtin::Update => {
                let (item, (ops, spelled)) = (input.item()?, input.ops()?);
                let (expect, revision) = input.expect()?;
                Command::Update { item, ops, spelled, expect, revision }
            }
            Builtin::List => Command::List { group: input.group()?, revision: input.revision()? },
            Builtin::ListGroups => Command::ListGroups { stream: input.stream()? },
            Builtin::ListAll => Command::ListAll,
            Builtin::Send => Command::Send {
                group: input.group()?,
                item: input.send_item()?,
                kind: field::text("type", input.fields.kind).map_err(bad_input)?,
                data: match input.fields.data {
                    Some(_) => input.value("data", input.fields.data)?,
                    None => Json::null(),
                },
            },
        })
    }
}

impl Command {
    /// The function that this is a call of.
    pub fn builtin(&self) -> Builtin {
        match self {
            Command::Set { .. } => Builtin::Set,
            Command::Get { .. } => Builtin::Get,
            Command::Delete { .. } => Builtin::Delete,
            Command::Update { .. } => Builtin::Update,
            Command::List { .. } => Builtin::List,
            Command::ListGroups { .. } => Builtin::ListGroups,
            Command::ListAll => Builtin::ListAll,
            Command::Send { .. } => Builtin::Send,
        }
    }

    /// The item that it is about, if it is about one.
    pub(crate) fn item(&self) -> Option<&ItemPath> {
        match self {
            Command::Set { item, .. }
            | Command::Get { item, .. }
            | Command::Delete { item, .. }
            | Command::Update { item, .. } => Some(item),
            Command::List { .. } | Command::ListGroups { .. } | Command::ListAll | Command::Send { .. } => {
                None
            }
        }
    }

    /// The group that it is about, if it is about one.
    pub(crate) fn group(&self) -> Option<&GroupPath> {
        match self {
            Command::List { group, .. } | Command::Send { group, .. } => Some(group),
            command => command.item().map(|item| &item.group),
        }
    }

    /// The stream that it is about, if it is about one.
    pub(crate) fn stream(&self) -> Option<&StreamName> {
        match self {
            Command::ListGroups { stream } => Some(stream),
            command => command.group().map(|group| &group.stream),
        }
    }

    /// How many bytes its values and operations take.
    pub(super) fn value_len(&self) -> usize {
        match self {
            Command::Set { data, .. } | Command::Send { data, .. } => data.as_str().len(),
            Command::Update { spelled, .. } => 2 * spelled.as_str().len(),
            _ => 0,
        }
    }

    /// Whether the caller asks for revisions, or expects one.
    pub(crate) fn wants_revisions(&self) -> bool {
        match self {
            Command::Set { expect, revision, .. }
            | Command::Delete { expect, revision, .. }
            | Command::Update { expect, revision, .. } => expect.is_some() || *revision,
            Command::Get { revision, .. } | Command::List { revision, .. } => *revision,
            Command::ListGroups { .. } | Command::ListAll | Command::Send { .. } => false,
        }
    }

    /// What must hold for it to be applied, and of which item.
    pub(super) fn precondition(&self) -> Option<(&ItemPath, &Expect)> {
        match self {
            Command::Set { item, expect, .. }
            | Command::Delete { item, expect, .. }
            | Command::Update { item, expect, .. } => Some((item, expect.as_ref()?)),
            _ => None,
        }
    }
}

/// The fields that any of the functions take; others are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    stream_name: Option<&'a RawValue>,
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    // A `null` here is a value, unlike in the other fields, where it is no name.
    #[serde(borrow, default, deserialize_with = "field::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    ops: Option<&'a RawValue>,
    #[serde(borrow)]
    expect: Option<&'a RawValue>,
    #[serde(borrow)]
    revision: Option<&'a RawValue>,
}

/// The input of a call, on the way to a command.
struct Input<'a> {
    builtin: Builtin,
    fields: Fields<'a>,
    limits: &'a Limits,
}

impl<'a> Input<'a> {
    fn read(builtin: Builtin, input: &'a RawValue, limits: &'a Limits) -> Result<Input<'a>, CallError> {
        let text = match input.get() {
            // A call without data has the data `null`.
            "null" if builtin == Builtin::ListAll => "{}",
            text => text,
        };
        let fields: Fields<'_> =
            field::object(text).map_err(|message| bad_input(format!("the input {message}")))?;
        let takes_expect = matches!(builtin, Builtin::Set | Builtin::Delete | Builtin::Update);
        if fields.expect.is_some() && !takes_expect {
            let message = "`expect` is taken by `stream::set`, `stream::update` and `stream::delete` only";
            return Err(bad_input(message.to_owned()));
        }
        Ok(Input { builtin, fields, limits })
    }

    fn stream(&self) -> Result<StreamName, CallError> {
        self.name("stream_name", self.fields.stream_name, StreamName::new)
    }

    fn group(&self) -> Result<GroupPath, CallError> {
        let group = self.name("group_id", self.fields.group_id, GroupName::new);
        Ok(GroupPath { stream: self.stream()?, group: group? })
    }

    fn item(&self) -> Result<ItemPath, CallError> {
        Ok(ItemPath { group: self.group()?, id: self.name("item_id", self.fields.item_id, ItemId::new)? })
    }

    /// An absent, null or empty `id` means the group.
    fn send_item(&self) -> Result<Option<ItemId>, CallError> {
        field::optional_name("id", self.fields.id, self.limits, ItemId::new).map_err(bad_input)
    }

    /// What must hold before, and whether the answer tells the revision.
    fn expect(&self) -> Result<(Option<Expect>, bool), CallError> {
        let value = |raw: &RawValue| self.value("expect.value", Some(raw));
        let expect = self.fields.expect.map(|expect| Expect::parse(expect, value)).transpose()?;
        let revision = self.revision()? || expect.is_some();
        Ok((expect, revision))
    }

    fn revision(&self) -> Result<bool, CallError> {
        field::flag("revision", self.fields.revision).map_err(bad_input)
    }

    fn ops(&self) -> Result<(Vec<UpdateOp>, Json), CallError> {
        let Some(raw) = self.fields.ops else { return Err(bad_input(field::missing("ops"))) };
        let ops = ops::parse(raw, self.limits).map_err(|error| match error {
            OpsError::TooLarge { .. } => CallError::new(self.builtin.error_code(), error.to_string()),
            _ => bad_input(error.to_string()),
        })?;
        Ok((ops, Json::trusted(raw.get())))
    }

    fn name<T>(
        &self,
        field: &str,
        raw: Option<&RawValue>,
        new: impl Fn(&str, &Limits) -> Result<T, NameError>,
    ) -> Result<T, CallError> {
        field::name(field, raw, self.limits, new).map_err(bad_input)
    }

    fn value(&self, field: &str, raw: Option<&RawValue>) -> Result<Json, CallError> {
        let Some(raw) = raw else { return Err(bad_input(field::missing(field))) };
        let checked = Json::bounded_depth(raw, self.limits).and_then(|value| {
            value.check_size(self.limits)?;
            Ok(value)
        });
        checked.map_err(|error| match error {
            JsonError::TooLarge { .. } => {
                CallError::new(self.builtin.error_code(), format!("`{field}` {error}"))
            }
            JsonError::TooDeep { .. } | JsonError::Invalid(_) => bad_input(format!("`{field}` {error}")),
        })
    }
}

fn bad_input(message: String) -> CallError {
    CallError::new(code::BAD_INPUT, message)
}

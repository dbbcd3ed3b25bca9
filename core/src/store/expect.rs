//! Preconditions: what an item must be for a change to be made.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Item;
use crate::error::{CallError, Conflict, code};
use crate::field;
use crate::json::Json;
use crate::log::Revision;

/// The `expect` of a call: if it does not hold, nothing is changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// The item's last change has this revision; 0 is an item that is not there.
    Revision(Revision),
    /// The item is there and has this value, however it is spelled, see [`Json::same_value`].
    Value(Json),
}

/// Neither field is optional as such, and null is a value: which of the two is there tells what is expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "field::present")]
    revision: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "field::present")]
    value: Option<&'a RawValue>,
}

impl Expect {
    /// Reads an `expect`; `value` checks a value as one that is to be stored. What is not understood is refused:
    /// a misspelt precondition must not become none.
    pub(super) fn parse(
        expect: &RawValue,
        value: impl FnOnce(&RawValue) -> Result<Json, CallError>,
    ) -> Result<Expect, CallError> {
        let fields: Option<Fields<'_>> = field::object(expect.get()).ok();
        match fields {
            Some(Fields { revision: Some(revision), value: None }) => {
                revision_of(revision).map(Expect::Revision)
            }
            Some(Fields { revision: None, value: Some(expected) }) => value(expected).map(Expect::Value),
            _ => Err(CallError::new(
                code::BAD_INPUT,
                format!(
                    "`expect` must be {{\"revision\": n}} or {{\"value\": …}} and nothing else, got {}",
                    field::excerpt(expect.get())
                ),
            )),
        }
    }

    /// Checks the item as it is, `None` if there is none. The error is the conflict.
    pub(super) fn check(&self, item: Option<&Item>) -> Result<(), CallError> {
        let revision = item.map_or(Revision(0), |item| item.revision);
        let holds = match self {
            Expect::Revision(expected) => revision == *expected,
            Expect::Value(expected) => item.is_some_and(|item| item.value.same_value(expected)),
        };
        if holds {
            return Ok(());
        }
        let found = match item {
            Some(_) => format!("at revision {}", revision.0),
            None => "absent (revision 0)".to_owned(),
        };
        let expected = match self {
            Expect::Revision(Revision(0)) => "revision 0 (absent)".to_owned(),
            Expect::Revision(expected) => format!("revision {}", expected.0),
            Expect::Value(_) if item.is_none() => "a value".to_owned(),
            Expect::Value(_) => "another value".to_owned(),
        };
        let message = format!("the item is {found}, expected {expected}: read it again and decide");
        let conflict = Conflict { revision, value: item.map(|item| item.value.clone()) };
        Err(CallError { conflict: Some(conflict), ..CallError::new(code::CONFLICT, message) })
    }
}

fn revision_of(raw: &RawValue) -> Result<Revision, CallError> {
    raw.get().parse().map(Revision).map_err(|_| {
        let got = field::excerpt(raw.get());
        let message =
            format!("`expect.revision` must be a revision: an integer from 0, which means absent; got {got}");
        CallError::new(code::BAD_INPUT, message)
    })
}

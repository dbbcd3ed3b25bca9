//! A stream that a worker keeps itself, through the SDK's `create_stream`, which registers no `update`.
#![allow(deprecated)] // The SDK's types for streams are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use iii_helpers::stream::{
    StreamDeleteInput, StreamDeleteResult, StreamGetInput, StreamListGroupsInput, StreamListInput,
    StreamSetInput, StreamSetResult, StreamUpdateInput, StreamUpdateResult,
};
use iii_sdk::helpers::create_stream;
use iii_sdk::{Error, IStream};
use serde_json::Value;

use crate::client::{serve, worker};

/// Serves the stream `custom` from memory.
pub(crate) async fn run() {
    let iii = worker("custom");
    create_stream(&iii, "custom", Custom::default());
    serve(iii).await;
}

/// Groups of items.
#[derive(Default)]
struct Custom(Mutex<BTreeMap<String, BTreeMap<String, Value>>>);

impl Custom {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl IStream for Custom {
    async fn get(&self, input: StreamGetInput) -> Result<Option<Value>, Error> {
        Ok(self.groups().get(&input.group_id).and_then(|group| group.get(&input.item_id)).cloned())
    }

    async fn set(&self, input: StreamSetInput) -> Result<Option<StreamSetResult>, Error> {
        if input.data == "refused" {
            return Err(Error::Handler("no such value here".to_owned()));
        }
        let new_value = input.data;
        let old_value =
            self.groups().entry(input.group_id).or_default().insert(input.item_id, new_value.clone());
        Ok(Some(StreamSetResult { old_value, new_value }))
    }

    async fn delete(&self, input: StreamDeleteInput) -> Result<StreamDeleteResult, Error> {
        let mut groups = self.groups();
        let old_value = groups.get_mut(&input.group_id).and_then(|group| group.remove(&input.item_id));
        groups.retain(|_, group| !group.is_empty());
        Ok(StreamDeleteResult { old_value })
    }

    async fn list(&self, input: StreamListInput) -> Result<Vec<Value>, Error> {
        Ok(self.groups().get(&input.group_id).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    async fn list_groups(&self, _: StreamListGroupsInput) -> Result<Vec<String>, Error> {
        Ok(self.groups().keys().cloned().collect())
    }

    async fn update(&self, _: StreamUpdateInput) -> Result<Option<StreamUpdateResult>, Error> {
        unreachable!("the SDK does not register it")
    }
}

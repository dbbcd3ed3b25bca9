//! What keeps the items, and when they are safe.

use headwater_core::config::Durability;

use super::reader::Section;
use super::{Config, ConfigError, StoreConfig};

/// How the embedded store is kept.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    FileBased,
    InMemory,
}

/// When a change is acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Sync,
    Interval,
    InMemory,
}

/// How long a change may be acknowledged and not synced, where that is asked for without saying how long.
const SAVE_INTERVAL_MS: u64 = 1_000;
/// The longest such time: an hour.
const LONGEST_INTERVAL_MS: u64 = 3_600_000;

/// Reads the settings of the embedded store.
pub(super) fn read(section: &Section, config: &mut Config) -> Result<(), ConfigError> {
    section.only(&["store_method", "file_path", "durability", "save_interval_ms"])?;
    let path = section.get("file_path").map(|place| place.text("the path of a folder")).transpose()?;
    let method = match section.get("store_method") {
        Some(place) => {
            Some(place.choice(&[("file_based", Method::FileBased), ("in_memory", Method::InMemory)])?)
        }
        None => None,
    };
    let levels = [("sync", Level::Sync), ("interval", Level::Interval), ("in_memory", Level::InMemory)];
    let level = section.get("durability").map(|place| place.choice(&levels)).transpose()?;
    let interval = match section.get("save_interval_ms") {
        Some(place) => Some(place.number("a whole number of milliseconds", 1..=LONGEST_INTERVAL_MS)?),
        None => None,
    };
    if let Some(place) = section.get("durability")
        && (level, method) == (Some(Level::InMemory), Some(Method::FileBased))
    {
        return Err(
            place.error("expected `sync` or `interval` beside `store_method: file_based`, found `in_memory`")
        );
    }
    if let Some(place) = section.get("durability")
        && method == Some(Method::InMemory)
        && level != Some(Level::InMemory)
    {
        return Err(place.error("expected `in_memory` beside `store_method: in_memory`, or nothing"));
    }
    if let Some(place) = section.get("save_interval_ms")
        && level != Some(Level::Interval)
    {
        // Whoever sets it expects one of the two: safer than they think, or faster.
        let problem = "expected `durability: interval` beside it; without that everything is synced before it is \
                       acknowledged";
        return Err(place.error(problem));
    }
    // A path is fine in memory: `store_method: ${STORE:file_based}` switches one file between both.
    config.store = match (method, level) {
        (Some(Method::InMemory), _) | (_, Some(Level::InMemory)) => StoreConfig::InMemory,
        _ => path.map_or_else(StoreConfig::default, |path| StoreConfig::FileBased { path: path.into() }),
    };
    if level == Some(Level::Interval) {
        config.core.storage.durability = Durability::Interval(interval.unwrap_or(SAVE_INTERVAL_MS));
    }
    Ok(())
}

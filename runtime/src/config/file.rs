//! The shapes that a file may have: a list of entries, bare or under `modules` or `workers`, one of them for
//! the streams and one for Headwater's own settings.

use headwater_core::config::{Access, AuthFailure, JoinGate};
use headwater_core::name::FunctionId;

use super::reader::{Place, Section, one_of};
use super::{Config, ConfigError, access, settings, storage};

/// What an entry of the file configures.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Streams { default_port: u16 },
    Headwater,
}

/// The key that names the kind of an entry, its spelling there, and the kind. The two classes of the streams
/// belong to two generations of the format, with different default ports.
const ENTRIES: Kinds<Entry> = &[
    ("class", "modules::stream::StreamModule", Entry::Streams { default_port: 3112 }),
    ("class", "modules::streams::StreamModule", Entry::Streams { default_port: 31112 }),
    ("class", "headwater", Entry::Headwater),
    ("name", "iii-stream", Entry::Streams { default_port: 3112 }),
    ("name", "headwater", Entry::Headwater),
];

const NO_OTHERS: &str = "headwater serves streams only: remove this entry if it is meant for something else";

/// What keeps the items.
#[derive(Clone, Copy, PartialEq)]
enum Adapter {
    Kv,
    Redis,
}

const ADAPTERS: Kinds<Adapter> = &[
    ("class", "modules::stream::adapters::KvStore", Adapter::Kv),
    ("class", "modules::stream::adapters::RedisAdapter", Adapter::Redis),
    ("class", "modules::streams::adapters::KvStore", Adapter::Kv),
    ("class", "modules::streams::adapters::RedisAdapter", Adapter::Redis),
    ("name", "kv", Adapter::Kv),
    ("name", "redis", Adapter::Redis),
];

const NO_REDIS: &str = "this version of headwater has no Redis store; use the embedded one: `name: kv`, or \
                        `class: modules::stream::adapters::KvStore`";

/// Reads a whole file.
pub(super) fn read(root: &Place) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let (mut streams, mut headwater) = (None, None);
    for place in entries(root)? {
        let entry = place.section("an entry with `class` or `name`, and `config`")?;
        let (spelling, kind) = kind(&entry, ENTRIES, NO_OTHERS)?;
        entry.only(&["class", "name", "config"])?;
        let seen = if kind == Entry::Headwater { &mut headwater } else { &mut streams };
        if let Some(first) = seen.replace(place.path().to_owned()) {
            return Err(spelling
                .error(format!("expected one entry of this kind, found a second; the first is {first}")));
        }
        let section = entry.section("config", "a mapping of settings")?;
        match kind {
            Entry::Streams { default_port } => {
                config.streams.port = default_port;
                read_streams(&section, &mut config)?;
            }
            Entry::Headwater => settings::read(&section, &mut config)?,
        }
    }
    Ok(config)
}

/// The entries of a file, in whichever of its shapes.
fn entries<'a>(root: &Place<'a>) -> Result<Vec<Place<'a>>, ConfigError> {
    const LIST: &str = "a list of entries (`- class: …` or `- name: …`)";
    if root.is_list() {
        return root.list(LIST);
    }
    let keys = ["modules", "workers"];
    let section = root.section("a list of entries, or `modules` or `workers` with one")?;
    section.only(&keys)?;
    let lists = keys.iter().filter_map(|key| section.get(key)).map(|place| place.list(LIST));
    Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
}

/// The entry of the streams.
fn read_streams(section: &Section, config: &mut Config) -> Result<(), ConfigError> {
    section.only(&[
        "host",
        "port",
        "auth_function",
        "auth_failure",
        "join_gate",
        "allowed_origins",
        "adapter",
    ])?;
    settings::read_listen(section, "host", "port", &mut config.streams)?;
    read_access(section, &mut config.core.access)?;
    if let Some(place) = section.get("allowed_origins") {
        config.access.stream_origins = access::read_stream_origins(&place)?;
    }
    if let Some(adapter) = section.get("adapter") {
        read_adapter(&adapter.section("a mapping with `class` or `name`, and `config`")?, config)?;
    }
    Ok(())
}

/// Who decides which subscribers are served.
fn read_access(section: &Section, access: &mut Access) -> Result<(), ConfigError> {
    if let Some(place) = section.get("auth_function") {
        access.auth_function = Some(FunctionId::trusted(&place.text("the id of a function")?));
    }
    if let Some(place) = section.get("auth_failure") {
        access.auth_failure =
            place.choice(&[("close", AuthFailure::Close), ("http_401", AuthFailure::Http401)])?;
    }
    if let Some(place) = section.get("join_gate") {
        access.join_gate =
            place.choice(&[("fail_open", JoinGate::FailOpen), ("fail_closed", JoinGate::FailClosed)])?;
    }
    Ok(())
}

fn read_adapter(adapter: &Section, config: &mut Config) -> Result<(), ConfigError> {
    let (spelling, kind) = kind(adapter, ADAPTERS, NO_REDIS)?;
    if kind == Adapter::Redis {
        return Err(spelling.error(NO_REDIS));
    }
    adapter.only(&["class", "name", "config"])?;
    storage::read(&adapter.section("config", "a mapping of settings")?, config)
}

/// Spellings of one thing in several generations of the format: key, text, meaning.
type Kinds<T> = &'static [(&'static str, &'static str, T)];

/// What an entry is, by its `class` or `name`, and where it says so. `hint` ends the error.
fn kind<'a, T: Copy>(
    section: &Section<'a>,
    kinds: Kinds<T>,
    hint: &str,
) -> Result<(Place<'a>, T), ConfigError> {
    let (key, place) = match (section.get("class"), section.get("name")) {
        (Some(class), None) => ("class", class),
        (None, Some(name)) => ("name", name),
        (None, None) => return Err(section.place().error("expected `class` or `name`, found neither")),
        (Some(_), Some(_)) => return Err(section.place().error("expected `class` or `name`, found both")),
    };
    let of_key: Vec<_> = kinds.iter().filter(|(of, ..)| *of == key).collect();
    let expected = one_of(&of_key.iter().map(|(_, text, _)| *text).collect::<Vec<_>>());
    let text = place.text(&expected)?;
    match of_key.iter().find(|(_, known, _)| *known == text) {
        Some((.., kind)) => Ok((place, *kind)),
        None => {
            let mut error = place.unexpected(&expected, &text);
            error.problem += &format!("; {hint}");
            Err(error)
        }
    }
}

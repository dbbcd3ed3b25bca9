//! Headwater's own settings: the worker port, limits and timeouts.

use std::ops::RangeInclusive;

use headwater_core::config::Limits;

use super::reader::{Place, Section};
use super::{Config, ConfigError, Listen, access};

/// A limit: its key, where it is kept, what it counts.
type Limit<'a> = (&'static str, &'a mut usize, Unit);

/// What a limit counts, and its bounds. None may be zero: nothing would work. The upper bounds fit the
/// machine's integers and timers wherever they are added up.
#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    NameBytes,
    ValueBytes,
    GroupBytes,
    FileBytes,
    Levels,
    Count,
}

impl Unit {
    fn expected(self) -> (&'static str, RangeInclusive<u64>) {
        match self {
            Unit::Bytes => ("a whole number of bytes", 1..=u32::MAX.into()),
            Unit::NameBytes => ("a whole number of bytes", 1..=Limits::MAX_NAME_BYTES as u64),
            Unit::ValueBytes => ("a whole number of bytes", 1..=Limits::MAX_VALUE_BYTES as u64),
            // Less would be all frame and no item.
            Unit::GroupBytes => ("a whole number of bytes", 65_536..=u32::MAX.into()),
            // Each file costs two more syncs.
            Unit::FileBytes => ("a whole number of bytes", 4_096..=1 << 40),
            // Whoever parses a value needs stack for each level.
            Unit::Levels => ("a whole number of levels", 1..=1_024),
            Unit::Count => ("a whole number", 1..=100_000_000),
        }
    }
}

/// The longest time limit: 30 days.
const LONGEST_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Reads the settings into a configuration.
pub(super) fn read(section: &Section, config: &mut Config) -> Result<(), ConfigError> {
    section.only(&[
        "worker_host",
        "worker_port",
        "worker_token",
        "worker_origins",
        "insecure",
        "limits",
        "timeouts",
    ])?;
    read_listen(section, "worker_host", "worker_port", &mut config.workers)?;
    access::read_workers(section, &mut config.access)?;
    check_reach(section, config)?;
    read_limits(&section.section("limits", "a mapping of limits")?, config)?;
    read_timeouts(&section.section("timeouts", "a mapping of timeouts")?, config)
}

/// Refuses a worker port that anybody in the network could use.
fn check_reach(section: &Section, config: &Config) -> Result<(), ConfigError> {
    let host = &config.workers.host;
    match section.get("worker_host") {
        Some(place) if !config.access.may_be_reached() && !access::is_loopback(host) => {
            let mut error = place.unexpected("`localhost` or an address of this machine's loopback", host);
            error.problem += "; whoever reaches this port may read, write and call everything: set \
                              `worker_token`, or write `insecure: true` if something else keeps others away";
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Reads an address from two keys.
pub(super) fn read_listen(
    section: &Section,
    host: &str,
    port: &str,
    listen: &mut Listen,
) -> Result<(), ConfigError> {
    if let Some(place) = section.get(host) {
        listen.host = place.text("a host name or an IP address")?;
    }
    if let Some(place) = section.get(port) {
        listen.port = number(&place, "a port", 0..=u16::MAX.into())?;
    }
    Ok(())
}

fn read_limits(section: &Section, config: &mut Config) -> Result<(), ConfigError> {
    let (core, net, storage) = (&mut config.core.limits, &mut config.net, &mut config.core.storage);
    let limits: [Limit; 20] = [
        ("name_bytes", &mut core.name_bytes, Unit::NameBytes),
        ("value_bytes", &mut core.value_bytes, Unit::ValueBytes),
        ("group_bytes", &mut core.group_bytes, Unit::GroupBytes),
        ("update_ops", &mut core.update_ops, Unit::Count),
        ("json_depth", &mut core.json_depth, Unit::Levels),
        ("subscriptions", &mut core.subscriptions, Unit::Count),
        ("registrations", &mut core.registrations, Unit::Count),
        ("calls_in_flight", &mut core.calls_in_flight, Unit::Count),
        ("trigger_events", &mut core.trigger_events, Unit::Count),
        ("trigger_bytes", &mut core.trigger_bytes, Unit::Bytes),
        ("worker_frame_bytes", &mut net.worker_frame_bytes, Unit::Bytes),
        ("stream_frame_bytes", &mut net.stream_frame_bytes, Unit::Bytes),
        ("worker_connections", &mut net.worker_connections, Unit::Count),
        ("stream_connections", &mut net.stream_connections, Unit::Count),
        ("outbox_bytes", &mut net.outbox_bytes, Unit::Bytes),
        ("worker_outbox_bytes", &mut net.worker_outbox_bytes, Unit::Bytes),
        ("inbox", &mut net.inbox, Unit::Count),
        ("commit_backlog_bytes", &mut net.commit_backlog_bytes, Unit::Bytes),
        ("segment_bytes", &mut storage.segment_bytes, Unit::FileBytes),
        ("checkpoint_log_bytes", &mut storage.checkpoint_log_bytes, Unit::FileBytes),
    ];
    let known: Vec<&str> = limits.iter().map(|(key, ..)| *key).chain(["cache_bytes"]).collect();
    section.only(&known)?;
    for (key, limit, unit) in limits {
        if let Some(place) = section.get(key) {
            let (what, range) = unit.expected();
            *limit = number(&place, what, range)?;
        }
    }
    if let Some(place) = section.get("cache_bytes") {
        config.cache_bytes = Some(number(&place, "a whole number of bytes", 1..=1 << 40)?);
    }
    Ok(())
}

fn read_timeouts(section: &Section, config: &mut Config) -> Result<(), ConfigError> {
    let (core, net) = (&mut config.core.timeouts, &mut config.net);
    let timeouts = [
        ("call_ms", &mut core.call_ms, 1),
        // Zero: a stop waits for nobody.
        ("stop_ms", &mut core.stop_ms, 0),
        ("load_ms", &mut config.core.storage.load_ms, 1),
        ("auth_ms", &mut core.auth_ms, 1),
        // Zero: what a worker that vanished leaves behind is not waited for.
        ("gate_grace_ms", &mut core.gate_grace_ms, 0),
        ("ping_interval_ms", &mut net.ping_interval_ms, 1),
        ("idle_timeout_ms", &mut net.idle_timeout_ms, 1),
        ("slow_timeout_ms", &mut net.slow_timeout_ms, 1),
        ("handshake_timeout_ms", &mut net.handshake_timeout_ms, 1),
    ];
    section.only(&timeouts.each_ref().map(|(key, ..)| *key))?;
    for (key, timeout, least) in timeouts {
        if let Some(place) = section.get(key) {
            *timeout = place.number("a whole number of milliseconds", least..=LONGEST_MS)?;
        }
    }
    let (ping, idle) = (net.ping_interval_ms, net.idle_timeout_ms);
    if ping >= idle {
        // A quiet client would be cut off before its first pong.
        return Err(section
            .place()
            .error(format!("expected `ping_interval_ms` below `idle_timeout_ms`, found {ping} and {idle}")));
    }
    Ok(())
}

/// A number that is kept in a smaller type.
fn number<N: TryFrom<u64>>(place: &Place, what: &str, range: RangeInclusive<u64>) -> Result<N, ConfigError> {
    let number = place.number(what, range)?;
    N::try_from(number).map_err(|_| place.expected(what))
}

//! What a server counts while it runs, and `GET /metrics` on the worker port, where monitoring reads it.
//!
//! Counters begin at zero with the process. Nothing is counted per stream, group or subscriber: names come from outside,
//! and without a bound.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::http::Method;

use crate::handshake::asks_for;
use crate::http::Asked;

/// The path that is asked for.
const PATH: &str = "/metrics";

/// The port that a connection came to: `workers` or `subscribers`.
type Port = [(&'static str, &'static str); 1];

/// Both.
const PORTS: [&str; 2] = ["workers", "subscribers"];

/// All that is counted. Each is counted where it happens; reading them holds up nobody.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: Family<Port, Gauge>,
    refused: Family<Port, Counter>,
    /// There was a frame for a subscriber, whether its outbox had room or not.
    pub(crate) deliveries: Counter,
    /// What waited for a subscriber was dropped.
    pub(crate) overflows: Counter,
    /// A sent event was missed by a subscriber, who is told so.
    pub(crate) skipped: Counter,
    /// A peer was disconnected that has read nothing for too long.
    pub(crate) stuck: Counter,
    /// An event was dropped that a handler was too slow for.
    pub(crate) handler_dropped: Counter,
    /// A handler, a gate or the `auth` function failed.
    pub(crate) handler_failures: Counter,
    /// A write was handed to the log.
    pub(crate) log_writes: Counter,
    /// Its bytes.
    pub(crate) log_bytes: Counter,
    /// A write to the log failed.
    pub(crate) log_failures: Counter,
    /// Bytes that wait for the log.
    pub(crate) log_backlog: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("headwater");
        let all = &mut registry;
        let metrics = Metrics {
            connections: register(all, "connections", "Connections that are open"),
            refused: register(
                all,
                "connections_refused",
                "Connections that were refused, as there were as many as may be",
            ),
            deliveries: register(
                all,
                "deliveries",
                "Frames for subscribers, each as often as it has receivers, also where a full outbox drops it",
            ),
            overflows: register(
                all,
                "overflows",
                "How often a subscriber was too slow: what waited for it was dropped, and it gets fresh state",
            ),
            skipped: register(
                all,
                "skipped_events",
                "Sent events that subscribers have missed as they were too slow for them",
            ),
            stuck: register(
                all,
                "stuck_disconnects",
                "Peers that were disconnected as they read nothing for too long",
            ),
            handler_dropped: register(
                all,
                "handler_dropped_events",
                "Events that were dropped as handlers of triggers were too slow for them",
            ),
            handler_failures: register(
                all,
                "handler_failures",
                "Failed calls of handlers, gates, conditions and the auth function",
            ),
            log_writes: register(all, "log_writes", "Writes to the log, each with all that came meanwhile"),
            log_bytes: register(all, "log_bytes", "Bytes of those"),
            log_failures: register(all, "log_failures", "Writes to the log that have failed"),
            log_backlog: register(
                all,
                "log_backlog_bytes",
                "About how many bytes of changes, answers and events wait for the log",
            ),
            registry,
        };
        // Shown from the start, as zeros.
        for port in PORTS {
            drop(metrics.connections.get_or_create(&[("port", port)]));
            drop(metrics.refused.get_or_create(&[("port", port)]));
        }
        metrics
    }
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// An open connection, as long as it lives.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A connection to a port is open.
    pub(crate) fn opened(&self, port: &'static str) -> Open {
        let open = self.connections.get_or_create_owned(&[("port", port)]);
        open.inc();
        Open(open)
    }

    /// A connection to a port is refused.
    pub(crate) fn refuses(&self, port: &'static str) {
        self.refused.get_or_create(&[("port", port)]).inc();
    }

    fn text(&self) -> String {
        let mut out = String::with_capacity(4096);
        encode(&mut out, &self.registry).expect("a string takes whatever is written");
        out
    }
}

/// Whether this asks for the metrics, and not for a WebSocket, which may have any path.
pub(crate) fn are_asked_for(request: &Request) -> bool {
    asks_for(request, PATH)
}

/// Answers it.
pub(crate) async fn serve<S>(asked: Asked<S>, metrics: &Metrics, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = metrics.text();
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    if *asked.request().method() != Method::HEAD {
        out.push_str(&text);
    }
    asked.answer(out.as_bytes(), patience).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_in_the_text_that_monitoring_reads() {
        let metrics = Metrics::default();
        let open = [metrics.opened("workers"), metrics.opened("workers")];
        drop(open);
        let _open = metrics.opened("workers");
        metrics.refuses("subscribers");
        metrics.skipped.inc_by(3);
        metrics.log_backlog.set(7);
        let text = metrics.text();
        let mut shown: Vec<_> = text.lines().filter(|line| !line.starts_with("# ")).collect();
        shown.sort_unstable();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        headwater_connections_refused_total{port="subscribers"} 1
        headwater_connections_refused_total{port="workers"} 0
        headwater_connections{port="subscribers"} 0
        headwater_connections{port="workers"} 1
        headwater_deliveries_total 0
        headwater_handler_dropped_events_total 0
        headwater_handler_failures_total 0
        headwater_log_backlog_bytes 7
        headwater_log_bytes_total 0
        headwater_log_failures_total 0
        headwater_log_writes_total 0
        headwater_overflows_total 0
        headwater_skipped_events_total 3
        headwater_stuck_disconnects_total 0
        "#);
        assert!(text.ends_with("# EOF\n"));
    }
}

//! Who may connect, as far as a handshake tells it: web pages by their origin, workers by their token.

use std::net::IpAddr;

use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, ORIGIN};
use tokio_tungstenite::tungstenite::http::uri::Authority;

use crate::config::{Origins, PortAccess, Token};
use crate::http::Refusal;

/// What a connection of the worker port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    /// An SDK's telemetry, from somebody who may also be a worker.
    Telemetry,
    /// The same from anybody: an SDK that has no way to send its token along.
    TelemetryOfStrangers,
}

/// Where SDKs send their telemetry.
const TELEMETRY_PATH: &str = "/otel";

/// Lets a connection of the worker port in, or says why not.
pub(crate) fn to_workers(access: &PortAccess, request: &Request) -> Result<Role, Refusal> {
    if !allows(&access.worker_origins, request) {
        return Err(Refusal::forbidden(
            "Pages of this origin may not connect to the worker port: it is not in `worker_origins`.",
        ));
    }
    let telemetry = request.uri().path().trim_end_matches('/') == TELEMETRY_PATH;
    let shown = access.worker_token.as_ref().map_or(Shown::Right, |token| shown(token, request));
    match (shown, telemetry) {
        (Shown::Right, false) => Ok(Role::Worker),
        (Shown::Right, true) => Ok(Role::Telemetry),
        (Shown::Nothing, true) => Ok(Role::TelemetryOfStrangers),
        (Shown::Nothing, false) => Err(Refusal::unauthorized(
            "The worker port wants a token, as `Authorization: Bearer TOKEN`: the SDKs for Python and Rust send what is \
             in III_TOKEN, the one for Node what its options have under `headers`.",
        )),
        (Shown::Wrong, _) => {
            Err(Refusal::unauthorized("The token in `Authorization` is not that of the worker port."))
        }
    }
}

/// Lets somebody have what the worker port gives out, such as all that is stored, or says why not: the same who may be
/// workers.
pub(crate) fn to_operators(access: &PortAccess, request: &Request) -> Result<(), Refusal> {
    to_workers(access, request)?;
    // A browser names the origin of a page for every WebSocket, but not for a page that gets something from where it
    // seems to come from itself: behind a name that was another machine's a moment ago.
    if access.worker_token.is_none() && !names_a_machine(request) {
        return Err(Refusal::forbidden(
            "Without a `worker_token`, this is for those who ask an IP address or `localhost` for it, and not a name: any \
             web page could come by a name.",
        ));
    }
    Ok(())
}

/// Whether the host that is asked is one that no page can have come from unless it is of this machine.
fn names_a_machine(request: &Request) -> bool {
    let hosts = request.headers().get_all(HOST).iter();
    hosts.map(|host| host.to_str().ok().and_then(|host| host.parse::<Authority>().ok())).all(|host| {
        host.is_some_and(|host| {
            let host = host.host().trim_start_matches('[').trim_end_matches(']');
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
        })
    })
}

/// Lets a connection of the stream port in, or says why not.
pub(crate) fn to_streams(access: &PortAccess, request: &Request) -> Result<(), Refusal> {
    match allows(&access.stream_origins, request) {
        true => Ok(()),
        false => Err(Refusal::forbidden(
            "Pages of this origin may not connect to the stream port: it is not in `allowed_origins`.",
        )),
    }
}

/// Whether the page that a request comes from may connect. What is no browser sends no origin.
fn allows(origins: &Origins, request: &Request) -> bool {
    request.headers().get_all(ORIGIN).iter().all(|origin| origins.allow(origin.as_bytes()))
}

/// What a request shows of the token.
#[derive(Clone, Copy)]
enum Shown {
    Nothing,
    Wrong,
    Right,
}

fn shown(token: &Token, request: &Request) -> Shown {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Shown::Nothing,
        (Some(value), None) if bearer(value.as_bytes()).is_some_and(|shown| token.is(shown)) => Shown::Right,
        _ => Shown::Wrong,
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().expect("a path");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        request
    }

    fn status(outcome: Result<Role, Refusal>) -> Result<Role, u16> {
        outcome.map_err(|refusal| refusal.status())
    }

    #[test]
    fn a_worker_shows_its_token_and_telemetry_may_show_none() {
        let access = PortAccess { worker_token: Token::new("s3cret"), ..PortAccess::default() };
        let role = |path: &str, shown: &[&str]| {
            let headers: Vec<_> = shown.iter().map(|value| ("authorization", *value)).collect();
            status(to_workers(&access, &request(path, &headers)))
        };
        for right in ["Bearer s3cret", "bearer  s3cret", "BEARER s3cret "] {
            assert_eq!(role("/", &[right]), Ok(Role::Worker), "{right}");
            assert_eq!(role("/otel", &[right]), Ok(Role::Telemetry), "{right}");
        }
        for wrong in
            ["s3cret", "Bearer", "Bearer ", "Bearers3cret", "Bearer s3cre", "Bearer s3cretx", "Basic s3cret"]
        {
            for path in ["/", "/otel"] {
                assert_eq!(role(path, &[wrong]), Err(401), "{wrong}");
            }
        }
        assert_eq!(role("/", &["Bearer s3cret", "Bearer s3cret"]), Err(401), "which one?");
        assert_eq!(role("/?token=s3cret", &[]), Err(401));
        for path in ["/", "/otelx", "/a/otel", "/OTEL"] {
            assert_eq!(role(path, &[]), Err(401), "{path}");
        }
        for path in ["/otel", "/otel/", "/otel?a=b"] {
            assert_eq!(role(path, &[]), Ok(Role::TelemetryOfStrangers), "{path}");
        }
    }

    #[test]
    fn a_worker_port_without_a_token_takes_any() {
        for headers in [&[][..], &[("authorization", "Bearer any")]] {
            let access = PortAccess::default();
            assert_eq!(status(to_workers(&access, &request("/", headers))), Ok(Role::Worker));
            assert_eq!(status(to_workers(&access, &request("/otel", headers))), Ok(Role::Telemetry));
        }
    }

    #[test]
    fn a_page_comes_in_where_its_origin_is_listed_and_what_is_no_page_always() {
        let listed = || Origins::Only(vec!["https://example.org".to_owned(), "http://[::1]:81".to_owned()]);
        let access =
            PortAccess { worker_origins: listed(), stream_origins: listed(), ..PortAccess::default() };
        let outcomes = |origins: &[&str]| {
            let headers: Vec<_> = origins.iter().map(|value| ("origin", *value)).collect();
            let streams = to_streams(&access, &request("/stream/s/g", &headers));
            let workers = ["/", "/otel"].map(|path| to_workers(&access, &request(path, &headers)).map(drop));
            let [worker, telemetry] = workers;
            [streams, worker, telemetry].map(|outcome| outcome.map_err(|refusal| refusal.status()))
        };
        for good in [&[][..], &["https://example.org"], &["https://EXAMPLE.org"], &["http://[::1]:81"]] {
            assert_eq!(outcomes(good), [Ok(()); 3], "{good:?}");
        }
        for bad in [
            &["http://example.org"][..],
            &["https://example.org.evil.example"],
            &["https://sub.example.org"],
            &["https://example.org:8443"],
            &["null"],
            &["*"],
            &[""],
            &["https://example.org", "https://evil.example"],
        ] {
            assert_eq!(outcomes(bad), [Err(403); 3], "{bad:?}");
        }
    }

    #[test]
    fn an_export_without_a_token_is_not_for_a_page_that_came_by_a_name() {
        let status = |access: &PortAccess, headers: &[(&'static str, &str)]| {
            to_operators(access, &request("/export", headers)).map_err(|refusal| refusal.status())
        };
        let open = PortAccess::default();
        for good in ["127.0.0.1:49134", "localhost:49134", "LOCALHOST", "[::1]:49134", "192.0.2.1"] {
            assert_eq!(status(&open, &[("host", good)]), Ok(()), "{good}");
        }
        assert_eq!(status(&open, &[]), Ok(()), "no browser");
        for bad in ["evil.example:49134", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"] {
            assert_eq!(status(&open, &[("host", bad)]), Err(403), "{bad}");
        }
        assert_eq!(status(&open, &[("host", "localhost"), ("host", "evil.example")]), Err(403));
        assert_eq!(status(&open, &[("host", "localhost"), ("origin", "http://evil.example")]), Err(403));
        let guarded = PortAccess { worker_token: Token::new("s3cret"), ..PortAccess::default() };
        let name = ("host", "headwater.example");
        assert_eq!(status(&guarded, &[name, ("authorization", "Bearer s3cret")]), Ok(()));
        assert_eq!(status(&guarded, &[name]), Err(401));
        assert_eq!(status(&guarded, &[name, ("authorization", "Bearer wrong")]), Err(401));
    }

    #[test]
    fn by_default_pages_may_subscribe_and_not_work() {
        let page = request("/", &[("origin", "https://example.org")]);
        assert_eq!(to_streams(&PortAccess::default(), &page), Ok(()));
        assert_eq!(status(to_workers(&PortAccess::default(), &page)), Err(403));
    }
}

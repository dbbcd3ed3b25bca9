//! Who may use the ports: the workers' token, and the origins of web pages.

use std::fmt;
use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

use super::ConfigError;
use super::reader::{Place, Section};

/// Who may use the ports, as far as a handshake tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// What a worker must show. Default none: whoever reaches the worker port may do everything.
    pub worker_token: Option<Token>,
    /// Whether other machines may reach a worker port that wants no token. Default no.
    pub insecure: bool,
    /// The web pages that may connect to the worker port. Default none.
    pub worker_origins: Origins,
    /// The web pages that may connect to the stream port. Default all.
    pub stream_origins: Origins,
}

impl Default for PortAccess {
    fn default() -> PortAccess {
        PortAccess {
            worker_token: None,
            insecure: false,
            worker_origins: Origins::Only(Vec::new()),
            stream_origins: Origins::Any,
        }
    }
}

impl PortAccess {
    /// Whether the worker port may listen where other machines reach it.
    pub fn may_be_reached(&self) -> bool {
        self.insecure || self.worker_token.is_some()
    }
}

/// A secret that workers share with the server. It is never shown but to the other side.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that fits into a header as it is: visible ASCII without spaces. `None` for any other text.
    pub fn new(text: impl Into<String>) -> Option<Token> {
        let text = text.into();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Token(text))
    }

    /// The text, for the header of a request.
    pub(crate) fn shown(&self) -> &str {
        &self.0
    }

    /// Whether this is it. How long the answer takes tells nothing but whether the length is right.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The web pages that may connect, by their origin. What is no web page sends no origin and may always connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those of these origins, each as a browser writes it, such as `https://example.org`.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a page of this origin may connect.
    pub fn allow(&self, origin: &[u8]) -> bool {
        match self {
            Origins::Any => true,
            Origins::Only(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
            }
        }
    }
}

/// Whether only this machine reaches a port that listens there. Of all names `localhost` alone is taken for it: what
/// another one resolves to can change.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Reads the keys of the worker port.
pub(super) fn read_workers(section: &Section, access: &mut PortAccess) -> Result<(), ConfigError> {
    if let Some(place) = section.get("worker_token") {
        let what = "a token of letters, digits and other visible ASCII characters, without spaces";
        let token = Token::new(place.secret(what)?);
        access.worker_token = Some(token.ok_or_else(|| place.error(format!("expected {what}")))?);
    }
    if let Some(place) = section.get("insecure") {
        access.insecure = place.truth()?;
    }
    if let Some(place) = section.get("worker_origins") {
        access.worker_origins = Origins::Only(read_origins(&one_or_more(&place)?)?);
    }
    Ok(())
}

/// Reads the origins of the stream port, where `*` is all.
pub(super) fn read_stream_origins(place: &Place) -> Result<Origins, ConfigError> {
    let (mut named, mut any) = (Vec::new(), false);
    for place in one_or_more(place)? {
        match place.text(ORIGIN)?.as_str() {
            "*" => any = true,
            _ => named.push(place),
        }
    }
    let only = read_origins(&named)?;
    Ok(if any { Origins::Any } else { Origins::Only(only) })
}

const ORIGIN: &str =
    "an origin such as `https://example.org` or `http://localhost:5173`, without a path, or `null`";

fn one_or_more<'a>(place: &Place<'a>) -> Result<Vec<Place<'a>>, ConfigError> {
    if place.is_list() { place.list(ORIGIN) } else { Ok(vec![place.clone()]) }
}

fn read_origins(places: &[Place]) -> Result<Vec<String>, ConfigError> {
    let read = |place: &Place| {
        let text = place.text(ORIGIN)?;
        origin(&text).ok_or_else(|| place.unexpected(ORIGIN, &text))
    };
    places.iter().map(read).collect()
}

/// An origin as browsers write it. `null` is that of files and sandboxed frames.
fn origin(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let (host, port) = match authority.rsplit_once(':') {
        // An IPv6 address has its colons in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let made_of = |text: &str, marks: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| made_of(address, b":.")),
        None => made_of(host, b"-._"),
    };
    if !is_host || !made_of(scheme, b"+-.") {
        return None;
    }
    // A browser leaves it out.
    let usual = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some(match port.filter(|port| Some(*port) != usual) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

//! Where a running server is, and what it wants to see.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_tungstenite::tungstenite::http::Uri;

use super::Wanted;
use crate::config::Token;

/// The worker port of a running server.
#[derive(Clone, Debug)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    path: String,
    pub(super) token: Option<Token>,
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error("{0:?} is no address: expected one such as `http://127.0.0.1:49134`")]
    NoAddress(String),
    /// Nothing here speaks TLS.
    #[error(
        "`{0}` is not supported: Headwater speaks plain `http`; go through a tunnel, or run this beside the server"
    )]
    Encrypted(String),
    /// It can't be put into a header.
    #[error("the token has characters that no token has: it is visible ASCII without spaces")]
    BadToken,
}

impl Address {
    /// Reads `http://HOST:PORT`, or the same with `ws`, or `HOST:PORT`.
    pub fn parse(url: &str, token: Option<String>) -> Result<Address, AddressError> {
        let none = || AddressError::NoAddress(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| none())?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            None if uri.port().is_some() => {}
            Some(scheme @ ("https" | "wss")) => return Err(AddressError::Encrypted(scheme.to_owned())),
            _ => return Err(none()),
        }
        let token = token.map(|token| Token::new(token).ok_or(AddressError::BadToken)).transpose()?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(none)?;
        let host = authority.host().to_owned();
        let port = match authority.port_u16() {
            None if authority.as_str() != host => return Err(none()),
            port => port.unwrap_or(80),
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Address { host, port, path, token })
    }

    /// The host as the system looks it up.
    pub(crate) fn lookup(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// For the header of that name.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {}", token.shown()))
    }

    pub(super) fn worker_url(&self) -> String {
        format!("ws://{}{}", self.shown(), self.root_path())
    }

    /// The host and the port, as they were given.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What a connection asks for that wants nothing in particular.
    pub(crate) fn root_path(&self) -> String {
        format!("{}/", self.path)
    }

    pub(super) fn export_path(&self, wanted: &Wanted) -> String {
        let encode = |name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let query = match wanted {
            Wanted::All => String::new(),
            Wanted::Stream(stream) => format!("?stream={}", encode(stream.as_str())),
            Wanted::Group(path) => {
                format!("?stream={}&group={}", encode(path.stream.as_str()), encode(path.group.as_str()))
            }
        };
        format!("{}/export{query}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::name::{GroupName, GroupPath, StreamName};

    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (url, lookup) in [
            ("http://127.0.0.1:49134", ("127.0.0.1", 49134)),
            ("ws://localhost:1/", ("localhost", 1)),
            ("http://[::1]:7", ("::1", 7)),
            ("http://example.org", ("example.org", 80)),
            ("127.0.0.1:49134", ("127.0.0.1", 49134)),
            ("[::1]:7", ("::1", 7)),
        ] {
            assert_eq!(Address::parse(url, None).expect(url).lookup(), lookup);
        }
        for wrong in
            ["", "localhost", "me@h:1", "http://", "ftp://h:1", "http://me@h:1", "http://h:99999", "/export"]
        {
            let error = Address::parse(wrong, None).expect_err(wrong);
            assert_eq!(error, AddressError::NoAddress(wrong.to_owned()));
        }
        let encrypted = Address::parse("https://h:1", None).expect_err("no TLS");
        assert_eq!(encrypted, AddressError::Encrypted("https".to_owned()));
        let bad = Address::parse("http://h:1", Some("a\r\nb: c".to_owned())).expect_err("no token");
        assert_eq!(bad, AddressError::BadToken);
    }

    #[test]
    fn names_are_encoded_into_the_path_as_forms_spell_them() {
        let address = Address::parse("http://h:1/behind/", None).expect("an address");
        let path = GroupPath { stream: StreamName::trusted("a&b c"), group: GroupName::trusted("é/=") };
        let path = address.export_path(&Wanted::Group(path));
        assert_eq!(path, "/behind/export?stream=a%26b%20c&group=%C3%A9%2F%3D");
    }
}

//! Where a node is.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a node's admin API is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// TLS.
        is_tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`.
    ///
    /// # Errors
    /// Anything else; the text says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("`{text}` {what}; write http://HOST:PORT, https://HOST:PORT or unix:PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong("names no socket")) } else { Ok(Self::Unix(path.into())) };
        }
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong("is no address of a node")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("has a path, which the admin API does not"));
        }
        if rest.contains('@') {
            return Err(format!(
                "an address must have no password in it: put the token in a file, and name it with --token-file ({})",
                &rest[rest.find('@').map_or(0, |at| at + 1)..]
            ));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(|| wrong("lacks a `]`"))?;
                (host, behind.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("has no port between 1 and 65535"))?,
            None => 9180,
        };
        Ok(Self::Tcp { host: host.to_owned(), port, is_tls })
    }

    /// What stands in the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "node".to_owned(),
        }
    }

    /// The beginning of a command of curl that goes there.
    #[must_use]
    pub fn curl(&self) -> String {
        match self {
            Self::Tcp { .. } => format!("curl -H \"Authorization: Bearer $PINWIRE_ADMIN_TOKEN\" {self}"),
            Self::Unix(path) => format!("curl --unix-socket {} http://node", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { is_tls, .. } => {
                write!(formatter, "{}://{}", if *is_tls { "https" } else { "http" }, self.authority())
            }
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in [
            "http://127.0.0.1:9180",
            "https://eu.example.net:443",
            "http://[::1]:9180",
            "unix:/run/p/admin.sock",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Address::parse("https://eu.example.net/").unwrap().to_string(),
            "https://eu.example.net:9180"
        );
    }

    #[test]
    fn a_slip_is_told_with_its_mend_and_without_a_password() {
        for text in [
            "",
            "127.0.0.1:9180",
            "ftp://a",
            "http://",
            "http://a:b",
            "http://[::1",
            "http://a/v1/node",
            "unix:",
        ] {
            assert!(Address::parse(text).unwrap_err().contains("write http://HOST:PORT"), "{text}");
        }
        let refused = Address::parse("http://admin:hunter2@node:9180").unwrap_err();
        assert!(refused.contains("--token-file") && !refused.contains("hunter2"), "{refused}");
    }
}

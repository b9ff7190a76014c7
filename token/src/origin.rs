//! The rule for `Origin`: where a token names domains, a browser's page must come from one of them.

use std::net::Ipv6Addr;

/// Whether a page of `origin` (the header's value) may use a token that allows `domains`.
///
/// A domain is `host` (any port) or `host:port`; hosts compare without case and whole, so neither a longer name that
/// ends in it nor a subdomain counts. An origin without a port has its scheme's own (80, 443). `null` and whatever is
/// not an origin never match. A domain written with a scheme (`https://example.com`) also fixes the scheme.
pub fn origin_allowed<S: AsRef<str>>(origin: &str, domains: &[S]) -> bool {
    let Some(origin) = Origin::parse(origin) else { return false };
    domains.iter().filter_map(|d| Domain::parse(d.as_ref())).any(|domain| domain.covers(&origin))
}

/// The value of `Access-Control-Allow-Origin` for the first of `domains`; used where a request carries no origin of
/// its own that matches. Loopback hosts are taken to be plain HTTP.
pub fn origin_of_domain(domain: &str) -> Option<String> {
    if domain.contains("://") {
        return Origin::parse(domain).map(|_| domain.to_owned());
    }
    let host = Domain::parse(domain)?.host;
    let loopback = matches!(&host, Host::V6(a) if a.is_loopback())
        || matches!(&host, Host::Name(n) if n.eq_ignore_ascii_case("localhost") || n.starts_with("127."));
    Some(format!("{}://{domain}", if loopback { "http" } else { "https" }))
}

struct Origin<'a> {
    scheme: &'a str,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// RFC 6454 section 6.2: `scheme://host[:port]` and nothing else.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return None;
        }
        let (host, port) = parse_authority(authority)?;
        Some(Self { scheme, host, port: port.or_else(|| default_port(scheme)) })
    }
}

struct Domain<'a> {
    scheme: Option<&'a str>,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Domain<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(origin) = text.contains("://").then(|| Origin::parse(text)) {
            let Origin { scheme, host, port } = origin?;
            return Some(Self { scheme: Some(scheme), host, port });
        }
        if let Ok(bare) = text.parse::<Ipv6Addr>() {
            return Some(Self { scheme: None, host: Host::V6(bare), port: None });
        }
        let (host, port) = parse_authority(text)?;
        Some(Self { scheme: None, host, port })
    }

    fn covers(&self, origin: &Origin<'_>) -> bool {
        self.host == origin.host
            && self.scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme))
            && self.port.is_none_or(|port| Some(port) == origin.port)
    }
}

enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

fn parse_authority(text: &str) -> Option<(Host<'_>, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let port = match after {
            "" => None,
            _ => Some(parse_port(after.strip_prefix(':')?)?),
        };
        return Some((Host::V6(address.parse().ok()?), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b) || !b.is_ascii();
    (!host.is_empty() && host.bytes().all(plain)).then_some((Host::Name(host), port))
}

/// Digits only: `u16::from_str` would take a sign as well.
fn parse_port(text: &str) -> Option<u16> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins_match_whole_hosts_and_named_ports_only() {
        let table: &[(&str, &str, bool)] = &[
            ("https://example.com", "example.com", true),
            ("http://example.com", "example.com", true),
            ("https://example.com:8443", "example.com", true),
            ("https://EXAMPLE.com", "example.COM", true),
            ("http://localhost:3000", "localhost:3000", true),
            ("http://localhost:3001", "localhost:3000", false),
            ("http://localhost", "localhost:3000", false),
            ("https://example.com", "example.com:443", true),
            ("http://example.com", "example.com:443", false),
            ("http://example.com", "example.com:80", true),
            ("https://example.com:443", "example.com:443", true),
            ("https://example.com.evil.org", "example.com", false),
            ("https://evil-example.com", "example.com", false),
            ("https://app.example.com", "example.com", false),
            ("https://example.com.", "example.com", false),
            ("https://example.com@evil.org", "example.com", false),
            ("https://evil.org/example.com", "example.com", false),
            ("https://evil.org#example.com", "example.com", false),
            ("https://evil.org\\example.com", "example.com", false),
            ("https://example.com/", "example.com", false),
            ("example.com", "example.com", false),
            ("null", "null", false),
            ("", "example.com", false),
            ("https://", "example.com", false),
            ("https://example.com:", "example.com", false),
            ("https://example.com:+443", "example.com", false),
            ("https://example.com:99999", "example.com", false),
            ("https://example.com, https://evil.org", "example.com", false),
            ("https://*", "*", false),
            ("https://example.com", "*.com", false),
            ("https://example.com", "", false),
            ("http://[::1]:3000", "[::1]:3000", true),
            ("http://[0:0:0:0:0:0:0:1]:3000", "[::1]:3000", true),
            ("http://[::1]:3000", "::1", true),
            ("http://[::1]:3000", "[::1]", true),
            ("http://[::1]:3000", "[::1]:3001", false),
            ("http://[::2]:3000", "[::1]:3000", false),
            ("http://[::1", "[::1]", false),
            ("http://127.0.0.1:5173", "127.0.0.1", true),
            ("https://example.com", "https://example.com", true),
            ("http://example.com", "https://example.com", false),
            ("capacitor://localhost", "localhost", true),
            ("capacitor://localhost", "localhost:80", false),
        ];
        for (origin, domain, expected) in table {
            assert_eq!(origin_allowed(origin, &[domain]), *expected, "origin {origin:?}, domain {domain:?}");
        }
    }

    #[test]
    fn a_domain_is_answered_as_an_origin() {
        assert_eq!(origin_of_domain("example.com").as_deref(), Some("https://example.com"));
        assert_eq!(origin_of_domain("localhost:3000").as_deref(), Some("http://localhost:3000"));
        assert_eq!(origin_of_domain("http://a.example").as_deref(), Some("http://a.example"));
        assert_eq!(origin_of_domain("bad host\r\nx"), None);
    }

    proptest! {
        #[test]
        fn a_longer_host_never_matches(prefix in "[a-z0-9.-]{1,8}", suffix in "[a-z0-9.-]{1,8}") {
            let before = format!("https://{prefix}example.com");
            let after = format!("https://example.com{suffix}");
            prop_assert!(!origin_allowed(&before, &["example.com"]));
            prop_assert!(!origin_allowed(&after, &["example.com"]));
        }

        #[test]
        fn a_host_matches_itself_in_any_case_and_port(host in "[a-zA-Z0-9-]{1,9}(\\.[a-zA-Z]{2,5})?", port: u16) {
            let origin = format!("https://{}:{port}", host.to_uppercase());
            prop_assert!(origin_allowed(&origin, std::slice::from_ref(&host)));
            let (same, next) = (format!("{host}:{port}"), format!("{host}:{}", port.wrapping_add(1)));
            prop_assert!(origin_allowed(&origin, &[same]));
            prop_assert!(!origin_allowed(&origin, &[next]));
        }

        #[test]
        fn any_text_is_judged_without_panic(origin in "\\PC{0,40}", domain in "\\PC{0,40}") {
            origin_allowed(&origin, &[domain]);
        }
    }
}

//! Where to and where from: URLs, and the addresses clients are bound to.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

/// A WebSocket URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Speaks TLS.
    pub is_secure: bool,
    /// Resolved, the first address.
    pub address: SocketAddr,
    /// For the `Host` header.
    pub host: String,
    /// From the first slash on; without a trailing slash unless it is all.
    pub path: String,
    /// After the question mark.
    pub query: Option<String>,
    /// What region it counts for: the name that stands before the URL, or its [`Endpoint::origin`].
    pub region: Arc<str>,
}

impl Endpoint {
    /// Takes `ws://host:port/path?query` (or `wss://`) apart and resolves its host. `NAME=` before it names its region.
    ///
    /// # Errors
    /// Not such a URL, or the host has no address.
    pub fn resolve(url: &str) -> Result<Self> {
        let (region, url) = split_region(url);
        let (is_secure, port) = if url.starts_with("wss://") { (true, 443) } else { (false, 80) };
        let Some(rest) = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://")) else {
            bail!("{url} is not a WebSocket URL; write it as ws://127.0.0.1:8080/path");
        };
        ensure!(!rest.contains('#'), "{url}: a WebSocket URL has no fragment (RFC 6455 3)");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        let mut addresses =
            with_port.to_socket_addrs().with_context(|| format!("{url}: the host has no address"))?;
        let address = addresses.next().with_context(|| format!("{url}: the host has no address"))?;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { "" };
        let origin = origin(is_secure, host);
        let region = region.map_or_else(|| origin.into(), Arc::from);
        Ok(Self { is_secure, address, host: host.to_owned(), path: path.to_owned(), query, region })
    }

    /// Scheme and host: where it leads to.
    pub(crate) fn origin(&self) -> String {
        origin(self.is_secure, &self.host)
    }

    /// The host without its port: what its certificate has to be for.
    pub(crate) fn name(&self) -> &str {
        let without_port = self.host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let name = without_port.map_or(self.host.as_str(), |(name, _)| name);
        name.trim_start_matches('[').trim_end_matches(']')
    }

    /// The request target for a document or path below this URL's, with a token if there is one.
    pub(crate) fn target(&self, below: &str, token: Option<&str>) -> String {
        let mut target = self.path.clone();
        if !below.is_empty() {
            target.push('/');
            target.push_str(below);
        }
        if target.is_empty() {
            target.push('/');
        }
        let token = token.map(|token| format!("token={token}"));
        let query: Vec<&str> = self.query.as_deref().into_iter().chain(token.as_deref()).collect();
        if !query.is_empty() {
            target.push('?');
            target.push_str(&query.join("&"));
        }
        target
    }
}

fn origin(is_secure: bool, host: &str) -> String {
    format!("{}://{host}", if is_secure { "wss" } else { "ws" })
}

/// `eu=ws://host` is a URL in the region `eu`.
fn split_region(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && !name.contains([':', '/', '?']) => (Some(name), url),
        _ => (None, text),
    }
}

/// Source addresses as they are written: single ones, and ranges as `127.0.0.2-127.0.0.40`.
///
/// # Errors
/// Names the one that is not an address, or a range that ends before it begins.
pub fn sources(texts: &[String]) -> Result<Vec<Ipv4Addr>> {
    let parse = |text: &str| -> Result<Ipv4Addr> {
        text.trim().parse().with_context(|| format!("`{text}` is not an IPv4 address to dial from"))
    };
    let mut all = Vec::new();
    for text in texts {
        match text.split_once('-') {
            None => all.push(parse(text)?),
            Some((first, last)) => {
                let (first, last) = (u32::from(parse(first)?), u32::from(parse(last)?));
                ensure!(first <= last, "the range `{text}` of source addresses ends before it begins");
                ensure!(last - first < 1 << 16, "the range `{text}` has more than 65,536 addresses");
                all.extend((first..=last).map(Ipv4Addr::from));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together_again() {
        let endpoint = Endpoint::resolve("ws://127.0.0.1:9000/base/?a=1").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.path.as_str()), ("127.0.0.1:9000", "/base"));
        assert_eq!(endpoint.target("doc", Some("t")), "/base/doc?a=1&token=t");
        let bare = Endpoint::resolve("ws://127.0.0.1").unwrap();
        assert_eq!((bare.address.port(), bare.target("", None).as_str()), (80, "/"));
    }

    #[test]
    fn a_name_before_a_url_is_its_region() {
        let named = Endpoint::resolve("eu-west-1=ws://127.0.0.1:1/?a=b").unwrap();
        assert_eq!((&*named.region, named.query.as_deref()), ("eu-west-1", Some("a=b")));
        assert_eq!(&*Endpoint::resolve("ws://127.0.0.1:1/x?a=b").unwrap().region, "ws://127.0.0.1:1");
    }

    #[test]
    fn what_is_no_url_says_how_one_looks() {
        assert!(Endpoint::resolve("127.0.0.1:80").unwrap_err().to_string().contains("ws://"));
        let secure = Endpoint::resolve("wss://127.0.0.1/a").unwrap();
        assert_eq!((secure.is_secure, secure.address.port(), secure.name()), (true, 443, "127.0.0.1"));
        assert_eq!(Endpoint::resolve("wss://[::1]:9").unwrap().name(), "::1");
    }

    #[test]
    fn ranges_of_sources_are_spelled_out() {
        let all = sources(&["127.0.0.2-127.0.0.4".into(), "127.0.1.1".into()]).unwrap();
        assert_eq!(all.len(), 4);
        assert!(sources(&["127.0.0.4-127.0.0.2".into()]).is_err());
        assert!(sources(&["localhost".into()]).unwrap_err().to_string().contains("localhost"));
    }
}

//! Where the admin APIs of other nodes are, given what one node knows of them.
//!
//! Nodes tell the registries where their admin API is reached (`admin.public_url`, or where it is listened for). Of one that does
//! not, without a pattern, the same port and scheme on the host of its peer address are taken. A loopback address leads to somebody
//! else on each host: it is believed only where the console reaches the node that it asked by such an address as well, the one that
//! this node tells of itself. A token that goes to one node in TLS never goes to another in the clear.

use pinwire_admin_api::cluster::ClusterNode;

use super::address::Address;

/// How the addresses of other nodes are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Nodes that were not named are not looked for.
    Off,
    /// From what they tell, or else from their peer addresses.
    #[default]
    Peers,
    /// From a pattern with `{region}`, `{name}` and `{host}` (of the peer address).
    Pattern(String),
}

impl Discovery {
    /// Where a node may be, as one at `from` knows it. `is_near`: what that one tells of itself is where it was reached.
    #[must_use]
    pub fn address(&self, node: &ClusterNode, from: &Address, is_near: bool) -> Option<Address> {
        let host = node.peer_address.as_deref().and_then(host);
        match self {
            Self::Off => None,
            Self::Pattern(pattern) => {
                let text = pattern.replace("{region}", &node.region).replace("{name}", &node.name);
                let text = match host {
                    Some(host) => text.replace("{host}", host),
                    None if text.contains("{host}") => return None,
                    None => text,
                };
                Address::parse(&text).ok()
            }
            Self::Peers => match &node.admin_url {
                Some(url) => told(url, from, is_near),
                None => {
                    let Address::Tcp { port, is_tls, .. } = from else { return None };
                    let host = host.filter(|host| !is_own(host))?;
                    Some(Address::Tcp { host: host.to_owned(), port: *port, is_tls: *is_tls })
                }
            },
        }
    }
}

/// What a node tells, if the token may go there.
fn told(url: &str, from: &Address, is_near: bool) -> Option<Address> {
    let address = Address::parse(url).ok()?;
    let Address::Tcp { host, is_tls, .. } = &address else { return None };
    let is_plain_before = matches!(from, Address::Tcp { is_tls: false, .. });
    let is_allowed = if is_own(host) { is_near } else { *is_tls || is_plain_before };
    is_allowed.then_some(address)
}

fn host(address: &str) -> Option<&str> {
    let (host, _) = address.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']')).filter(|host| !host.is_empty())
}

/// The same from every host.
fn is_own(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(peer: Option<&str>, admin: Option<&str>) -> ClusterNode {
        ClusterNode {
            region: "eu-central-1".into(),
            name: "eu-1b".into(),
            life: "1".into(),
            ws_url: "wss://eu".into(),
            peer_address: peer.map(str::to_owned),
            admin_url: admin.map(str::to_owned),
            version: "1".into(),
            db_codes: Vec::new(),
        }
    }

    fn found(discovery: &Discovery, peer: Option<&str>) -> Option<String> {
        let from = Address::parse("https://10.0.1.10:9180").unwrap();
        discovery.address(&node(peer, None), &from, false).map(|address| address.to_string())
    }

    #[test]
    fn a_node_that_tells_is_looked_for_there() {
        let found = |from: &str, admin: &str, is_near| {
            let node = node(Some("10.0.1.11:7000"), Some(admin));
            let address = Discovery::Peers.address(&node, &Address::parse(from).unwrap(), is_near);
            address.map(|address| address.to_string())
        };
        let (plain, secure) = ("http://10.0.1.10:9180", "https://10.0.1.10:9180");
        assert_eq!(found(plain, "http://b.internal:9", false).unwrap(), "http://b.internal:9");
        assert_eq!(found(secure, "https://b.internal:9", false).unwrap(), "https://b.internal:9");
        assert_eq!(found("unix:/run/a.sock", "https://b.internal:9", false).unwrap(), "https://b.internal:9");
        for from in [secure, "unix:/run/a.sock"] {
            assert_eq!(found(from, "http://b.internal:9", false), None, "the token would go in the clear");
        }
        assert_eq!(found("http://127.0.0.1:1", "http://127.0.0.1:2", true).unwrap(), "http://127.0.0.1:2");
        assert_eq!(
            found("http://127.0.0.1:1", "http://127.0.0.1:2", false),
            None,
            "a tunnel to another host"
        );
        assert_eq!(found(plain, "unix:/run/b.sock", true), None);
        assert_eq!(found(plain, "odd", true), None);
    }

    #[test]
    fn a_node_is_looked_for_beside_where_its_peers_reach_it() {
        assert_eq!(found(&Discovery::Peers, Some("10.0.1.11:7000")).unwrap(), "https://10.0.1.11:9180");
        assert_eq!(found(&Discovery::Peers, Some("[fd00::2]:7000")).unwrap(), "https://[fd00::2]:9180");
        for peer in [None, Some("127.0.0.1:7000"), Some("[::1]:7000"), Some("localhost:1"), Some("odd")] {
            assert_eq!(found(&Discovery::Peers, peer), None);
        }
        assert_eq!(found(&Discovery::Off, Some("10.0.1.11:7000")), None);
    }

    #[test]
    fn a_pattern_says_where() {
        let pattern = Discovery::Pattern("https://{name}.{region}.internal:9443".into());
        assert_eq!(found(&pattern, None).unwrap(), "https://eu-1b.eu-central-1.internal:9443");
        let by_host = Discovery::Pattern("http://{host}:1".into());
        assert_eq!(found(&by_host, None), None);
        assert_eq!(found(&by_host, Some("a.example:7000")).unwrap(), "http://a.example:1");
    }
}

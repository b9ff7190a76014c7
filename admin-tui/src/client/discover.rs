//! Where the admin APIs of other nodes are, given what one node knows of them.
//!
//! Registries know where nodes reach each other (`cluster.peer_address`), not where operators do. Without a pattern, the same port
//! and scheme on the host of a node's peer address are taken, unless that is a loopback address, where every node has the same host.

use pinwire_admin_api::cluster::ClusterNode;

use super::address::Address;

/// How the addresses of other nodes are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Nodes that were not named are not looked for.
    Off,
    /// From their peer addresses.
    #[default]
    Peers,
    /// From a pattern with `{region}`, `{name}` and `{host}` (of the peer address).
    Pattern(String),
}

impl Discovery {
    /// Where a node may be, as one at `from` knows it.
    #[must_use]
    pub fn address(&self, node: &ClusterNode, from: &Address) -> Option<Address> {
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
            Self::Peers => {
                let Address::Tcp { port, is_tls, .. } = from else { return None };
                let host = host.filter(|host| !is_own(host))?;
                Some(Address::Tcp { host: host.to_owned(), port: *port, is_tls: *is_tls })
            }
        }
    }
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

    fn node(peer: Option<&str>) -> ClusterNode {
        ClusterNode {
            region: "eu-central-1".into(),
            name: "eu-1b".into(),
            life: "1".into(),
            ws_url: "wss://eu".into(),
            peer_address: peer.map(str::to_owned),
            version: "1".into(),
            db_codes: Vec::new(),
        }
    }

    fn found(discovery: &Discovery, peer: Option<&str>) -> Option<String> {
        let from = Address::parse("https://10.0.1.10:9180").unwrap();
        discovery.address(&node(peer), &from).map(|address| address.to_string())
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

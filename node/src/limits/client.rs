//! Who the client is when a proxy stands between.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Entries of `X-Forwarded-For` looked at; a chain of proxies is short.
const MAX_HOPS: usize = 16;

/// The client's address: the peer's, unless the peer is a trusted proxy. Then the nearest address in
/// `X-Forwarded-For` that is not a trusted proxy itself: everything before that one was written by strangers.
///
/// `forwarded` are the header's values in the order they stand. An entry that is no address ends the walk at the
/// last address that somebody trusted vouched for.
pub fn client_address<'a>(
    peer: SocketAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.ip().to_canonical();
    let entries = forwarded.rev().flat_map(|value| value.rsplit(',')).take(MAX_HOPS);
    for entry in entries {
        if !trusted.iter().any(|net| net.contains(&client)) {
            break;
        }
        let Some(named) = parse_entry(entry.trim()) else { break };
        client = named;
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), forwarded.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client("192.0.2.1:9", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1:9", &["198.51.100.7"], &["10.0.0.0/8"]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_names_its_client_and_nobody_before() {
        let trusted = &["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("10.1.1.1:9", &[], trusted), "10.1.1.1");
        assert_eq!(client("10.1.1.1:9", &["198.51.100.7"], trusted), "198.51.100.7");
        assert_eq!(client("10.1.1.1:9", &["1.1.1.1, 198.51.100.7"], trusted), "198.51.100.7");
        assert_eq!(client("10.1.1.1:9", &["1.1.1.1", "198.51.100.7 , 10.2.2.2"], trusted), "198.51.100.7");
        assert_eq!(client("10.1.1.1:9", &["10.9.9.9, 10.2.2.2"], trusted), "10.9.9.9");
        assert_eq!(client("[fd00::1]:9", &["[2001:db8::1]:4711"], trusted), "2001:db8::1");
        assert_eq!(client("10.1.1.1:9", &["[2001:db8::1]"], trusted), "2001:db8::1");
        assert_eq!(client("10.1.1.1:9", &["198.51.100.7:4711"], trusted), "198.51.100.7");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        let trusted = &["10.0.0.0/8"];
        assert_eq!(client("10.1.1.1:9", &["198.51.100.7, unknown"], trusted), "10.1.1.1");
        assert_eq!(client("10.1.1.1:9", &["198.51.100.7, , 10.2.2.2"], trusted), "10.2.2.2");
        assert_eq!(client("10.1.1.1:9", &[""], trusted), "10.1.1.1");
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_is_the_ipv4_address() {
        assert_eq!(client("[::ffff:10.1.1.1]:9", &["::ffff:198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
    }

    proptest! {
        #[test]
        fn whatever_strangers_write_before_the_nearest_address_does_not_matter(
            junk in prop::collection::vec("[ -~]{0,12}", 0..4),
            named: u32,
        ) {
            let named = Ipv4Addr::from(named | 0x8000_0000); // outside 10.0.0.0/8
            let mut values: Vec<String> = junk;
            values.push(named.to_string());
            let proxy: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
            let peer = SocketAddr::from(([10, 0, 0, 1], 1));
            prop_assert_eq!(client_address(peer, values.iter().map(String::as_str), &proxy), IpAddr::V4(named));
        }

        #[test]
        fn a_network_covers_exactly_the_addresses_that_share_its_prefix(base: u128, other: u128, length in 0u8..=128) {
            let net = IpNet::new(Ipv6Addr::from(base).into(), length).unwrap();
            let mask = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
            let near = (base & mask) | (other & !mask);
            for address in [near, other] {
                let v6 = Ipv6Addr::from(address);
                if v6.to_ipv4_mapped().is_none() {
                    let named = ["192.0.2.9".to_owned()];
                    let found = client_address(SocketAddr::from((v6, 1)), named.iter().map(String::as_str), &[net]);
                    let inside = address & mask == base & mask;
                    prop_assert_eq!(found == IpAddr::from([192, 0, 2, 9]), inside);
                }
            }
        }
    }
}

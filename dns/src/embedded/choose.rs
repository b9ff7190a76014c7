//! Which nodes stand in an answer.

use super::zone::PoolMember;
use crate::keeper::Standing;
use fastrand::Rng;
use std::net::IpAddr;

/// A full node counts as one that has this much room: occupancy is some seconds old.
const ROOM_MIN_PERMILLE: u32 = 10;

/// At most `max` addresses of one family, drawn anew for each answer: nodes with more room stand in it more often, and further ahead.
/// Those that want clients; if there is none of either family, those that live. A family that only nodes have that want none is
/// empty as long as clients are wanted by way of the other.
///
/// Drawn without replacement, each by its weight: the order of `-ln(u) / weight` with `u` uniform (Efraimidis and Spirakis, 2006).
pub(crate) fn choose(members: &[PoolMember], is_v4: bool, max: usize, rng: &mut Rng) -> Vec<IpAddr> {
    let is_wanted =
        members.iter().any(|member| member.standing == Standing::In && !member.addresses.is_empty());
    choose_of(members, if is_wanted { Standing::In } else { Standing::Out }, is_v4, max, rng)
}

fn choose_of(
    members: &[PoolMember],
    standing: Standing,
    is_v4: bool,
    max: usize,
    rng: &mut Rng,
) -> Vec<IpAddr> {
    let mut drawn: Vec<(f64, &PoolMember)> = members
        .iter()
        .filter(|member| member.standing == standing)
        .map(|member| {
            let room = 1000_u32.saturating_sub(member.occupancy_permille).max(ROOM_MIN_PERMILLE);
            (-(1.0 - rng.f64()).ln() / f64::from(room), member)
        })
        .collect();
    drawn.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut addresses = Vec::new();
    for address in drawn.iter().flat_map(|(_, member)| &member.addresses) {
        if address.is_ipv4() == is_v4 && !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses.truncate(max);
    addresses
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::embedded::zone::PoolMember;
    use crate::keeper::Standing;
    use crate::provider::Addresses;
    use fastrand::Rng;
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn member(number: u8, standing: Standing, occupancy_permille: u32) -> PoolMember {
        let addresses = Addresses::from([IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))]);
        PoolMember { addresses, standing, occupancy_permille }
    }

    fn last(address: IpAddr) -> u8 {
        let IpAddr::V4(address) = address else { panic!("{address}") };
        address.octets()[3]
    }

    #[test]
    fn who_has_more_room_comes_first_more_often_and_nobody_never() {
        let members =
            [member(1, Standing::In, 100), member(2, Standing::In, 700), member(3, Standing::In, 1000)];
        let mut rng = Rng::with_seed(7);
        let mut firsts = BTreeMap::<u8, u32>::new();
        for _ in 0..10_000 {
            *firsts.entry(last(choose(&members, true, 1, &mut rng)[0])).or_default() += 1;
        }
        // By weight: 900, 300 and 10 of 1210.
        assert!((7_000..8_000).contains(&firsts[&1]), "{firsts:?}");
        assert!((2_200..2_800).contains(&firsts[&2]), "{firsts:?}");
        assert!((20..200).contains(&firsts[&3]), "{firsts:?}");
    }

    #[test]
    fn so_many_at_most_and_each_once() {
        let members: Vec<PoolMember> = (1..=50).map(|number| member(number, Standing::In, 0)).collect();
        let mut addresses = choose(&members, true, 8, &mut Rng::with_seed(1));
        assert_eq!(addresses.len(), 8);
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
    }

    #[test]
    fn those_that_are_out_stand_in_only_if_none_is_in_and_the_dead_never() {
        let mut rng = Rng::with_seed(1);
        let mut members =
            vec![member(1, Standing::In, 0), member(2, Standing::Out, 0), member(3, Standing::Dead, 0)];
        assert_eq!(choose(&members, true, 8, &mut rng).into_iter().map(last).collect::<Vec<_>>(), [1]);
        members[0].standing = Standing::Dead;
        assert_eq!(choose(&members, true, 8, &mut rng).into_iter().map(last).collect::<Vec<_>>(), [2]);
        members[1].standing = Standing::Dead;
        assert!(choose(&members, true, 8, &mut rng).is_empty());
    }

    #[test]
    fn a_family_that_only_a_node_has_that_is_out_is_empty() {
        let mut full = member(1, Standing::Out, 900);
        full.addresses.insert(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let mut rng = Rng::with_seed(1);
        let members = [full.clone(), member(2, Standing::In, 0)];
        assert!(choose(&members, false, 8, &mut rng).is_empty());
        assert_eq!(choose(&members, true, 8, &mut rng).into_iter().map(last).collect::<Vec<_>>(), [2]);
        assert_eq!(choose(&[full], false, 8, &mut rng), [IpAddr::V6(Ipv6Addr::LOCALHOST)], "it is the last");
    }

    #[test]
    fn families_are_apart() {
        let mut both = member(1, Standing::In, 0);
        both.addresses.insert(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let members = [both, member(2, Standing::In, 0)];
        let mut rng = Rng::with_seed(1);
        assert_eq!(choose(&members, false, 8, &mut rng), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(choose(&members, true, 8, &mut rng).len(), 2);
    }
}

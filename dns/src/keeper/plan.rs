//! From what is wanted and what is there to what has to change.

use super::pool::Pool;
use super::{KeeperSettings, Reason, Wanted};
use crate::provider::{Addresses, Change};
use std::collections::BTreeMap;

/// All that a plan is made from.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) zone: &'a Addresses,
    /// Of those, what resolvers keep for longer than they should.
    pub(crate) slow: &'a Addresses,
    /// Nothing of its own accord while it settles.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) settings: &'a KeeperSettings,
    pub(crate) pool: &'a Pool,
    pub(crate) now_us: u64,
}

/// What has to change, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) change: Change,
    /// Own addresses that go.
    pub(crate) own: Addresses,
    /// Own addresses that are added anew, for their TTL.
    pub(crate) slow: Addresses,
    /// Why they go.
    pub(crate) reason: Option<Reason>,
    /// Addresses of dead nodes that go.
    pub(crate) dead: BTreeMap<String, Addresses>,
    /// Wants to be out, and stays.
    pub(crate) is_kept: bool,
    /// Wants to be out, and comes back since nobody is in.
    pub(crate) is_last_resort: bool,
}

impl Change {
    /// It changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// What a name with these addresses has afterwards.
    pub fn apply(&self, zone: &mut Addresses) {
        zone.extend(&self.add);
        zone.retain(|address| !self.remove.contains(address));
    }
}

pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan::default();
    plan_own(situation, &mut plan);
    plan_dead(situation, &mut plan);
    plan
}

fn plan_own(situation: &Situation<'_>, plan: &mut Plan) {
    let own = &situation.settings.addresses;
    let missing: Addresses = own - situation.zone;
    // An address that another node has, too, and wants in, is not taken from it.
    let present: Addresses = &(own & situation.zone) - &situation.pool.wanted_by_others();
    match situation.wanted {
        // Others take it for dead, and would remove what it adds.
        Some(Wanted::In) if situation.pool.is_disowned() => {}
        Some(Wanted::In) => {
            plan.slow = own & situation.slow;
            plan.change.add = &missing | &plan.slow;
        }
        Some(Wanted::Out(reason)) => {
            let may_leave = reason == Reason::Draining || are_enough_without(situation);
            if may_leave {
                plan.own.clone_from(&present);
                plan.reason = Some(reason);
                if reason != Reason::Draining && !present.is_empty() {
                    plan.change.only_if = Some(situation.zone.clone());
                }
                plan.change.remove = present;
                return;
            }
            plan.is_kept = !present.is_empty();
            let is_deserted = !situation.pool.has_living_other(situation.zone);
            if reason == Reason::HighWater && !situation.pool.is_disowned() && (plan.is_kept || is_deserted) {
                plan.is_last_resort = !plan.is_kept;
                plan.change.add = missing;
            }
        }
        None => {}
    }
}

/// The zone has enough others that want to be in it.
fn are_enough_without(situation: &Situation<'_>) -> bool {
    let Some(living) = situation.pool.living() else { return false };
    let floor = (living * situation.settings.floor_percent as usize).div_ceil(100).max(1);
    situation.pool.serving_others(situation.zone) >= floor
}

fn plan_dead(situation: &Situation<'_>, plan: &mut Plan) {
    if situation.wanted == Some(Wanted::Out(Reason::Draining)) {
        return;
    }
    let own = &situation.settings.addresses;
    let mut after = situation.zone.clone();
    plan.change.apply(&mut after);
    let is_alive = !own.is_disjoint(&after) || situation.pool.has_living_other(&after);
    if !is_alive {
        return;
    }
    for (node, address) in situation.pool.due(situation.settings, situation.now_us) {
        if situation.zone.contains(&address) && !own.contains(&address) {
            plan.change.remove.insert(address);
            plan.dead.entry(node.to_owned()).or_default().insert(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Situation, plan};
    use crate::keeper::pool::Pool;
    use crate::keeper::{KeeperSettings, Member, Reason, SECOND, Standing, Wanted};
    use crate::provider::Addresses;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn addresses(numbers: &[u8]) -> Addresses {
        numbers.iter().map(|number| address(*number)).collect()
    }

    fn settings(floor_percent: u32) -> KeeperSettings {
        KeeperSettings { floor_percent, ..KeeperSettings::new("n1", addresses(&[1]), 10 * SECOND).unwrap() }
    }

    fn member(number: u8, standing: Standing) -> Member {
        Member { node: format!("n{number}"), addresses: addresses(&[number]), standing }
    }

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        prop_oneof![
            Just(Wanted::In),
            Just(Wanted::Out(Reason::Starting)),
            Just(Wanted::Out(Reason::HighWater)),
            Just(Wanted::Out(Reason::SelfCheck)),
            Just(Wanted::Out(Reason::Draining)),
        ]
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let standing = prop_oneof![Just(Standing::In), Just(Standing::Out), Just(Standing::Dead)];
        // Also two nodes at one address.
        (1..8_u8, 1..8_u8, standing).prop_map(|(node, at, standing)| Member {
            node: format!("n{node}"),
            addresses: addresses(&[at]),
            standing,
        })
    }

    proptest! {
        #[test]
        fn a_plan_touches_own_and_dead_addresses_alone_and_empties_nothing_but_for_a_drain(
            zone in proptest::collection::btree_set(1..12_u8, 0..8),
            wanted in any_wanted(),
            members in proptest::option::of(proptest::collection::vec(any_member(), 0..7)),
            floor_percent in 0..=100_u32,
            age_s in 0..200_u64,
        ) {
            let settings = settings(floor_percent);
            let zone: Addresses = zone.into_iter().map(address).collect();
            let mut pool = Pool::new(&settings);
            pool.see(members.as_deref(), 0);
            let now_us = age_s * SECOND;
            let slow = &Addresses::new();
            let situation = |zone| {
                Situation { zone, slow, wanted: Some(wanted), settings: &settings, pool: &pool, now_us }
            };
            let first = plan(&situation(&zone));
            prop_assert!(first.change.add.is_subset(&settings.addresses));
            let members = members.unwrap_or_default();
            let alive = |at: &IpAddr| members.iter().any(|member| {
                member.standing != Standing::Dead && member.node != "n1" && member.addresses.contains(at)
            });
            for gone in &first.change.remove {
                let is_own = settings.addresses.contains(gone);
                let is_dead = members.iter().any(|member| {
                    member.standing == Standing::Dead && member.addresses.contains(gone)
                });
                prop_assert!(is_own || (is_dead && !alive(gone)), "{gone}");
            }
            let mut after = zone.clone();
            first.change.apply(&mut after);
            if wanted != Wanted::Out(Reason::Draining) {
                prop_assert!(!after.is_empty() || zone.is_empty());
                if first.change.remove.iter().any(|gone| settings.addresses.contains(gone)) {
                    prop_assert!(after.iter().any(alive));
                    prop_assert_eq!(first.change.only_if.as_ref(), Some(&zone));
                }
            }
            let second = plan(&situation(&after));
            prop_assert!(second.change.is_empty(), "{first:?} then {second:?}");
        }
    }

    fn planned(zone: &[u8], wanted: Wanted, members: &[Member], floor_percent: u32) -> super::Plan {
        let settings = settings(floor_percent);
        let mut pool = Pool::new(&settings);
        pool.see(Some(members), 0);
        let zone = addresses(zone);
        let now_us = settings.trust_us;
        let slow = &Addresses::new();
        plan(&Situation { zone: &zone, slow, wanted: Some(wanted), settings: &settings, pool: &pool, now_us })
    }

    #[test]
    fn the_last_healthy_node_stays() {
        let members = [member(1, Standing::Out), member(2, Standing::Out)];
        let stays = planned(&[1, 2], Wanted::Out(Reason::HighWater), &members, 0);
        assert!(stays.change.is_empty() && stays.is_kept);
    }

    #[test]
    fn so_many_of_the_pool_stay() {
        let members: Vec<Member> = (1..=4).map(|number| member(number, Standing::In)).collect();
        let leaves = planned(&[1, 2, 3, 4], Wanted::Out(Reason::HighWater), &members, 75);
        assert_eq!(leaves.change.remove, addresses(&[1]));
        let stays = planned(&[1, 2, 3, 4], Wanted::Out(Reason::HighWater), &members, 76);
        assert!(stays.change.is_empty() && stays.is_kept);
    }

    #[test]
    fn a_node_over_high_water_comes_back_to_a_name_without_a_living_node() {
        let members = [member(1, Standing::Out), member(2, Standing::Dead)];
        let back = planned(&[2, 9], Wanted::Out(Reason::HighWater), &members, 0);
        assert!(back.is_last_resort);
        assert_eq!(back.change.add, addresses(&[1]));
        assert_eq!(back.change.remove, addresses(&[2]));
        let failed = planned(&[2, 9], Wanted::Out(Reason::SelfCheck), &members, 0);
        assert!(failed.change.is_empty());
    }

    #[test]
    fn a_drain_takes_the_last_record_out() {
        let last = planned(&[1], Wanted::Out(Reason::Draining), &[member(1, Standing::Out)], 0);
        assert_eq!(last.change.remove, addresses(&[1]));
        assert_eq!(last.change.only_if, None);
    }

    #[test]
    fn who_is_taken_for_dead_does_not_insist() {
        let plan = planned(&[2], Wanted::In, &[member(1, Standing::Dead), member(2, Standing::In)], 0);
        assert!(plan.change.is_empty());
    }
}

//! From how the node stands to what it wants of DNS, and who is in the pool.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use pinwire_dns::{
    Addresses, Member, NameServer, PoolMember, Reason, Standing as Place, Wanted, Wish, ZoneName, ZoneView,
};
use pinwire_pool::Heard;
use pinwire_shed::Why;

use super::Demand;
use crate::shedding::{Pool, Reach, Standing};

/// Addresses whose node is remembered.
const OWNERS_MAX: usize = 4096;

/// Which node had an address last: a pool tells of addresses of dead nodes without their names.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<IpAddr, String>);

impl Owners {
    fn note(&mut self, heard: &Heard) {
        for seen in &heard.members {
            for address in &seen.member.addresses {
                if self.0.len() < OWNERS_MAX || self.0.contains_key(address) {
                    self.0.insert(*address, seen.member.name.to_string());
                }
            }
        }
    }

    fn of(&self, address: IpAddr) -> String {
        self.0.get(&address).cloned().unwrap_or_else(|| format!("at {address}"))
    }
}

/// What the node wants, and why.
pub(super) fn wish(standing: &Standing, demand: &Demand, now: Instant) -> Wish {
    let wanted = match demand {
        Demand::Drain(why) => {
            return Wish { wanted: Wanted::Out(Reason::Draining), cause: std::sync::Arc::clone(why) };
        }
        // The others take it for dead and remove it; it adds itself when they can hear it again. Where none of them reaches the pool
        // nobody removes anybody, and all stay.
        Demand::Serve | Demand::Rest | Demand::End if standing.pool.is_lapsed(now) => {
            let reason = if standing.pool.heard.is_some() { Reason::SelfCheck } else { Reason::Starting };
            let cause = "the pool of the region's nodes is out of reach";
            return Wish { wanted: Wanted::Out(reason), cause: cause.into() };
        }
        Demand::Serve | Demand::Rest | Demand::End if standing.change.number > 0 => {
            match standing.wants_dns() {
                true => Wanted::In,
                false => Wanted::Out(reason(standing)),
            }
        }
        _ => return Wish { wanted: Wanted::Out(Reason::Starting), cause: "starting".into() },
    };
    Wish { wanted, cause: std::sync::Arc::clone(&standing.cause) }
}

fn reason(standing: &Standing) -> Reason {
    match standing.why {
        Why::Draining => Reason::Draining,
        Why::Full(_) | Why::Last(_) => Reason::HighWater,
        Why::Well | Why::Told(_) => Reason::SelfCheck,
    }
}

/// Who is in the pool, the dead included; `None` if nobody can tell.
pub(super) fn pool(pool: &Pool, owners: &mut Owners) -> Option<Vec<Member>> {
    match (&pool.reach, &pool.heard) {
        (Reach::Alone, _) => Some(Vec::new()),
        (Reach::Lost { .. }, _) | (Reach::Reached, None) => None,
        (Reach::Reached, Some((heard, _))) => {
            owners.note(heard);
            let living = heard.members.iter().map(|seen| Member {
                node: seen.member.name.to_string(),
                addresses: seen.member.addresses.iter().copied().collect(),
                standing: if seen.is_in { Place::In } else { Place::Out },
            });
            let gone = heard.gone.iter().map(|gone| Member {
                node: owners.of(gone.address),
                addresses: Addresses::from([gone.address]),
                standing: Place::Dead,
            });
            Some(living.chain(gone).collect())
        }
    }
}

/// No other node that takes clients is in the name, as it was seen last.
pub(super) fn is_alone(pool: &Pool, name: &str, zone: &Addresses) -> bool {
    let mut members = pool.heard.iter().flat_map(|(heard, _)| &heard.members);
    !members.any(|seen| {
        seen.is_in && &*seen.member.name != name && seen.member.addresses.iter().any(|at| zone.contains(at))
    })
}

/// The node's name, its addresses, what it wants.
pub(super) type OwnNode<'a> = (&'a str, &'a [IpAddr], Wanted);

/// No answer leads to this node, as the pool knows it.
pub(super) fn own_is_out(pool: &Pool, (name, _, wanted): OwnNode<'_>) -> bool {
    match (&pool.reach, &pool.heard) {
        (Reach::Alone, _) | (_, None) => wanted != Wanted::In,
        (_, Some((heard, _))) => {
            let own = heard.members.iter().find(|seen| &*seen.member.name == name);
            own.is_none_or(|own| !own.is_in)
        }
    }
}

/// What answers are made from; `None` if nobody can tell: then they stay as they are.
pub(super) fn view(
    standing: &Standing,
    (_, addresses, wanted): OwnNode<'_>,
    name: &str,
    servers: &[NameServer],
    owners: &mut Owners,
) -> Option<ZoneView> {
    let members = match (&standing.pool.reach, &standing.pool.heard) {
        (Reach::Alone, _) => vec![PoolMember {
            addresses: addresses.iter().copied().collect(),
            standing: if wanted == Wanted::In { Place::In } else { Place::Out },
            occupancy_permille: 0,
        }],
        (Reach::Lost { .. }, _) | (Reach::Reached, None) => return None,
        (Reach::Reached, Some((heard, _))) => {
            owners.note(heard);
            let member = |seen: &pinwire_pool::Seen| PoolMember {
                addresses: seen.member.addresses.iter().copied().collect(),
                standing: if seen.is_in { Place::In } else { Place::Out },
                occupancy_permille: seen.member.occupancy.min(1000),
            };
            heard.members.iter().map(member).collect()
        }
    };
    let names = vec![ZoneName { name: name.to_owned(), members }];
    Some(ZoneView { names, servers: servers.to_vec() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use pinwire_pool::{Gone, Seen};
    use pinwire_shed::{Occupancy, Resource, State, Verdict};

    use super::*;
    use crate::shedding::ChangeId;

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn heard(members: &[(u8, bool)], gone: &[u8]) -> Pool {
        let seen = |(number, is_in): &(u8, bool)| Seen {
            member: pinwire_pool::Member {
                name: format!("n{number}").into(),
                addresses: vec![address(*number)],
                ..pinwire_pool::Member::default()
            },
            is_in: *is_in,
        };
        let heard = Heard {
            now_us: 0,
            may_leave: false,
            is_doubled: false,
            members: members.iter().map(seen).collect(),
            gone: gone.iter().map(|number| Gone { address: address(*number), since_us: 0 }).collect(),
        };
        Pool { reach: Reach::Reached, heard: Some((Arc::new(heard), Instant::now())) }
    }

    fn wish(standing: &Standing, demand: &Demand) -> Wish {
        super::wish(standing, demand, Instant::now())
    }

    fn standing(verdict: Verdict) -> Standing {
        Standing {
            verdict,
            change: ChangeId { life: 1, number: 1 },
            cause: "so".into(),
            ..Standing::default()
        }
    }

    #[test]
    fn a_node_is_in_as_it_stands_and_out_once_it_drains() {
        let well = Verdict { is_in_dns: true, ..Verdict::default() };
        let refuses = Verdict { state: State::Overloaded, wants_out: true, ..Verdict::default() };
        let of = |verdict, why| wish(&Standing { why, ..standing(verdict) }, &Demand::Serve).wanted;
        let full = Occupancy { of: Resource::Memory, share: 0.9 };
        assert_eq!(of(well, Why::Well), Wanted::In);
        assert_eq!(of(refuses, Why::Full(full)), Wanted::Out(Reason::HighWater));
        assert_eq!(of(refuses, Why::Told("the disk is full")), Wanted::Out(Reason::SelfCheck));
        // Nobody could stand in for it.
        assert_eq!(of(Verdict { is_in_dns: true, ..refuses }, Why::Last(full)), Wanted::In);
        assert_eq!(wish(&standing(well), &Demand::Start).wanted, Wanted::Out(Reason::Starting));
        assert_eq!(wish(&Standing::default(), &Demand::Serve).wanted, Wanted::Out(Reason::Starting));
        let drained = wish(&standing(well), &Demand::Drain("SIGTERM".into()));
        assert_eq!((drained.wanted, &*drained.cause), (Wanted::Out(Reason::Draining), "SIGTERM"));
    }

    #[test]
    fn a_node_that_others_take_for_dead_wants_out_and_one_that_heard_of_them_of_late_does_not() {
        let well = Verdict { is_in_dns: true, ..Verdict::default() };
        let lost = Reach::Lost { why: "away".into() };
        let pool = Pool { reach: lost.clone(), ..heard(&[(1, true)], &[]) };
        let (_, at) = pool.heard.clone().unwrap();
        let stands = Standing { pool, ..standing(well) };
        let after = |seconds| super::wish(&stands, &Demand::Serve, at + Duration::from_secs(seconds));
        assert_eq!(after(6).wanted, Wanted::In);
        assert_eq!(after(7).wanted, Wanted::Out(Reason::SelfCheck), "before the others remove it");
        assert_eq!(&*after(7).cause, "the pool of the region's nodes is out of reach");
        let drain = Demand::Drain("SIGTERM".into());
        let drained = super::wish(&stands, &drain, at + Duration::from_secs(60));
        assert_eq!(drained.wanted, Wanted::Out(Reason::Draining));
        let never = Standing { pool: Pool { reach: lost, heard: None }, ..standing(well) };
        assert_eq!(wish(&never, &Demand::Serve).wanted, Wanted::Out(Reason::Starting));
        assert_eq!(wish(&standing(well), &Demand::Serve).wanted, Wanted::In, "it is its own pool");
    }

    #[test]
    fn a_node_is_alone_if_the_name_has_nobody_else_who_takes_clients() {
        let pool = heard(&[(1, true), (2, true), (3, false)], &[]);
        let zone = |numbers: &[u8]| numbers.iter().map(|number| address(*number)).collect();
        assert!(!is_alone(&pool, "n1", &zone(&[1, 2])));
        assert!(is_alone(&pool, "n1", &zone(&[1, 3, 9])), "one that is out, and a stranger");
        assert!(is_alone(&Pool::default(), "n1", &zone(&[1])));
    }

    #[test]
    fn the_dead_are_known_by_their_names_and_a_pool_that_is_lost_is_unknown() {
        let mut owners = Owners::default();
        pool(&heard(&[(1, true), (2, false)], &[]), &mut owners);
        let members = pool(&heard(&[(1, true)], &[2, 3]), &mut owners).unwrap();
        let shown: Vec<_> = members.iter().map(|member| (member.node.as_str(), member.standing)).collect();
        assert_eq!(shown, [("n1", Place::In), ("n2", Place::Dead), ("at 192.0.2.3", Place::Dead)]);
        let lost = Pool { reach: Reach::Lost { why: "away".into() }, ..heard(&[(1, true)], &[]) };
        assert_eq!(pool(&lost, &mut owners), None, "not an empty one");
        assert_eq!(pool(&Pool { reach: Reach::Reached, heard: None }, &mut owners), None);
        assert_eq!(pool(&Pool::default(), &mut owners), Some(Vec::new()));
    }

    #[test]
    fn answers_have_who_is_in_the_pool_and_stay_while_nobody_can_tell() {
        let own = ("n1", &[address(1)][..], Wanted::In);
        let mut stands = standing(Verdict::default());
        stands.pool = heard(&[(1, true), (2, false)], &[9]);
        let seen = view(&stands, own, "eu.example.net", &[], &mut Owners::default()).unwrap();
        let places: Vec<_> = seen.names[0].members.iter().map(|member| member.standing).collect();
        assert_eq!(places, [Place::In, Place::Out]);
        assert!(!own_is_out(&stands.pool, own));
        assert!(own_is_out(&stands.pool, ("n2", &[], Wanted::In)));
        stands.pool.reach = Reach::Lost { why: "away".into() };
        assert_eq!(view(&stands, own, "eu.example.net", &[], &mut Owners::default()), None);
        stands.pool = Pool::default();
        let alone = view(&stands, own, "eu.example.net", &[], &mut Owners::default()).unwrap();
        assert_eq!(alone.names[0].members.len(), 1);
    }
}

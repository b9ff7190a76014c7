//! Whose an address is, and since when nobody's.

use super::KeeperSettings;
use crate::provider::Addresses;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses that are remembered after their node was gone.
const GONE_MAX: usize = 4096;
/// How often an address comes back that was removed, until it counts as that of somebody else: once may be a late word of the dead.
const RETURNS_MAX: u32 = 2;
/// How long they are.
const REMEMBERED_US: u64 = 24 * 3600 * 1_000_000;
/// Nodes that wait for their turn; all after them act at the same time as the last of these.
const TURNS_MAX: u64 = 4;

/// A node of the pool, as the pool knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// What clients reach it at.
    pub addresses: Addresses,
    /// Whether it lives, and wants clients.
    pub standing: Standing,
}

/// Whether a node lives, and wants clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It wants to be in the name.
    In,
    /// It lives, and wants to be out.
    Out,
    /// It is gone without having said so.
    Dead,
}

/// Since when an address is nobody's, and whose it was.
#[derive(Clone, Debug)]
struct Gone {
    node: String,
    since_us: u64,
    /// The pool said so. Otherwise it just is not there any more.
    is_told: bool,
    /// It was not in the zone when that was read last.
    was_out: bool,
    /// How often it was in there again.
    returns: u32,
}

impl Gone {
    fn new(node: String, since_us: u64, is_told: bool) -> Self {
        Self { node, since_us, is_told, was_out: false, returns: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    me: String,
    own: Addresses,
    /// As it was told last; nothing while nobody can tell.
    members: Option<Vec<Member>>,
    /// Since when somebody can tell without a break.
    known_since_us: u64,
    /// Whose each address of a living node is, or was when it was told last.
    owners: BTreeMap<IpAddr, String>,
    gone: BTreeMap<IpAddr, Gone>,
}

impl Pool {
    pub(crate) fn new(settings: &KeeperSettings) -> Self {
        Self {
            me: settings.node.clone(),
            own: settings.addresses.clone(),
            members: None,
            known_since_us: 0,
            owners: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    /// Whether that is news.
    pub(crate) fn see(&mut self, members: Option<&[Member]>, now_us: u64) -> bool {
        let is_news = self.members.as_deref() != members;
        if self.members.is_none() {
            self.known_since_us = now_us;
        }
        self.members = members.map(<[Member]>::to_vec);
        let Some(members) = members else { return is_news };
        let addresses_of = |is_alive: bool| {
            let of_kind = move |member: &&Member| (member.standing != Standing::Dead) == is_alive;
            members
                .iter()
                .filter(of_kind)
                .flat_map(|member| member.addresses.iter().map(|address| (*address, member.node.clone())))
        };
        let owners: BTreeMap<IpAddr, String> = addresses_of(true).collect();
        for (address, node) in std::mem::take(&mut self.owners) {
            self.gone.entry(address).or_insert_with(|| Gone::new(node, now_us, false));
        }
        for (address, node) in addresses_of(false) {
            self.gone.entry(address).or_insert_with(|| Gone::new(node, now_us, true)).is_told = true;
        }
        self.gone.retain(|address, _| !owners.contains_key(address));
        self.owners = owners;
        while self.gone.len() > GONE_MAX {
            let oldest = self.gone.iter().min_by_key(|(_, gone)| gone.since_us).map(|(address, _)| *address);
            oldest.map(|address| self.gone.remove(&address));
        }
        is_news
    }

    /// These are not in the zone any more.
    pub(crate) fn are_out(&mut self, removed: &Addresses) {
        self.gone
            .iter_mut()
            .filter(|(address, _)| removed.contains(address))
            .for_each(|(_, gone)| gone.was_out = true);
    }

    /// What the zone has: answers which addresses of dead nodes have come back so often that they are left alone from now on.
    pub(crate) fn see_zone(&mut self, zone: &Addresses) -> Vec<(String, IpAddr)> {
        let mut left_alone = Vec::new();
        for (address, gone) in &mut self.gone {
            let is_in = zone.contains(address);
            if is_in && gone.was_out {
                gone.returns += 1;
                if gone.returns == RETURNS_MAX {
                    left_alone.push((gone.node.clone(), *address));
                }
            }
            gone.was_out = !is_in;
        }
        left_alone
    }

    pub(crate) fn forget_old(&mut self, now_us: u64) {
        self.gone.retain(|_, gone| now_us < gone.since_us + REMEMBERED_US);
    }

    /// How many nodes live, if anybody can tell. This one does.
    pub(crate) fn living(&self) -> Option<usize> {
        self.members.as_ref()?;
        Some(1 + self.living_others().count())
    }

    /// Other nodes that want to be in the zone and are, at addresses that are not this node's, too.
    pub(crate) fn serving_others(&self, zone: &Addresses) -> usize {
        let zone = zone - &self.own;
        self.living_others()
            .filter(|member| member.standing == Standing::In && !member.addresses.is_disjoint(&zone))
            .count()
    }

    /// The zone has an address of another node that lives.
    pub(crate) fn has_living_other(&self, zone: &Addresses) -> bool {
        self.living_others().any(|member| !member.addresses.is_disjoint(zone))
    }

    /// Addresses of other nodes that want to be in.
    pub(crate) fn wanted_by_others(&self) -> Addresses {
        let wanting = self.living_others().filter(|member| member.standing == Standing::In);
        wanting.flat_map(|member| member.addresses.iter().copied()).collect()
    }

    /// The pool takes this node for dead.
    pub(crate) fn is_disowned(&self) -> bool {
        let members = self.members.as_deref().unwrap_or_default();
        let mut own = members.iter().filter(|member| member.node == self.me).peekable();
        own.peek().is_some() && own.all(|member| member.standing == Standing::Dead)
    }

    /// Dead nodes' addresses that it is this node's turn to remove.
    pub(crate) fn due(&self, settings: &KeeperSettings, now_us: u64) -> impl Iterator<Item = (&str, IpAddr)> {
        let is_known = self.members.is_some();
        self.gone
            .iter()
            .filter(move |(_, gone)| {
                is_known && gone.returns < RETURNS_MAX && now_us >= self.due_us(settings, gone)
            })
            .map(|(address, gone)| (gone.node.as_str(), *address))
    }

    /// When the next of the zone's addresses will be due.
    pub(crate) fn next_due_us(
        &self,
        settings: &KeeperSettings,
        zone: Option<&Addresses>,
        now_us: u64,
    ) -> Option<u64> {
        let (zone, _) = (zone?, self.members.as_ref()?);
        let waiting =
            self.gone.iter().filter(|(address, gone)| zone.contains(address) && gone.returns < RETURNS_MAX);
        waiting.map(|(_, gone)| self.due_us(settings, gone)).filter(|due_us| *due_us > now_us).min()
    }

    /// When it is this node's turn to remove an address.
    fn due_us(&self, settings: &KeeperSettings, gone: &Gone) -> u64 {
        let dead_us = gone.since_us + if gone.is_told { 0 } else { settings.vanished_us };
        dead_us.max(self.known_since_us + settings.trust_us) + self.turn_us(settings)
    }

    /// How long this node leaves the removal to others: two looks for each living node before it.
    fn turn_us(&self, settings: &KeeperSettings) -> u64 {
        let before = self.living_others().filter(|member| member.node < self.me).count() as u64;
        before.min(TURNS_MAX) * 2 * settings.check_us
    }

    fn living_others(&self) -> impl Iterator<Item = &Member> {
        let members = self.members.as_deref().unwrap_or_default();
        members.iter().filter(|member| member.standing != Standing::Dead && member.node != self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::{Member, Pool, Standing};
    use crate::keeper::{KeeperSettings, SECOND};
    use crate::provider::Addresses;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn member(number: u8, at: u8, standing: Standing) -> Member {
        Member { node: format!("n{number}"), addresses: Addresses::from([address(at)]), standing }
    }

    fn pool_of(number: u8) -> (KeeperSettings, Pool) {
        let own = Addresses::from([address(number)]);
        let settings = KeeperSettings::new(format!("n{number}"), own, 10 * SECOND).unwrap();
        let pool = Pool::new(&settings);
        (settings, pool)
    }

    fn due(pool: &Pool, settings: &KeeperSettings, now_s: u64) -> Vec<IpAddr> {
        pool.due(settings, now_s * SECOND).map(|(_, address)| address).collect()
    }

    #[test]
    fn the_first_by_name_acts_at_once_and_the_next_after_two_looks() {
        let members = [member(1, 1, Standing::In), member(2, 2, Standing::Out), member(3, 3, Standing::Dead)];
        for (number, first_s) in [(1, 100), (2, 120)] {
            let (settings, mut pool) = pool_of(number);
            pool.see(Some(&[]), 0);
            pool.see(Some(&members), 100 * SECOND);
            assert_eq!(due(&pool, &settings, first_s), [address(3)]);
            assert!(due(&pool, &settings, first_s - 1).is_empty() || first_s == 100);
        }
    }

    #[test]
    fn a_pool_that_was_away_is_believed_after_a_while_who_is_dead() {
        let (settings, mut pool) = pool_of(1);
        pool.see(Some(&[member(2, 2, Standing::In)]), 0);
        pool.see(None, 60 * SECOND);
        pool.see(Some(&[member(2, 2, Standing::Dead), member(3, 3, Standing::Dead)]), 90 * SECOND);
        assert!(due(&pool, &settings, 97).is_empty());
        // One of them was without the pool as well, and is there again.
        pool.see(Some(&[member(2, 2, Standing::In), member(3, 3, Standing::Dead)]), 92 * SECOND);
        assert_eq!(due(&pool, &settings, 98), [address(3)]);
    }

    #[test]
    fn who_vanishes_is_dead_after_a_while_unless_it_comes_back() {
        let (settings, mut pool) = pool_of(1);
        pool.see(Some(&[member(2, 2, Standing::In), member(3, 3, Standing::In)]), 0);
        pool.see(Some(&[]), SECOND);
        pool.see(Some(&[member(3, 3, Standing::In)]), 2 * SECOND);
        assert!(due(&pool, &settings, 30).is_empty());
        assert_eq!(due(&pool, &settings, 31), [address(2)]);
    }

    #[test]
    fn a_node_that_moved_leaves_its_old_address() {
        let (settings, mut pool) = pool_of(1);
        pool.see(Some(&[member(2, 2, Standing::In)]), 0);
        pool.see(Some(&[member(2, 7, Standing::In)]), 0);
        assert_eq!(due(&pool, &settings, 31), [address(2)]);
    }

    #[test]
    fn an_address_that_another_node_got_is_its_own() {
        let (settings, mut pool) = pool_of(1);
        pool.see(Some(&[member(2, 2, Standing::Dead), member(3, 2, Standing::Out)]), 0);
        assert!(due(&pool, &settings, 1_000).is_empty());
    }

    #[test]
    fn while_nobody_can_tell_nobody_is_removed() {
        let (settings, mut pool) = pool_of(1);
        pool.see(Some(&[member(2, 2, Standing::Dead)]), 0);
        pool.see(None, 0);
        assert!(due(&pool, &settings, 1_000).is_empty());
        assert_eq!(pool.living(), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let (settings, mut pool) = pool_of(1);
        for round in 0..20_u32 {
            let members: Vec<Member> = (0..500_u32)
                .map(|number| Member {
                    node: format!("x{number}"),
                    addresses: Addresses::from([IpAddr::V4(Ipv4Addr::from_bits(round * 1000 + number))]),
                    standing: Standing::Dead,
                })
                .collect();
            pool.see(Some(&members), u64::from(round));
        }
        assert_eq!(due(&pool, &settings, 8).len(), super::GONE_MAX);
        pool.forget_old(super::REMEMBERED_US + SECOND);
        assert!(due(&pool, &settings, 1).is_empty());
    }
}

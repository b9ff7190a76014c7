//! The rules, in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Beat, Gone, Heard, Member, Seen};

/// Everybody is told of addresses that nobody has any more with each beat: there are so many at most. As in `prelude.lua`.
const GONE_MAX: usize = 1024;

/// The pool of a region, where only one process has nodes of it; and what the scripts in Redis have to be equal to.
#[derive(Clone, Debug, Default)]
pub struct Book {
    members: BTreeMap<Box<str>, Entry>,
    /// Since when.
    gone: BTreeMap<IpAddr, u64>,
    /// When anybody told something last.
    last_us: Option<u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    until_us: u64,
    is_in: bool,
}

impl Book {
    /// A node tells; who is dead by then is found out.
    pub fn beat(&mut self, now_us: u64, beat: &Beat) -> Heard {
        let me = &beat.me;
        self.excuse(now_us, beat.lease_us);
        self.bury(now_us, beat.recall_us);
        let before = self.members.get(&me.name);
        let is_doubled = before.is_some_and(|before| before.member.life != me.life);
        let left: Vec<IpAddr> =
            before.into_iter().flat_map(|before| &before.member.addresses).copied().collect();
        self.leave_behind(now_us, left);
        let others = self.members.iter().filter(|(name, _)| **name != me.name);
        let (living, serving) = others
            .fold((1, 0), |(living, serving), (_, other)| (living + 1, serving + u64::from(other.is_in)));
        let needed = (living * u64::from(beat.keep)).div_ceil(1_000).max(1);
        let may_leave = me.wants_out && serving >= needed;
        let entry = Entry {
            member: me.clone(),
            until_us: now_us.saturating_add(beat.lease_us),
            is_in: me.is_able && !may_leave,
        };
        self.members.insert(me.name.clone(), entry);
        for address in self.members.values().flat_map(|entry| &entry.member.addresses) {
            self.gone.remove(address);
        }
        let seen = |entry: &Entry| Seen { member: entry.member.clone(), is_in: entry.is_in };
        let members = self.members.values().map(seen).collect();
        let gone =
            self.gone.iter().map(|(address, since_us)| Gone { address: *address, since_us: *since_us });
        Heard { now_us, may_leave, is_doubled, members, gone: gone.collect() }
    }

    /// A node ends in good order: it need not be waited for. Its addresses are told as gone, should it not have removed them.
    pub fn retire(&mut self, now_us: u64, name: &str, life: u64) {
        let is_it = self.members.get(name).is_some_and(|entry| entry.member.life == life);
        if let Some(entry) = is_it.then(|| self.members.remove(name)).flatten() {
            self.leave_behind(now_us, entry.member.addresses);
            let taken: Vec<IpAddr> =
                self.members.values().flat_map(|entry| entry.member.addresses.clone()).collect();
            taken.iter().for_each(|address| _ = self.gone.remove(address));
        }
    }

    /// If nobody told anything for long, or the clock was set, those who are silent need not be dead: each has a lease from now on.
    fn excuse(&mut self, now_us: u64, lease_us: u64) {
        let last_us = self.last_us.replace(now_us);
        let is_usual = |last_us| (last_us..=last_us + lease_us / 2).contains(&now_us);
        if !last_us.is_some_and(is_usual) {
            let until_us = now_us.saturating_add(lease_us);
            self.members.values_mut().for_each(|entry| entry.until_us = until_us);
        }
    }

    fn bury(&mut self, now_us: u64, recall_us: u64) {
        let dead: Vec<Box<str>> = self
            .members
            .iter()
            .filter(|(_, entry)| entry.until_us <= now_us)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dead {
            let addresses =
                self.members.remove(&name).map(|entry| entry.member.addresses).unwrap_or_default();
            self.leave_behind(now_us, addresses);
        }
        self.gone.retain(|_, since_us| now_us < since_us.saturating_add(recall_us));
    }

    fn leave_behind(&mut self, now_us: u64, addresses: Vec<IpAddr>) {
        for address in addresses {
            if self.gone.len() < GONE_MAX {
                self.gone.entry(address).or_insert(now_us);
            }
        }
    }
}

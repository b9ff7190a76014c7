//! Keepers of several nodes over one zone, in virtual time, from one seed: first everything goes wrong, then nothing any more. What
//! was promised is checked at every change, and at the end.

use super::{AskId, Effect, Keeper, KeeperSettings, Member, Reason, SECOND, Standing, Wanted};
use crate::ProviderError;
use crate::provider::{Addresses, Change, Held};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

const MS: u64 = 1_000;
const CHECK: u64 = 10 * SECOND;
const LEASE: u64 = 10 * SECOND;
/// How long it is before a keeper believes a pool that was away who is dead; nobody needs longer to be heard again.
const TRUST: u64 = 8 * SECOND;
const BACK: u64 = 4 * SECOND;
/// How long the pool knows of a dead node.
const OBITUARY: u64 = 60 * SECOND;
const STORM: u64 = 300 * SECOND;
const CALM: u64 = 240 * SECOND;
/// Everything is as it should be so long after the storm, and nothing changes any more.
const SETTLED: u64 = 120 * SECOND;
const SEEDS: u64 = 60;

#[test]
fn a_provider_that_compares_exactly_is_never_emptied_by_shedding() {
    for seed in 0..SEEDS {
        World::new(seed, true).run();
    }
}

#[test]
fn any_provider_is_right_in_the_end() {
    for seed in 0..SEEDS {
        World::new(seed, false).run();
    }
}

#[derive(Debug)]
enum Event {
    Turn,
    /// A change is compared with what there is, and made later: two steps, unless the provider is exact.
    Compare {
        node: usize,
        life: u32,
        ask: AskId,
        change: Change,
        is_drain: bool,
    },
    Make {
        node: usize,
        life: u32,
        ask: AskId,
        change: Change,
        is_drain: bool,
    },
    Read {
        node: usize,
        life: u32,
        ask: AskId,
    },
    Changed {
        node: usize,
        life: u32,
        ask: AskId,
        outcome: Result<(), ProviderError>,
    },
    WasRead {
        node: usize,
        life: u32,
        ask: AskId,
        outcome: Result<Addresses, ProviderError>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    Hot,
    Unfit,
}

#[derive(Debug)]
struct Node {
    /// Nothing while it is dead.
    keeper: Option<Keeper>,
    life: u32,
    since_us: u64,
    health: Health,
    is_draining: bool,
    /// It cannot reach the pool until then.
    cut_until_us: u64,
    /// As the pool knows it.
    leased_until_us: u64,
    /// It was without a lease then, the last time.
    unleased_us: u64,
    standing: Standing,
    is_retired: bool,
    /// Changes of this life that count against its bound.
    changes: u64,
}

struct World {
    seed: u64,
    is_exact: bool,
    rng: Rng,
    now_us: u64,
    zone: Addresses,
    nodes: Vec<Node>,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    away_until_us: u64,
    /// Nobody can reach the pool: from when until when, the last time.
    outage_us: (u64, u64),
    is_calm: bool,
    /// The first node by name never reaches the provider once it is calm. Others do its work.
    is_first_mute: bool,
    last_change_us: u64,
}

fn own(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(node).expect("few nodes") + 1).into()
}

fn stranger() -> IpAddr {
    Ipv4Addr::new(203, 0, 113, 9).into()
}

fn failure() -> ProviderError {
    ProviderError::failed("provider", "away", "")
}

impl World {
    fn new(seed: u64, is_exact: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..=7);
        let node = |_| Node {
            keeper: None,
            life: 0,
            since_us: 0,
            health: Health::Well,
            is_draining: false,
            cut_until_us: 0,
            leased_until_us: 0,
            unleased_us: 0,
            standing: Standing::Dead,
            is_retired: true,
            changes: 0,
        };
        Self {
            seed,
            is_exact,
            nodes: (0..count).map(node).collect(),
            is_first_mute: rng.u8(0..3) == 0,
            rng,
            now_us: OBITUARY * 2,
            zone: Addresses::from([stranger()]),
            events: BTreeMap::new(),
            number: 0,
            away_until_us: 0,
            outage_us: (0, 0),
            is_calm: false,
            last_change_us: 0,
        }
    }

    fn run(mut self) {
        let storm_us = self.now_us + STORM;
        let end_us = storm_us + CALM;
        self.at(0, Event::Turn);
        while let Some(((at_us, _), event)) = self.events.pop_first() {
            self.now_us = at_us;
            if at_us >= end_us {
                break;
            }
            if !self.is_calm && at_us >= storm_us {
                self.calm_down();
            }
            match event {
                Event::Turn => self.turn(),
                event => self.happen(event),
            }
            self.drive();
        }
        self.check_end(storm_us);
    }

    fn at(&mut self, wait_us: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now_us + wait_us, self.number), event);
    }

    fn lag(&mut self) -> u64 {
        self.rng.u64(2 * MS..150 * MS)
    }

    /// A quarter of a second of everything but the provider.
    fn turn(&mut self) {
        if !self.is_calm && self.rng.u8(..) < 20 {
            self.go_wrong();
        }
        for node in 0..self.nodes.len() {
            self.live(node);
        }
        let members = self.members();
        for node in &mut self.nodes {
            let is_cut = node.cut_until_us > self.now_us;
            if let Some(keeper) = &mut node.keeper {
                keeper.begin(self.now_us);
                keeper.see_pool(if is_cut { None } else { Some(&members) });
            }
        }
        self.at(SECOND / 4, Event::Turn);
    }

    fn live(&mut self, index: usize) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        let is_cut = node.cut_until_us > now_us;
        let Some(keeper) = &mut node.keeper else {
            if node.leased_until_us < now_us {
                node.standing = Standing::Dead;
                node.unleased_us = now_us;
            }
            return;
        };
        let is_leased = node.leased_until_us > now_us;
        let wanted = match node.health {
            _ if node.is_draining => Wanted::Out(Reason::Draining),
            _ if now_us < node.since_us + 2 * SECOND => Wanted::Out(Reason::Starting),
            // A node gives its lease up before others do.
            _ if is_cut && now_us + SECOND > node.leased_until_us => Wanted::Out(Reason::SelfCheck),
            Health::Well => Wanted::In,
            Health::Hot => Wanted::Out(Reason::HighWater),
            Health::Unfit => Wanted::Out(Reason::SelfCheck),
        };
        keeper.begin(now_us);
        keeper.want(wanted, "as simulated");
        if node.is_draining && keeper.state().is_out == Some(true) {
            node.keeper = None;
            node.is_retired = true;
            return;
        }
        if !is_leased {
            node.unleased_us = now_us;
            node.standing = Standing::Dead;
        }
        // It renews about every second, and says then what it wants.
        if !is_cut && (!is_leased || self.rng.u8(..) < 64) {
            node.leased_until_us = now_us + LEASE;
            node.standing = if wanted == Wanted::In { Standing::In } else { Standing::Out };
        }
    }

    fn members(&self) -> Vec<Member> {
        let is_known =
            |node: &(usize, &Node)| !node.1.is_retired && self.now_us < node.1.leased_until_us + OBITUARY;
        let member = |(index, node): (usize, &Node)| Member {
            node: format!("n{index}"),
            addresses: Addresses::from([own(index)]),
            standing: node.standing,
        };
        self.nodes.iter().enumerate().filter(is_known).map(member).collect()
    }

    fn go_wrong(&mut self) {
        let index = self.rng.usize(..self.nodes.len());
        let long_us = self.rng.u64(SECOND..40 * SECOND);
        let is_alive = self.nodes[index].keeper.is_some();
        match self.rng.u8(0..15) {
            _ if !is_alive => self.start(index),
            0 => self.nodes[index].keeper = None,
            1 | 2 => self.nodes[index].is_draining = true,
            3..=5 => self.nodes[index].health = Health::Hot,
            6 => self.nodes[index].health = Health::Unfit,
            7 | 8 => self.nodes[index].health = Health::Well,
            9 => {
                let cut_until_us = &mut self.nodes[index].cut_until_us;
                *cut_until_us = (*cut_until_us).max(self.now_us + long_us);
            }
            10 => self.away_until_us = self.now_us + long_us,
            // All of a sudden, before any knows of the others.
            11 => self.nodes.iter_mut().for_each(|node| node.health = Health::Hot),
            12 => self.nodes.iter_mut().for_each(|node| node.health = Health::Well),
            13 => self.lose_pool(long_us),
            _ => _ = self.zone.remove(&own(index)),
        }
    }

    /// The pool is away from all of them; afterwards each finds its way back a little later than another.
    fn lose_pool(&mut self, long_us: u64) {
        let end_us = self.now_us + long_us;
        self.outage_us = (self.now_us, end_us);
        for node in &mut self.nodes {
            node.cut_until_us = node.cut_until_us.max(end_us + self.rng.u64(0..BACK));
        }
    }

    /// Who was there before the pool was away from all of them is not dead, as far as anybody can tell.
    fn is_excused(&self, node: &Node) -> bool {
        let (from_us, until_us) = self.outage_us;
        // What was decided before may be made a little later.
        let is_time = (from_us + SECOND..until_us + TRUST).contains(&self.now_us);
        is_time && node.keeper.is_some() && node.since_us < from_us
    }

    fn start(&mut self, index: usize) {
        let addresses = Addresses::from([own(index)]);
        let settings = KeeperSettings::new(format!("n{index}"), addresses, CHECK).unwrap();
        let seed = self.rng.u64(..);
        let node = &mut self.nodes[index];
        node.keeper = Some(Keeper::new(settings, seed, self.now_us));
        node.life += 1;
        node.since_us = self.now_us;
        node.health = Health::Well;
        (node.is_draining, node.is_retired, node.changes) = (false, false, 0);
    }

    fn calm_down(&mut self) {
        self.is_calm = true;
        self.away_until_us = 0;
        self.outage_us = (0, 0);
        for node in &mut self.nodes {
            node.cut_until_us = 0;
        }
    }

    fn drive(&mut self) {
        for index in 0..self.nodes.len() {
            let life = self.nodes[index].life;
            let Some(keeper) = &mut self.nodes[index].keeper else { continue };
            if keeper.next_deadline_us() <= self.now_us {
                keeper.begin(self.now_us);
            }
            let is_drain = keeper.state().wanted == Wanted::Out(Reason::Draining);
            let mut effects = Vec::new();
            while let Some(effect) = keeper.next_effect() {
                effects.push(effect);
            }
            for effect in effects {
                let lag_us = self.lag();
                match effect {
                    Effect::Read(ask) => self.at(lag_us, Event::Read { node: index, life, ask }),
                    Effect::Change(ask, change) => {
                        self.nodes[index].changes += u64::from(!is_drain);
                        self.check_bound(index);
                        self.at(lag_us, Event::Compare { node: index, life, ask, change, is_drain });
                    }
                    Effect::Tell(_) => {}
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let is_mute = self.is_first_mute && self.is_calm;
        let is_away = |node: usize| self.now_us < self.away_until_us || (is_mute && node == 0);
        let is_away = match &event {
            Event::Read { node, .. } | Event::Compare { node, .. } => is_away(*node),
            _ => false,
        };
        let lag_us = self.lag();
        match event {
            Event::Turn => {}
            Event::Read { node, life, ask } => {
                let outcome = if is_away { Err(failure()) } else { Ok(self.zone.clone()) };
                self.at(lag_us, Event::WasRead { node, life, ask, outcome });
            }
            Event::Compare { node, life, ask, change, is_drain } => {
                let is_other = change.only_if.as_ref().is_some_and(|expected| *expected != self.zone);
                if is_away || is_other {
                    let outcome = Err(if is_away { failure() } else { ProviderError::Changed });
                    self.at(lag_us, Event::Changed { node, life, ask, outcome });
                } else if self.is_exact {
                    self.happen(Event::Make { node, life, ask, change, is_drain });
                } else {
                    self.at(lag_us, Event::Make { node, life, ask, change, is_drain });
                }
            }
            Event::Make { node, life, ask, change, is_drain } => {
                self.make(node, &change, is_drain);
                // It may be done and not be told.
                let is_lost = self.now_us < self.away_until_us + 5 * SECOND && self.rng.bool();
                let outcome = if is_lost { Err(failure()) } else { Ok(()) };
                self.at(lag_us, Event::Changed { node, life, ask, outcome });
            }
            Event::Changed { node, life, ask, outcome } => {
                if let Some(keeper) = self.keeper_of(node, life) {
                    keeper.has_changed(ask, outcome);
                }
            }
            Event::WasRead { node, life, ask, outcome } => {
                if let Some(keeper) = self.keeper_of(node, life) {
                    keeper.has_read(ask, outcome.map(Held::from));
                }
            }
        }
    }

    fn keeper_of(&mut self, node: usize, life: u32) -> Option<&mut Keeper> {
        let now_us = self.now_us;
        let node = &mut self.nodes[node];
        let keeper = node.keeper.as_mut().filter(|_| node.life == life)?;
        keeper.begin(now_us);
        Some(keeper)
    }

    fn make(&mut self, by: usize, change: &Change, is_drain: bool) {
        let context = || format!("seed {} at {} s by n{by}: {change:?}", self.seed, self.now_us / SECOND);
        assert!(change.add.iter().all(|added| *added == own(by)), "{}", context());
        assert!(!change.remove.contains(&stranger()), "{}", context());
        for (index, node) in self.nodes.iter().enumerate() {
            let was_dead = node.is_retired || self.now_us < node.unleased_us + 2 * SECOND;
            let may_go = was_dead && !self.is_excused(node);
            assert!(index == by || !change.remove.contains(&own(index)) || may_go, "{}", context());
        }
        let had_some = self.zone.len() > 1;
        let before = self.zone.clone();
        change.apply(&mut self.zone);
        if self.is_exact && !is_drain && had_some {
            assert!(self.zone.len() > 1, "seed {} emptied at {} by n{by}", self.seed, self.now_us / SECOND);
        }
        if self.zone != before {
            self.last_change_us = self.now_us;
        }
    }

    fn check_bound(&self, index: usize) {
        let node = &self.nodes[index];
        let lived_us = self.now_us - node.since_us;
        assert!(
            node.changes <= 5 + lived_us / (15 * SECOND),
            "seed {}: n{index} changes too much",
            self.seed
        );
    }

    fn check_end(&self, storm_us: u64) {
        let seed = self.seed;
        let settled_us = self.last_change_us.saturating_sub(storm_us);
        assert!(settled_us < SETTLED, "seed {seed}: still changing {} s after", settled_us / SECOND);
        let is_in = |index: usize| self.zone.contains(&own(index));
        let lives = |index: usize, health: Health| {
            let node = &self.nodes[index];
            node.keeper.is_some() && !node.is_draining && node.health == health
        };
        let is_mute = |index: usize| self.is_first_mute && index == 0;
        let all = 0..self.nodes.len();
        let some = |health: Health| all.clone().any(|index| lives(index, health) && !is_mute(index));
        let has_living =
            (0..self.nodes.len()).any(|index| self.nodes[index].keeper.is_some() && is_in(index));
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| !is_mute(*index)) {
            let context = format!("seed {seed}: n{index} {:?} {:?}", node.health, self.zone);
            assert!(!lives(index, Health::Well) || is_in(index), "not in, {context}");
            assert!(lives(index, Health::Well) || !some(Health::Well) || !is_in(index), "not out, {context}");
            assert!(node.keeper.is_some() || !has_living || !is_in(index), "dead and in, {context}");
        }
        assert!(has_living || !(some(Health::Well) || some(Health::Hot)), "seed {seed}: empty");
    }
}

//! Who is in a region's name: what one node does about it. No I/O, no clock.
//!
//! A [`Keeper`] is told what its node wants, who else is in the pool, and what the zone has; it says what to ask the provider
//! ([`Effect`]). Each node of a region has one, and none is in charge of the others:
//!
//! - A node adds and removes **its own** addresses, and repairs them when somebody else's change lost them.
//! - It leaves at high water, after a failed self-check and while it starts only if the zone then still has enough nodes that want
//!   to be in ([`KeeperSettings::floor_percent`], at least one). Under a provider that compares exactly this is decided and done in
//!   one step, so two nodes never leave on account of each other. With others both may go; the zone then has no living node, and
//!   whoever is out for high water alone comes back. A pool is never emptied by shedding. **Draining** is somebody's wish, and
//!   empties it.
//! - The addresses of a **dead** node are removed by the first living node of the pool, by name; by the second if the first has not
//!   done so after two looks, and so on. So one change is made, not one by each node, and a first node that cannot reach the provider
//!   stands in nobody's way. Should two do it, the second changes nothing: removal is idempotent. They stay if the name would
//!   have no living node without them.
//! - Addresses that were never seen with a node of the pool are nobody's to touch. Nor are those of dead nodes that come back again and
//!   again: somebody else has them now.
//! - A node whose own addresses resolvers keep for longer than they should, since somebody changed their TTL, puts that right.
//!
//! | module | concern |
//! | --- | --- |
//! | `plan` | from what is wanted and what is there to what has to change |
//! | `pool` | whose an address is, and since when nobody's |
//! | `pace` | how often is changed, and when is tried again |
//! | `state` | what a keeper shows, and tells |

mod pace;
mod plan;
mod pool;
#[cfg(test)]
mod simulation;
mod state;

pub use pool::{Member, Standing};
pub use state::{News, State, Trouble};

use crate::provider::{Addresses, Change, Held};
use crate::{ProviderError, SettingError};
use fastrand::Rng;
use pace::{Backoff, Bucket};
use plan::{Plan, Situation};
use pool::Pool;
use std::collections::VecDeque;
use std::sync::Arc;

const SECOND: u64 = 1_000_000;
/// Bounds of an own change: it is looked at again, since it may have been undone, or not have been the only one.
const VERIFY_US: (u64, u64) = (SECOND, 3 * SECOND);
/// Somebody else was faster: soon, but not all at once.
const CONFLICT_US: u64 = SECOND / 5;
/// What became of the pool is answered within one part in so many of the time between two looks.
const SOON: u64 = 5;
/// A TTL is put right so often, if it never is afterwards.
const SHORTENINGS: u32 = 3;
/// Until a drain is seen in the zone.
const DRAIN_RETRY_US: u64 = SECOND;

/// What a keeper is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperSettings {
    /// The node's name, as its pool knows it.
    pub node: String,
    /// What clients reach it at.
    pub addresses: Addresses,
    /// Between two looks at the zone; [`crate::ProviderSettings::usual_check_us`] fits the provider.
    pub check_us: u64,
    /// As much of the living pool stays in, whoever wants to leave: at least one node.
    pub floor_percent: u32,
    /// How long a node that fell silent or failed has to be well before it comes back.
    pub settle_us: u64,
    /// After which a node that is not in the pool any more, or not at this address, counts as dead.
    pub vanished_us: u64,
    /// After which a pool that can be asked, after a time in which it could not, is believed who is dead: the others were
    /// perhaps without it as well, and have to tell first that they live.
    pub trust_us: u64,
}

impl KeeperSettings {
    /// The usual, for a node with these addresses.
    ///
    /// # Errors
    /// There are no addresses, or some that clients cannot reach.
    pub fn new(node: impl Into<String>, addresses: Addresses, check_us: u64) -> Result<Self, SettingError> {
        let mend = "give the addresses that clients reach this node at";
        if addresses.is_empty() {
            return Err(SettingError::new("addresses", "there are none", mend));
        }
        if let Some(odd) = addresses.iter().find(|address| address.is_unspecified() || address.is_multicast())
        {
            return Err(SettingError::new("addresses", format!("nobody is reached at {odd}"), mend));
        }
        Ok(Self {
            node: node.into(),
            addresses,
            check_us,
            floor_percent: 0,
            settle_us: 3 * SECOND,
            vanished_us: 30 * SECOND,
            trust_us: 8 * SECOND,
        })
    }
}

/// Whether a node wants its addresses in the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is ready.
    In,
    /// It is not.
    Out(Reason),
}

/// Why a node wants to be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not ready yet. A record of an earlier life is dropped.
    Starting,
    /// Its occupancy is above high water.
    HighWater,
    /// It found itself unfit, or has lost its lease: others take it for dead then.
    SelfCheck,
    /// It ends.
    Draining,
}

/// Numbers what is asked of the provider, so that its answer finds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(u64);

/// Something that whoever runs the keeper has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the zone, and say what it has ([`Keeper::has_read`]). There is never more than one ask under way.
    Read(AskId),
    /// Change the zone, and say what became of it ([`Keeper::has_changed`]).
    Change(AskId, Change),
    /// Log it.
    Tell(News),
}

/// Keeps one node in a name, or out of it. Deterministic: time and seed are passed in.
///
/// Call [`Self::begin`] with the time, put something in, do what [`Self::next_effect`] says until there is nothing more, and come
/// again at [`Self::next_deadline_us`] at the latest.
#[derive(Debug)]
pub struct Keeper {
    settings: KeeperSettings,
    rng: Rng,
    now_us: u64,
    wanted: Wanted,
    /// Why, with numbers, in the node's words.
    cause: Arc<str>,
    wanted_since_us: u64,
    /// It was out for high water or a failed self-check, and has to be well for a while.
    has_to_settle: bool,
    /// As far as the keeper knows.
    zone: Option<Addresses>,
    looked_us: Option<u64>,
    /// Of the zone's, those that resolvers keep for too long.
    slow: Addresses,
    /// How often that was put right since it was right.
    shortenings: u32,
    /// Wants to be out, and stays for the pool's sake.
    is_kept: bool,
    /// Has seen its own addresses in the zone since it wanted them there.
    was_in: bool,
    /// It wants something else since the zone was last read.
    is_urgent: bool,
    pool: Pool,
    under_way: Option<(AskId, Option<Plan>)>,
    asks: u64,
    next_us: u64,
    bucket: Bucket,
    backoff: Backoff,
    conflicts: u32,
    trouble: Option<Trouble>,
    effects: VecDeque<Effect>,
}

impl Keeper {
    /// A node that starts. `now_us` is the node's monotonic clock.
    #[must_use]
    pub fn new(settings: KeeperSettings, seed: u64, now_us: u64) -> Self {
        let pool = Pool::new(&settings);
        Self {
            settings,
            rng: Rng::with_seed(seed),
            now_us,
            wanted: Wanted::Out(Reason::Starting),
            cause: "starting".into(),
            wanted_since_us: now_us,
            has_to_settle: false,
            zone: None,
            looked_us: None,
            slow: Addresses::new(),
            shortenings: 0,
            is_kept: false,
            was_in: false,
            is_urgent: false,
            pool,
            under_way: None,
            asks: 0,
            next_us: now_us,
            bucket: Bucket::new(now_us),
            backoff: Backoff::default(),
            conflicts: 0,
            trouble: None,
            effects: VecDeque::new(),
        }
    }

    /// Time passes: does what is due.
    pub fn begin(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
        self.pool.forget_old(self.now_us);
        if self.under_way.is_none() && self.now_us >= self.next_us {
            self.is_urgent = false;
            let ask = self.ask(None);
            self.effects.push_back(Effect::Read(ask));
        }
    }

    /// What the node wants from now on, and why, with numbers, for logs.
    pub fn want(&mut self, wanted: Wanted, cause: &str) {
        self.cause = cause.into();
        if wanted == self.wanted {
            return;
        }
        let was = std::mem::replace(&mut self.wanted, wanted);
        self.wanted_since_us = self.now_us;
        match (was, wanted) {
            // Shedding and failing are left slowly, whatever comes between.
            (Wanted::Out(Reason::HighWater | Reason::SelfCheck), Wanted::In) => self.has_to_settle = true,
            (_, Wanted::In) => {}
            (_, Wanted::Out(_)) => self.was_in = false,
        }
        self.is_kept = false;
        self.effects.push_back(Effect::Tell(News::Wants { wanted, cause: Arc::clone(&self.cause) }));
        let can_wait = self.trouble.is_some() && wanted != Wanted::Out(Reason::Draining);
        if !can_wait {
            self.is_urgent = true;
            self.next_us = self.now_us;
        }
        self.begin(self.now_us);
    }

    /// Who is in the pool now, dead nodes that are still known included. `None` while nobody can tell: nobody is removed then, and
    /// nobody leaves on account of others. Whoever cannot tell for long should want to be out: others may take it for dead.
    pub fn see_pool(&mut self, members: Option<&[Member]>) {
        let is_news = self.pool.see(members, self.now_us);
        if is_news && self.trouble.is_none() {
            let soon_us = self.now_us + self.rng.u64(0..=self.settings.check_us / SOON);
            self.next_us = self.next_us.min(soon_us);
        }
    }

    /// The provider read the zone, or did not.
    pub fn has_read(&mut self, ask: AskId, outcome: Result<Held, ProviderError>) {
        if self.take_under_way(ask).is_none() {
            return;
        }
        match outcome {
            Ok(Held { addresses, slow }) => {
                self.works();
                self.looked_us = Some(self.now_us);
                for (node, address) in self.pool.see_zone(&addresses) {
                    self.effects.push_back(Effect::Tell(News::LeftAlone { node, address }));
                }
                if slow.is_disjoint(&self.settings.addresses) {
                    self.shortenings = 0;
                }
                (self.zone, self.slow) = (Some(addresses), slow);
                self.act();
            }
            Err(error) => self.fails(&error),
        }
    }

    /// The provider changed the zone, or did not, or nobody knows.
    pub fn has_changed(&mut self, ask: AskId, outcome: Result<(), ProviderError>) {
        let Some(Some(plan)) = self.take_under_way(ask) else { return };
        match outcome {
            Ok(()) => {
                self.works();
                self.conflicts = 0;
                self.shortenings += u32::from(!plan.slow.is_empty());
                if let Some(zone) = &mut self.zone {
                    plan.change.apply(zone);
                }
                self.pool.are_out(&plan.change.remove);
                self.tell_done(plan);
                let verify_us = self.rng.u64(VERIFY_US.0..=VERIFY_US.1);
                self.next_us = self.now_us + if self.is_urgent { 0 } else { verify_us };
            }
            Err(ProviderError::Changed) => {
                self.works();
                self.conflicts += 1;
                // Of many that want the same at once, each finds its turn.
                let spread_us = CONFLICT_US << self.conflicts.min(6);
                self.next_us = self.now_us + self.rng.u64(CONFLICT_US / 4..=spread_us);
            }
            Err(error) => self.fails(&error),
        }
    }

    /// What to do next.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::begin`] has to be called at the latest. What is under way is waited for, by whoever does it, in bounded time.
    #[must_use]
    pub fn next_deadline_us(&self) -> u64 {
        if self.under_way.is_some() { u64::MAX } else { self.next_us }
    }

    /// How it stands, for whoever asks.
    #[must_use]
    pub fn state(&self) -> State {
        let is_in =
            self.zone.as_ref().map(|zone| self.settings.addresses.iter().all(|own| zone.contains(own)));
        let is_out = self.zone.as_ref().map(|zone| self.settings.addresses.is_disjoint(zone));
        State {
            wanted: self.wanted,
            cause: Arc::clone(&self.cause),
            is_in,
            is_out,
            is_kept: self.is_kept,
            zone: self.zone.clone(),
            looked_us: self.looked_us,
            trouble: self.trouble.clone(),
        }
    }

    /// The zone is known as it is now: changes what has to be changed.
    fn act(&mut self) {
        let Some(zone) = self.zone.clone() else { return };
        if self.has_to_settle && self.now_us >= self.wanted_since_us + self.settings.settle_us {
            self.has_to_settle = false;
        }
        let is_settling = self.has_to_settle && self.wanted == Wanted::In;
        let nothing = Addresses::new();
        let situation = Situation {
            zone: &zone,
            slow: if self.shortenings < SHORTENINGS { &self.slow } else { &nothing },
            wanted: if is_settling { None } else { Some(self.wanted) },
            settings: &self.settings,
            pool: &self.pool,
            now_us: self.now_us,
        };
        let plan = plan::plan(&situation);
        self.tell_kept(plan.is_kept);
        if plan.change.is_empty() {
            self.was_in |= self.wanted == Wanted::In && self.settings.addresses.is_subset(&zone);
            self.conflicts = 0;
            self.next_us = self.now_us + self.until_next_look(is_settling);
            return;
        }
        let is_drain = self.wanted == Wanted::Out(Reason::Draining);
        match self.bucket.take(self.now_us) {
            Err(at_us) if !is_drain => self.next_us = at_us,
            _ => {
                let change = plan.change.clone();
                let ask = self.ask(Some(plan));
                self.effects.push_back(Effect::Change(ask, change));
            }
        }
    }

    fn until_next_look(&mut self, is_settling: bool) -> u64 {
        if is_settling {
            let settled_us = self.wanted_since_us + self.settings.settle_us;
            return settled_us.saturating_sub(self.now_us).max(1);
        }
        let check_us = self.settings.check_us;
        let until_us = self.rng.u64(check_us * 3 / 4..=check_us * 5 / 4);
        match self.pool.next_due_us(&self.settings, self.zone.as_ref(), self.now_us) {
            Some(due_us) => until_us.min(due_us.saturating_sub(self.now_us).max(SECOND)),
            None => until_us,
        }
    }

    fn ask(&mut self, plan: Option<Plan>) -> AskId {
        self.asks += 1;
        let ask = AskId(self.asks);
        self.under_way = Some((ask, plan));
        ask
    }

    fn take_under_way(&mut self, ask: AskId) -> Option<Option<Plan>> {
        self.under_way.take_if(|(under_way, _)| *under_way == ask).map(|(_, plan)| plan)
    }

    fn works(&mut self) {
        self.backoff.reset();
        if let Some(trouble) = self.trouble.take() {
            let lasted_us = self.now_us.saturating_sub(trouble.since_us);
            self.effects.push_back(Effect::Tell(News::Recovered { lasted_us, attempts: trouble.attempts }));
        }
    }

    fn fails(&mut self, error: &ProviderError) {
        let last: Arc<str> = error.to_string().into();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since_us: self.now_us,
            attempts: 0,
            last: Arc::clone(&last),
        });
        let is_news = trouble.attempts == 0 || trouble.last != last;
        trouble.attempts += 1;
        trouble.last = Arc::clone(&last);
        if is_news {
            self.effects.push_back(Effect::Tell(News::Failing { error: last }));
        }
        let wait_us = self.backoff.next(&mut self.rng);
        let is_drain = self.wanted == Wanted::Out(Reason::Draining);
        self.next_us = self.now_us + if is_drain { wait_us.min(DRAIN_RETRY_US) } else { wait_us };
    }

    fn tell_kept(&mut self, is_kept: bool) {
        if is_kept
            && !self.is_kept
            && let Wanted::Out(reason) = self.wanted
        {
            self.effects.push_back(Effect::Tell(News::Kept { reason, cause: Arc::clone(&self.cause) }));
        }
        self.is_kept = is_kept;
    }

    fn tell_done(&mut self, plan: Plan) {
        let cause = Arc::clone(&self.cause);
        let addresses = &plan.change.add - &plan.slow;
        if !plan.slow.is_empty() {
            let is_last = self.shortenings == SHORTENINGS;
            self.effects.push_back(Effect::Tell(News::Shortened { addresses: plan.slow, is_last }));
        }
        if !addresses.is_empty() {
            let news = if plan.is_last_resort {
                News::CameBack { addresses }
            } else if self.was_in {
                News::Repaired { addresses }
            } else {
                News::Joined { addresses, cause: Arc::clone(&cause) }
            };
            self.effects.push_back(Effect::Tell(news));
        }
        if let Some(reason) = plan.reason.filter(|_| !plan.own.is_empty()) {
            self.effects.push_back(Effect::Tell(News::Left { addresses: plan.own, reason, cause }));
        }
        for (node, addresses) in plan.dead {
            self.effects.push_back(Effect::Tell(News::RemovedDead { node, addresses }));
        }
    }
}

#[cfg(test)]
mod tests;

//! Registering, renewing, retiring: the lease.

use crate::pins::{Pins, What};
use crate::{AskId, Effect, Lease};
use pinwire_registry::{Answer, AppUse, Renewed, Request, Share};
use std::sync::Arc;

/// The lease ends this much earlier for the node than for the registry, as a part of it: clocks may run apart, and a turn that began
/// in time takes its time.
const MARGIN: u64 = 40;
/// Renewals after which an outage that goes on has to be looked at again.
const ADRIFT_RENEWALS: u64 = 3;
/// News are told within one part in so many of the time between two renewals.
const SOON: u64 = 10;
/// Times that a node says that it ends.
const RETIRE_ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not known to the registry, or given up by it.
    #[default]
    Registering,
    Living,
    /// It says that it ends, for so many times.
    Retiring(u32),
    Retired,
}

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) stage: Stage,
    /// By the monotonic clock; counted from before the renewal was sent.
    until_us: u64,
    /// As all threads know it.
    pub(crate) published: Lease,
    /// Which server and history answered last.
    history: Option<Arc<str>>,
    /// The renewal that is waited for.
    under_way: Option<AskId>,
    renew_at_us: u64,
    /// The next renewal follows soon on the one that is under way.
    is_hurried: bool,
    /// Failed since the last answer.
    failures: u32,
    failed_at_us: Option<u64>,
    /// What was told of the registry: nothing yet, or whether it answers renewals.
    pub(crate) is_reached: Option<bool>,
    /// Something failed: nothing but a renewal is asked until one was answered.
    is_doubtful: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            stage: Stage::Registering,
            until_us: 0,
            published: Lease::Unchecked,
            history: None,
            under_way: None,
            renew_at_us: 0,
            is_hurried: false,
            failures: 0,
            failed_at_us: None,
            is_reached: None,
            is_doubtful: false,
        }
    }
}

impl Pins {
    /// The node ends in good order: nothing is served or claimed from now on, and what it holds is left with grace.
    pub fn retire(&mut self) {
        if self.is_ending() {
            return;
        }
        let is_known = self.life.stage == Stage::Living;
        self.life.stage = Stage::Retiring(0);
        self.refuse_waiting();
        self.publish_lease();
        if is_known { self.ask_to_retire() } else { self.retired() }
    }

    fn ask_to_retire(&mut self) {
        let request = Request::Retire { node: self.me.node.clone(), grace_us: self.settings.grace_us };
        self.ask(What::Retire, request);
    }

    pub(crate) fn retire_failed(&mut self) {
        match &mut self.life.stage {
            Stage::Retiring(attempts) if *attempts + 1 < RETIRE_ATTEMPTS => {
                *attempts += 1;
                self.ask_to_retire();
            }
            _ => self.retired(),
        }
    }

    pub(crate) fn retired(&mut self) {
        self.life.stage = Stage::Retired;
        self.effects.push_back(Effect::Retired);
    }

    /// Notices that the lease ran out. A renewal that was sent before is not waited for then: its answer would be of no use.
    pub(crate) fn look_at_lease(&mut self) {
        let until_us = match self.life.published {
            Lease::Valid { until_us } | Lease::Adrift { until_us } => until_us,
            Lease::Unchecked => u64::MAX,
        };
        if self.now_us >= until_us {
            self.life.under_way = None;
            self.life.renew_at_us = self.now_us;
        }
        self.publish_lease();
    }

    /// The lease, as it is now, if that is news.
    pub(crate) fn publish_lease(&mut self) {
        let life = &self.life;
        // A life that is being registered anew has the lease of the one before, if that was not given up.
        let is_sure = matches!(life.stage, Stage::Living | Stage::Registering)
            && !self.assertions.is_barred()
            && self.now_us < life.until_us;
        let adrift_until = life.failed_at_us.map_or(0, |at| at + ADRIFT_RENEWALS * self.settings.renew_us);
        let lease = if is_sure {
            Lease::Valid { until_us: life.until_us }
        } else if self.now_us < adrift_until && !self.is_ending() {
            Lease::Adrift { until_us: adrift_until }
        } else {
            Lease::Unchecked
        };
        if lease != life.published {
            self.life.published = lease;
            self.effects.push_back(Effect::Lease(lease));
        }
    }

    pub(crate) fn renew_if_due(&mut self) {
        let is_due = self.life.under_way.is_none() && self.now_us >= self.life.renew_at_us;
        if !is_due || self.is_ending() {
            return;
        }
        let lease_us = self.settings.lease_us;
        let (apps, request) = if self.life.stage == Stage::Living {
            let (apps, versions) = self.apps.for_renewal();
            let node = self.me.node.clone();
            (apps.clone(), Request::Renew { node, lease_us, apps, versions })
        } else {
            (Vec::new(), Request::Register { node: self.me.clone(), lease_us })
        };
        self.life.under_way = Some(self.ask(What::Renewal { apps }, request));
    }

    /// There is news that the registry should hear before the next renewal is due: within a tenth of the usual time. What is under
    /// way does not say it; and a registry that does not answer is not asked more often.
    pub fn renew_soon(&mut self) {
        if self.life.under_way.is_some() {
            self.life.is_hurried = true;
        } else if self.can_ask() {
            let soon_us = self.now_us + self.settings.renew_us / SOON;
            self.life.renew_at_us = self.life.renew_at_us.min(soon_us);
        }
    }

    pub(crate) fn renewal_answered(&mut self, ask: AskId, sent_us: u64, apps: &[AppUse], answer: Answer) {
        if self.life.under_way == Some(ask) {
            self.life.under_way = None;
        }
        match answer {
            Answer::Renewed(renewed) => self.renewed(sent_us, apps, renewed),
            Answer::Unknown => self.begin_anew(),
            _ => self.renewal_failed(ask),
        }
    }

    fn renewed(&mut self, sent_us: u64, apps: &[AppUse], renewed: Renewed) {
        let is_new_life = self.life.stage == Stage::Registering;
        match self.life.stage {
            Stage::Registering => {
                self.life.stage = Stage::Living;
                self.effects.push_back(Effect::Life(self.me.node.clone()));
            }
            Stage::Living => {}
            Stage::Retiring(_) | Stage::Retired => return,
        }
        let has_forgotten = self.life.history.as_ref().is_some_and(|history| *history != renewed.history);
        self.life.history = Some(renewed.history);
        let was_valid = self.now_us < self.life.until_us;
        // Of what another history lets the node hold nothing is known: a lease that ran out does not begin again by that.
        if is_new_life || !has_forgotten {
            let margin_us = self.settings.lease_us / MARGIN;
            self.life.until_us = self.life.until_us.max(sent_us + self.settings.lease_us - margin_us);
        }
        self.life.failures = 0;
        if !self.assertions.is_barred() {
            self.life.failed_at_us = None;
        }
        self.life.is_doubtful = false;
        let spread_us = self.rng.u64(0..=self.settings.renew_us / 10);
        self.life.renew_at_us = (sent_us + self.settings.renew_us - spread_us).max(self.now_us);
        if std::mem::take(&mut self.life.is_hurried) {
            self.renew_soon();
        }
        self.tell_reach(true);
        self.apps.told(apps);
        for (document, owner) in renewed.lost {
            self.yield_to(&document, &owner);
        }
        if is_new_life {
            self.assert_everything(!was_valid);
            self.apps.tell_everything();
        } else if has_forgotten {
            self.live_anew();
        }
        if !renewed.shares.is_empty() {
            let asked = |share: Share| {
                let asked = self.apps.asked(&share.app);
                (share, asked)
            };
            let shares = renewed.shares.into_iter().map(asked).collect();
            self.effects.push_back(Effect::Shares(shares));
        }
        if !renewed.records.is_empty() {
            self.apps.learn(&renewed.records);
            self.effects.push_back(Effect::Records(renewed.records));
        }
    }

    /// The registry does not know the node (any more): what it held there is nobody's until it was asserted again. Nothing is
    /// served meanwhile.
    pub(crate) fn begin_anew(&mut self) {
        if self.is_ending() {
            return;
        }
        self.life.until_us = 0;
        self.life.failed_at_us = None;
        self.live_anew();
    }

    /// Begins a new life, and says then what it holds. Also where the registry may have forgotten something, since it may as
    /// well know of holds that the node has given up: those end with the life before. The lease of that runs on meanwhile, unless
    /// it waited for assertions, of which nobody is left to wait for now.
    fn live_anew(&mut self) {
        if self.assertions.is_barred() {
            self.life.until_us = 0;
        }
        self.life.stage = Stage::Registering;
        self.me.node.life = self.rng.u64(1..);
        self.life.under_way = None;
        self.life.renew_at_us = self.now_us;
        self.assertions.forget();
        self.releases.forget();
        self.publish_lease();
        self.renew_if_due();
    }

    /// Tries again soon. A renewal that was given up before proves nothing by failing.
    pub(crate) fn renewal_failed(&mut self, ask: AskId) {
        if self.life.under_way != Some(ask) {
            return;
        }
        self.life.under_way = None;
        self.life.failed_at_us = Some(self.now_us);
        let renew_us = self.settings.renew_us;
        let wait_us = ((renew_us / 10) << self.life.failures.min(8)).min(renew_us / 2);
        self.life.failures += 1;
        self.life.renew_at_us = self.now_us + self.jittered(wait_us);
        self.life.is_doubtful = true;
        self.tell_reach(false);
        self.refuse_waiting();
    }

    /// What has to be asserted before anything is served was not answered: sockets are not stopped for as long as that goes on.
    pub(crate) fn drift(&mut self) {
        self.life.failed_at_us = Some(self.now_us);
    }

    /// Something else than a renewal failed: whether the registry is there is asked by a renewal, alone.
    pub(crate) fn doubt(&mut self) {
        if !self.life.is_doubtful {
            self.life.is_doubtful = true;
            self.life.renew_at_us = self.now_us;
            self.renew_if_due();
        }
    }

    /// The node is registered, and the registry answers.
    pub(crate) fn can_ask(&self) -> bool {
        self.life.stage == Stage::Living && !self.life.is_doubtful
    }

    /// New documents may be claimed.
    pub(crate) fn can_claim(&self) -> bool {
        self.can_ask() && matches!(self.life.published, Lease::Valid { .. })
    }

    /// Nothing can be claimed for now, and it is not known when.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.life.is_reached == Some(false) || self.is_ending()
    }

    fn is_ending(&self) -> bool {
        matches!(self.life.stage, Stage::Retiring(_) | Stage::Retired)
    }

    fn tell_reach(&mut self, is_reached: bool) {
        if self.life.is_reached != Some(is_reached) {
            self.life.is_reached = Some(is_reached);
            self.effects.push_back(Effect::Reach(is_reached));
        }
    }

    pub(crate) fn life_deadline_us(&self) -> u64 {
        if self.is_ending() {
            return u64::MAX;
        }
        let lease_us = match self.life.published {
            Lease::Valid { until_us } | Lease::Adrift { until_us } => until_us,
            Lease::Unchecked => u64::MAX,
        };
        if self.life.under_way.is_some() { lease_us } else { lease_us.min(self.life.renew_at_us) }
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::{Bench, SECOND, START, claim, document, elsewhere, renewal};
    use crate::{Decision, Effect, Lease, Ticket};
    use pinwire_registry::{Answer, AppName, AppUse, Request, Share};

    #[test]
    fn a_lease_is_counted_from_before_the_renewal_was_sent() {
        let mut bench = Bench::new();
        bench.after(3 * SECOND);
        bench.renewed("a");
        let until_us = START + 20 * SECOND - SECOND / 2;
        assert_eq!(bench.pins.lease(), Lease::Valid { until_us });
        assert!(bench.news.contains(&Effect::Lease(Lease::Valid { until_us })));
        assert!(bench.news.contains(&Effect::Reach(true)));
    }

    #[test]
    fn it_is_renewed_in_time_and_sooner_after_a_failure() {
        let mut bench = Bench::living();
        let due = bench.pins.next_deadline_us();
        assert!((START + 4 * SECOND..=START + 5 * SECOND).contains(&due), "{due}");
        bench.at(due);
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Renew { .. }));
        bench.fail(ask);
        assert!(bench.news.contains(&Effect::Reach(false)));
        assert!(bench.pins.next_deadline_us() <= due + SECOND / 2);
        // It runs on meanwhile.
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
    }

    fn usage(wanted: u32) -> AppUse {
        AppUse { app: AppName("t::a".into()), connections: wanted, wanted, max_connections: 100 }
    }

    #[test]
    fn news_are_told_soon_also_those_that_came_while_a_renewal_was_under_way() {
        let mut bench = Bench::living();
        bench.pins.use_app(usage(1));
        bench.pins.renew_soon();
        assert_eq!(bench.pins.next_deadline_us(), START + SECOND / 2);
        bench.after(SECOND / 2);
        bench.pins.use_app(usage(2));
        bench.pins.renew_soon();
        bench.renewed("a");
        assert_eq!(bench.pins.next_deadline_us(), bench.now + SECOND / 2);
        bench.after(SECOND / 2);
        let (ask, request) = bench.asked();
        let Request::Renew { apps, .. } = request else { panic!("{request:?}") };
        assert_eq!(apps, [usage(2)]);
        // Who does not answer is not pressed.
        bench.fail(ask);
        let due = bench.pins.next_deadline_us();
        bench.pins.renew_soon();
        assert_eq!(bench.pins.next_deadline_us(), due);
        bench.at(due);
        bench.renewed("a");
        assert!(bench.pins.next_deadline_us() >= bench.now + 4 * SECOND);
    }

    #[test]
    fn a_share_comes_with_what_had_been_asked_for() {
        let mut bench = Bench::living();
        bench.pins.use_app(usage(5));
        bench.at(bench.pins.next_deadline_us());
        bench.pins.use_app(usage(9));
        let share = Share { app: AppName("t::a".into()), connections: 3 };
        let mut answer = renewal("a");
        answer.shares = vec![share.clone()];
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Renewed(answer));
        assert!(bench.news.contains(&Effect::Shares(vec![(share, 5)])), "{:?}", bench.news);
    }

    #[test]
    fn who_was_stopped_beyond_the_lease_looks_before_anything_else() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(5));
        bench.at(bench.pins.next_deadline_us());
        let (stale, _) = bench.asked();
        bench.after(60 * SECOND);
        assert_eq!(bench.news, [Effect::Lease(Lease::Unchecked)]);
        // What was sent before proves nothing, whether it succeeded or failed.
        bench.fail(stale);
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Renew { .. }));
        bench.answer(ask, Answer::Renewed(renewal("a")));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
    }

    #[test]
    fn a_lease_that_never_ends_needs_no_renewal_however_long_the_node_stands_still() {
        let mut settings = Bench::new().pins.settings;
        (settings.lease_us, settings.renew_us) = (crate::ENDLESS_US, crate::ENDLESS_US);
        let mut bench = Bench { pins: crate::Pins::new(settings, 7), ..Bench::new() };
        (bench.now, bench.asks) = (START, Default::default());
        bench.at(START);
        bench.renewed("a");
        bench.has("d", 1, claim(5));
        bench.news.clear();
        for _ in 0..3 {
            bench.after(30 * 365 * 86_400 * SECOND);
        }
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
        assert!(bench.asks.is_empty() && bench.news.is_empty());
    }

    #[test]
    fn an_answer_to_what_was_sent_before_a_stop_opens_nothing() {
        let mut bench = Bench::living();
        bench.at(bench.pins.next_deadline_us());
        let (stale, _) = bench.asked();
        bench.after(60 * SECOND);
        bench.answer(stale, Answer::Renewed(renewal("a")));
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
    }

    #[test]
    fn an_outage_beyond_the_lease_leaves_the_node_adrift_until_it_renews() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(5));
        while bench.now < START + 25 * SECOND {
            bench.at(bench.pins.next_deadline_us());
            while let Some((ask, _)) = bench.asks.pop_front() {
                bench.fail(ask);
            }
        }
        assert!(matches!(bench.pins.lease(), Lease::Adrift { .. }));
        assert!(!bench.news.contains(&Effect::Lease(Lease::Unchecked)), "nobody was stopped");
        bench.hold("new", 2);
        assert_eq!(bench.decided(2), Some(Decision::TryAgain));
        bench.hold("d", 3);
        assert!(matches!(bench.decided(3), Some(Decision::Held { .. })));
        bench.at(bench.pins.next_deadline_us());
        bench.renewed("a");
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
        assert!(bench.asks.is_empty());
        // Somebody who is stopped while adrift has to look, too.
        let mut bench = Bench::new();
        let (ask, _) = bench.asked();
        bench.fail(ask);
        assert!(matches!(bench.pins.lease(), Lease::Adrift { .. }));
        bench.after(60 * SECOND);
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
    }

    #[test]
    fn a_node_that_is_not_known_any_more_begins_a_new_life() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(5));
        let old = bench.pins.node().clone();
        bench.at(bench.pins.next_deadline_us());
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Unknown);
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        assert_ne!(bench.pins.node().life, old.life);
        bench.renewed("a");
        // Nothing is served before the registry has said what of it is left.
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        bench.asserted(|_, claim| pinwire_registry::Asserted::Held(claim));
        assert!(matches!(bench.pins.lease(), Lease::Valid { .. }));
        assert_eq!(bench.pins.held().count(), 1);
    }

    #[test]
    fn what_was_lost_is_told_before_the_lease() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(5));
        bench.has("e", 2, claim(9));
        bench.after(60 * SECOND);
        bench.news.clear();
        let mut answer = renewal("a");
        answer.lost = vec![(document("d"), elsewhere(7)), (document("e"), elsewhere(8))];
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Renewed(answer));
        let lost = Effect::Lost(document("d"), Ticket(1), elsewhere(7));
        assert_eq!(bench.news[0], lost);
        assert!(matches!(bench.news[1..], [Effect::Lease(Lease::Valid { .. })]));
        let held: Vec<_> = bench.pins.held().map(|(name, _)| name.clone()).collect();
        assert_eq!(held, [document("e")], "of the higher claim that it has since");
    }

    #[test]
    fn a_node_that_retires_serves_and_claims_nothing_more() {
        let mut bench = Bench::living();
        bench.has("d", 1, claim(5));
        bench.pins.retire();
        bench.at(bench.now);
        let (ask, request) = bench.asked();
        assert!(matches!(request, Request::Retire { .. }));
        assert_eq!(bench.pins.lease(), Lease::Unchecked);
        bench.hold("e", 2);
        assert_eq!(bench.decided(2), Some(Decision::TryAgain));
        bench.fail(ask);
        let (ask, _) = bench.asked();
        bench.answer(ask, Answer::Done);
        assert_eq!(bench.news.last(), Some(&Effect::Retired));
        bench.after(60 * SECOND);
        assert!(bench.asks.is_empty());
    }
}

//! What became of whoever dialled, in the last minute: served here, sent to another region, turned away, and why.

use std::collections::{BTreeMap, VecDeque};

use pinwire_admin_api::node::Flow;

use super::{Millis, Model, NodeState};

/// What is looked at.
pub const MINUTE: Millis = 60_000;
/// Looks that are kept for that: one a second, and those of nodes that tell more often.
const KEPT: usize = 128;

/// What became of whoever dialled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flown {
    /// Milliseconds for which this counts.
    pub over: Millis,
    /// Whoever dialled.
    pub dialled: u64,
    /// Those that were served by whom they dialled, carried elsewhere or not.
    pub served: u64,
    /// Those that were sent to another region.
    pub redirected: u64,
    /// Those that were turned away.
    pub refused: u64,
    /// Why, the most frequent first.
    pub reasons: Vec<(String, u64)>,
    /// Connections, now.
    pub connections: u64,
    /// Sessions that are carried to another region, now.
    pub carried_out: u64,
    /// Sessions that are carried here from another region, now.
    pub carried_in: u64,
}

impl Flown {
    /// Between two looks, or since the node's start where there is no first one.
    fn between(before: Option<&Flow>, now: &Flow, over: Millis) -> Self {
        let of = |told: &Flow, at: &str, reason: &str| {
            told.turned_away
                .iter()
                .find(|away| away.at == at && away.reason == reason)
                .map_or(0, |away| away.count)
        };
        let mut reasons: Vec<(String, u64)> = now
            .turned_away
            .iter()
            .map(|away| {
                let known = before.map_or(0, |before| of(before, &away.at, &away.reason));
                (word(&away.at, &away.reason), away.count.saturating_sub(known))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        sort(&mut reasons);
        // Those of `tls` and `handshake` were never upgraded.
        let never: u64 = now
            .turned_away
            .iter()
            .filter(|away| matches!(away.at.as_str(), "tls" | "handshake"))
            .map(|away| {
                away.count.saturating_sub(before.map_or(0, |before| of(before, &away.at, &away.reason)))
            })
            .sum();
        let refused = reasons.iter().map(|(_, count)| count).sum::<u64>();
        let upgraded = now.upgraded.saturating_sub(before.map_or(0, |before| before.upgraded));
        let redirected = now.redirected.saturating_sub(before.map_or(0, |before| before.redirected));
        Self {
            over,
            dialled: upgraded + never,
            // One socket of Hocuspocus may be sent away for several documents.
            served: upgraded.saturating_sub(redirected + refused.saturating_sub(never)),
            redirected,
            refused,
            reasons,
            connections: 0,
            carried_out: now.carried_out,
            carried_in: now.carried_in,
        }
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.over = self.over.max(other.over);
        self.dialled += other.dialled;
        self.served += other.served;
        self.redirected += other.redirected;
        self.refused += other.refused;
        self.connections += other.connections;
        self.carried_out += other.carried_out;
        self.carried_in += other.carried_in;
        let mut reasons: BTreeMap<String, u64> = self.reasons.drain(..).collect();
        for (reason, count) in &other.reasons {
            *reasons.entry(reason.clone()).or_default() += count;
        }
        self.reasons = reasons.into_iter().collect();
        sort(&mut self.reasons);
    }

    /// So many in a second.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        if self.over == 0 { 0.0 } else { count as f64 * 1000.0 / self.over as f64 }
    }

    /// Shares of whoever dialled: served here, carried to another region, redirected, refused. None where nobody did.
    #[must_use]
    pub fn shares(&self) -> Option<[f64; 4]> {
        let all = self.served + self.redirected + self.refused;
        if all == 0 {
            return None;
        }
        let share = |count: u64| count as f64 / all as f64;
        // How many of those that came are carried is not told: it is taken to be the share of those that are there.
        let carried =
            share(self.served) * (self.carried_out as f64 / self.connections.max(1) as f64).min(1.0);
        Some([share(self.served) - carried, carried, share(self.redirected), share(self.refused)])
    }

    /// Why clients were turned away: `120 overloaded, 3 expired`.
    #[must_use]
    pub fn why(&self, most: usize) -> String {
        let parts: Vec<String> =
            self.reasons.iter().take(most).map(|(reason, count)| format!("{count} {reason}")).collect();
        let left = self.reasons.len().saturating_sub(most);
        if left > 0 { format!("{}, {left} more", parts.join(", ")) } else { parts.join(", ") }
    }
}

fn sort(reasons: &mut [(String, u64)]) {
    reasons.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
}

/// A reason for people.
fn word(at: &str, reason: &str) -> String {
    match (at, reason) {
        ("handshake", "full") => "full".into(),
        ("handshake", "overloaded") => "overloaded".into(),
        ("handshake", "new_document") => "no new documents".into(),
        ("handshake", "budget") => "more than let in a second".into(),
        ("handshake", "address_limit") => "address too often".into(),
        ("handshake", "paced") => "came back too early".into(),
        ("handshake", "stopping") => "stopping".into(),
        ("token", "expired") => "token expired".into(),
        ("token", reason) => format!("token {}", reason.replace('_', " ")),
        ("tls", reason) => format!("TLS {}", reason.replace('_', " ")),
        ("session", "limit") => "limits of the app".into(),
        ("session", "wait") => "told to come again".into(),
        ("session", "other") => "other".into(),
        (_, reason) => reason.replace('_', " "),
    }
}

/// A node's looks of the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(VecDeque<(Millis, Flow)>);

impl Looks {
    pub(super) fn push(&mut self, now: Millis, flow: &Flow) {
        while self.0.len() >= KEPT || self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= MINUTE) {
            self.0.pop_front();
        }
        self.0.push_back((now, flow.clone()));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn flown(&self) -> Option<Flown> {
        let ((from, first), (to, last)) = (self.0.front()?, self.0.back()?);
        Some(Flown::between(Some(first), last, to.saturating_sub(*from)))
    }

    /// The last look and the one before it.
    fn last_step(&self) -> Option<(Flow, Flow)> {
        let before = self.0.len().checked_sub(2)?;
        Some((self.0.get(before)?.1.clone(), self.0.back()?.1.clone()))
    }

    /// In the last seconds: what is refused right now.
    pub(super) fn lately(&self, over: Millis) -> Option<Flown> {
        let (to, last) = self.0.back()?;
        let (from, first) = self.0.iter().rev().find(|(at, _)| to.saturating_sub(*at) >= over)?;
        Some(Flown::between(Some(first), last, to.saturating_sub(*from)))
    }
}

/// A time in which a node turns clients away, or sends them to other regions, without a longer pause.
#[derive(Clone, Debug)]
pub(super) struct Spell {
    since: Millis,
    /// When somebody was last.
    last: Millis,
    /// What was counted before it.
    before: Flow,
}

/// Without anybody for so long, a spell is over.
const PAUSE: Millis = 15_000;

impl Model {
    /// Tells when a node begins to turn clients away or to send them elsewhere, and what came together when it is over: each of them
    /// would be too much to read.
    pub(super) fn note_spells(&mut self, node: usize, now: Millis) {
        let state = &mut self.nodes[node];
        let Some((before, last)) = state.flows.last_step() else { return };
        let step = Flown::between(Some(&before), &last, 0);
        let mut told = Vec::new();
        for (spell, count, is_refusal) in
            state.spells.iter_mut().zip([step.refused, step.redirected]).zip([true, false]).map(flat)
        {
            match spell {
                None if count > 0 => {
                    *spell = Some(Spell { since: now, last: now, before: before.clone() });
                    told.push(if is_refusal {
                        ("refusing", format!("begins to turn clients away: {}", step.why(3)))
                    } else {
                        (
                            "redirecting",
                            "begins to send clients to the regions that have their documents".into(),
                        )
                    });
                }
                Some(spell) if count > 0 => spell.last = now,
                Some(over) if now.saturating_sub(over.last) >= PAUSE => {
                    let all = Flown::between(Some(&over.before), &last, 0);
                    let long = crate::format::age(over.last.saturating_sub(over.since).max(1_000));
                    told.push(if is_refusal {
                        (
                            "refused",
                            format!("turned {} away within {long}: {}", clients(all.refused), all.why(4)),
                        )
                    } else {
                        (
                            "redirected",
                            format!("sent {} to other regions within {long}", clients(all.redirected)),
                        )
                    });
                    *spell = None;
                }
                _ => {}
            }
        }
        let label = state.label();
        for (kind, text) in told {
            self.events.note(node, label.clone(), now, kind, text);
        }
    }
}

fn flat<A, B, C>(((a, b), c): ((A, B), C)) -> (A, B, C) {
    (a, b, c)
}

fn clients(count: u64) -> String {
    if count == 1 { "1 client".into() } else { format!("{count} clients") }
}

impl NodeState {
    /// What became of whoever dialled it in the last seconds.
    #[must_use]
    pub fn flown_lately(&self) -> Option<Flown> {
        self.flows.lately(4_000).map(|flown| self.with_connections(flown))
    }

    /// What became of whoever dialled it in the last minute; missing where it does not tell.
    #[must_use]
    pub fn flown(&self) -> Option<Flown> {
        self.flows.flown().map(|flown| self.with_connections(flown))
    }

    fn with_connections(&self, flown: Flown) -> Flown {
        let connections = self.told().map_or(0, |told| told.totals.connections);
        Flown { connections, ..flown }
    }

    /// The same since it started.
    #[must_use]
    pub fn flown_since_start(&self) -> Option<Flown> {
        let told = self.told()?;
        let flown = Flown::between(None, told.flow.as_ref()?, told.uptime_seconds * 1000);
        Some(self.with_connections(flown))
    }
}

/// The same of each region, by name, and of all.
#[must_use]
pub fn flown(model: &Model) -> (BTreeMap<String, Flown>, Flown) {
    let (mut regions, mut all): (BTreeMap<String, Flown>, Flown) = Default::default();
    for (_, node) in model.nodes() {
        let Some((region, flown)) = node.region().zip(node.flown()) else { continue };
        regions.entry(region.to_owned()).or_default().add(&flown);
        all.add(&flown);
    }
    (regions, all)
}

#[cfg(test)]
mod tests {
    use pinwire_admin_api::node::TurnedAway;

    use super::*;

    fn flow(upgraded: u64, redirected: u64, away: &[(&str, &str, u64)]) -> Flow {
        let away = away.iter().map(|(at, reason, count)| TurnedAway {
            at: (*at).into(),
            reason: (*reason).into(),
            count: *count,
        });
        Flow { upgraded, redirected, turned_away: away.collect(), carried_out: 2, carried_in: 0 }
    }

    #[test]
    fn whoever_dials_is_served_sent_on_or_turned_away() {
        let mut looks = Looks::default();
        looks.push(0, &flow(100, 10, &[("handshake", "overloaded", 7)]));
        let now =
            flow(200, 30, &[("handshake", "overloaded", 57), ("token", "expired", 5), ("tls", "reset", 1)]);
        looks.push(20_000, &now);
        let flown = looks.flown().unwrap();
        assert_eq!((flown.dialled, flown.served, flown.redirected, flown.refused), (151, 75, 20, 56));
        assert_eq!(flown.why(2), "50 overloaded, 5 token expired, 1 more");
        assert_eq!(flown.rate(flown.refused), 2.8);
        let shares: f64 = flown.shares().unwrap().iter().sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_spell_of_refusals_is_told_when_it_begins_and_when_it_is_over() {
        let mut model = Model::default();
        let mut refused = 0;
        for second in 0..60_u64 {
            refused += if (10..20).contains(&second) { 4 } else { 0 };
            let now = 1_800_000_000_000 + second * 1000;
            let mut look = crate::model::example::look(0, 2, 500 + second, now);
            look.events.clear();
            look.node.node.flow = Some(flow(second, 0, &[("handshake", "overloaded", refused)]));
            let node = crate::model::example::address(0);
            let what = crate::client::What::Look(Box::new(look));
            model.apply(crate::client::Update { node, what }, now);
        }
        let told: Vec<(&str, &str)> =
            model.events.rows().iter().map(|event| (&*event.kind, &*event.text)).collect();
        assert_eq!(
            told,
            [
                ("refusing", "begins to turn clients away: 4 overloaded"),
                ("refused", "turned 40 clients away within 9 s: 40 overloaded")
            ]
        );
    }

    #[test]
    fn only_the_last_minute_counts_and_looks_are_bounded() {
        let mut looks = Looks::default();
        for second in 0..200_u64 {
            looks.push(second * 1000, &flow(second * 3, 0, &[]));
        }
        let flown = looks.flown().unwrap();
        assert_eq!((flown.over, flown.dialled), (60_000, 180));
        assert_eq!(looks.lately(4_000).unwrap().dialled, 12);
        (0..1000).for_each(|_| looks.push(200_000, &flow(600, 0, &[])));
        assert!(looks.0.len() <= KEPT);
    }
}

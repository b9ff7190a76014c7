//! From load to verdict: the one place where it is decided whether a node takes new clients.
//!
//! ```text
//!             70 %              75 %                  80 %, and others can serve
//!   Serving ───────► Thrifty ───────► NoNewDocuments ───────────► NoNewConnections, out of DNS
//!      ◄──────────────── each below its own low mark, for a while ───────────────┘
//!
//!   80 % and nobody else could serve (panic): stays Thrifty and in DNS, and refuses at 95 % memory or 100 % connections alone
//! ```
//!
//! Nothing here ever ends a session that runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Load, Mark, Occupancy, Resource, Water};

/// The state of a node, as `/health` and operators see it. Ordered: the later one is the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything works.
    #[default]
    Healthy,
    /// Takes new clients, but something is away, or it is fuller than it would like to be.
    Degraded,
    /// Takes no new clients for now.
    Overloaded,
    /// About to end: out of DNS, and soon without clients.
    Draining,
}

impl State {
    /// All, the best first.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Degraded, Self::Overloaded, Self::Draining];

    /// Whether new clients may come.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }

    /// As configuration, metrics and logs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }
}

/// What a node still does, from everything to the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rung {
    /// Everything.
    #[default]
    Serving,
    /// The same; presence is gathered for longer before it goes out.
    Thrifty,
    /// Documents that nobody here has open are for other nodes.
    NoNewDocuments,
    /// New connections are for other nodes.
    NoNewConnections,
}

impl Rung {
    /// All, by how many marks a node is above.
    pub const ALL: [Self; 4] = [Self::Serving, Self::Thrifty, Self::NoNewDocuments, Self::NoNewConnections];

    /// As metrics and logs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Thrifty => "thrifty",
            Self::NoNewDocuments => "no_new_documents",
            Self::NoNewConnections => "no_new_connections",
        }
    }
}

/// Where the rungs are, in shares of occupancy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marks {
    /// To [`Rung::Thrifty`], [`Rung::NoNewDocuments`], [`Rung::NoNewConnections`].
    pub rungs: [Mark; 3],
    /// Of memory, where nobody else can serve.
    pub panic_memory: Mark,
    /// Of connections, likewise.
    pub panic_connections: Mark,
}

impl Marks {
    /// Below the high mark there are two rungs, a sixteenth of it apart each. A node that nobody can stand in for refuses at 95 %.
    #[must_use]
    pub fn new(high: f64, low: f64, dwell_us: u64) -> Self {
        // Rounded, so that 0.8 less an eighth of it is 0.7.
        let lower = |mark: f64, below: f64| ((mark - below * mark / 16.0) * 1e4).round() / 1e4;
        let rung = |below| Mark { high: lower(high, below), low: lower(low, below), dwell_us };
        Self {
            rungs: [rung(2.0), rung(1.0), rung(0.0)],
            panic_memory: Mark { high: 0.95, low: 0.9, dwell_us },
            panic_connections: Mark { high: 1.0, low: 0.95, dwell_us },
        }
    }
}

/// What else is to be considered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// It is to end.
    pub is_draining: bool,
    /// Without this no client can be served at all: in words, for operators.
    pub unable: Option<&'static str>,
    /// It does not work as it should, and another node would: in words.
    pub ill: Option<&'static str>,
    /// Something is away without which it serves on: in words.
    pub lacks: Option<&'static str>,
    /// Whether the pool of the region's nodes lets this one go.
    pub leave: Leave,
    /// Another node of the region takes clients: what this one does not do any more, that one can.
    pub others_serve: bool,
}

/// What the pool of the region's nodes says to one that wants out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// Nothing yet.
    #[default]
    Unasked,
    /// It stays: too few others serve.
    Stay,
    /// It may leave: enough others serve.
    May,
    /// It may, but the region's name has too few others: clients come to it all the same. It is in the name as long as that is so.
    Kept,
}

/// What a node does from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// As others see it.
    pub state: State,
    /// What it still does.
    pub rung: Rung,
    /// It would rather have its clients elsewhere: the pool is to be asked whether it may leave.
    pub wants_out: bool,
    /// Its addresses belong into DNS.
    pub is_in_dns: bool,
}

/// Why a verdict is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Why {
    /// Nothing is wrong.
    #[default]
    Well,
    /// So full.
    Full(Occupancy),
    /// So full or ill, and nobody could stand in for it.
    Last(Occupancy),
    /// See [`Duty::ill`], [`Duty::lacks`] and [`Duty::unable`].
    Told(&'static str),
    /// It is to end.
    Draining,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| (share * 100.0).round();
        match self {
            Self::Well => f.write_str("all is well"),
            Self::Full(Occupancy { of, share }) => write!(f, "{of} at {} %", percent(*share)),
            Self::Last(Occupancy { of, share }) => {
                write!(f, "{of} at {} %, and no other node could take the clients", percent(*share))
            }
            Self::Told(words) => f.write_str(words),
            Self::Draining => f.write_str("it is to end"),
        }
    }
}

impl Why {
    /// It says the same, but for numbers.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Told(one), Self::Told(another)) => one == another,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// A verdict, or its reason, that differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Counts changes of this node since its start, from 1: a refusal names the one that it is due to.
    pub number: u64,
    /// Before.
    pub from: Verdict,
    /// From now on.
    pub to: Verdict,
    /// Its reason.
    pub why: Why,
    /// What was measured then.
    pub load: Load,
    /// When, in microseconds.
    pub at_us: u64,
}

/// Judges a node again and again.
#[derive(Clone, Debug)]
pub struct Judge {
    marks: Marks,
    rungs: [Water; 3],
    panic_memory: Water,
    panic_connections: Water,
    verdict: Verdict,
    why: Why,
    changes: u64,
}

impl Judge {
    /// A node that has just started, and is in no DNS yet.
    #[must_use]
    pub fn new(marks: Marks) -> Self {
        Self {
            marks,
            rungs: [Water::default(); 3],
            panic_memory: Water::default(),
            panic_connections: Water::default(),
            verdict: Verdict::default(),
            why: Why::Well,
            changes: 0,
        }
    }

    /// Other marks hold from now on. Who is above one stays so until it is below the new low mark.
    pub fn set_marks(&mut self, marks: Marks) {
        self.marks = marks;
    }

    /// The last verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Its reason.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }

    /// Of how many changes it is the result.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Judges by what was measured at `now_us`; answers what changed, if anything did.
    pub fn look(&mut self, now_us: u64, load: &Load, duty: &Duty) -> Option<Change> {
        let full = load.occupancy();
        for (water, mark) in self.rungs.iter_mut().zip(&self.marks.rungs) {
            water.note(mark, full.share, now_us);
        }
        let memory = load.share_of(Resource::Memory).unwrap_or(0.0);
        self.panic_memory.note(&self.marks.panic_memory, memory, now_us);
        self.panic_connections.note(&self.marks.panic_connections, load.connections.share(), now_us);
        let (verdict, why) = self.verdict_of(full, duty);
        let from = std::mem::replace(&mut self.verdict, verdict);
        let before = std::mem::replace(&mut self.why, why);
        if from == verdict && before.is_like(&why) {
            return None;
        }
        self.changes += 1;
        Some(Change { number: self.changes, from, to: verdict, why, load: *load, at_us: now_us })
    }

    /// The decision itself.
    fn verdict_of(&self, full: Occupancy, duty: &Duty) -> (Verdict, Why) {
        let above = self.rungs.iter().filter(|water| water.is_above()).count();
        let wanted = Rung::ALL[above];
        // What nobody else could do goes on here.
        let rung = match wanted {
            Rung::NoNewDocuments if !duty.others_serve => Rung::Thrifty,
            rung => rung,
        };
        let refuses =
            |state| Verdict { state, rung: Rung::NoNewConnections, wants_out: true, is_in_dns: false };
        if duty.is_draining {
            // Resolvers know its address for a while: who comes by it is served as long as there is room.
            return (Verdict { rung, ..refuses(State::Draining) }, Why::Draining);
        }
        if let Some(words) = duty.unable {
            return (refuses(State::Overloaded), Why::Told(words));
        }
        let wants_out = duty.ill.is_some() || rung == Rung::NoNewConnections;
        if wants_out && duty.leave == Leave::May {
            return (refuses(State::Overloaded), duty.ill.map_or(Why::Full(full), Why::Told));
        }
        if wants_out && duty.leave == Leave::Unasked {
            let most = if duty.others_serve { Rung::NoNewDocuments } else { Rung::Thrifty };
            let rung = rung.min(most);
            let verdict = Verdict { state: State::Degraded, rung, wants_out, is_in_dns: true };
            return (verdict, duty.ill.map_or(Why::Full(full), Why::Told));
        }
        if wants_out {
            // Who could not stay is still the only one there is: it stays in DNS, and new clients wait. A connection that ends makes
            // room for one: that is not decided here, look by look.
            let (state, rung) = match (self.panic_memory.is_above(), self.panic_connections.is_above()) {
                (true, _) => (State::Overloaded, Rung::NoNewConnections),
                (false, true) => (State::Overloaded, Rung::Thrifty),
                (false, false) => (State::Degraded, Rung::Thrifty),
            };
            let why = duty.ill.map_or(Why::Last(full), Why::Told);
            return (Verdict { state, rung, wants_out, is_in_dns: duty.leave != Leave::Kept }, why);
        }
        let state =
            if rung > Rung::Serving || duty.lacks.is_some() { State::Degraded } else { State::Healthy };
        let why = match duty.lacks {
            Some(words) => Why::Told(words),
            None if rung > Rung::Serving => Why::Full(full),
            None => Why::Well,
        };
        (Verdict { state, rung, wants_out, is_in_dns: true }, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    fn judge() -> Judge {
        Judge::new(Marks::new(0.8, 0.7, 10 * SECOND))
    }

    fn connections(percent: u64) -> Load {
        Load {
            connections: Part { used: percent, limit: 100 },
            memory: Some(Part { used: 1, limit: 100 }),
            cpu: Some(0.1),
        }
    }

    fn memory(percent: u64) -> Load {
        Load { memory: Some(Part { used: percent, limit: 100 }), ..connections(10) }
    }

    const OTHERS: Duty = Duty {
        is_draining: false,
        unable: None,
        ill: None,
        lacks: None,
        leave: Leave::May,
        others_serve: true,
    };
    const ALONE: Duty = Duty { leave: Leave::Stay, others_serve: false, ..OTHERS };

    #[test]
    fn a_node_that_fills_gives_up_more_and_more_and_takes_it_back() {
        let mut judge = judge();
        judge.look(0, &connections(10), &OTHERS);
        let mut at = |seconds: u64, percent| {
            judge.look(seconds * SECOND, &connections(percent), &OTHERS);
            let Verdict { state, rung, is_in_dns, .. } = judge.verdict();
            (state, rung, is_in_dns)
        };
        assert_eq!(at(1, 69), (State::Healthy, Rung::Serving, true));
        assert_eq!(at(2, 70), (State::Degraded, Rung::Thrifty, true));
        assert_eq!(at(3, 75), (State::Degraded, Rung::NoNewDocuments, true));
        assert_eq!(at(4, 80), (State::Overloaded, Rung::NoNewConnections, false));
        assert_eq!(at(5, 66), (State::Overloaded, Rung::NoNewConnections, false), "not for long enough");
        assert_eq!(at(15, 66), (State::Degraded, Rung::NoNewDocuments, true));
        assert_eq!(at(16, 10), (State::Degraded, Rung::NoNewDocuments, true));
        assert_eq!(at(26, 10), (State::Healthy, Rung::Serving, true));
    }

    #[test]
    fn what_there_is_least_of_counts_and_is_named() {
        let mut judge = judge();
        judge.look(0, &connections(1), &OTHERS);
        let change = judge.look(SECOND, &memory(85), &OTHERS).unwrap();
        assert_eq!(change.why.to_string(), "memory at 85 %");
        assert_eq!((change.number, change.to.state), (2, State::Overloaded));
        let busy = Load { cpu: Some(0.9), ..connections(10) };
        let mut judge = self::judge();
        assert_eq!(judge.look(0, &busy, &OTHERS).unwrap().why.to_string(), "cpu at 90 %");
    }

    #[test]
    fn a_node_by_itself_opens_documents_as_long_as_it_can() {
        let mut judge = judge();
        for percent in [75, 79, 80, 94] {
            judge.look(0, &memory(percent), &ALONE);
            assert_eq!(judge.verdict().rung, Rung::Thrifty, "{percent}");
        }
    }

    #[test]
    fn the_last_node_stays_until_it_is_at_its_end() {
        let mut judge = judge();
        judge.look(0, &connections(85), &ALONE);
        let stays = Verdict { state: State::Degraded, rung: Rung::Thrifty, wants_out: true, is_in_dns: true };
        assert_eq!(judge.verdict(), stays);
        judge.look(SECOND, &memory(94), &ALONE);
        assert_eq!(judge.verdict(), stays);
        let busy = Load { cpu: Some(1.0), ..connections(99) };
        judge.look(SECOND, &busy, &ALONE);
        assert_eq!(judge.verdict(), stays, "a busy processor alone is no end");
        for (load, expected) in [(connections(100), Rung::Thrifty), (memory(95), Rung::NoNewConnections)] {
            judge.look(2 * SECOND, &load, &ALONE);
            let Verdict { state, rung, is_in_dns, .. } = judge.verdict();
            assert_eq!((state, rung, is_in_dns), (State::Overloaded, expected, true), "{load:?}");
        }
        // Somebody else came.
        judge.look(3 * SECOND, &memory(94), &OTHERS);
        assert!(!judge.verdict().is_in_dns);
    }

    #[test]
    fn who_is_kept_in_the_name_serves_as_the_last_one_and_leaves_once_it_can() {
        let mut judge = judge();
        let kept = Duty { leave: Leave::Kept, ..OTHERS };
        let serves =
            Verdict { state: State::Degraded, rung: Rung::Thrifty, wants_out: true, is_in_dns: false };
        judge.look(0, &connections(85), &kept);
        assert_eq!(judge.verdict(), serves);
        judge.look(0, &memory(95), &kept);
        assert_eq!(judge.verdict().rung, Rung::NoNewConnections);
        judge.look(20 * SECOND, &connections(85), &kept);
        judge.look(40 * SECOND, &connections(85), &kept);
        assert_eq!(judge.verdict(), serves);
        judge.look(41 * SECOND, &connections(85), &OTHERS);
        assert_eq!(judge.verdict().rung, Rung::NoNewConnections);
        judge.look(42 * SECOND, &connections(1), &kept);
        judge.look(60 * SECOND, &connections(1), &kept);
        assert!(judge.verdict().is_in_dns, "it is well again");
    }

    #[test]
    fn who_is_ill_leaves_if_others_are_well() {
        let mut judge = judge();
        let ill = Duty { ill: Some("data-1 is 3 s behind"), ..OTHERS };
        let change = judge.look(0, &connections(1), &ill).unwrap();
        assert_eq!((change.to.state, change.to.is_in_dns), (State::Overloaded, false));
        assert_eq!(change.why.to_string(), "data-1 is 3 s behind");
        judge.look(1, &connections(1), &Duty { leave: Leave::Stay, ..ill });
        assert_eq!((judge.verdict().state, judge.verdict().is_in_dns), (State::Degraded, true));
    }

    #[test]
    fn who_cannot_serve_or_ends_is_out_whatever_the_pool_says() {
        let unable = Duty { unable: Some("no key to check tokens with"), ..ALONE };
        let draining = Duty { is_draining: true, ..unable };
        for (duty, percent, state, rung) in [
            (unable, 1, State::Overloaded, Rung::NoNewConnections),
            (draining, 1, State::Draining, Rung::Serving),
            (draining, 80, State::Draining, Rung::NoNewConnections),
        ] {
            let mut judge = judge();
            judge.look(0, &connections(percent), &duty);
            assert_eq!(judge.verdict(), Verdict { state, rung, wants_out: true, is_in_dns: false });
        }
    }

    #[test]
    fn who_waits_for_the_pools_word_takes_no_new_documents_meanwhile() {
        let mut judge = judge();
        let unasked = Duty { leave: Leave::Unasked, ..OTHERS };
        for percent in [79, 80, 100] {
            judge.look(0, &connections(percent), &unasked);
            let asks = Verdict {
                state: State::Degraded,
                rung: Rung::NoNewDocuments,
                wants_out: percent > 79,
                is_in_dns: true,
            };
            assert_eq!(judge.verdict(), asks);
        }
        assert_eq!(judge.changes(), 2);
        judge.look(0, &connections(80), &OTHERS);
        assert_eq!(judge.verdict().rung, Rung::NoNewConnections);
    }

    #[test]
    fn another_reason_is_a_change_and_another_number_is_none() {
        let mut judge = judge();
        let lacks = |words| Duty { lacks: Some(words), ..OTHERS };
        assert!(judge.look(0, &connections(1), &lacks("one thing")).is_some());
        assert_eq!(judge.look(1, &connections(2), &lacks("one thing")), None);
        let change = judge.look(2, &connections(2), &lacks("another")).unwrap();
        assert_eq!((change.from, change.why), (change.to, Why::Told("another")));
    }

    #[test]
    fn something_away_is_degraded_and_no_more() {
        let mut judge = judge();
        judge.look(0, &connections(1), &Duty { lacks: Some("the registry is out of reach"), ..OTHERS });
        assert_eq!((judge.verdict().state, judge.verdict().rung), (State::Degraded, Rung::Serving));
        let change = judge.look(1, &connections(1), &OTHERS).unwrap();
        assert_eq!((change.to.state, change.why), (State::Healthy, Why::Well));
        assert_eq!(judge.look(2, &connections(1), &OTHERS), None);
    }

    proptest! {
        #[test]
        fn a_node_that_oscillates_leaves_dns_at_most_once_a_dwell(
            percents in prop::collection::vec(0_u64..100, 1..300), step_us in SECOND / 10..3 * SECOND,
        ) {
            let (mut judge, mut now_us, mut back_us) = (judge(), 0, None::<u64>);
            judge.look(0, &connections(0), &OTHERS);
            for percent in percents {
                now_us += step_us;
                if let Some(change) = judge.look(now_us, &connections(percent), &OTHERS)
                    && change.from.is_in_dns != change.to.is_in_dns
                    && change.to.is_in_dns
                {
                    prop_assert!(back_us.is_none_or(|before| now_us - before >= 10 * SECOND));
                    back_us = Some(now_us);
                }
                let is_out = judge.verdict().rung == Rung::NoNewConnections;
                prop_assert_eq!(is_out, !judge.verdict().is_in_dns);
                prop_assert!(is_out || percent < 80);
            }
        }
    }
}

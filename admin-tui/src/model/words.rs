//! What a node says of how it stands, in words: why it does what it does, how full it is of what, its drain, its region's name.

use pinwire_admin_api::node::{Dns, Drain, DrainStage, Node, Status};
use pinwire_admin_api::standing::{Part, Reach, Rung, Standing};

use super::events::millis;
use super::{Millis, NodeState, State};
use crate::format;

/// Low and high water where a node does not tell its own.
pub const WATER: (f64, f64) = (0.7, 0.8);
/// Whoever changes a region's name needs a while: what is wanted and not so after this is told.
const NAME_TAKES: Millis = 60_000;

impl NodeState {
    /// What it says of itself.
    #[must_use]
    pub fn told(&self) -> Option<&Node> {
        self.seen().map(|seen| &seen.node)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Option<&Standing> {
        self.told()?.standing.as_ref()
    }

    /// How full it is: what it says, or its connections by its limit.
    #[must_use]
    pub fn occupancy(&self) -> Option<f64> {
        let told = self.told()?;
        let of_connections = || {
            let most = f64::from(told.max_connections);
            (most > 0.0).then(|| told.totals.connections as f64 / most)
        };
        self.standing().map(|standing| standing.occupancy).or_else(of_connections)
    }

    /// Its low and high water.
    #[must_use]
    pub fn water(&self) -> (f64, f64) {
        self.standing().map_or(WATER, |standing| (standing.low_water, standing.high_water))
    }

    /// Why it does not do everything; missing while it does.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        let standing = self.standing()?;
        let is_all = self.told()?.status == Status::Healthy && standing.rung == Rung::Serving;
        (!is_all).then_some(standing.cause.as_str())
    }

    /// Its drain in words.
    #[must_use]
    pub fn drain(&self, now: Millis) -> Option<String> {
        let told = self.told()?;
        told.drain.as_ref().map(|drain| of_drain(drain, told.totals.connections, now))
    }
}

/// What a node still does, in a word.
#[must_use]
pub fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Serving => "serving",
        Rung::Thrifty => "thrifty",
        Rung::NoNewDocuments => "no new documents",
        Rung::NoNewConnections => "no new connections",
    }
}

/// Where a node is on its way out, in a word.
#[must_use]
pub fn stage(stage: DrainStage) -> &'static str {
    match stage {
        DrainStage::LeavingDns => "leaving DNS",
        DrainStage::Leaving => "out of DNS",
        DrainStage::Closing => "closing",
        DrainStage::Drained => "drained",
    }
}

/// Whether a node is in its region's name, in a word.
#[must_use]
pub fn dns(dns: &Dns) -> (State, &'static str) {
    match (dns.failing.is_some(), dns.wants_in, dns.is_in) {
        (true, ..) => (State::Bad, "failing"),
        (_, true, Some(true)) => (State::Good, "in"),
        (_, false, Some(false)) => (State::Leaving, "out"),
        (_, true, Some(false)) => (State::Doubtful, "entering"),
        (_, false, Some(true)) if dns.is_kept => (State::Doubtful, "kept"),
        (_, false, Some(true)) => (State::Leaving, "leaving"),
        (.., None) => (State::Unknown, "unknown"),
    }
}

/// How full of each thing.
#[must_use]
pub fn parts(standing: &Standing) -> String {
    standing.parts.iter().map(part).collect::<Vec<_>>().join("  ")
}

fn part(part: &Part) -> String {
    let share = format::share(part.share);
    match part.used.zip(part.limit) {
        Some((used, limit)) if part.resource == "memory" => {
            let (used, limit) = (format::bytes(used as f64), format::bytes(limit as f64));
            format!("{} {share} ({used} of {limit})", part.resource)
        }
        Some((used, limit)) => format!("{} {share} ({used} of {limit})", part.resource),
        None => format!("{} {share}", part.resource),
    }
}

fn of_drain(drain: &Drain, left: u64, now: Millis) -> String {
    let before = drain.connections_before;
    let until = drain.deadline.as_deref().and_then(millis).map_or_else(String::new, |deadline| {
        format!(", over in {} at the latest", format::age(deadline.saturating_sub(now)))
    });
    let left = match drain.carried {
        0 => left.to_string(),
        carried => format!("{left} (and {carried} of other regions)"),
    };
    match drain.stage {
        DrainStage::LeavingDns => format!("its addresses leave DNS; {left} connections"),
        DrainStage::Leaving => format!("out of DNS, still takes who comes; {left} connections{until}"),
        DrainStage::Closing => format!("{left} of {before} connections are left{until}"),
        DrainStage::Drained => format!("over; {left} of {before} connections are left"),
    }
}

/// What is wrong with how a node stands.
pub(super) fn wrong(node: &NodeState, now: Millis, say: &mut impl FnMut(State, String)) {
    let Some(told) = node.told() else { return };
    of_status(node, told.status, now, say);
    if let Some(standing) = &told.standing {
        of_standing(standing, told.status, say);
    }
    if let Some(dns) = &told.dns {
        of_dns(dns, now, say);
    }
}

fn of_status(node: &NodeState, status: Status, now: Millis, say: &mut impl FnMut(State, String)) {
    let why = node.cause().map_or_else(String::new, |cause| format!(": {cause}"));
    let full = node.occupancy().map_or_else(String::new, |share| format!("{} full", format::share(share)));
    match status {
        Status::Healthy if node.occupancy().is_some_and(|share| share >= node.water().1) => {
            say(State::Doubtful, format!("is {full}{why}"));
        }
        Status::Healthy => {}
        Status::Degraded => {
            say(State::Doubtful, format!("is degraded{why}: something it relies on is away"));
        }
        Status::Overloaded => {
            let why = node.cause().map_or(full, str::to_owned);
            let name = node.told().and_then(|told| told.dns.as_ref()).map_or_else(String::new, |name| {
                let (_, word) = dns(name);
                format!(", DNS {word}")
            });
            say(State::Bad, format!("is overloaded, {why}{name}: takes no new clients until load falls"));
        }
        Status::Draining => {
            let left = node.told().map_or(0, |told| told.totals.connections);
            let how = node.drain(now).unwrap_or_else(|| format!("{left} connections are left"));
            say(State::Leaving, format!("drains: {how}"));
        }
    }
}

fn of_standing(standing: &Standing, status: Status, say: &mut impl FnMut(State, String)) {
    let what = match standing.rung {
        Rung::Serving | Rung::NoNewConnections => None,
        Rung::Thrifty => Some("gathers presence for longer before it goes out"),
        Rung::NoNewDocuments => Some("leaves documents that nobody has open here to other nodes"),
    };
    if let Some(what) = what {
        say(State::Doubtful, format!("{what}: {}", standing.cause));
    }
    if standing.is_last && status != Status::Healthy {
        let text = "stays in its region's name: no other node could take its clients";
        say(State::Doubtful, text.into());
    }
    if standing.pool.reach == Reach::Lost {
        let why = standing.pool.error.as_deref().unwrap_or("no reason is known");
        say(State::Doubtful, format!("does not reach the pool of its region's nodes: {why}"));
    }
}

fn of_dns(dns: &Dns, now: Millis, say: &mut impl FnMut(State, String)) {
    if let Some(failing) = &dns.failing {
        let since = failing.since.as_deref().and_then(millis);
        let long =
            since.map_or_else(String::new, |at| format!(" for {}", format::age(now.saturating_sub(at))));
        let (name, provider, error) = (&dns.name, &dns.provider, &failing.error);
        say(
            State::Bad,
            format!("cannot keep {name} ({provider}){long}, tried {} times: {error}", failing.attempts),
        );
        return;
    }
    let since = millis(&dns.since).unwrap_or(now);
    if now.saturating_sub(since) < NAME_TAKES {
        return;
    }
    match dns.is_in {
        Some(false) if dns.wants_in => {
            say(State::Doubtful, format!("is not in {} yet, though it belongs there: {}", dns.name, dns.why));
        }
        Some(true) if dns.is_kept => {
            say(State::Doubtful, format!("is kept in {}, since too few others are: {}", dns.name, dns.why));
        }
        Some(true) if !dns.wants_in => {
            say(State::Doubtful, format!("is still in {}, and wants out: {}", dns.name, dns.why));
        }
        _ => {}
    }
}

//! Regions as all nodes together see them, and round trips between them.

use std::collections::BTreeMap;

use super::{Millis, Model, State};

/// What a node has said of regions is believed for so long.
const BELIEVED: Millis = 15_000;

/// A region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionState {
    /// Its name.
    pub name: String,
    /// Where it is, for people.
    pub area: Option<String>,
    /// `live`, `maintenance`, `coming-soon`; missing where nobody says.
    pub status: Option<String>,
    /// How others see it, each with who: the worst first.
    pub seen: Vec<(String, String)>,
    /// Nodes that are watched, and those of them whose numbers are fresh.
    pub nodes: usize,
    /// Those.
    pub live: usize,
    /// Nodes that registries know.
    pub known: usize,
    /// The worst of its nodes.
    pub worst: Option<State>,
    /// Connections.
    pub connections: u64,
    /// Active documents.
    pub documents: u64,
    /// The fullest of its nodes, or what others were told, from 0 to 1.
    pub occupancy: Option<f64>,
    /// Messages in a second, in and out.
    pub messages: f64,
    /// Milliseconds to it and back: the least of what others measure.
    pub round_trip: Option<f64>,
}

impl RegionState {
    /// How it stands, and the word for it.
    #[must_use]
    pub fn state(&self) -> (State, &str) {
        if self.nodes > 0 && self.live == 0 {
            return (State::Bad, "no node reached");
        }
        let told = self.seen.first().map_or("", |(health, _)| health.as_str());
        match (told, self.worst) {
            ("unreachable", _) => (State::Bad, "unreachable"),
            ("overloaded", _) => (State::Bad, "overloaded"),
            ("draining", _) => (State::Leaving, "draining"),
            ("degraded", _) => (State::Doubtful, "degraded"),
            (_, Some(State::Bad)) if self.live < self.nodes => (State::Bad, "a node is lost"),
            (_, Some(State::Bad)) => (State::Bad, "overloaded"),
            (_, Some(State::Doubtful)) => (State::Doubtful, "degraded"),
            (_, Some(State::Leaving)) => (State::Leaving, "draining"),
            _ => match self.status.as_deref() {
                Some("maintenance") => (State::Leaving, "maintenance"),
                Some("coming-soon") => (State::Unknown, "coming soon"),
                _ if told.is_empty() && self.nodes == 0 => (State::Unknown, "unknown"),
                _ => (State::Good, "healthy"),
            },
        }
    }
}

/// How bad a word for a region's health is.
fn weight(health: &str) -> u8 {
    match health {
        "unreachable" => 4,
        "overloaded" => 3,
        "draining" => 2,
        "degraded" => 1,
        _ => 0,
    }
}

/// All regions, by name.
#[must_use]
pub fn regions(model: &Model, now: Millis) -> Vec<RegionState> {
    let mut regions: BTreeMap<String, RegionState> = BTreeMap::new();
    fn of<'map>(regions: &'map mut BTreeMap<String, RegionState>, name: &str) -> &'map mut RegionState {
        regions
            .entry(name.to_owned())
            .or_insert_with(|| RegionState { name: name.to_owned(), ..RegionState::default() })
    }
    for known in model.known().map_or(&[][..], |known| &known.nodes) {
        of(&mut regions, &known.region).known += 1;
    }
    for (_, node) in model.nodes() {
        if let Some(name) = node.region() {
            let region = of(&mut regions, name);
            region.nodes += 1;
            region.live += usize::from(!node.is_stale(now));
            region.worst = region.worst.max(Some(node.state(now).0));
            if let Some(seen) = node.seen() {
                region.connections += seen.node.totals.connections;
                region.documents += seen.node.totals.documents;
            }
            let load = node.load();
            region.messages += load.received.unwrap_or(0.0) + load.sent.unwrap_or(0.0);
            region.occupancy = most(region.occupancy, node.occupancy());
        }
        let own = node.region().unwrap_or_default().to_owned();
        let Some((told, _)) = node.regions.as_ref().filter(|(_, at)| now.saturating_sub(*at) < BELIEVED)
        else {
            continue;
        };
        for seen in &told.regions {
            let region = of(&mut regions, &seen.name);
            region.area = region.area.take().or_else(|| seen.area.clone());
            region.status = Some(seen.status.clone());
            if seen.name != own {
                if let Some(health) = &seen.health {
                    region.seen.push((health.clone(), own.clone()));
                }
                region.round_trip = least(region.round_trip, seen.round_trip_ms);
            }
            region.occupancy = region.occupancy.or(seen.occupancy);
        }
    }
    for region in regions.values_mut() {
        region.seen.sort_by_key(|(health, by)| (u8::MAX - weight(health), by.clone()));
        region.seen.dedup();
    }
    regions.into_values().collect()
}

fn most(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Round trips in milliseconds, from each region (first) to each (second): the least that a node of it measures.
#[must_use]
pub fn latencies(model: &Model, now: Millis) -> BTreeMap<(String, String), f64> {
    let mut found: BTreeMap<(String, String), f64> = BTreeMap::new();
    for (_, node) in model.nodes() {
        let Some(from) = node.region() else { continue };
        let Some((told, _)) = node.regions.as_ref().filter(|(_, at)| now.saturating_sub(*at) < BELIEVED)
        else {
            continue;
        };
        for seen in told.regions.iter().filter(|seen| seen.name != from) {
            let Some(time) = seen.round_trip_ms else { continue };
            let kept = found.entry((from.to_owned(), seen.name.clone())).or_insert(time);
            *kept = kept.min(time);
        }
    }
    found
}

//! All that is known: regions, incidents, notices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::notice::is_name;
use crate::{
    At, DAY, INCIDENTS_MAX, Incident, KEPT_DAYS, Notices, Pace, REGIONS_MAX, Region, Report, State, Update,
    View,
};

/// Bytes of what is said of a region.
const WORDS_MAX: usize = 300;

/// What a board came to believe: what boards of the same region share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Since when there is a history.
    pub since: At,
    /// Regions by name.
    pub regions: BTreeMap<String, Region>,
    /// The oldest first.
    pub incidents: Vec<Incident>,
}

/// See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Board {
    pace: Pace,
    history: History,
    /// Maintenance that was announced.
    pub notices: Notices,
}

impl Board {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: At, pace: Pace) -> Self {
        let history = History { since: now, ..History::default() };
        Self { pace, history, notices: Notices::default() }
    }

    /// What it came to believe.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Believes what another board came to believe, instead of what it did itself. What is seen and not believed yet has to be seen
    /// anew.
    pub fn adopt(&mut self, now: At, mut history: History) {
        history.regions.retain(|name, _| is_name(name));
        while history.regions.len() > REGIONS_MAX {
            history.regions.pop_last();
        }
        let mut open = Vec::new();
        // The last of several that go on in one region is the one that goes on.
        for incident in history.incidents.iter_mut().rev().filter(|incident| incident.is_open()) {
            let region = history.regions.get(&incident.region);
            let is_ill = region.and_then(|region| region.state).is_some_and(State::is_incident);
            if open.contains(&incident.region) || !is_ill {
                incident.ended = Some(incident.updated());
            } else {
                open.push(incident.region.clone());
            }
        }
        self.history = history;
        self.tidy(now);
    }

    /// Takes down how a region looks; true if something is believed that was not before. Where maintenance of it was announced, that is
    /// how it is.
    pub fn look(&mut self, now: At, region: &str, state: State, words: &str) -> bool {
        let regions = &mut self.history.regions;
        if !is_name(region) || (regions.len() >= REGIONS_MAX && !regions.contains_key(region)) {
            return false;
        }
        let planned = self.notices.covering(region, now).map(|notice| notice.told.title.as_str());
        let state = planned.map_or(state, |_| State::Maintenance);
        let words = planned.unwrap_or(cut(words));
        let known = regions.entry(region.to_owned()).or_default();
        if !known.look(now, state, words, self.pace) {
            return false;
        }
        let update = Update { at: now, state: known.state.unwrap_or(state), text: known.words.clone() };
        self.changed(region, update);
        self.tidy(now);
        true
    }

    fn changed(&mut self, region: &str, update: Update) {
        match (self.open_mut(region), update.state.is_incident()) {
            (Some(incident), true) => incident.add(update),
            (Some(incident), false) => incident.end(update),
            (None, true) => {
                let id = self.free_id(region, update.at);
                self.history.incidents.push(Incident::open(id, region, update));
            }
            (None, false) => {}
        }
    }

    fn open_mut(&mut self, region: &str) -> Option<&mut Incident> {
        self.history.incidents.iter_mut().rfind(|incident| incident.is_open() && incident.region == region)
    }

    /// Names the region and the time; also a number where a clock that was set back made both the same as before.
    fn free_id(&self, region: &str, at: At) -> String {
        let is_taken = |id: &str| self.history.incidents.iter().any(|incident| incident.id == id);
        let plain = format!("{region}-{}", at.seconds());
        (1_u32..)
            .map(|number| if number == 1 { plain.clone() } else { format!("{plain}-{number}") })
            .find(|id| !is_taken(id))
            .unwrap_or(plain)
    }

    /// From now on there are these regions: of others nothing is believed any more, and their incidents end. True if there were such.
    pub fn know_only(&mut self, now: At, regions: &[&str]) -> bool {
        let before = self.history.regions.len();
        let gone = |name: &str| !regions.contains(&name);
        self.history.regions.retain(|name, _| !gone(name));
        for incident in self.history.incidents.iter_mut().filter(|one| one.is_open() && gone(&one.region)) {
            let text = "It is none of the regions any more.".to_owned();
            incident.end(Update { at: now, state: State::Operational, text });
        }
        self.history.regions.len() != before
    }

    /// Forgets what is over for long enough, and what there is too much of.
    pub fn tidy(&mut self, now: At) {
        self.notices.tidy(now);
        let incidents = &mut self.history.incidents;
        incidents.retain(|incident| incident.ended.is_none_or(|ended| now.since(ended) < KEPT_DAYS * DAY));
        let mut surplus =
            incidents.iter().filter(|incident| !incident.is_open()).count().saturating_sub(INCIDENTS_MAX);
        incidents.retain(|incident| {
            let goes = surplus > 0 && !incident.is_open();
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// What is shown of it now.
    #[must_use]
    pub fn report(&self, now: At, view: &View) -> Report {
        Report::of(self, now, view)
    }
}

fn cut(words: &str) -> &str {
    &words[..words.floor_char_boundary(WORDS_MAX)]
}

//! What is shown of a board: the same in JSON, in the feed and on the page.

use serde::{Deserialize, Serialize};

use crate::{Announcement, At, Board, Incident, Notice, Phase, State, Update};

/// Who shows the board, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What the service is called.
    pub title: String,
    /// The region that this is seen from.
    pub seen_from: String,
    /// Where whoever has a question turns to: a URL, or empty.
    pub contact: String,
    /// Where it is published, without a slash at the end, as in `https://status.example.net`.
    pub url: String,
    /// The regions, in the order in which they are shown.
    pub places: Vec<Place>,
    /// Where the history comes from.
    pub kept: Kept,
}

/// A region to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As in `eu-central-1`.
    pub name: String,
    /// Where it is, for people.
    pub area: Option<String>,
}

/// Where a history comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// The nodes of the region share it.
    Shared,
    /// This node's own, which is alone.
    #[default]
    Own,
    /// This node's own, since the region's is out of reach.
    Apart,
}

/// All that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the service is called.
    pub title: String,
    /// The worst state of a region; `null` where nothing is known yet.
    pub state: Option<State>,
    /// The region that this is seen from.
    pub seen_from: String,
    /// Where the history comes from.
    pub history: Kept,
    /// When something changed last.
    pub updated: At,
    /// Where whoever has a question turns to.
    pub contact: Option<String>,
    /// Where it is published.
    #[serde(skip)]
    pub url: String,
    /// All regions.
    pub regions: Vec<RegionShown>,
    /// Incidents, the newest first.
    pub incidents: Vec<IncidentShown>,
    /// Maintenance, what begins last first.
    pub maintenance: Vec<Maintenance>,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionShown {
    /// As in `eu-central-1`.
    pub name: String,
    /// Where it is, for people.
    pub area: Option<String>,
    /// How it is; `null` where that is not known yet.
    pub state: Option<State>,
    /// Since when.
    pub since: Option<At>,
    /// What is to be said of it.
    pub text: String,
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentShown {
    /// The worst that the region was.
    pub impact: State,
    /// The rest.
    #[serde(flatten)]
    pub incident: Incident,
}

/// Maintenance. Other regions read it here and show it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// The same in all regions, and for all revisions.
    pub id: String,
    /// Of two the higher one holds.
    pub revision: u64,
    /// When this revision was made.
    pub revised: At,
    /// When it can be forgotten.
    pub kept_until: At,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it says.
    #[serde(flatten)]
    pub told: Announcement,
}

impl Maintenance {
    /// A notice as it is shown.
    #[must_use]
    pub fn of(notice: &Notice, now: At) -> Self {
        Self {
            id: notice.id.clone(),
            revision: notice.revision,
            revised: notice.revised,
            kept_until: notice.kept_until,
            phase: notice.phase(now),
            told: notice.told.clone(),
        }
    }
}

impl From<Maintenance> for Notice {
    fn from(shown: Maintenance) -> Self {
        let Maintenance { id, revision, revised, kept_until, phase, told } = shown;
        Self { id, revision, revised, kept_until, is_withdrawn: phase == Phase::Withdrawn, told }
    }
}

impl Report {
    pub(crate) fn of(board: &Board, now: At, view: &View) -> Self {
        let history = board.history();
        let regions: Vec<RegionShown> =
            view.places.iter().map(|place| RegionShown::of(board, now, place)).collect();
        let show =
            |incident: &Incident| IncidentShown { impact: incident.impact(), incident: incident.clone() };
        let mut incidents: Vec<IncidentShown> = history.incidents.iter().map(show).collect();
        incidents.sort_by(|one, other| {
            (other.incident.began, &other.incident.id).cmp(&(one.incident.began, &one.incident.id))
        });
        let mut maintenance: Vec<Maintenance> =
            board.notices.iter().map(|notice| Maintenance::of(notice, now)).collect();
        maintenance.sort_by(|one, other| (other.told.from, &other.id).cmp(&(one.told.from, &one.id)));
        let changes = regions.iter().filter_map(|region| region.since);
        let changes = changes.chain(incidents.iter().map(|shown| shown.incident.updated()));
        let changes = changes.chain(maintenance.iter().map(|shown| shown.revised));
        Self {
            title: view.title.clone(),
            state: regions.iter().filter_map(|region| region.state).max(),
            seen_from: view.seen_from.clone(),
            history: view.kept,
            updated: changes.fold(history.since, At::max),
            contact: Some(view.contact.clone()).filter(|contact| !contact.is_empty()),
            url: view.url.clone(),
            regions,
            incidents,
            maintenance,
        }
    }

    /// In JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Nothing in it can fail: keys are texts.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Incidents that go on.
    pub fn open(&self) -> impl Iterator<Item = &IncidentShown> {
        self.incidents.iter().filter(|shown| shown.incident.is_open())
    }
}

impl RegionShown {
    fn of(board: &Board, now: At, place: &Place) -> Self {
        let known = board.history().regions.get(&place.name);
        let shown = Self {
            name: place.name.clone(),
            area: place.area.clone(),
            state: known.and_then(|known| known.state),
            since: known.filter(|known| known.state.is_some()).map(|known| known.since),
            text: known.map(|known| known.words.clone()).unwrap_or_default(),
        };
        // Nobody needs to have looked since it began.
        match board.notices.covering(&place.name, now) {
            Some(notice) if shown.state != Some(State::Maintenance) => Self {
                state: Some(State::Maintenance),
                since: Some(notice.told.from.max(notice.revised).min(now)),
                text: notice.told.title.clone(),
                ..shown
            },
            _ => shown,
        }
    }
}

impl Update {
    /// In one line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        match self.text.is_empty() {
            true => format!("{}.", self.state.title()),
            false => format!("{}: {}", self.state.title(), self.text),
        }
    }
}

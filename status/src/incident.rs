//! Incidents: what a region's changes of state come to.

use serde::{Deserialize, Serialize};

use crate::{At, State};

/// Updates of an incident; beyond it those in the middle go, since the beginning and the end matter most.
const UPDATES_MAX: usize = 12;

/// A time in which a region was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Unique on the board that has it.
    pub id: String,
    /// Which region.
    pub region: String,
    /// When it began.
    pub began: At,
    /// When it ended; it goes on where that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<At>,
    /// What happened, the first at first.
    pub updates: Vec<Update>,
}

/// Something that happened in an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// When.
    pub at: At,
    /// How the region was from then on.
    pub state: State,
    /// In words.
    pub text: String,
}

impl Incident {
    pub(crate) fn open(id: String, region: &str, first: Update) -> Self {
        Self { id, region: region.to_owned(), began: first.at, ended: None, updates: vec![first] }
    }

    pub(crate) fn add(&mut self, mut update: Update) {
        // A clock that was set back does not turn the order round.
        update.at = update.at.max(self.updated());
        self.updates.push(update);
        if self.updates.len() > UPDATES_MAX {
            self.updates.remove(UPDATES_MAX / 2);
        }
    }

    pub(crate) fn end(&mut self, last: Update) {
        self.add(last);
        self.ended = Some(self.updated());
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// When something happened last.
    #[must_use]
    pub fn updated(&self) -> At {
        self.updates.iter().map(|update| update.at).fold(self.began, At::max)
    }

    /// The worst that the region was.
    #[must_use]
    pub fn impact(&self) -> State {
        self.updates.iter().map(|update| update.state).max().unwrap_or(State::Operational)
    }
}

//! Rows that are marked: what is asked for is then asked of all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::App;
use crate::list::{Rows, Target};
use crate::model::Millis;

/// Rows that can be marked in a view: what is done with them has to be read before it is confirmed.
const MARKS_MAX: usize = 256;

/// The marks of a view.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// What is marked, by the keys of rows.
    rows: BTreeMap<u64, Target>,
    /// What was marked last: a range begins there.
    last: Option<u64>,
}

impl Marks {
    /// Whether a row is marked.
    #[must_use]
    pub fn has(&self, key: Option<u64>) -> bool {
        key.is_some_and(|key| self.rows.contains_key(&key))
    }

    /// How many are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// None is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets rows that are not there any more.
    pub(super) fn keep(&mut self, rows: &dyn Rows) {
        if self.rows.is_empty() {
            return;
        }
        let keys = (0..rows.len()).filter_map(|row| rows.key(row));
        let there: BTreeSet<u64> = keys.filter(|key| self.rows.contains_key(key)).collect();
        self.rows.retain(|key, _| there.contains(key));
    }

    fn add(&mut self, key: u64, target: Target) -> bool {
        let has_room = self.rows.len() < MARKS_MAX || self.rows.contains_key(&key);
        if has_room {
            self.rows.insert(key, target);
            self.last = Some(key);
        }
        has_room
    }
}

impl App {
    /// The marks of the view that is shown.
    #[must_use]
    pub fn marks(&self) -> Option<&Marks> {
        self.marks.get(&self.screen.kind).filter(|marks| !marks.is_empty())
    }

    /// What is marked: what is shown first, in its order, and then what a filter hides.
    pub(super) fn marked(&self, now: Millis) -> Vec<Target> {
        let (Some(marks), Some(list)) = (self.marks(), self.list()) else { return Vec::new() };
        let rows = list.rows(&self.model, &self.screen.scope, now);
        let mut left = marks.rows.clone();
        let mut marked: Vec<Target> = self
            .rows()
            .iter()
            .filter_map(|row| rows.key(*row as usize))
            .filter_map(|key| left.remove(&key))
            .collect();
        marked.extend(left.into_values());
        marked
    }

    /// Marks the row that the cursor is on, or takes its mark away, and goes on to the next. False where rows have no marks.
    pub(super) fn mark(&mut self, now: Millis) -> bool {
        let Some((key, target)) = self.markable(self.pane().cursor, now) else { return false };
        let marks = self.marks.entry(self.screen.kind).or_default();
        let is_marked = marks.rows.remove(&key).is_some();
        if !is_marked && !marks.add(key, target) {
            self.say(format!("no more than {MARKS_MAX} rows are marked at once"), now);
            return true;
        }
        self.step(1);
        true
    }

    /// Marks all rows from the last one that was marked to the one that the cursor is on.
    pub(super) fn mark_range(&mut self, now: Millis) {
        let cursor = self.pane().cursor;
        if self.markable(cursor, now).is_none() {
            return self.say("rows of this view cannot be marked", now);
        }
        let last = self.marks().and_then(|marks| marks.last);
        let from = last.and_then(|last| self.place_of(last, now)).unwrap_or(cursor);
        // From the last mark on, so that where there are too many those next to it are marked.
        let places: Vec<usize> =
            if from <= cursor { (from..=cursor).collect() } else { (cursor..=from).rev().collect() };
        for place in places {
            let Some((key, target)) = self.markable(place, now) else { continue };
            if !self.marks.entry(self.screen.kind).or_default().add(key, target) {
                return self.say(format!("no more than {MARKS_MAX} rows are marked at once"), now);
            }
        }
    }

    /// Forgets the marks of this view.
    pub(super) fn unmark(&mut self) {
        self.marks.remove(&self.screen.kind);
    }

    fn markable(&self, place: usize, now: Millis) -> Option<(u64, Target)> {
        let row = *self.rows().get(place)? as usize;
        let rows = self.list()?.rows(&self.model, &self.screen.scope, now);
        Some((rows.key(row)?, rows.target(row)))
    }

    fn place_of(&self, key: u64, now: Millis) -> Option<usize> {
        let rows = self.list()?.rows(&self.model, &self.screen.scope, now);
        self.rows().iter().position(|row| rows.key(*row as usize) == Some(key))
    }
}

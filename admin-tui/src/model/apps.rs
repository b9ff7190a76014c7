//! Apps as all nodes together see them: what they use of their limits, and their records.

use std::collections::BTreeMap;

use pinwire_admin_api::apps::{App, RecordedApp};

use super::{Millis, Model};

/// Names an app: tenant and id.
pub type AppName = (String, String);

/// An app on all nodes that are watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppState {
    /// Nodes that have seen a token of it, by number.
    pub nodes: Vec<usize>,
    /// Its connections, of all nodes.
    pub connections: Used,
    /// Its documents: of each region those of the node that has most, since nodes of a region share theirs.
    pub documents: Used,
    /// Operations of this minute in the region that has most: they are limited for each region.
    pub operations: Used,
    /// Sessions that one document may have.
    pub max_users_per_document: Option<u32>,
}

/// What is used, and how much may be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Now.
    pub used: u64,
    /// At most.
    pub limit: Option<u32>,
}

impl Used {
    /// From 0, nothing, to 1, everything.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0).map(|limit| self.used as f64 / f64::from(limit))
    }
}

impl AppState {
    /// What an app uses on one node.
    pub(crate) fn on_node(number: usize, app: &App) -> Self {
        let mut state = Self::default();
        state.add(number, app);
        state.documents.used = app.documents.used.into();
        state.operations.used = app.operations.used.into();
        state
    }

    /// Adds a node: but for documents and operations, which nodes of a region share.
    fn add(&mut self, number: usize, app: &App) {
        self.nodes.push(number);
        self.connections.used += u64::from(app.connections.used);
        // Limits come with tokens, and nodes may have seen different ones: the most generous is told.
        for (known, told) in [
            (&mut self.connections.limit, app.connections.limit),
            (&mut self.documents.limit, app.documents.limit),
            (&mut self.operations.limit, app.operations.limit),
            (&mut self.max_users_per_document, app.max_users_per_document),
        ] {
            *known = (*known).max(told);
        }
    }

    /// How full the fullest of its limits is.
    #[must_use]
    pub fn fullest(&self) -> Option<f64> {
        [self.connections, self.documents, self.operations]
            .into_iter()
            .filter_map(Used::share)
            .reduce(f64::max)
    }
}

/// All apps, by name.
#[must_use]
pub fn apps(model: &Model) -> BTreeMap<AppName, AppState> {
    let mut apps: BTreeMap<AppName, AppState> = BTreeMap::new();
    let mut by_region: BTreeMap<(AppName, String), (u64, u64)> = BTreeMap::new();
    for (number, node) in model.nodes() {
        for app in &node.apps {
            let name = (app.tenant.clone(), app.app.clone());
            apps.entry(name.clone()).or_default().add(number, app);
            let region = node.region().unwrap_or_default().to_owned();
            let (documents, operations) = by_region.entry((name, region)).or_default();
            *documents = (*documents).max(app.documents.used.into());
            *operations += u64::from(app.operations.used);
        }
    }
    for ((name, _), (documents, operations)) in by_region {
        if let Some(app) = apps.get_mut(&name) {
            app.documents.used += documents;
            app.operations.used = app.operations.used.max(operations);
        }
    }
    apps
}

/// What was answered of an app's record, and when: the record, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What its license region says.
    pub told: Result<RecordedApp, String>,
    /// When.
    pub at: Millis,
}

/// Records that are kept: those of apps that somebody has looked at.
const RECORDS_MAX: usize = 256;

impl Model {
    /// What is known of an app's record.
    #[must_use]
    pub fn record(&self, app: &AppName) -> Option<&Record> {
        self.records.get(app)
    }

    pub(super) fn take_record(&mut self, app: AppName, told: Result<RecordedApp, String>, at: Millis) {
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&app) {
            self.records.clear();
        }
        self.records.insert(app, Record { told, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example;

    #[test]
    fn what_an_app_uses_on_all_nodes_counts_together() {
        let mut model = Model::default();
        example::cluster(&mut model, 1_800_000_000_000);
        let apps = apps(&model);
        let notes = &apps[&("acme".to_owned(), "notes".to_owned())];
        let of_nodes: Vec<u64> = (0..4).map(|node| 4_000 + 1_900 * node).collect();
        assert_eq!((notes.nodes.len(), notes.connections.used), (4, of_nodes.iter().sum()));
        // Two regions of two nodes: of each the one with more documents.
        assert_eq!(notes.documents.used, of_nodes[2] / 12 + of_nodes[3] / 12);
        assert_eq!(notes.connections.limit, Some(10_000));
        assert!(notes.fullest().unwrap() > 1.0);
    }

    #[test]
    fn records_are_bounded() {
        let mut model = Model::default();
        for number in 0..2 * RECORDS_MAX {
            model.take_record(("t".into(), number.to_string()), Err("none".into()), 0);
        }
        assert!(model.records.len() <= RECORDS_MAX);
        assert!(model.record(&("t".into(), (2 * RECORDS_MAX - 1).to_string())).is_some());
    }
}

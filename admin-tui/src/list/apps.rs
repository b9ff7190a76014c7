//! The lists of apps and what they use of their limits: on all nodes together, and one on each node.

use pinwire_admin_api::apps::{App, Use};

use super::{Field, Rows, Scope, Target, Unit, Value};
use crate::model::{AppName, AppState, Model, State, Used, apps};

pub(super) const FIELDS: &[Field] = &[
    Field::text("app", "APP", 16, "tenant and app").grow(),
    Field::text("state", "STATE", 9, "whether a limit is near"),
    Field::number("nodes", "NODES", 5, "nodes that have seen a token of it").rank(3),
    Field::number("connections", "CONNS", 7, "connections, of all nodes"),
    Field::number("max_connections", "OF", 7, "at most").rank(1),
    Field::number("documents", "DOCS", 7, "active documents: of each region those of its fullest node"),
    Field::number("max_documents", "OF", 7, "at most").rank(1),
    Field::number("operations", "OPS/min", 8, "edits and messages of this minute, in the region with most"),
    Field::number("max_operations", "OF", 8, "at most").rank(1),
    Field::number("max_users", "USERS/DOC", 9, "sessions that a document may have").rank(2),
    Field::number("used", "USED", 5, "the fullest of its limits, in percent"),
];

pub(super) struct Apps(Vec<(AppName, AppState)>);

impl Apps {
    pub(super) fn new(model: &Model) -> Self {
        Self(apps(model).into_iter().collect())
    }
}

/// Whether a limit is near, in a word.
pub(crate) fn nearness(share: Option<f64>) -> (State, &'static str) {
    match share {
        Some(share) if share >= 1.0 => (State::Bad, "at limit"),
        Some(share) if share >= 0.8 => (State::Doubtful, "near"),
        _ => (State::Good, "room"),
    }
}

fn near(share: Option<f64>) -> Value<'static> {
    let (state, word) = nearness(share);
    Value::State(state, word.into())
}

impl Rows for Apps {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(((tenant, name), app)) = self.0.get(row) else { return Value::None };
        let used = |used: Used| Value::count(used.used);
        let limit = |limit: Option<u32>| Value::number(limit.map(f64::from), Unit::Count);
        match FIELDS.get(field).map_or("", |field| field.name) {
            "app" => Value::Text(format!("{tenant}::{name}").into()),
            "state" => near(app.fullest()),
            "nodes" => Value::count(app.nodes),
            "connections" => used(app.connections),
            "max_connections" => limit(app.connections.limit),
            "documents" => used(app.documents),
            "max_documents" => limit(app.documents.limit),
            "operations" => used(app.operations),
            "max_operations" => limit(app.operations.limit),
            "max_users" => limit(app.max_users_per_document),
            "used" => Value::number(app.fullest().map(|share| share * 100.0), Unit::Percent),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.0.get(row).map_or(Target::Nothing, |(name, _)| Target::App(name.clone()))
    }
}

pub(super) const USE_FIELDS: &[Field] = &[
    Field::text("node", "NODE", 16, "on which node").grow(),
    Field::text("app", "APP", 16, "tenant and app").rank(2),
    Field::text("state", "STATE", 9, "whether a limit is near"),
    Field::number("connections", "CONNS", 7, "open sockets"),
    Field::number("max_connections", "OF", 7, "at most").rank(1),
    Field::number("documents", "DOCS", 7, "active documents"),
    Field::number("max_documents", "OF", 7, "at most").rank(1),
    Field::number("operations", "OPS/min", 8, "edits and messages of this minute"),
    Field::number("max_operations", "OF", 8, "at most").rank(1),
    Field::number("max_users", "USERS/DOC", 9, "sessions that a document may have").rank(2),
    Field::number("used", "USED", 5, "the fullest of its limits, in percent"),
];

pub(super) struct Uses<'model> {
    rows: Vec<(usize, &'model App, String)>,
}

impl<'model> Uses<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let label = node.label();
            let is_it = move |app: &&App| {
                scope.app.as_ref().is_none_or(|(tenant, name)| app.tenant == *tenant && app.app == *name)
            };
            node.apps.iter().filter(is_it).map(move |app| (number, app, label.clone()))
        });
        Self { rows: rows.collect() }
    }
}

fn share(used: Use) -> Option<f64> {
    used.limit.filter(|limit| *limit > 0).map(|limit| f64::from(used.used) / f64::from(limit))
}

fn fullest(app: &App) -> Option<f64> {
    [app.connections, app.documents, app.operations].into_iter().filter_map(share).reduce(f64::max)
}

impl Rows for Uses<'_> {
    fn fields(&self) -> &'static [Field] {
        USE_FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, app, label)) = self.rows.get(row) else { return Value::None };
        let used = |used: Use| Value::count(u64::from(used.used));
        let limit = |limit: Option<u32>| Value::number(limit.map(f64::from), Unit::Count);
        match USE_FIELDS.get(field).map_or("", |field| field.name) {
            "app" => Value::Text(format!("{}::{}", app.tenant, app.app).into()),
            "node" => Value::text(label),
            "state" => near(fullest(app)),
            "connections" => used(app.connections),
            "max_connections" => limit(app.connections.limit),
            "documents" => used(app.documents),
            "max_documents" => limit(app.documents.limit),
            "operations" => used(app.operations),
            "max_operations" => limit(app.operations.limit),
            "max_users" => limit(app.max_users_per_document),
            "used" => Value::number(fullest(app).map(|share| share * 100.0), Unit::Percent),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(node, ..)| Target::Node(*node))
    }
}

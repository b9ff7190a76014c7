//! The lists of apps and what they use of their limits: on all nodes together, and one on each node.

use super::{Field, Rows, Scope, Target, Unit, Value};
use crate::model::{AppName, AppState, Model, NodeState, State, Used, apps};

const APP: Field = Field::text("app", "APP", 16, "tenant and app");
const STATE: Field = Field::text("state", "STATE", 9, "whether a limit is near");
const MAX_CONNECTIONS: Field = Field::number("max_connections", "OF", 7, "at most").rank(1);
const MAX_DOCUMENTS: Field = Field::number("max_documents", "OF", 7, "at most").rank(1);
const MAX_OPERATIONS: Field = Field::number("max_operations", "OF", 8, "at most").rank(1);
const MAX_USERS: Field =
    Field::number("max_users", "USERS/DOC", 9, "sessions that a document may have").rank(2);
const USED: Field = Field::number("used", "USED", 5, "the fullest of its limits, in percent");

pub(super) const FIELDS: &[Field] = &[
    APP.grow(),
    STATE,
    Field::number("nodes", "NODES", 5, "nodes that have seen a token of it").rank(3),
    Field::number("connections", "CONNS", 7, "connections, of all nodes"),
    MAX_CONNECTIONS,
    Field::number("documents", "DOCS", 7, "active documents: of each region those of its fullest node"),
    MAX_DOCUMENTS,
    Field::number("operations", "OPS/min", 8, "edits and messages of this minute, in the region with most"),
    MAX_OPERATIONS,
    MAX_USERS,
    USED,
    Field::text("node", "NODE", 16, "the nodes that have seen a token of it, by name").hidden(),
];

pub(super) const USE_FIELDS: &[Field] = &[
    Field::text("node", "NODE", 16, "on which node").grow(),
    APP.rank(2),
    STATE,
    Field::number("connections", "CONNS", 7, "open sockets"),
    MAX_CONNECTIONS,
    Field::number("documents", "DOCS", 7, "active documents"),
    MAX_DOCUMENTS,
    Field::number("operations", "OPS/min", 8, "edits and messages of this minute"),
    MAX_OPERATIONS,
    MAX_USERS,
    USED,
];

/// Apps with what they use: of all nodes, or a row for each node.
pub(super) struct Apps<'model> {
    fields: &'static [Field],
    rows: Vec<(AppName, AppState)>,
    model: &'model Model,
}

impl<'model> Apps<'model> {
    pub(super) fn of_all(model: &'model Model) -> Self {
        Self { fields: FIELDS, rows: apps(model).into_iter().collect(), model }
    }

    pub(super) fn of_each(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let uses = nodes.flat_map(|(number, node)| {
            node.apps
                .iter()
                .map(move |app| ((app.tenant.clone(), app.app.clone()), AppState::on_node(number, app)))
        });
        let is_it = |(name, _): &(AppName, AppState)| scope.app.as_ref().is_none_or(|only| only == name);
        Self { fields: USE_FIELDS, rows: uses.filter(is_it).collect(), model }
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

impl Rows for Apps<'_> {
    fn fields(&self) -> &'static [Field] {
        self.fields
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(((tenant, name), app)) = self.rows.get(row) else { return Value::None };
        let used = |used: Used| Value::count(used.used);
        let limit = |limit: Option<u32>| Value::number(limit.map(f64::from), Unit::Count);
        match self.fields.get(field).map_or("", |field| field.name) {
            "app" => Value::Text(format!("{tenant}::{name}").into()),
            "node" => {
                let nodes = app.nodes.iter().filter_map(|node| self.model.node(*node));
                Value::Text(nodes.map(NodeState::label).collect::<Vec<_>>().join(", ").into())
            }
            "state" => {
                let (state, word) = nearness(app.fullest());
                Value::State(state, word.into())
            }
            "nodes" => Value::count(app.nodes.len() as u64),
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
        match self.rows.get(row) {
            // What is used on a node leads to the node: the app is what one comes from.
            Some((_, AppState { nodes, .. })) if self.fields == USE_FIELDS => {
                nodes.first().map_or(Target::Nothing, |node| Target::Node(*node))
            }
            Some((name, _)) => Target::App(name.clone()),
            None => Target::Nothing,
        }
    }
}

//! The list of apps, and what they use of their limits, a row for each node.

use pinwire_admin_api::apps::{App, Use};

use super::{Field, Rows, Scope, Target, Unit, Value};
use crate::model::{Model, State};

pub(super) const FIELDS: &[Field] = &[
    Field::text("app", "APP", 16, "tenant and app").grow(),
    Field::text("node", "NODE", 16, "on which node"),
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

pub(super) struct Apps<'model> {
    rows: Vec<(usize, &'model App, String)>,
}

impl<'model> Apps<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(number, node)| {
            let label = node.label();
            node.apps.iter().map(move |app| (number, app, label.clone()))
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

impl Rows for Apps<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, app, label)) = self.rows.get(row) else { return Value::None };
        let used = |used: Use| Value::count(u64::from(used.used));
        let limit = |limit: Option<u32>| Value::number(limit.map(f64::from), Unit::Count);
        match FIELDS.get(field).map_or("", |field| field.name) {
            "app" => Value::Text(format!("{}::{}", app.tenant, app.app).into()),
            "node" => Value::text(label),
            "state" => match fullest(app) {
                Some(share) if share >= 1.0 => Value::State(State::Bad, "at limit".into()),
                Some(share) if share >= 0.8 => Value::State(State::Doubtful, "near".into()),
                _ => Value::State(State::Good, "room".into()),
            },
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

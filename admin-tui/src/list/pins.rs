//! The lists of pins, and of active documents at the top of nodes.

use std::collections::HashMap;

use pinwire_admin_api::documents::{Document, DocumentState};
use pinwire_admin_api::stream::DocumentName;

use super::{Field, Rows, Scope, Target, Unit, Value, key_of};
use crate::model::{Millis, Model, NodeState, PinRow, State, Top};

pub(super) const FIELDS: &[Field] = &[
    Field::text("document", "DOCUMENT", 20, "its name within its app").grow(),
    Field::text("app", "APP", 14, "tenant and app"),
    Field::text("region", "REGION", 14, "the region that has it"),
    Field::text("state", "STATE", 8, "open, in its grace, or taken away"),
    Field::number("holders", "NODES", 5, "nodes that hold it"),
    Field::number("members", "MEMB", 5, "sessions, where it is at the top of a node").rank(1),
    Field::number("edits", "EDIT/s", 6, "edits in a second, likewise").rank(1),
    Field::number("bytes", "B/s", 9, "their bytes, likewise").rank(4),
    Field::number("age", "AGE", 7, "since it was pinned").rank(2),
    Field::number("grace", "GRACE", 6, "seconds for which it still waits for its clients"),
    Field::text("nodes", "HELD BY", 20, "the nodes that hold it").rank(5),
    Field::text("epoch", "EPOCH", 16, "of its claim: of two claims the higher wins").rank(6),
    Field::text("license", "LICENSE", 14, "license region").rank(7),
];

pub(super) struct Pins<'model> {
    model: &'model Model,
    tops: HashMap<u64, Top>,
    now: Millis,
}

impl<'model> Pins<'model> {
    pub(super) fn new(model: &'model Model, now: Millis) -> Self {
        Self { model, tops: model.tops(), now }
    }

    fn grace(&self, row: &PinRow) -> Option<f64> {
        let left = row.pin.grace_seconds? as f64;
        Some((left - self.now.saturating_sub(row.told) as f64 / 1000.0).max(0.0))
    }
}

fn name(row: &PinRow) -> DocumentName {
    DocumentName { tenant: row.pin.tenant.clone(), app: row.pin.app.clone(), name: row.pin.name.clone() }
}

impl Rows for Pins<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.model.pins.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(row) = self.model.pins.get(row) else { return Value::None };
        let top = || self.tops.get(&row.key);
        // By number: this is asked a hundred thousand times for a filter.
        match field {
            0 => Value::text(&row.pin.name),
            1 => Value::Text(format!("{}::{}", row.pin.tenant, row.pin.app).into()),
            2 if row.pin.region.is_empty() => Value::None,
            2 => Value::text(&row.pin.region),
            3 if row.pin.region.is_empty() => Value::State(State::Doubtful, "taken".into()),
            3 if row.pin.grace_seconds.is_some() => Value::State(State::Leaving, "grace".into()),
            3 => Value::State(State::Good, "open".into()),
            4 => Value::count(row.pin.nodes.len() as u64),
            5 => Value::number(top().map(|top| top.members as f64), Unit::Count),
            6 => Value::number(top().map(|top| top.edits), Unit::Rate),
            7 => Value::number(top().map(|top| top.bytes), Unit::Bytes),
            8 => Value::number(
                row.since.map(|since| self.now.saturating_sub(since) as f64 / 1000.0),
                Unit::Seconds,
            ),
            9 => Value::number(self.grace(row), Unit::Seconds),
            10 if row.pin.nodes.is_empty() => Value::None,
            10 => {
                let short =
                    |node: &String| node.rsplit_once('/').map_or(node.as_str(), |(node, _)| node).to_owned();
                Value::Text(row.pin.nodes.iter().map(short).collect::<Vec<_>>().join(", ").into())
            }
            11 => Value::maybe(row.pin.claim.split('-').next()),
            12 => Value::maybe(row.db_code.as_deref()),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.model.pins.get(row).map_or(Target::Nothing, |row| Target::Pin {
            name: name(row),
            db_code: row.db_code.clone(),
            region: row.pin.region.clone(),
        })
    }

    fn key(&self, row: usize) -> Option<u64> {
        self.model.pins.get(row).map(|row| key_of(&(row.key, &row.db_code)))
    }
}

pub(super) const DOCUMENT_FIELDS: &[Field] = &[
    Field::text("document", "DOCUMENT", 20, "its name within its app").grow(),
    Field::text("app", "APP", 14, "tenant and app"),
    Field::text("node", "NODE", 16, "the node that tells of it"),
    Field::text("state", "STATE", 10, "where it is in its life"),
    Field::number("members", "MEMB", 5, "sessions"),
    Field::number("present", "PRES", 5, "clients that are present, by awareness").rank(2),
    Field::number("edits", "EDIT/s", 6, "edits in a second"),
    Field::number("bytes", "B/s", 9, "their bytes").rank(1),
    Field::number("log", "LOG", 9, "bytes in memory").rank(1),
    Field::number("unstored", "UNSTORED", 9, "bytes that the session store does not have yet").rank(3),
    Field::number("thread", "CORE", 4, "the thread that owns it").rank(2),
];

pub(super) struct Documents<'model> {
    rows: Vec<(&'model NodeState, &'model Document, String)>,
    now: Millis,
}

impl<'model> Documents<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope, now: Millis) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let rows = nodes.flat_map(|(_, node)| {
            let label = node.label();
            node.documents().iter().map(move |document| (node, document, label.clone()))
        });
        Self { rows: rows.collect(), now }
    }
}

/// How a document stands, in a word.
pub(crate) fn document_state(document: &Document) -> (State, &'static str) {
    match document.state {
        _ if document.is_rejecting => (State::Bad, "rejecting"),
        DocumentState::Loading => (State::Unknown, "loading"),
        DocumentState::Live => (State::Good, "live"),
        DocumentState::Grace => (State::Leaving, "grace"),
    }
}

impl Rows for Documents<'_> {
    fn fields(&self) -> &'static [Field] {
        DOCUMENT_FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, document, label)) = self.rows.get(row) else { return Value::None };
        match DOCUMENT_FIELDS.get(field).map_or("", |field| field.name) {
            "document" => Value::text(&document.name),
            "app" => Value::Text(format!("{}::{}", document.tenant, document.app).into()),
            "node" => Value::text(label),
            "state" => {
                let (state, word) = document_state(document);
                Value::State(state, word.into())
            }
            "members" => Value::count(document.members),
            "present" => Value::count(document.present),
            "edits" => Value::Number(document.edits_per_second, Unit::Rate),
            "bytes" => Value::Number(document.bytes_per_second, Unit::Bytes),
            "log" => Value::Number(document.log_bytes as f64, Unit::Bytes),
            "unstored" => Value::Number(document.unstored_bytes as f64, Unit::Bytes),
            "thread" => Value::count(u64::from(document.thread)),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(_, document, _)| {
            Target::Document(DocumentName {
                tenant: document.tenant.clone(),
                app: document.app.clone(),
                name: document.name.clone(),
            })
        })
    }

    fn key(&self, row: usize) -> Option<u64> {
        self.rows.get(row).map(|(_, document, _)| key_of(&(&document.tenant, &document.app, &document.name)))
    }

    fn is_stale(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|(node, ..)| node.is_stale(self.now))
    }
}

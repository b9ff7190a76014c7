//! The list of what happened, the newest last.

use super::{Field, Rows, Scope, Target, Value, full_name};
use crate::format;
use crate::model::{Event, Model};

pub(super) const FIELDS: &[Field] = &[
    Field::text("at", "TIME", 8, "when, UTC"),
    Field::text("node", "NODE", 16, "on which node"),
    Field::text("kind", "KIND", 20, "which kind").rank(1),
    Field::text("text", "WHAT", 44, "in words, with its cause").grow(),
];

pub(super) struct Events<'model> {
    rows: Vec<&'model Event>,
}

impl<'model> Events<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope) -> Self {
        let is_in =
            |event: &&Event| scope.has(event.node, model.node(event.node).and_then(|node| node.region()));
        Self { rows: model.events.rows().iter().filter(is_in).collect() }
    }
}

impl Rows for Events<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(event) = self.rows.get(row) else { return Value::None };
        match field {
            0 => Value::Text(format::clock(event.at).into()),
            1 => Value::text(&event.label),
            2 => Value::text(&event.kind),
            3 => Value::State(event.state, event.text.as_str().into()),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        let Some(event) = self.rows.get(row) else { return Target::Nothing };
        match event.document.as_deref().and_then(full_name) {
            Some(name) => Target::Document(name),
            None => Target::Node(event.node),
        }
    }
}

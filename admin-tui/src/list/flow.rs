//! The list of what became of whoever dialled, a row for each node.

use super::{Field, Rows, Scope, Strip, Target, Unit, Value};
use crate::model::{Flown, Millis, Model, NodeState};

pub(super) const FIELDS: &[Field] = &[
    Field::text("node", "NODE", 16, "its node").grow(),
    Field::text("region", "REGION", 12, "its region").rank(4),
    Field::number("dialled", "DIAL/s", 6, "clients that dialled, in a second of the last minute"),
    Field::number("served", "SERVED", 6, "of these, served by whom they dialled"),
    Field::number("redirected", "REDIR", 6, "of these, sent to another region"),
    Field::number("refused", "REFUSED", 7, "of these, turned away"),
    Field::number("carried_out", "OUT", 5, "sessions that it carries to another region, now").rank(1),
    Field::number("carried_in", "IN", 5, "sessions that others carry to it, now").rank(1),
    Field::text("why", "WHY REFUSED", 18, "why clients were turned away, the most frequent first").rank(2),
    Field::number("refused_ever", "EVER", 6, "turned away since its start").rank(3),
];

pub(super) struct Flows<'model> {
    rows: Vec<(usize, &'model NodeState, String, Option<Flown>)>,
    now: Millis,
}

impl<'model> Flows<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope, now: Millis) -> Self {
        let nodes = model.nodes().filter(|(number, node)| scope.has(*number, node.region()));
        let mut rows: Vec<_> =
            nodes.map(|(number, node)| (number, node, node.label(), node.flown())).collect();
        rows.sort_by(|(_, a, label, _), (_, b, other, _)| (a.region(), label).cmp(&(b.region(), other)));
        Self { rows, now }
    }
}

impl Rows for Flows<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some((_, node, label, flown)) = self.rows.get(row) else { return Value::None };
        let rate = |pick: fn(&Flown) -> u64| {
            Value::number(flown.as_ref().map(|flown| flown.rate(pick(flown))), Unit::Rate)
        };
        let count = |pick: fn(&Flown) -> u64| {
            Value::number(flown.as_ref().map(|flown| pick(flown) as f64), Unit::Count)
        };
        match FIELDS.get(field).map_or("", |field| field.name) {
            "node" => Value::text(label),
            "region" => Value::maybe(node.region()),
            "dialled" => rate(|flown| flown.dialled),
            "served" => rate(|flown| flown.served),
            "redirected" => rate(|flown| flown.redirected),
            "refused" => rate(|flown| flown.refused),
            "carried_out" => count(|flown| flown.carried_out),
            "carried_in" => count(|flown| flown.carried_in),
            "why" => match flown {
                Some(flown) if flown.refused > 0 => Value::Text(flown.why(3).into()),
                _ => Value::None,
            },
            "refused_ever" => {
                let ever = node.flown_since_start();
                Value::number(ever.map(|flown| flown.refused as f64), Unit::Count)
            }
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |(number, ..)| Target::Node(*number))
    }

    fn strip(&self, row: usize, _columns: usize) -> Option<Strip> {
        let (.., flown) = self.rows.get(row)?;
        Some(Strip::Parts(flown.as_ref().and_then(Flown::shares)))
    }

    fn is_stale(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|(_, node, ..)| node.is_stale(self.now))
    }
}

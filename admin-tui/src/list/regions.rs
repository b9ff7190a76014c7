//! The list of regions.

use super::{Field, Rows, Target, Unit, Value};
use crate::model::{Millis, Model, RegionState, State, regions};

pub(super) const FIELDS: &[Field] = &[
    Field::text("name", "REGION", 14, "its name").grow(),
    Field::text("health", "HEALTH", 17, "the worst of what its nodes say and others see"),
    Field::text("status", "STATUS", 11, "whether it takes clients, as its operators say").rank(4),
    Field::number("nodes", "NODES", 5, "nodes whose numbers are fresh"),
    Field::number("watched", "WATCH", 5, "nodes that the console watches").rank(5),
    Field::number("known", "KNOWN", 5, "nodes that the registries know").rank(3),
    Field::number("occupancy", "OCC", 5, "the fullest node, in percent"),
    Field::number("connections", "CONNS", 6, "connections"),
    Field::number("documents", "DOCS", 6, "active documents").rank(1),
    Field::number("messages", "MSG/s", 6, "messages in a second, in and out").rank(1),
    Field::number("rtt", "RTT", 7, "round trip to it, the least that others measure"),
    Field::text("seen", "SEEN BY OTHERS", 24, "how other regions see it").rank(6),
    Field::text("area", "AREA", 14, "where it is").rank(5),
];

pub(super) struct Regions(Vec<RegionState>);

impl Regions {
    pub(super) fn new(model: &Model, now: Millis) -> Self {
        Self(regions(model, now))
    }
}

impl Rows for Regions {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(region) = self.0.get(row) else { return Value::None };
        let (state, word) = region.state();
        match FIELDS.get(field).map_or("", |field| field.name) {
            "name" => Value::text(&region.name),
            "health" => Value::State(state, word.into()),
            "status" => Value::maybe(region.status.as_deref()),
            "nodes" => Value::count(region.live as u64),
            "watched" => Value::count(region.nodes as u64),
            "known" => Value::count(region.known as u64),
            "occupancy" => Value::number(region.occupancy.map(|share| share * 100.0), Unit::Percent),
            "connections" => Value::count(region.connections),
            "documents" => Value::count(region.documents),
            "messages" => Value::Number(region.messages, Unit::Rate),
            "rtt" => Value::number(region.round_trip, Unit::Millis),
            "seen" if region.seen.is_empty() => Value::None,
            "seen" => {
                let told: Vec<String> =
                    region.seen.iter().map(|(health, by)| format!("{by}: {health}")).collect();
                Value::Text(told.join(", ").into())
            }
            "area" => Value::maybe(region.area.as_deref()),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.0.get(row).map_or(Target::Nothing, |region| Target::Region(region.name.clone()))
    }

    fn is_stale(&self, row: usize) -> bool {
        self.0
            .get(row)
            .is_some_and(|region| region.nodes > 0 && region.live == 0 && region.state().0 == State::Bad)
    }
}

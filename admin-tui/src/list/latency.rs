//! The list of round trips between regions: now, and over time.

use super::{Field, Rows, Scope, Strip, Target, Unit, Value};
use crate::model::{Millis, Model, Trip, Trips};

pub(super) const FIELDS: &[Field] = &[
    Field::text("from", "FROM", 14, "where it was measured").grow(),
    Field::text("to", "TO", 14, "the other end"),
    Field::number("now", "NOW", 7, "there and back, as measured last"),
    Field::number("least", "LEAST", 7, "the least of the last 50 minutes").rank(1),
    Field::number("most", "MOST", 7, "the most of the last 50 minutes"),
];

/// Samples that `least` and `most` are of.
const ALL: usize = 600;
/// A round trip that was measured is told as being so for so long.
const FRESH: usize = 4;

pub(super) struct Latency<'model> {
    rows: Vec<&'model Trip>,
    /// The longest of all, for one scale.
    most: f64,
    now: Millis,
}

impl<'model> Latency<'model> {
    pub(super) fn new(model: &'model Model, scope: &Scope, now: Millis) -> Self {
        let is_in = |trip: &&Trip| scope.region.as_deref().is_none_or(|region| trip.from == region);
        let rows: Vec<&Trip> = model.trips.rows().filter(is_in).collect();
        let most = rows
            .iter()
            .flat_map(|trip| trip.over_time.window(ALL, now))
            .flatten()
            .fold(1.0_f64, |most, sample| most.max(sample));
        Self { rows, most, now }
    }

    fn samples(&self, trip: &Trip) -> impl Iterator<Item = f64> {
        trip.over_time.window(ALL, self.now).into_iter().flatten()
    }
}

impl Rows for Latency<'_> {
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, field: usize) -> Value<'_> {
        let Some(trip) = self.rows.get(row) else { return Value::None };
        let millis = |value: Option<f64>| Value::number(value, Unit::Millis);
        match field {
            0 => Value::text(&trip.from),
            1 => Value::text(&trip.to),
            2 => millis(trip.over_time.window(FRESH, self.now).into_iter().flatten().last()),
            3 => millis(self.samples(trip).reduce(f64::min)),
            4 => millis(self.samples(trip).reduce(f64::max)),
            _ => Value::None,
        }
    }

    fn target(&self, row: usize) -> Target {
        self.rows.get(row).map_or(Target::Nothing, |trip| Target::Region(trip.to.clone()))
    }

    fn strip(&self, row: usize, columns: usize) -> Option<Strip> {
        let trip = self.rows.get(row)?;
        let heat = trip.over_time.window(columns, self.now).into_iter();
        Some(Strip::Heat(heat.map(|sample| sample.map(|sample| sample / self.most)).collect()))
    }

    fn is_stale(&self, row: usize) -> bool {
        let last = |trip: &&Trip| trip.over_time.window(FRESH, self.now).into_iter().flatten().last();
        self.rows.get(row).is_some_and(|trip| last(trip).is_none())
    }
}

const _: () = assert!(Trips::STEP * ALL as Millis == 50 * 60 * 1000, "the help says 50 minutes");

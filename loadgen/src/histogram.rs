//! Distributions of nanoseconds: an HdrHistogram that knows how to be written as JSON and merged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Nanoseconds that can be told from zero.
const LOWEST: u64 = 64;
/// What is longer counts as this: ten minutes.
const HIGHEST: u64 = 600_000_000_000;

/// Nanoseconds, with three significant digits. An empty one holds no memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(Option<Box<hdrhistogram::Histogram<u64>>>);

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, nanoseconds: u64) {
        self.record_n(nanoseconds, 1);
    }

    /// Counts several of one length.
    pub fn record_n(&mut self, nanoseconds: u64, count: u64) {
        self.inner().saturating_record_n(nanoseconds.min(HIGHEST), count);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Histogram) {
        if let Some(other) = &other.0 {
            // Both have the same bounds, so this cannot fail.
            let _ = self.inner().add(other.as_ref());
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.len())
    }

    /// The value that `percentile` (0 to 100) of the counted are at or below, nanoseconds; 0 when empty.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.value_at_percentile(percentile))
    }

    /// The least, nanoseconds.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.min())
    }

    /// The greatest, nanoseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.max())
    }

    /// The mean, nanoseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |inner| inner.mean())
    }

    /// The library's own type, for logs and plots.
    #[must_use]
    pub fn hdr(&self) -> Option<&hdrhistogram::Histogram<u64>> {
        self.0.as_deref()
    }

    fn inner(&mut self) -> &mut hdrhistogram::Histogram<u64> {
        self.0.get_or_insert_with(Box::default_histogram)
    }
}

/// The one set of bounds.
trait DefaultHistogram {
    fn default_histogram() -> Self;
}

impl DefaultHistogram for Box<hdrhistogram::Histogram<u64>> {
    fn default_histogram() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds that a test constructs")]
        Box::new(hdrhistogram::Histogram::new_with_bounds(LOWEST, HIGHEST, 3).expect("valid bounds"))
    }
}

/// How a histogram looks in JSON: what people read, and the whole of it for machines.
#[derive(Serialize, Deserialize)]
struct Written {
    count: u64,
    min_ns: u64,
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    p99_99_ns: u64,
    max_ns: u64,
    /// HdrHistogram V2, base64; absent when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    hdr: Option<String>,
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hdr = match &self.0 {
            Some(inner) => {
                let mut bytes = Vec::new();
                V2Serializer::new().serialize(inner, &mut bytes).map_err(serde::ser::Error::custom)?;
                Some(STANDARD.encode(bytes))
            }
            None => None,
        };
        Written {
            count: self.count(),
            min_ns: self.min(),
            mean_ns: self.mean(),
            p50_ns: self.percentile(50.0),
            p90_ns: self.percentile(90.0),
            p99_ns: self.percentile(99.0),
            p99_9_ns: self.percentile(99.9),
            p99_99_ns: self.percentile(99.99),
            max_ns: self.max(),
            hdr,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let Some(text) = written.hdr else { return Ok(Self::default()) };
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let read: hdrhistogram::Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(serde::de::Error::custom)?;
        let mut histogram = Self::default();
        histogram.inner().add(&read).map_err(serde::de::Error::custom)?;
        Ok(histogram)
    }
}

impl JsonSchema for Histogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Histogram".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let integer = json_schema!({"type": "integer", "minimum": 0});
        json_schema!({
            "type": "object",
            "description": "A distribution of nanoseconds; hdr is the whole of it (HdrHistogram V2, base64), absent when empty.",
            "required": ["count", "min_ns", "mean_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns"],
            "properties": {
                "count": integer, "min_ns": integer, "mean_ns": {"type": "number"}, "p50_ns": integer, "p90_ns": integer,
                "p99_ns": integer, "p99_9_ns": integer, "p99_99_ns": integer, "max_ns": integer, "hdr": {"type": "string"}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn what_is_written_is_read_back_whole() {
        let mut histogram = Histogram::default();
        histogram.record(100);
        histogram.record_n(5_000_000, 99);
        let text = serde_json::to_string(&histogram).unwrap();
        let back: Histogram = serde_json::from_str(&text).unwrap();
        assert_eq!(back, histogram);
        assert_eq!(back.count(), 100);
        let empty: Histogram =
            serde_json::from_str(&serde_json::to_string(&Histogram::default()).unwrap()).unwrap();
        assert_eq!(empty.count(), 0);
    }

    #[test]
    fn adding_counts_both() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record(1_000);
        other.record(3_000_000_000_000);
        one.add(&other);
        assert_eq!(one.count(), 2);
        assert!(one.max() >= 599_000_000_000);
    }
}

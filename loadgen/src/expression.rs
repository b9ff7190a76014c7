//! Conditions on results: `p99<5ms`, `join.p99<1s`, `errors=0`, `dropped<0.1%`, and for comparisons `p99>+10%`.

use anyhow::{Context, Result, bail};

use crate::histogram::Histogram;
use crate::results::{Assertion, Measure, Results};

/// Names of distributions, as they are written before the dot.
const MEASURES: [(&str, Measure); 9] = [
    ("latency", Measure::Latency),
    ("uncorrected", Measure::LatencyUncorrected),
    ("tcp", Measure::ConnectTcp),
    ("upgrade", Measure::Upgrade),
    ("join", Measure::Join),
    ("connect", Measure::Connect),
    ("redirect", Measure::Redirect),
    ("recover", Measure::Recover),
    ("acknowledge", Measure::Acknowledge),
];

const PERCENTILES: [(&str, f64); 6] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99), ("max", 100.0)];

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    PerSecond,
    Count,
    Share,
    Microseconds,
    Bytes,
}

/// A figure that results have.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    name: String,
}

impl Metric {
    /// Takes a name apart.
    ///
    /// # Errors
    /// Lists what there is.
    pub fn parse(name: &str) -> Result<Self> {
        let metric = Self { name: name.trim().to_owned() };
        if metric.unit().is_none() {
            bail!(
                "`{name}` is no figure of a run; there are rate, sent, received, dropped, errors, lost, duplicated, \
                 reordered, corrupted, late, diverged, forgotten, joined, absent, redirected, server.cpu_us_per_delivery, server.cpu_us_per_send, \
                 server.bytes_per_connection, and p50, p90, p99, p99.9, p99.99, max of {}",
                MEASURES.map(|(name, _)| name).join(", ")
            );
        }
        Ok(metric)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn timed(&self) -> Option<(Measure, f64)> {
        let (measure, percentile) = match self.name.split_once('.') {
            Some((measure, rest)) if MEASURES.iter().any(|(name, _)| *name == measure) => (measure, rest),
            _ => ("latency", self.name.as_str()),
        };
        let measure = MEASURES.iter().find(|(name, _)| *name == measure)?.1;
        let percentile = PERCENTILES.iter().find(|(name, _)| *name == percentile)?.1;
        Some((measure, percentile))
    }

    pub(crate) fn unit(&self) -> Option<Unit> {
        if self.timed().is_some() {
            return Some(Unit::Nanoseconds);
        }
        Some(match self.name.as_str() {
            "rate" => Unit::PerSecond,
            "dropped" => Unit::Share,
            "sent" | "received" | "errors" | "lost" | "duplicated" | "reordered" | "corrupted" | "late"
            | "diverged" | "forgotten" | "joined" | "absent" | "redirected" => Unit::Count,
            "server.cpu_us_per_delivery" | "server.cpu_us_per_send" => Unit::Microseconds,
            "server.bytes_per_connection" => Unit::Bytes,
            _ => return None,
        })
    }

    /// Its value; none where nothing of the kind was measured.
    #[must_use]
    pub fn of(&self, results: &Results) -> Option<f64> {
        if let Some((measure, percentile)) = self.timed() {
            let histogram: Option<&Histogram> = results.total.latency.get(&measure);
            return histogram
                .filter(|histogram| histogram.count() > 0)
                .map(|histogram| histogram.percentile(percentile) as f64);
        }
        let (total, found) = (&results.total, &results.correctness);
        let server = results.server.as_ref();
        Some(match self.name.as_str() {
            "rate" => total.received as f64 / total.seconds.max(1e-9),
            "dropped" => total.dropped as f64 / (total.planned as f64).max(1.0),
            "sent" => total.sent as f64,
            "received" => total.received as f64,
            "errors" => total.errors.values().sum::<u64>() as f64,
            "lost" => found.lost as f64,
            "duplicated" => found.duplicated as f64,
            "reordered" => found.reordered as f64,
            "corrupted" => found.corrupted as f64,
            "late" => found.late as f64,
            "diverged" => found.diverged as f64,
            "forgotten" => found.forgotten as f64,
            "joined" => results.connections.joined as f64,
            "absent" => results.connections.absent as f64,
            "redirected" => results.connections.redirected as f64,
            "server.cpu_us_per_delivery" => return server?.cpu_us_per_delivery,
            "server.cpu_us_per_send" => return server?.cpu_us_per_send,
            "server.bytes_per_connection" => return server?.user_bytes_per_connection,
            _ => return None,
        })
    }

    /// A value of it, as people read it.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        match self.unit() {
            Some(Unit::Nanoseconds) => nanoseconds(value),
            Some(Unit::PerSecond) => format!("{value:.0}/s"),
            Some(Unit::Share) => format!("{:.3} %", value * 100.0),
            Some(Unit::Microseconds) => format!("{value:.3} us"),
            Some(Unit::Bytes) => format!("{value:.0} B"),
            _ => format!("{value:.0}"),
        }
    }
}

/// A time in the unit that suits it.
#[must_use]
pub fn nanoseconds(value: f64) -> String {
    match value {
        value if value < 1e4 => format!("{:.2} us", value / 1e3),
        value if value < 1e6 => format!("{:.0} us", value / 1e3),
        value if value < 1e7 => format!("{:.2} ms", value / 1e6),
        value if value < 1e9 => format!("{:.1} ms", value / 1e6),
        value => format!("{:.2} s", value / 1e9),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
}

impl Relation {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Equal => (left - right).abs() < f64::EPSILON,
            Self::AtLeast => left >= right,
            Self::Above => left > right,
        }
    }
}

/// Splits `name<value`.
fn split(text: &str) -> Result<(&str, Relation, &str)> {
    let at = text
        .find(['<', '>', '='])
        .with_context(|| format!("`{text}` compares nothing: write it as p99<5ms"))?;
    let rest = &text[at..];
    let (relation, length) = match rest {
        _ if rest.starts_with("<=") => (Relation::AtMost, 2),
        _ if rest.starts_with(">=") => (Relation::AtLeast, 2),
        _ if rest.starts_with("==") => (Relation::Equal, 2),
        _ if rest.starts_with('<') => (Relation::Below, 1),
        _ if rest.starts_with('>') => (Relation::Above, 1),
        _ => (Relation::Equal, 1),
    };
    Ok((text[..at].trim(), relation, rest[length..].trim()))
}

/// A condition on one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    metric: Metric,
    relation: Relation,
    bound: f64,
}

impl Condition {
    /// Reads `p99<5ms`.
    ///
    /// # Errors
    /// Says what cannot be read, and what there is.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, relation, value) = split(text)?;
        let metric = Metric::parse(name)?;
        let bound = parse_value(&metric, value).with_context(|| format!("`{text}`"))?;
        Ok(Self { text: text.to_owned(), metric, relation, bound })
    }

    /// Whether it holds. What was not measured does not hold.
    #[must_use]
    pub fn check(&self, results: &Results) -> Assertion {
        let value = self.metric.of(results);
        let seen = value.map_or_else(|| "not measured".to_owned(), |value| self.metric.show(value));
        Assertion {
            expression: self.text.clone(),
            held: value.is_some_and(|value| self.relation.holds(value, self.bound)),
            seen: format!("{} = {seen}", self.metric.name),
        }
    }
}

/// A value in the metric's unit.
fn parse_value(metric: &Metric, text: &str) -> Result<f64> {
    let number =
        |text: &str| -> Result<f64> { text.trim().parse().with_context(|| format!("`{text}` is no number")) };
    match metric.unit() {
        Some(Unit::Nanoseconds) => {
            let duration = crate::scenario::duration::parse(text).map_err(anyhow::Error::msg)?;
            Ok(duration.as_nanos() as f64)
        }
        Some(Unit::Share) => Ok(number(text.strip_suffix('%').unwrap_or(text))? / 100.0),
        Some(Unit::PerSecond) => number(text.strip_suffix("/s").unwrap_or(text)),
        _ => number(text),
    }
}

/// What must not be, when two sides are compared: `p99>+10%` fails if the second is more than a tenth above the first.
#[derive(Clone, Debug, PartialEq)]
pub struct FailOn {
    text: String,
    /// What is looked at.
    pub metric: Metric,
    relation: Relation,
    /// The change, as a share.
    bound: f64,
}

impl FailOn {
    /// Reads `p99>+10%`.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, relation, value) = split(text)?;
        let metric = Metric::parse(name)?;
        let share = value
            .strip_suffix('%')
            .with_context(|| format!("`{text}`: a change ends in %, as in p99>+10%"))?;
        let bound: f64 = share.trim().parse().with_context(|| format!("`{text}`: `{share}` is no number"))?;
        Ok(Self { text: text.to_owned(), metric, relation, bound: bound / 100.0 })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a change, as a share, is what must not be.
    #[must_use]
    pub fn is_tripped(&self, change: f64) -> bool {
        self.relation.holds(change, self.bound)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::results::{Tally, tests::results};

    fn seen(text: &str) -> (bool, String) {
        let mut results = results();
        let mut latency = Histogram::default();
        latency.record_n(2_000_000, 99);
        latency.record(40_000_000);
        results.total =
            Tally { seconds: 10.0, planned: 100, sent: 99, dropped: 1, received: 100, ..Tally::default() };
        results.total.latency.insert(Measure::Latency, latency);
        let assertion = Condition::parse(text).unwrap().check(&results);
        (assertion.held, assertion.seen)
    }

    #[test]
    fn conditions_hold_or_not_and_say_what_was_seen() {
        assert!(seen("p50<5ms").0 && !seen("max<=20ms").0);
        assert!(seen("latency.max>20ms").0);
        assert!(seen("rate>=10/s").0 && seen("dropped<=1%").0 && seen("errors=0").0);
        assert_eq!(seen("join.p99<1s"), (false, "join.p99 = not measured".into()));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_what_can() {
        assert!(Condition::parse("p98<5ms").unwrap_err().to_string().contains("p99.9"));
        assert!(Condition::parse("p99").unwrap_err().to_string().contains("p99<5ms"));
        assert!(format!("{:#}", Condition::parse("p99<5").unwrap_err()).contains("duration"));
        assert!(FailOn::parse("p99>10ms").unwrap_err().to_string().contains('%'));
    }

    #[test]
    fn a_change_trips_beyond_its_bound_alone() {
        let slower = FailOn::parse("p99>+10%").unwrap();
        assert!(slower.is_tripped(0.11) && !slower.is_tripped(0.09));
        let fewer = FailOn::parse("rate<-5%").unwrap();
        assert!(fewer.is_tripped(-0.06) && !fewer.is_tripped(0.5));
    }
}

//! Two sides of repeated runs, metric by metric: medians, the change, and how sure it is.

use std::fmt::Write as _;

use crate::expression::{FailOn, Metric};
use crate::results::{Results, VerdictLevel};

/// What is always shown, where both sides measured it.
const SHOWN: [&str; 9] = [
    "rate",
    "p50",
    "p99",
    "p99.9",
    "uncorrected.p99",
    "connect.p99",
    "dropped",
    "server.cpu_us_per_delivery",
    "server.bytes_per_connection",
];
/// Draws of the bootstrap.
const DRAWS: usize = 2_000;

/// One metric of both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub metric: String,
    /// The medians, as people read them.
    pub medians: (String, String),
    /// Second by first, less one.
    pub change: f64,
    /// 95 % of the changes that the runs allow; none with fewer than three runs on a side.
    pub interval: Option<(f64, f64)>,
}

/// Both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Metrics.
    pub rows: Vec<Row>,
    /// What keeps the comparison from being fair.
    pub warnings: Vec<String>,
    /// Conditions of `--fail-on` that hold.
    pub tripped: Vec<String>,
}

/// Compares two sides of at least one run each.
#[must_use]
pub fn compare(base: &[Results], other: &[Results], fail_on: &[FailOn]) -> Comparison {
    let mut rows = Vec::new();
    let wanted = SHOWN.iter().filter_map(|name| Metric::parse(name).ok());
    let wanted: Vec<Metric> =
        wanted.chain(fail_on.iter().map(|condition| condition.metric.clone())).collect();
    for metric in wanted {
        if rows.iter().any(|row: &Row| row.metric == metric.name()) {
            continue;
        }
        rows.extend(row(&metric, base, other));
    }
    let mut tripped = Vec::new();
    for condition in fail_on {
        match rows.iter().find(|row| row.metric == condition.metric.name()) {
            Some(row) if condition.is_tripped(row.change) => {
                tripped.push(format!("{}: changed by {:+.1} %", condition.text(), row.change * 100.0));
            }
            Some(_) => {}
            None => tripped.push(format!("{}: not measured on both sides", condition.text())),
        }
    }
    Comparison { rows, warnings: warnings(base, other), tripped }
}

fn row(metric: &Metric, base: &[Results], other: &[Results]) -> Option<Row> {
    let values = |side: &[Results]| side.iter().map(|run| metric.of(run)).collect::<Option<Vec<f64>>>();
    let (base, other) = (values(base)?, values(other)?);
    let medians = (median(&base), median(&other));
    let change = relative(medians.0, medians.1)?;
    let interval = (base.len() >= 3 && other.len() >= 3).then(|| bootstrap(&base, &other));
    Some(Row {
        metric: metric.name().to_owned(),
        medians: (metric.show(medians.0), metric.show(medians.1)),
        change,
        interval,
    })
}

fn relative(base: f64, other: f64) -> Option<f64> {
    if base == other {
        return Some(0.0);
    }
    (base != 0.0).then(|| other / base - 1.0)
}

/// The middle value; the mean of the two middle ones of an even number.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The 2.5th and 97.5th percentile of the change of medians, over draws with replacement from each side's runs.
fn bootstrap(base: &[f64], other: &[f64]) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = |side: &[f64]| {
        let drawn: Vec<f64> = side.iter().map(|_| side[random.usize(..side.len())]).collect();
        median(&drawn)
    };
    let mut changes: Vec<f64> = (0..DRAWS).filter_map(|_| relative(draw(base), draw(other))).collect();
    changes.sort_by(f64::total_cmp);
    let at = |share: f64| changes.get((changes.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    (at(0.025), at(0.975))
}

fn warnings(base: &[Results], other: &[Results]) -> Vec<String> {
    let mut warnings = Vec::new();
    let all = || base.iter().chain(other);
    let Some(first) = base.first() else { return warnings };
    let invalid = all().filter(|run| run.verdict.level == VerdictLevel::Invalid).count();
    if invalid > 0 {
        warnings
            .push(format!("{invalid} runs are INVALID: their figures are the generator's, not the server's"));
    }
    let faulty = all().filter(|run| run.correctness.faults() > 0).count();
    if faulty > 0 {
        warnings.push(format!("{faulty} runs have faults: a server that loses messages is fast"));
    }
    if all().any(|run| run.scenario != first.scenario) {
        warnings.push("the runs are of different scenarios".into());
    }
    let settings = |run: &Results| {
        let mut settings = run.settings.clone();
        // Where the server is and which run it was may differ.
        for key in ["target", "server", "generator"] {
            settings.as_object_mut().map(|settings| settings.remove(key));
        }
        settings
    };
    if all().any(|run| settings(run) != settings(first)) {
        warnings.push("the runs' settings differ (load, clients or kind)".into());
    }
    let machine = |run: &Results| {
        let here = &run.environment;
        (here.kernel.clone(), here.cpu.clone(), here.cores, here.generator.clone())
    };
    if all().any(|run| machine(run) != machine(first)) {
        warnings.push("the runs are from different machines, kernels or versions of the generator".into());
    }
    if base.len() < 3 || other.len() < 3 {
        warnings.push("fewer than three runs on a side: no interval can be given; repeat the runs".into());
    }
    warnings
}

impl Comparison {
    /// A table in Markdown, which also reads as plain text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::from(
            "| metric | base | other | change | 95 % interval |\n| --- | ---: | ---: | ---: | --- |\n",
        );
        for row in &self.rows {
            let interval = match row.interval {
                Some((low, high)) => {
                    let sure = if low > 0.0 || high < 0.0 { "" } else { " (may be chance)" };
                    format!("{:+.1} % to {:+.1} %{sure}", low * 100.0, high * 100.0)
                }
                None => "-".into(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:+.1} % | {interval} |",
                row.metric,
                row.medians.0,
                row.medians.1,
                row.change * 100.0
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "\nWarning: {warning}.");
        }
        for tripped in &self.tripped {
            let _ = writeln!(out, "\nFAILED: {tripped}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Tally, tests::results};

    fn runs(rates: &[u64]) -> Vec<Results> {
        rates
            .iter()
            .map(|received| Results {
                total: Tally { seconds: 1.0, received: *received, ..Tally::default() },
                ..results()
            })
            .collect()
    }

    #[test]
    fn a_change_beyond_chance_has_an_interval_that_says_so() {
        let comparison = compare(&runs(&[100, 101, 99, 100]), &runs(&[120, 121, 119, 122]), &[]);
        let rate = &comparison.rows[0];
        assert!((rate.change - 0.205).abs() < 0.001, "{rate:?}");
        let (low, high) = rate.interval.unwrap();
        assert!(low > 0.15 && high < 0.25);
        assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    }

    #[test]
    fn conditions_trip_and_single_runs_have_no_interval() {
        let fail_on = [FailOn::parse("rate<-5%").unwrap(), FailOn::parse("p99>+10%").unwrap()];
        let comparison = compare(&runs(&[100]), &runs(&[90]), &fail_on);
        assert_eq!(comparison.tripped.len(), 2);
        assert!(comparison.rows[0].interval.is_none());
        assert!(comparison.render().contains("repeat the runs"));
    }

    #[test]
    fn invalid_and_faulty_runs_are_called_so() {
        let mut other = runs(&[100]);
        other[0].verdict.level = VerdictLevel::Invalid;
        other[0].correctness.lost = 1;
        let warnings = compare(&runs(&[100]), &other, &[]).warnings;
        assert!(warnings[0].contains("INVALID") && warnings[1].contains("faults"), "{warnings:?}");
    }
}

//! The seconds of a run as CSV, for spreadsheets.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::Results;

/// Writes a line a second.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)).with_context(|| format!("cannot write {}", path.display()))
}

fn render(results: &Results) -> String {
    let mut out = String::from(
        "second,open,joined,planned,sent,dropped,received,errors,p50_ns,p99_ns,p99_9_ns,max_ns,busiest_thread,server_cpu_seconds,server_resident_bytes\n",
    );
    for second in &results.intervals {
        let latency = &second.latency;
        let server = second.server.unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{:.3},{:.6},{}",
            second.second,
            second.open,
            second.joined,
            second.planned,
            second.sent,
            second.dropped,
            second.received,
            second.errors,
            latency.percentile(50.0),
            latency.percentile(99.0),
            latency.percentile(99.9),
            latency.max(),
            second.busiest_thread,
            server.cpu_seconds,
            server.resident
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::results::{Interval, tests::results};

    #[test]
    fn every_second_is_a_line_with_a_value_for_each_column() {
        let mut results = results();
        results.intervals = vec![Interval::default(), Interval { second: 1, ..Interval::default() }];
        let text = render(&results);
        let columns: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [15, 15, 15]);
    }
}

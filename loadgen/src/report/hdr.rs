//! Latencies as an HdrHistogram log (V2, compressed): one line a second, for the tools that read such logs.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::results::Results;

/// Values in the log are nanoseconds; the column of greatest values is in milliseconds.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Writes a line for each second in which something was delivered.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)?).with_context(|| format!("cannot write {}", path.display()))
}

fn render(results: &Results) -> Result<Vec<u8>> {
    let started = OffsetDateTime::parse(&results.started_at, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("{}, {}", results.environment.generator, results.scenario))
        .with_start_time(SystemTime::from(started))
        .with_base_time(SystemTime::from(started))
        .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
        .begin_log_with(&mut out, &mut serializer)?;
    let tag = Tag::new("latency").ok_or_else(|| anyhow!("the tag of the log"))?;
    for second in &results.intervals {
        if let Some(histogram) = second.latency.hdr() {
            let start = Duration::from_secs(second.second.into());
            log.write_histogram(histogram, start, Duration::from_secs(1), Some(tag))
                .map_err(|error| anyhow!("second {}: {error:?}", second.second))?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::render;
    use crate::results::{Interval, tests::results};

    #[test]
    fn seconds_with_deliveries_are_lines_that_the_library_reads() {
        let mut results = results();
        let mut busy = Interval { second: 1, ..Interval::default() };
        busy.latency.record(5_000_000);
        results.intervals = vec![Interval::default(), busy];
        let log = render(&results).unwrap();
        let lines = IntervalLogIterator::new(&log)
            .filter(|entry| matches!(entry, Ok(LogEntry::Interval(line)) if line.start_timestamp().as_secs() == 1))
            .count();
        assert_eq!(lines, 1, "{}", String::from_utf8_lossy(&log));
    }
}

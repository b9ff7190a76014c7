//! A line a second on stderr.

use std::cell::RefCell;

use crate::expression::nanoseconds;
use crate::run::{Second, Status};
use crate::view::{Heading, View};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    status: RefCell<Status>,
}

impl View for Lines {
    fn begin(&self, _heading: &Heading) {}

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    fn status(&self, status: &Status) {
        self.status.replace(*status);
    }

    fn second(&self, second: &Second) {
        eprintln!("{}", line(second, &self.status.borrow()));
    }
}

fn line(second: &Second, status: &Status) -> String {
    let interval = &second.interval;
    let faults = match status.faults.total() {
        0 => String::new(),
        faults => format!(", {faults} FAULTS"),
    };
    let latency = if interval.latency.count() == 0 {
        String::new()
    } else {
        format!(
            ", p50 {}, p99 {}",
            nanoseconds(interval.latency.percentile(50.0) as f64),
            nanoseconds(interval.latency.percentile(99.0) as f64)
        )
    };
    let regions = if second.detail.regions.len() < 2 {
        String::new()
    } else {
        let each = second.detail.regions.iter().map(|(name, region)| format!("{name} {}", region.open));
        format!(" ({})", each.collect::<Vec<_>>().join(", "))
    };
    format!(
        "{:>4} s {:<10} {}/{} open{regions}, {}/s sent, {}/s received{latency}, generator {:.0} %, {} errors{faults}",
        interval.second + 1,
        status.phase.words(),
        interval.open,
        status.wanted,
        interval.sent,
        interval.received,
        interval.busiest_thread * 100.0,
        interval.errors
    )
}

#[cfg(test)]
mod tests {
    use super::line;
    use crate::run::{Faults, Second, Status};

    #[test]
    fn a_line_has_latencies_where_something_came_and_faults_where_there_are_any() {
        let mut second = Second::default();
        let mut status = Status { wanted: 5, ..Status::default() };
        let quiet = line(&second, &status);
        assert!(quiet.contains("0/5 open") && !quiet.contains("p50") && !quiet.contains("FAULTS"));
        second.interval.latency.record(2_000_000);
        status.faults = Faults { lost: 3, ..Faults::default() };
        let loud = line(&second, &status);
        assert!(loud.contains("p50 2.00 ms") && loud.contains("3 FAULTS"), "{loud}");
    }
}

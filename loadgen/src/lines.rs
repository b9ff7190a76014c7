//! A line a second on stderr while a run goes on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::expression::nanoseconds;
use crate::results::Interval;
use crate::run::{Status, Watch};

/// See the module's documentation.
#[derive(Debug)]
pub struct Lines {
    is_quiet: bool,
    stop: Arc<AtomicBool>,
    status: RefCell<Status>,
}

impl Lines {
    /// Lines, or none; `stop` ends the load.
    #[must_use]
    pub fn new(is_quiet: bool, stop: Arc<AtomicBool>) -> Self {
        Self { is_quiet, stop, status: RefCell::default() }
    }
}

impl Watch for Lines {
    fn status(&self, status: &Status) {
        self.status.replace(status.clone());
    }

    fn interval(&self, second: &Interval) {
        if self.is_quiet {
            return;
        }
        let status = self.status.borrow();
        let faults = if status.faults > 0 { format!(", {} FAULTS", status.faults) } else { String::new() };
        eprintln!(
            "{:>4} s {:<10} {}/{} open, {}/s sent, {}/s received, p50 {}, p99 {}, generator {:.0} %, {} errors{faults}",
            second.second + 1,
            status.phase,
            second.open,
            status.wanted,
            second.sent,
            second.received,
            nanoseconds(second.latency.percentile(50.0) as f64),
            nanoseconds(second.latency.percentile(99.0) as f64),
            second.busiest_thread * 100.0,
            second.errors
        );
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

//! What a run tells while it goes on: to a terminal, to a file of progress, to the process that coordinates it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::results::{Correctness, Interval, Region};

/// Who watches a run. Called from the main thread, never from one that carries load.
pub trait Watch {
    /// Four times a second or so.
    fn status(&self, status: &Status);
    /// A second is over.
    fn second(&self, second: &Second);
    /// Whether the user asked to stop: the run then drains and reports what it has.
    fn is_stopped(&self) -> bool;
}

/// Where a run, or a thread of it, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its clients dial.
    #[default]
    Connecting,
    /// They have joined, or failed, and wait for the others'.
    Joined,
    /// They send.
    Load,
    /// They await what is under way.
    Draining,
    /// They leave.
    Closing,
    /// They are gone.
    Done,
}

impl Phase {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Joined => "waiting for the others",
            Self::Load => "sending",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Done => "done",
        }
    }
}

/// Faults found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// As in [`Correctness`]: told when a phase is over, since until then a delivery may still come.
    pub lost: u64,
    /// As in [`Correctness`].
    pub duplicated: u64,
    /// As in [`Correctness`].
    pub reordered: u64,
    /// As in [`Correctness`].
    pub corrupted: u64,
    /// As in [`Correctness`].
    pub diverged: u64,
    /// As in [`Correctness`].
    pub forgotten: u64,
}

impl Faults {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted + self.diverged + self.forgotten
    }

    pub(crate) fn add(&mut self, part: &Faults) {
        self.lost += part.lost;
        self.duplicated += part.duplicated;
        self.reordered += part.reordered;
        self.corrupted += part.corrupted;
        self.diverged += part.diverged;
        self.forgotten += part.forgotten;
    }
}

impl From<&Correctness> for Faults {
    fn from(found: &Correctness) -> Self {
        Self {
            lost: found.lost,
            duplicated: found.duplicated,
            reordered: found.reordered,
            corrupted: found.corrupted,
            diverged: found.diverged,
            forgotten: found.forgotten,
        }
    }
}

/// What stands now; given about every quarter of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The phase of whatever is furthest behind.
    pub phase: Phase,
    /// Seconds since the first dial.
    pub elapsed: f64,
    /// Seconds since the load began, warm-up included; none before.
    pub load_elapsed: Option<f64>,
    /// Seconds the load will take, warm-up included.
    pub load_seconds: f64,
    /// Connections wanted.
    pub wanted: u64,
    /// Open now.
    pub open: u64,
    /// Faults found so far.
    pub faults: Faults,
    /// Sends planned, per second, now.
    pub rate: f64,
}

/// A second that is over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// What results keep of it.
    pub interval: Interval,
    /// What only those who watch want to know.
    pub detail: Detail,
}

/// See [`Second::detail`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Detail {
    /// As the interval's latency, from the actual time of the send.
    pub uncorrected: Histogram,
    /// How late sends left.
    pub schedule_lag: Histogram,
    /// How long the loop took to come round.
    pub loop_lag: Histogram,
    /// Failures and dropped sends by cause.
    pub errors: BTreeMap<String, u64>,
    /// What happened in each region, and what stands there.
    pub regions: BTreeMap<String, Region>,
    /// What each thread had to do.
    pub threads: Vec<ThreadLoad>,
}

/// A thread of load in one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadLoad {
    /// Its name, as `worker 1`.
    pub name: String,
    /// CPU time by wall time, 0 to 1.
    pub busy: f64,
}

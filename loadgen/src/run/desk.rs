//! What passes between the main thread and a thread of load.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::mpsc::Sender;

use crate::results::{Correctness, GeneratorThread};
use crate::run::counts::Counts;
use crate::run::{Faults, Phase, Second};

/// Orders from the main thread, looked at every turn.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// When the load starts, nanoseconds of the run; 0: not known yet.
    pub(crate) start: AtomicU64,
    /// End the load now.
    pub(crate) stop: AtomicBool,
    /// Percent of the clients that may dial.
    pub(crate) dial_percent: AtomicU32,
}

/// What stands in a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    pub(crate) open: u64,
    pub(crate) faults: Faults,
    pub(crate) rate: f64,
}

/// News for the main thread: four a second, and one for each phase.
#[derive(Debug)]
pub(crate) enum Report {
    /// All clients that were to dial have joined or failed.
    Joined(Standing),
    /// Seconds that are over, and what stands.
    Seconds { finished: Vec<Second>, standing: Standing },
    /// The thread is done.
    Done(Box<anyhow::Result<Outcome>>),
}

/// A thread's way to the main thread.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) thread: usize,
    pub(crate) sender: Sender<(usize, Report)>,
}

impl Reporter {
    /// A main thread that is gone wants no news.
    pub(crate) fn send(&self, report: Report) {
        let _ = self.sender.send((self.thread, report));
    }
}

/// What a thread leaves behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) correctness: Correctness,
    pub(crate) thread: GeneratorThread,
    /// When its load ended, nanoseconds from its start; none where it never began.
    pub(crate) loaded: Option<u64>,
    /// Seconds that it has not told yet: the last one is none that went by.
    pub(crate) finished: Vec<Second>,
}

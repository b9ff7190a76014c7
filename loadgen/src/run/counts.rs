//! What one thread counts while it runs.

use std::collections::BTreeMap;

use crate::histogram::Histogram;
use crate::results::{Connections, Interval, Measure, Tally};
use crate::run::schedule::Part;

/// Counters of one stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageCounts {
    pub(crate) planned: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) frames_received: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) latency: Histogram,
    pub(crate) uncorrected: Histogram,
    pub(crate) acknowledge: Histogram,
    pub(crate) schedule_lag: Histogram,
    pub(crate) loop_lag: Histogram,
}

impl StageCounts {
    pub(crate) fn into_tally(self, seconds: f64) -> Tally {
        let timed = [
            (Measure::Latency, self.latency),
            (Measure::LatencyUncorrected, self.uncorrected),
            (Measure::Acknowledge, self.acknowledge),
            (Measure::ScheduleLag, self.schedule_lag),
            (Measure::LoopLag, self.loop_lag),
        ];
        Tally {
            seconds,
            planned: self.planned,
            sent: self.sent,
            dropped: self.dropped,
            expected: self.expected,
            received: self.received,
            frames_received: self.frames_received,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            errors: self.errors,
            latency: timed.into_iter().filter(|(_, histogram)| histogram.count() > 0).collect(),
        }
    }
}

/// Everything a thread counts.
#[derive(Debug)]
pub(crate) struct Counts {
    stages: Vec<StageCounts>,
    /// Where what belongs to no stage goes: warm-up, connecting, closing.
    outside: StageCounts,
    /// The stage that frames, bytes and errors of this moment belong to.
    current: Option<usize>,
    pub(crate) connects: BTreeMap<Measure, Histogram>,
    pub(crate) connections: Connections,
    pub(crate) interval: Interval,
    finished: Vec<Interval>,
    pub(crate) open: u64,
}

impl Counts {
    pub(crate) fn new(stages: usize) -> Self {
        Self {
            stages: vec![StageCounts::default(); stages],
            outside: StageCounts::default(),
            current: None,
            connects: BTreeMap::new(),
            connections: Connections::default(),
            interval: Interval::default(),
            finished: Vec::new(),
            open: 0,
        }
    }

    /// The counters of a part.
    pub(crate) fn part(&mut self, part: Part) -> &mut StageCounts {
        match part {
            Part::Stage(number) if number < self.stages.len() => &mut self.stages[number],
            _ => &mut self.outside,
        }
    }

    /// The counters of this moment.
    pub(crate) fn now(&mut self) -> &mut StageCounts {
        match self.current {
            Some(number) => &mut self.stages[number],
            None => &mut self.outside,
        }
    }

    /// From now on, this is the part.
    pub(crate) fn enter(&mut self, part: Option<Part>) {
        self.current = match part {
            Some(Part::Stage(number)) if number < self.stages.len() => Some(number),
            _ => None,
        };
    }

    /// Errors outside the load count too: they are in the total.
    pub(crate) fn error(&mut self, cause: String) {
        self.interval.errors += 1;
        *self.now().errors.entry(cause).or_default() += 1;
    }

    pub(crate) fn time(&mut self, measure: Measure, nanoseconds: u64) {
        self.connects.entry(measure).or_default().record(nanoseconds);
    }

    /// A connection stands; `is_counted` unless it only looks after the others.
    pub(crate) fn opened(&mut self, is_counted: bool) {
        self.open += 1;
        if is_counted {
            self.connections.peak = self.connections.peak.max(self.open);
        }
    }

    /// Ends seconds that are over.
    pub(crate) fn roll(&mut self, now: u64) {
        let second = u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX);
        while self.interval.second < second {
            let next = Interval { second: self.interval.second + 1, ..Interval::default() };
            self.interval.open = self.open;
            self.finished.push(std::mem::replace(&mut self.interval, next));
        }
    }

    pub(crate) fn take_finished(&mut self) -> Vec<Interval> {
        std::mem::take(&mut self.finished)
    }

    /// The stages, and errors from outside them.
    pub(crate) fn into_stages(self) -> (Vec<StageCounts>, BTreeMap<String, u64>) {
        (self.stages, self.outside.errors)
    }
}

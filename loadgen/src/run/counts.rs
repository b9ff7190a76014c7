//! What one thread counts while it runs.

use std::collections::BTreeMap;

use crate::histogram::Histogram;
use crate::results::{Connections, Interval, Measure, Tally};
use crate::run::regions::Regions;
use crate::run::schedule::Part;
use crate::run::{Detail, Second, ThreadLoad};

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
    pub(crate) regions: Regions,
    pub(crate) interval: Interval,
    pub(crate) detail: Detail,
    finished: Vec<Second>,
    /// Readings of this thread's CPU in this second.
    busy: Vec<f64>,
    thread: String,
    pub(crate) open: u64,
}

impl Counts {
    pub(crate) fn new(stages: usize, thread: &str) -> Self {
        Self {
            stages: vec![StageCounts::default(); stages],
            outside: StageCounts::default(),
            current: None,
            connects: BTreeMap::new(),
            connections: Connections::default(),
            regions: Regions::default(),
            interval: Interval::default(),
            detail: Detail::default(),
            finished: Vec::new(),
            busy: Vec::new(),
            thread: thread.to_owned(),
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
    pub(crate) fn error(&mut self, cause: &str) {
        self.interval.errors += 1;
        count(&mut self.detail.errors, cause);
        count(&mut self.now().errors, cause);
    }

    /// A planned send, or dial, that never left.
    pub(crate) fn dropped(&mut self, part: Part, cause: &str) {
        self.interval.dropped += 1;
        count(&mut self.detail.errors, cause);
        let counts = self.part(part);
        counts.dropped += 1;
        count(&mut counts.errors, cause);
    }

    /// A send, or dial, is planned, and looked at so late.
    pub(crate) fn planned(&mut self, part: Part, lag: u64) {
        self.interval.planned += 1;
        self.detail.schedule_lag.record(lag);
        let counts = self.part(part);
        counts.planned += 1;
        counts.schedule_lag.record(lag);
    }

    /// How busy the thread was since the last reading.
    pub(crate) fn busy(&mut self, busy: f64) {
        self.busy.push(busy);
        self.interval.busiest_thread = self.interval.busiest_thread.max(busy);
    }

    pub(crate) fn time(&mut self, measure: Measure, nanoseconds: u64) {
        self.connects.entry(measure).or_default().record(nanoseconds);
    }

    /// A connection stands, upgraded; `is_counted` unless it only looks after the others.
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
            self.detail.regions = self.regions.roll();
            let readings = self.busy.len().max(1) as f64;
            let busy = self.busy.drain(..).sum::<f64>() / readings;
            self.detail.threads.push(ThreadLoad { name: self.thread.clone(), busy });
            self.finished.push(Second {
                interval: std::mem::replace(&mut self.interval, next),
                detail: std::mem::take(&mut self.detail),
            });
        }
    }

    pub(crate) fn take_finished(&mut self) -> Vec<Second> {
        std::mem::take(&mut self.finished)
    }

    /// The stages, and errors from outside them.
    pub(crate) fn into_stages(self) -> (Vec<StageCounts>, BTreeMap<String, u64>) {
        (self.stages, self.outside.errors)
    }
}

/// Causes told apart; a server that gives every connection a reason of its own would fill memory and summary with them.
const CAUSES_MAX: usize = 64;
/// Where the rest goes.
const OTHER_CAUSES: &str = "other causes";

/// Counts one more of a cause.
pub(crate) fn count(causes: &mut BTreeMap<String, u64>, cause: &str) {
    if let Some(count) = causes.get_mut(cause) {
        *count += 1;
    } else {
        let cause = if causes.len() < CAUSES_MAX { cause } else { OTHER_CAUSES };
        *causes.entry(cause.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_beyond_the_bound_are_counted_together() {
        let mut causes = BTreeMap::new();
        for number in 0..100 {
            count(&mut causes, &format!("closed 1008 request {number}"));
            count(&mut causes, "reset");
        }
        assert_eq!(causes.len(), CAUSES_MAX + 1);
        assert_eq!((causes["reset"], causes[OTHER_CAUSES]), (100, 37));
    }
}

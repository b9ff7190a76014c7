//! What a live view knows: the last second, the run so far, and the course of both.

use std::collections::{BTreeMap, VecDeque};

use crate::histogram::Histogram;
use crate::results::{
    Connections, Generator, GeneratorThread, Measure, Region, ServerSample, Tally, Verdict,
};
use crate::run::{Phase, Second, Status};
use crate::sum::add_regions;
use crate::verdict::{Evidence, verdict};
use crate::view::Heading;

/// Seconds whose course is kept: older ones go.
pub const COURSE_MAX: usize = 900;
/// Notes kept.
const NOTES_MAX: usize = 4;

/// One second of the course.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Seconds from the first dial.
    pub second: u32,
    /// Sends planned.
    pub planned: u64,
    /// Sends that left.
    pub sent: u64,
    /// Deliveries.
    pub received: u64,
    /// Nanoseconds; none where nothing came.
    pub latency: Option<[u64; 3]>,
    /// Of the generator's busiest thread, 0 to 1.
    pub busiest: f64,
    /// The server, if it is watched.
    pub server: Option<ServerSample>,
}

/// The percentiles of [`Point::latency`].
pub const COURSE_PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("max", 100.0)];

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What runs.
    pub heading: Heading,
    /// What stands.
    pub status: Status,
    /// The last second.
    pub last: Second,
    /// Seconds, the newest last.
    pub course: VecDeque<Point>,
    /// Latency over the run.
    pub latency: Histogram,
    /// The same from the actual times of the sends.
    pub uncorrected: Histogram,
    /// Failures and dropped sends over the run, by cause.
    pub errors: BTreeMap<String, u64>,
    /// What happened in each region over the run, and what stands there.
    pub regions: BTreeMap<String, Region>,
    /// What else was said, the newest last.
    pub notes: VecDeque<String>,
    /// Whether the user ended the load.
    pub is_stopping: bool,
    /// What the verdict is told from.
    total: Tally,
    threads: BTreeMap<String, f64>,
    measured: u32,
    peak: u64,
}

impl Model {
    /// Another run begins.
    pub fn begin(&mut self, heading: &Heading) {
        let notes = std::mem::take(&mut self.notes);
        *self = Self { heading: heading.clone(), notes, ..Self::default() };
    }

    /// Something was said.
    pub fn note(&mut self, text: &str) {
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(text.to_owned());
    }

    /// What stands now.
    pub fn status(&mut self, status: &Status) {
        self.status = *status;
        self.peak = self.peak.max(status.open);
    }

    /// A second is over.
    pub fn second(&mut self, second: &Second) {
        let Second { interval, detail } = second;
        self.latency.add(&interval.latency);
        self.uncorrected.add(&detail.uncorrected);
        for (cause, count) in &detail.errors {
            *self.errors.entry(cause.clone()).or_default() += count;
        }
        self.regions.values_mut().for_each(|region| region.open = 0);
        add_regions(&mut self.regions, &detail.regions);
        self.peak = self.peak.max(interval.open);
        let is_measured = self.status.phase == Phase::Load
            && self.status.load_elapsed.is_some_and(|elapsed| elapsed > self.heading.warm_up + 1.0);
        if is_measured {
            self.measured += 1;
            self.total.planned += interval.planned;
            self.total.dropped += interval.dropped;
            for (cause, count) in &detail.errors {
                *self.total.errors.entry(cause.clone()).or_default() += count;
            }
            self.total.latency.entry(Measure::ScheduleLag).or_default().add(&detail.schedule_lag);
            for thread in &detail.threads {
                *self.threads.entry(thread.name.clone()).or_default() += thread.busy;
            }
        }
        if self.course.len() == COURSE_MAX {
            self.course.pop_front();
        }
        let latency = &interval.latency;
        self.course.push_back(Point {
            second: interval.second,
            planned: interval.planned,
            sent: interval.sent,
            received: interval.received,
            latency: (latency.count() > 0)
                .then(|| COURSE_PERCENTILES.map(|(_, percentile)| latency.percentile(percentile))),
            busiest: interval.busiest_thread,
            server: interval.server,
        });
        self.last = second.clone();
    }

    /// The verdict on what was measured so far; none before anything was.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        if self.measured == 0 {
            return None;
        }
        let seconds = f64::from(self.measured);
        let threads = self.threads.iter().map(|(name, busy)| GeneratorThread {
            name: name.clone(),
            busy: busy / seconds,
            ..GeneratorThread::default()
        });
        let generator = Generator { threads: threads.collect(), ..Generator::default() };
        let connections = Connections {
            wanted: self.status.wanted,
            peak: self.peak,
            joined: self.peak,
            ..Connections::default()
        };
        Some(verdict(&Evidence {
            total: &self.total,
            generator: &generator,
            connections: &connections,
            is_open: self.heading.is_open,
            all_stand: self.heading.all_stand,
            seconds,
            is_stopped: false,
        }))
    }

    /// How the server does, if it is watched.
    #[must_use]
    pub fn server(&self) -> Option<ServerSample> {
        self.last.interval.server
    }
}

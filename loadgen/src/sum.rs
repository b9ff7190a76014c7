//! Adding up: parts of threads and of processes become wholes. Nothing is averaged.

use std::collections::BTreeMap;

use crate::results::{Connections, Correctness, Interval, Region, ServerSample, Tally};
use crate::run::{Detail, Second, StageCounts};

fn add_counts(whole: &mut BTreeMap<String, u64>, part: &BTreeMap<String, u64>) {
    for (cause, count) in part {
        *whole.entry(cause.clone()).or_default() += count;
    }
}

impl StageCounts {
    pub(crate) fn add(&mut self, part: &StageCounts) {
        self.planned += part.planned;
        self.sent += part.sent;
        self.dropped += part.dropped;
        self.expected += part.expected;
        self.received += part.received;
        self.frames_received += part.frames_received;
        self.bytes_out += part.bytes_out;
        self.bytes_in += part.bytes_in;
        add_counts(&mut self.errors, &part.errors);
        self.latency.add(&part.latency);
        self.uncorrected.add(&part.uncorrected);
        self.acknowledge.add(&part.acknowledge);
        self.schedule_lag.add(&part.schedule_lag);
        self.loop_lag.add(&part.loop_lag);
    }
}

impl Tally {
    /// Adds another stretch of time: seconds add up too.
    pub(crate) fn add(&mut self, part: &Tally) {
        self.seconds += part.seconds;
        self.add_beside(part);
    }

    /// Adds what happened elsewhere in the same time.
    pub(crate) fn add_beside(&mut self, part: &Tally) {
        self.planned += part.planned;
        self.sent += part.sent;
        self.dropped += part.dropped;
        self.expected += part.expected;
        self.received += part.received;
        self.frames_received += part.frames_received;
        self.bytes_out += part.bytes_out;
        self.bytes_in += part.bytes_in;
        add_counts(&mut self.errors, &part.errors);
        for (measure, histogram) in &part.latency {
            self.latency.entry(*measure).or_default().add(histogram);
        }
    }
}

impl Interval {
    /// Adds what happened elsewhere in the same second.
    pub(crate) fn add(&mut self, part: &Interval) {
        self.open += part.open;
        self.planned += part.planned;
        self.sent += part.sent;
        self.received += part.received;
        self.joined += part.joined;
        self.errors += part.errors;
        self.dropped += part.dropped;
        self.latency.add(&part.latency);
        self.busiest_thread = self.busiest_thread.max(part.busiest_thread);
        self.server = match (self.server, part.server) {
            // Every process watches the same server.
            (Some(one), Some(other)) => Some(ServerSample {
                cpu_seconds: one.cpu_seconds.max(other.cpu_seconds),
                resident: one.resident.max(other.resident),
            }),
            (one, other) => one.or(other),
        };
    }
}

impl Second {
    /// Adds what happened elsewhere in the same second.
    pub(crate) fn add(&mut self, part: &Second) {
        self.interval.add(&part.interval);
        self.detail.add(&part.detail);
    }
}

impl Detail {
    /// Adds what happened elsewhere in the same time.
    pub(crate) fn add(&mut self, part: &Detail) {
        self.uncorrected.add(&part.uncorrected);
        self.schedule_lag.add(&part.schedule_lag);
        self.loop_lag.add(&part.loop_lag);
        add_counts(&mut self.errors, &part.errors);
        add_regions(&mut self.regions, &part.regions);
        self.threads.extend(part.threads.iter().cloned());
        // `worker 10` behind `worker 9`.
        self.threads.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
    }
}

impl Connections {
    /// Adds other clients. Peaks add up, since all stand at the same time while the load runs.
    pub(crate) fn add(&mut self, part: &Connections) {
        self.wanted += part.wanted;
        self.dialled += part.dialled;
        self.joined += part.joined;
        self.peak += part.peak;
        add_counts(&mut self.failed, &part.failed);
        add_counts(&mut self.lost, &part.lost);
        self.absent += part.absent;
        self.redirected += part.redirected;
        self.pings += part.pings;
    }
}

/// Adds what clients met elsewhere.
pub(crate) fn add_regions(whole: &mut BTreeMap<String, Region>, part: &BTreeMap<String, Region>) {
    for (name, region) in part {
        whole.entry(name.clone()).or_default().add(region);
    }
}

impl Region {
    /// Adds other clients; peaks add up, as those of all connections do.
    pub(crate) fn add(&mut self, part: &Region) {
        self.dialled += part.dialled;
        self.failed += part.failed;
        self.joined += part.joined;
        self.open += part.open;
        self.peak += part.peak;
        self.sent_away += part.sent_away;
        self.sent_here += part.sent_here;
        self.lost += part.lost;
        self.redirect.add(&part.redirect);
        self.recover.add(&part.recover);
    }
}

impl Correctness {
    /// Adds other receivers.
    pub(crate) fn add(&mut self, part: &Correctness) {
        self.checked += part.checked;
        self.lost += part.lost;
        self.duplicated += part.duplicated;
        self.reordered += part.reordered;
        self.corrupted += part.corrupted;
        self.late += part.late;
        self.converged += part.converged;
        self.diverged += part.diverged;
        self.forgotten += part.forgotten;
        self.examples.extend(part.examples.iter().cloned());
    }
}

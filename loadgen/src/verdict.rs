//! Can the figures be trusted? Told from how the generator itself fared, by rules that stand here alone.

use crate::results::{Connections, Generator, Measure, Tally, Verdict, VerdictLevel};

/// Share of a core above which a thread has no room left to keep its schedule.
const BUSY_INVALID: f64 = 0.97;
/// Share above which short bursts already wait.
const BUSY_DEGRADED: f64 = 0.80;
/// Share of planned sends that may be dropped because the generator was late.
const DROPPED_INVALID: f64 = 0.01;
/// How late one send in a hundred may leave, nanoseconds.
const LAG_INVALID: u64 = 100_000_000;
const LAG_DEGRADED: u64 = 5_000_000;
/// Share of the time that a thread may be ready and not run.
const STARVED_DEGRADED: f64 = 0.10;
/// Share of the wanted connections that must have joined.
const JOINED_INVALID: f64 = 0.99;

/// What the verdict is told from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) total: &'a Tally,
    pub(crate) generator: &'a Generator,
    pub(crate) connections: &'a Connections,
    /// Whether sends had planned times: in a closed load, a busy generator is as it should be only if the server waits.
    pub(crate) is_open: bool,
    /// Whether all connections are to stand at one time.
    pub(crate) all_stand: bool,
    /// Seconds of load.
    pub(crate) seconds: f64,
    /// Whether the user ended it early.
    pub(crate) is_stopped: bool,
}

/// The verdict.
pub(crate) fn verdict(evidence: &Evidence<'_>) -> Verdict {
    let mut found: Vec<(VerdictLevel, String)> = Vec::new();
    let mut find = |level: VerdictLevel, reason: String| found.push((level, reason));
    for thread in &evidence.generator.threads {
        let busy = thread.busy * 100.0;
        if thread.busy > BUSY_INVALID {
            find(
                if evidence.is_open { VerdictLevel::Invalid } else { VerdictLevel::Degraded },
                format!(
                    "{} was busy {busy:.0} % of the time: it was the limit, or close to it; give the generator more threads or processes, or ask for less",
                    thread.name
                ),
            );
        } else if thread.busy > BUSY_DEGRADED {
            find(
                VerdictLevel::Degraded,
                format!(
                    "{} was busy {busy:.0} % of the time: bursts waited in the generator; read the highest percentiles with care",
                    thread.name
                ),
            );
        }
        let starved = thread.starved_seconds / evidence.seconds.max(1e-9);
        if starved > STARVED_DEGRADED {
            find(
                VerdictLevel::Degraded,
                format!(
                    "{} was ready to run but had no core {:.0} % of the time: give it a core of its own (--cores), or stop what else runs",
                    thread.name,
                    starved * 100.0
                ),
            );
        }
    }
    if evidence.is_open {
        judge_schedule(evidence, &mut find);
    }
    // One that stands and was never let in is of no use.
    let (wanted, joined) =
        (evidence.connections.wanted, evidence.connections.peak.min(evidence.connections.joined));
    if evidence.all_stand && (joined as f64) < JOINED_INVALID * wanted as f64 {
        find(
            VerdictLevel::Invalid,
            format!("only {joined} of {wanted} connections stood: see what failed and was lost"),
        );
    }
    if evidence.is_stopped {
        find(VerdictLevel::Degraded, "the run was stopped before its end".into());
    }
    // What decides stands first.
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = found.first().map_or(VerdictLevel::Valid, |(level, _)| *level);
    Verdict { level, reasons: found.into_iter().map(|(_, reason)| reason).collect() }
}

fn judge_schedule(evidence: &Evidence<'_>, find: &mut impl FnMut(VerdictLevel, String)) {
    let total = evidence.total;
    let late_drops = total.errors.get("send dropped: the generator is too far behind").copied().unwrap_or(0);
    let dropped = late_drops as f64 / (total.planned as f64).max(1.0);
    if dropped > DROPPED_INVALID {
        find(
            VerdictLevel::Invalid,
            format!(
                "{late_drops} of {} planned sends ({:.1} %) were dropped because the generator was too far behind: ask for less, or give it more threads",
                total.planned,
                dropped * 100.0
            ),
        );
    }
    if let Some(lag) = total.latency.get(&Measure::ScheduleLag) {
        let p99 = lag.percentile(99.0);
        let millis = p99 as f64 / 1e6;
        if p99 > LAG_INVALID {
            find(
                VerdictLevel::Invalid,
                format!(
                    "one send in a hundred left {millis:.0} ms late or later: the latencies are the generator's own"
                ),
            );
        } else if p99 > LAG_DEGRADED {
            find(
                VerdictLevel::Degraded,
                format!(
                    "one send in a hundred left {millis:.1} ms late or later; that is part of the corrected latency"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::results::GeneratorThread;

    fn judge(busy: f64, lag_ns: u64, is_open: bool, peak: u64) -> Verdict {
        let mut lag = Histogram::default();
        lag.record(lag_ns);
        let total = Tally { planned: 100, latency: [(Measure::ScheduleLag, lag)].into(), ..Tally::default() };
        let generator = Generator {
            threads: vec![GeneratorThread { busy, ..GeneratorThread::default() }],
            ..Generator::default()
        };
        let connections = Connections { wanted: 100, peak, joined: peak, ..Connections::default() };
        verdict(&Evidence {
            total: &total,
            generator: &generator,
            connections: &connections,
            is_open,
            all_stand: true,
            seconds: 1.0,
            is_stopped: false,
        })
    }

    #[test]
    fn a_generator_with_room_is_valid_and_says_nothing() {
        let verdict = judge(0.3, 20_000, true, 100);
        assert_eq!((verdict.level, verdict.reasons.len()), (VerdictLevel::Valid, 0));
    }

    #[test]
    fn a_generator_at_its_limit_is_not_trusted() {
        assert_eq!(judge(0.99, 0, true, 100).level, VerdictLevel::Invalid);
        assert_eq!(judge(0.85, 0, true, 100).level, VerdictLevel::Degraded);
        assert_eq!(judge(0.99, 0, false, 100).level, VerdictLevel::Degraded);
    }

    #[test]
    fn late_sends_and_missing_connections_count_too() {
        assert_eq!(judge(0.3, 200_000_000, true, 100).level, VerdictLevel::Invalid);
        assert_eq!(judge(0.3, 20_000_000, true, 100).level, VerdictLevel::Degraded);
        assert_eq!(judge(0.3, 200_000_000, false, 100).level, VerdictLevel::Valid);
        assert_eq!(judge(0.3, 0, true, 50).level, VerdictLevel::Invalid);
    }
}

//! Results of several processes become those of one run: counts add up, histograms add count by count, seconds are laid
//! over each other. No percentile is ever made of percentiles.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::results::{ClockOffset, Generator, Interval, ProcessPart, Results, Verdict, VerdictLevel};
use crate::run::EXAMPLES_MAX;
use crate::sum::add_regions;

/// What one process brings.
#[derive(Debug)]
pub struct Part {
    /// How it is called in results.
    pub name: String,
    /// The machine it ran on: what is counted by machine is counted once.
    pub host: String,
    /// Its clock against the coordinator's, if it was measured.
    pub clock: Option<ClockOffset>,
    /// What it measured, or why it measured nothing.
    pub results: Result<Results, String>,
}

/// Puts parts together that have been started at one moment, `seconds` being those of all of them. None if nobody has
/// results.
#[must_use]
pub fn merge(parts: Vec<Part>, seconds: Vec<Interval>) -> Option<Results> {
    let mut whole: Option<Results> = None;
    let mut processes = Vec::new();
    let mut retransmits: BTreeMap<String, u64> = BTreeMap::new();
    for Part { name, host, clock, results } in parts {
        let mut results = match results {
            Ok(results) => results,
            Err(failure) => {
                let verdict = Verdict { level: VerdictLevel::Invalid, reasons: vec![failure.clone()] };
                let failure = Some(failure);
                processes.push(ProcessPart { name, failure, clock, verdict, ..ProcessPart::default() });
                continue;
            }
        };
        let seen = retransmits.entry(host).or_default();
        *seen = results.generator.retransmits.max(*seen);
        results.correctness.examples.iter_mut().for_each(|fault| *fault = format!("{name}: {fault}"));
        processes.push(part(&name, clock, &results));
        results
            .generator
            .threads
            .iter_mut()
            .for_each(|thread| thread.name = format!("{name} {}", thread.name));
        match &mut whole {
            None => whole = Some(results),
            Some(whole) => add(whole, &results),
        }
    }
    let mut whole = whole?;
    whole.generator.retransmits = retransmits.values().sum();
    whole.correctness.examples.truncate(EXAMPLES_MAX);
    whole.intervals = seconds;
    whole.verdict = verdict(&processes);
    whole.processes = processes;
    Some(whole)
}

/// Puts result files together of runs that were started by hand, at about the same time.
///
/// # Errors
/// They are not of the same scenario, or one has no time.
pub fn merge_files(files: Vec<(String, Results)>) -> Result<Option<Results>> {
    let mut started = Vec::new();
    for (name, results) in &files {
        let first = &files[0].1;
        ensure!(
            results.scenario == first.scenario && results.stages.len() == first.stages.len(),
            "{name} is of `{}` with {} stages, {} of `{}` with {}: only parts of one load can be merged",
            results.scenario,
            results.stages.len(),
            files[0].0,
            first.scenario,
            first.stages.len()
        );
        ensure!(
            results.processes.is_empty(),
            "{name} has been merged already: merge the files it was made of"
        );
        let at = OffsetDateTime::parse(&results.started_at, &Rfc3339);
        started.push(at.map_err(|_| anyhow::anyhow!("{name}: started_at is no time"))?);
    }
    let first = started.iter().min().copied().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut seconds: BTreeMap<u32, Interval> = BTreeMap::new();
    for ((_, results), started) in files.iter().zip(&started) {
        // Seconds are as fine as it gets: nobody held the clocks of these runs together.
        let later =
            u32::try_from((*started - first).whole_milliseconds().max(0) + 500).unwrap_or(u32::MAX) / 1000;
        for interval in &results.intervals {
            let second = interval.second.saturating_add(later);
            let whole = seconds.entry(second).or_insert_with(|| Interval { second, ..Interval::default() });
            whole.add(interval);
        }
    }
    let spread = (started.iter().max().copied().unwrap_or(first) - first).as_seconds_f64();
    let parts = files.into_iter().enumerate().map(|(at, (name, results))| {
        // Files do not say on which machine they were made; each is taken to be from another.
        Part { name, host: at.to_string(), clock: None, results: Ok(results) }
    });
    let mut whole = merge(parts.collect(), seconds.into_values().collect());
    if let Some(whole) = whole.as_mut().filter(|_| spread >= 1.0) {
        whole.started_at = first.format(&Rfc3339)?;
        whole.verdict.level = whole.verdict.level.max(VerdictLevel::Degraded);
        whole.verdict.reasons.push(format!(
            "the first and the last of these runs began {spread:.1} s apart: their loads did not coincide; use agents to \
             start them at one moment"
        ));
    }
    Ok(whole)
}

fn part(name: &str, clock: Option<ClockOffset>, results: &Results) -> ProcessPart {
    ProcessPart {
        name: name.to_owned(),
        failure: None,
        clock,
        environment: results.environment.clone(),
        total: results.total.clone(),
        connections: results.connections.clone(),
        correctness: results.correctness.clone(),
        generator: results.generator.clone(),
        verdict: results.verdict.clone(),
    }
}

fn add(whole: &mut Results, part: &Results) {
    for (stage, other) in whole.stages.iter_mut().zip(&part.stages) {
        stage.tally.add_beside(&other.tally);
        stage.tally.seconds = stage.tally.seconds.max(other.tally.seconds);
        stage.duration_ms = stage.duration_ms.max(other.duration_ms);
        if let (Some((from, to)), Some((other_from, other_to))) = (&mut stage.rate, other.rate) {
            // What a process plans is in its counts; the plan of the whole is the same in all that share one scenario.
            (*from, *to) = (from.max(other_from), to.max(other_to));
        }
    }
    let total = &mut whole.total;
    total.add_beside(&part.total);
    total.seconds = total.seconds.max(part.total.seconds);
    whole.connections.add(&part.connections);
    add_regions(&mut whole.regions, &part.regions);
    whole.correctness.add(&part.correctness);
    let Generator { threads, retransmits: _, memory_peak } = &part.generator;
    whole.generator.threads.extend(threads.iter().cloned());
    whole.generator.memory_peak += memory_peak;
    whole.server = whole.server.take().or_else(|| part.server.clone());
}

/// The worst of the parts'. What all of them say is said once, what one says with its name.
fn verdict(parts: &[ProcessPart]) -> Verdict {
    let mut verdict = Verdict::default();
    for part in parts {
        verdict.level = verdict.level.max(part.verdict.level);
        if let Some(failure) = &part.failure {
            verdict
                .reasons
                .push(format!("{} has no figures: {failure}; the rest is of the others", part.name));
            continue;
        }
        for reason in &part.verdict.reasons {
            let mut others = parts.iter().filter(|other| other.failure.is_none());
            let is_shared = others.all(|other| other.verdict.reasons.contains(reason));
            let reason = if is_shared { reason.clone() } else { format!("{}: {reason}", part.name) };
            if !verdict.reasons.contains(&reason) {
                verdict.reasons.push(reason);
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::results::{Measure, Stage, Tally, tests::results};

    fn of(latencies: &[u64], started_at: &str) -> Results {
        let mut results = results();
        results.started_at = started_at.into();
        let mut histogram = Histogram::default();
        latencies.iter().for_each(|latency| histogram.record(*latency));
        let tally = Tally {
            seconds: 10.0,
            sent: latencies.len() as u64,
            latency: [(Measure::Latency, histogram)].into(),
            ..Tally::default()
        };
        results.total = tally.clone();
        results.stages = vec![Stage {
            name: "1".into(),
            start_ms: 0,
            duration_ms: 10_000,
            rate: Some((10.0, 10.0)),
            tally,
        }];
        results.intervals = vec![Interval { second: 0, received: 5, ..Interval::default() }];
        results.generator.retransmits = 7;
        results
    }

    fn with(name: &str, host: &str, results: Result<Results, String>) -> Part {
        Part { name: name.into(), host: host.into(), clock: None, results }
    }

    #[test]
    fn percentiles_are_those_of_all_values_together() {
        // One process sees 99 fast deliveries, the other one slow one: the mean of their medians would be half a second.
        let parts =
            vec![with("a", "h", Ok(of(&[1_000_000; 99], ""))), with("b", "h", Ok(of(&[1_000_000_000], "")))];
        let whole = merge(parts, Vec::new()).unwrap();
        let latency = &whole.total.latency[&Measure::Latency];
        assert!(latency.percentile(50.0) < 1_010_000 && latency.max() > 990_000_000);
        assert_eq!((whole.total.sent, whole.total.seconds), (100, 10.0));
        assert_eq!((whole.stages[0].tally.sent, whole.processes.len()), (100, 2));
        // Both looked at the same machine's counter.
        assert_eq!(whole.generator.retransmits, 7);
    }

    #[test]
    fn a_process_without_results_makes_the_whole_invalid_by_name() {
        let parts = vec![with("a", "h", Ok(of(&[1], ""))), with("b", "h", Err("it was killed".into()))];
        let whole = merge(parts, Vec::new()).unwrap();
        assert_eq!(whole.verdict.level, VerdictLevel::Invalid);
        assert!(whole.verdict.reasons[0].starts_with("b has no figures: it was killed"));
        assert!(merge(vec![with("b", "h", Err("x".into()))], Vec::new()).is_none());
    }

    #[test]
    fn what_all_say_is_said_once() {
        let mut stopped = of(&[1], "");
        stopped.verdict.reasons = vec!["stopped".into()];
        let mut busy = stopped.clone();
        busy.verdict.reasons.push("busy".into());
        let whole = merge(vec![with("a", "h", Ok(stopped)), with("b", "h", Ok(busy))], Vec::new()).unwrap();
        assert_eq!(whole.verdict.reasons, ["stopped", "b: busy"]);
    }

    #[test]
    fn files_are_laid_over_each_other_by_the_time_they_began() {
        let files = vec![
            ("a".to_owned(), of(&[1], "2026-01-01T00:00:02Z")),
            ("b".to_owned(), of(&[1], "2026-01-01T00:00:00.9Z")),
        ];
        let whole = merge_files(files).unwrap().unwrap();
        let seconds: Vec<u32> = whole.intervals.iter().map(|interval| interval.second).collect();
        assert_eq!(seconds, [0, 1]);
        assert!(whole.verdict.reasons[0].contains("1.1 s apart"), "{:?}", whole.verdict);
        let mut other = of(&[1], "2026-01-01T00:00:02Z");
        other.scenario = "raw".into();
        let files = vec![("a".into(), of(&[1], "2026-01-01T00:00:02Z")), ("b".into(), other)];
        assert!(merge_files(files).unwrap_err().to_string().contains("`raw`"));
    }
}

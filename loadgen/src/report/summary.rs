//! What a run found, as text that a newcomer can read: the verdict first, then what it is about.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use crate::expression::nanoseconds;
use crate::histogram::Histogram;
use crate::results::{Measure, Results, Tally, VerdictLevel};

/// Measures after the two latencies, with what they are.
const MEASURES: [(Measure, &str); 6] = [
    (Measure::ConnectTcp, "TCP connect"),
    (Measure::Upgrade, "upgrade"),
    (Measure::Join, "join"),
    (Measure::Redirect, "redirected"),
    (Measure::Recover, "recovered"),
    (Measure::Acknowledge, "acknowledged"),
];

/// The summary, at most 100 columns wide.
#[must_use]
pub fn render(results: &Results) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, results);
    out
}

fn write(out: &mut String, results: &Results) -> fmt::Result {
    let level = match results.verdict.level {
        VerdictLevel::Valid => "VALID",
        VerdictLevel::Degraded => "DEGRADED",
        VerdictLevel::Invalid => "INVALID",
    };
    let faults = results.correctness.faults();
    let judged = match faults {
        0 if results.correctness.checked == 0 => "nothing was delivered".to_owned(),
        0 => "nothing lost or wrong".to_owned(),
        faults => format!("{faults} FAULTS"),
    };
    writeln!(out, "\n{}: {level}, {judged}", results.scenario)?;
    for reason in &results.verdict.reasons {
        writeln!(out, "  - {reason}")?;
    }
    connections(out, results)?;
    load(out, &results.total)?;
    latency(out, &results.total)?;
    if results.stages.len() > 1 {
        stages(out, results)?;
    }
    correctness(out, results)?;
    causes(out, "errors", &results.total.errors)?;
    server(out, results)?;
    generator(out, results)?;
    processes(out, results)?;
    for step in &results.search {
        let held = if step.held { "holds" } else { "fails" };
        writeln!(out, "search        {:.0}/s {held}: {}", step.rate, step.seen)?;
    }
    for assertion in &results.assertions {
        let held = if assertion.held { "ok    " } else { "FAILED" };
        writeln!(out, "assert        {held} {} ({})", assertion.expression, assertion.seen)?;
    }
    Ok(())
}

fn connections(out: &mut String, results: &Results) -> fmt::Result {
    let found = &results.connections;
    write(
        out,
        "connections",
        format_args!(
            "{} of {} stood at once, {} dials, {} joins, {} pings answered",
            found.peak, found.wanted, found.dialled, found.joined, found.pings
        ),
    )?;
    if found.redirected > 0 {
        write(out, "", format_args!("{} redirects followed", found.redirected))?;
    }
    regions(out, results)?;
    causes(out, "failed", &found.failed)?;
    causes(out, "lost", &found.lost)?;
    let mut told: Vec<&str> =
        found.failed.keys().chain(found.lost.keys()).filter_map(|cause| hint(cause)).collect();
    told.dedup();
    for hint in told {
        write(out, "", format_args!("-> {hint}"))?;
    }
    return Ok(());

    fn write(out: &mut String, name: &str, text: impl Display) -> fmt::Result {
        writeln!(out, "{name:<13} {text}")
    }
}

/// Each region in a line or two, where there are several.
fn regions(out: &mut String, results: &Results) -> fmt::Result {
    if results.regions.len() < 2 {
        return Ok(());
    }
    for (number, (name, region)) in results.regions.iter().enumerate() {
        writeln!(
            out,
            "{:<13} {name}: {} joins, {} stood at once, {} sent elsewhere, {} lost",
            if number == 0 { "regions" } else { "" },
            region.joined,
            region.peak,
            region.sent_away,
            region.lost
        )?;
        for (what, timed) in [("redirected here", &region.redirect), ("lost here, back", &region.recover)] {
            if timed.count() > 0 {
                writeln!(
                    out,
                    "{:<15} {} {what} after {} (p50), {} (p99), {} (max)",
                    "",
                    timed.count(),
                    nanoseconds(timed.percentile(50.0) as f64),
                    nanoseconds(timed.percentile(99.0) as f64),
                    nanoseconds(timed.max() as f64)
                )?;
            }
        }
    }
    Ok(())
}

/// What a failure most often comes from, and what to try.
fn hint(cause: &str) -> Option<&'static str> {
    if cause.contains("connection refused") {
        Some("nobody listens there: is the server up, and --url its address?")
    } else if cause.starts_with("refused 401")
        || cause.starts_with("closed 4001")
        || cause.starts_with("permission denied")
    {
        Some("the server wants to know who connects: give --secret, --key or --token")
    } else if cause.starts_with("refused 404")
        || cause.starts_with("refused 400")
        || cause.starts_with("refused 426")
    {
        Some("the server takes no WebSocket connections at that path: look at --url")
    } else if cause.starts_with("refused 429") {
        Some("the server admits handshakes at a rate: slow down with --connect-rate, or give more --sources")
    } else if cause.starts_with("refused 503") || cause.starts_with("closed 1013") {
        Some("the server says that it is full")
    } else if cause == "timed out joining" {
        Some(
            "the server upgraded and did not sync: does it speak this --dialect? `raw` is for servers without documents",
        )
    } else {
        None
    }
}

fn load(out: &mut String, total: &Tally) -> fmt::Result {
    let rate = |count: u64| count as f64 / total.seconds.max(1e-9);
    if total.planned == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "sent          {} of {} planned in {:.1} s ({:.0}/s), {} dropped",
        total.sent,
        total.planned,
        total.seconds,
        rate(total.sent),
        total.dropped
    )?;
    write!(
        out,
        "received      {} of {} deliveries ({:.0}/s)",
        total.received,
        total.expected,
        rate(total.received)
    )?;
    if total.frames_received > 0 {
        write!(out, ", {:.2} a frame", total.received as f64 / total.frames_received as f64)?;
    }
    writeln!(out)
}

fn latency(out: &mut String, total: &Tally) -> fmt::Result {
    let corrected = total.latency.get(&Measure::Latency);
    let rest: Vec<(&Histogram, &str)> =
        MEASURES.iter().filter_map(|(measure, name)| Some((total.latency.get(measure)?, *name))).collect();
    if corrected.is_none() && rest.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<13} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "", "p50", "p90", "p99", "p99.9", "max", "count"
    )?;
    if let Some(corrected) = corrected {
        row(out, "latency", corrected)?;
    }
    if let Some(uncorrected) = total.latency.get(&Measure::LatencyUncorrected) {
        row(out, "  uncorrected", uncorrected)?;
    }
    for (histogram, name) in rest {
        row(out, name, histogram)?;
    }
    if corrected.is_some() {
        writeln!(
            out,
            "Latency counts from when a send was planned, as a user waits; uncorrected from when it left.\n\
             Where the two differ, sends waited behind others: the server, or the generator, stalled."
        )?;
    }
    writeln!(out)
}

fn row(out: &mut String, name: &str, histogram: &Histogram) -> fmt::Result {
    write!(out, "{name:<13}")?;
    for percentile in [50.0, 90.0, 99.0, 99.9, 100.0] {
        write!(out, " {:>9}", nanoseconds(histogram.percentile(percentile) as f64))?;
    }
    writeln!(out, " {:>10}", histogram.count())
}

fn stages(out: &mut String, results: &Results) -> fmt::Result {
    writeln!(
        out,
        "{:<13} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "stage", "sent/s", "received/s", "dropped", "p50", "p99"
    )?;
    for stage in &results.stages {
        let tally = &stage.tally;
        let seconds = tally.seconds.max(1e-9);
        let latency = tally.latency.get(&Measure::Latency).cloned().unwrap_or_default();
        writeln!(
            out,
            "{:<13} {:>10.0} {:>10.0} {:>9} {:>9} {:>9}",
            stage.name,
            tally.sent as f64 / seconds,
            tally.received as f64 / seconds,
            tally.dropped,
            nanoseconds(latency.percentile(50.0) as f64),
            nanoseconds(latency.percentile(99.0) as f64)
        )?;
    }
    writeln!(out)
}

fn correctness(out: &mut String, results: &Results) -> fmt::Result {
    let found = &results.correctness;
    writeln!(
        out,
        "checked       {} deliveries: {} lost, {} duplicated, {} reordered, {} corrupted, {} late",
        found.checked, found.lost, found.duplicated, found.reordered, found.corrupted, found.late
    )?;
    if found.forgotten > 0 {
        writeln!(
            out,
            "              {} acknowledged edits were not there when their writer came back",
            found.forgotten
        )?;
    }
    if found.converged + found.diverged > 0 {
        writeln!(
            out,
            "              {} readers have all in the end, {} have not",
            found.converged, found.diverged
        )?;
    }
    for example in &found.examples {
        writeln!(out, "  - {example}")?;
    }
    Ok(())
}

fn causes(out: &mut String, name: &str, causes: &BTreeMap<String, u64>) -> fmt::Result {
    for (number, (cause, count)) in causes.iter().enumerate() {
        writeln!(out, "{:<13} {count} x {cause}", if number == 0 { name } else { "" })?;
    }
    Ok(())
}

fn server(out: &mut String, results: &Results) -> fmt::Result {
    let Some(server) = &results.server else { return Ok(()) };
    write!(out, "server        {:.2} s of CPU", server.cpu_seconds)?;
    if let Some(each) = server.cpu_us_per_delivery {
        write!(out, ", {each:.3} us a delivery")?;
    }
    if let Some(each) = server.user_bytes_per_connection {
        write!(out, "; {each:.0} bytes of user memory a connection")?;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "\n              memory {:.1} MiB before, {:.1} MiB with all, {:.1} MiB after",
        mib(server.memory_before.anonymous),
        mib(server.memory_with_all.anonymous),
        mib(server.memory_after.unwrap_or_default().anonymous)
    )
}

/// The parts of a run of several processes, and how far their clocks may be apart.
fn processes(out: &mut String, results: &Results) -> fmt::Result {
    for (number, part) in results.processes.iter().enumerate() {
        let name = if number == 0 { "processes" } else { "" };
        if let Some(failure) = &part.failure {
            writeln!(out, "{name:<13} {}: LOST, {failure}", part.name)?;
            continue;
        }
        write!(
            out,
            "{name:<13} {}: {} connections, {} sent, {} received",
            part.name, part.connections.peak, part.total.sent, part.total.received
        )?;
        if let Some(clock) = part.clock {
            write!(out, "; started within {}", nanoseconds(clock.round_trip_ns as f64 / 2.0))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn generator(out: &mut String, results: &Results) -> fmt::Result {
    let generator = &results.generator;
    let busy: Vec<String> = generator
        .threads
        .iter()
        .map(|thread| format!("{} {:.0} % ({})", thread.name, thread.busy * 100.0, thread.driver))
        .collect();
    let lag = results.total.latency.get(&Measure::ScheduleLag).cloned().unwrap_or_default();
    writeln!(
        out,
        "generator     {}; sends left {} late at p99; {} TCP retransmits on this machine",
        busy.join(", "),
        nanoseconds(lag.percentile(99.0) as f64),
        generator.retransmits
    )
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::histogram::Histogram;
    use crate::results::{Measure, Region, tests::results};

    #[test]
    fn the_verdict_and_the_faults_stand_first() {
        let mut results = results();
        results.correctness.lost = 2;
        results.correctness.examples.push("d: reader 1 never got 2 sends".into());
        let text = render(&results);
        assert!(text.trim_start().starts_with("document: VALID, 2 FAULTS"), "{text}");
        assert!(text.contains("reader 1 never got"));
    }

    #[test]
    fn several_regions_are_told_apart_with_the_time_to_redirect_and_to_recover() {
        let mut results = results();
        let mut region = Region { joined: 3, sent_away: 2, lost: 1, ..Region::default() };
        region.redirect.record(2_000_000);
        region.recover.record(150_000_000);
        results.regions.insert("eu-central-1".into(), region);
        assert!(!render(&results).contains("eu-central-1"));
        results.regions.insert("us-east-1".into(), Region::default());
        let text = render(&results);
        assert!(
            text.contains("eu-central-1: 3 joins") && text.contains("2 sent elsewhere, 1 lost"),
            "{text}"
        );
        assert!(
            text.contains("1 redirected here after 2.00 ms") && text.contains("1 lost here, back after 150"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn what_failed_comes_with_what_to_try_once() {
        let mut results = results();
        results.connections.failed.insert("refused 401".into(), 3);
        results.connections.failed.insert("permission denied: no".into(), 1);
        let text = render(&results);
        assert_eq!(text.matches("--secret").count(), 1, "{text}");
        assert!(!text.contains("--dialect"));
    }

    #[test]
    fn both_latencies_are_shown_with_what_they_mean_within_a_terminals_width() {
        let mut results = results();
        let mut histogram = Histogram::default();
        histogram.record_n(1_234_567, 1000);
        results.total.planned = 1;
        results.total.latency.insert(Measure::Latency, histogram.clone());
        results.total.latency.insert(Measure::LatencyUncorrected, histogram);
        let text = render(&results);
        assert!(text.contains("1.23 ms") && text.contains("uncorrected") && text.contains("planned"));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

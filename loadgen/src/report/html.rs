//! One page that needs nothing else: the summary, plots as inline SVG, and what the run depended on.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::expression::nanoseconds;
use crate::report::plot::{Line, Scale, plot};
use crate::report::summary;
use crate::results::{Interval, Measure, Results};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--faint:#8b949e;--a:#0072b2;--b:#d55e00;--c:#009e73;--d:#cc79a7}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--a:#56b4e9;--b:#e69f00;--c:#2fc79a;--d:#e39ac4}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}\
pre{overflow-x:auto;font-size:13px}figure{margin:2rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}\
svg text{fill:var(--ink);font-size:12px}svg .grid{stroke:var(--faint);stroke-width:.5}svg path{fill:none;stroke-width:1.6}\
.l0{stroke:var(--a)}.l1{stroke:var(--b);stroke-dasharray:7 3}.l2{stroke:var(--c);stroke-dasharray:2 2}.l3{stroke:var(--d);stroke-dasharray:9 3 2 3}\
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}";

/// Writes the page.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)).with_context(|| format!("cannot write {}", path.display()))
}

fn render(results: &Results) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = page(&mut out, results);
    out
}

fn page(out: &mut String, results: &Results) -> fmt::Result {
    let title = format!("{}, {}", results.scenario, results.started_at);
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>",
        escape(&title)
    )?;
    write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>"
    )?;
    write!(out, "<h1>{}</h1><pre>{}</pre>", escape(&title), escape(&summary::render(results)))?;
    rates(out, &results.intervals)?;
    latencies(out, &results.intervals)?;
    distribution(out, results)?;
    connections(out, &results.intervals)?;
    health(out, &results.intervals)?;
    environment(out, results)?;
    write!(out, "</body></html>")
}

fn over_time(intervals: &[Interval], value: impl Fn(&Interval) -> f64) -> Vec<(f64, f64)> {
    intervals.iter().map(|second| (f64::from(second.second), value(second))).collect()
}

fn rates(out: &mut String, intervals: &[Interval]) -> fmt::Result {
    let lines = [
        Line { name: "received", points: over_time(intervals, |second| second.received as f64) },
        Line { name: "sent", points: over_time(intervals, |second| second.sent as f64) },
        Line { name: "planned", points: over_time(intervals, |second| second.planned as f64) },
        Line { name: "dropped", points: over_time(intervals, |second| second.dropped as f64) },
    ];
    out.write_str(&plot("Messages a second", "seconds", &lines, Scale::Linear, |value| format!("{value:.0}")))
}

fn latencies(out: &mut String, intervals: &[Interval]) -> fmt::Result {
    let with: Vec<Interval> = intervals.iter().filter(|second| second.latency.count() > 0).cloned().collect();
    let at = |percentile: f64| over_time(&with, |second| second.latency.percentile(percentile) as f64);
    let lines = [
        Line { name: "p50", points: at(50.0) },
        Line { name: "p99", points: at(99.0) },
        Line { name: "p99.9", points: at(99.9) },
        Line { name: "max", points: at(100.0) },
    ];
    out.write_str(&plot("Latency from the planned time", "seconds", &lines, Scale::Logarithmic, nanoseconds))
}

/// Latency by percentile: each step right is ten times rarer.
fn distribution(out: &mut String, results: &Results) -> fmt::Result {
    let curve = |measure| {
        let histogram = results.total.latency.get(&measure);
        (0..=50)
            .map(|step| f64::from(step) / 10.0)
            .map(|nines| (nines, 100.0 * (1.0 - 10_f64.powf(-nines))))
            .filter_map(|(nines, percentile)| {
                let histogram = histogram?;
                // Beyond one over the count there is nothing but the greatest value.
                let is_told = 10_f64.powf(nines) <= histogram.count() as f64;
                is_told.then(|| (nines, histogram.percentile(percentile) as f64))
            })
            .collect::<Vec<_>>()
    };
    let lines = [
        Line { name: "latency", points: curve(Measure::Latency) },
        Line { name: "uncorrected", points: curve(Measure::LatencyUncorrected) },
        Line { name: "upgrade", points: curve(Measure::Upgrade) },
        Line { name: "join", points: curve(Measure::Join) },
    ];
    let x = "nines of the percentile: 1 is p90, 2 is p99, 3 is p99.9";
    out.write_str(&plot("Latency by percentile", x, &lines, Scale::Logarithmic, nanoseconds))
}

fn connections(out: &mut String, intervals: &[Interval]) -> fmt::Result {
    let lines = [
        Line { name: "open", points: over_time(intervals, |second| second.open as f64) },
        Line { name: "joined a second", points: over_time(intervals, |second| second.joined as f64) },
        Line { name: "errors a second", points: over_time(intervals, |second| second.errors as f64) },
    ];
    out.write_str(&plot("Connections", "seconds", &lines, Scale::Linear, |value| format!("{value:.0}")))
}

fn health(out: &mut String, intervals: &[Interval]) -> fmt::Result {
    let server = |second: &Interval| second.server.map_or(0.0, |server| server.cpu_seconds * 100.0);
    let mut lines = vec![Line {
        name: "generator's busiest thread",
        points: over_time(intervals, |second| second.busiest_thread * 100.0),
    }];
    if intervals.iter().any(|second| second.server.is_some()) {
        lines.push(Line { name: "server, all threads", points: over_time(intervals, server) });
    }
    let percent = |value: f64| format!("{value:.0} %");
    out.write_str(&plot("CPU, of one core", "seconds", &lines, Scale::Linear, percent))
}

fn environment(out: &mut String, results: &Results) -> fmt::Result {
    let here = &results.environment;
    write!(out, "<h2>Environment</h2><table>")?;
    let mut row =
        |name: &str, value: &str| write!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    row("generator", &here.generator)?;
    row("kernel", &here.kernel)?;
    row("processor", &format!("{} x {}", here.cores, here.cpu))?;
    row("memory", &format!("{} MiB", here.memory >> 20))?;
    row("load before", &format!("{:.2}", here.load_before))?;
    row("descriptors", &here.descriptors.to_string())?;
    for (name, value) in &here.sysctls {
        row(name, value)?;
    }
    let settings = serde_json::to_string_pretty(&results.settings).unwrap_or_default();
    write!(out, "</table><h2>Scenario</h2><pre>{}</pre>", escape(&settings))
}

/// Text as it may stand in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::results::{Interval, Measure, tests::results};

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_shows_every_plot() {
        let mut results = results();
        results.scenario = "<script>alert(1)</script>".into();
        let mut second = Interval { second: 3, received: 7, ..Interval::default() };
        second.latency.record(2_000_000);
        results.total.latency.insert(Measure::Latency, second.latency.clone());
        results.intervals = vec![Interval::default(), second];
        let page = render(&results);
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_run_in_which_nothing_happened_makes_a_page_too() {
        assert!(render(&results()).ends_with("</html>"));
    }
}

//! A JSON object a line on stderr, for programs that follow a run: `note`, `begin`, `second` and `end` events.

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use crate::histogram::Histogram;
use crate::outcome::Exit;
use crate::results::{Region, Results};
use crate::run::{Second, Status};
use crate::view::{Heading, View};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Json {
    status: RefCell<Status>,
}

impl View for Json {
    fn begin(&self, heading: &Heading) {
        let Heading { scenario, target, step, .. } = heading;
        eprintln!("{}", json!({ "event": "begin", "scenario": scenario, "target": target, "step": step }));
    }

    fn note(&self, text: &str) {
        eprintln!("{}", json!({ "event": "note", "text": text }));
    }

    fn status(&self, status: &Status) {
        self.status.replace(*status);
    }

    fn second(&self, second: &Second) {
        eprintln!("{}", event(second, &self.status.borrow()));
    }

    fn end(&self, results: &Results, exit: Exit) {
        let verdict = &results.verdict;
        eprintln!(
            "{}",
            json!({
                "event": "end",
                "verdict": verdict.level,
                "reasons": verdict.reasons,
                "faults": results.correctness.faults(),
                "exit": u8::from(exit),
            })
        );
    }
}

fn event(second: &Second, status: &Status) -> Value {
    let (interval, detail) = (&second.interval, &second.detail);
    json!({
        "event": "second",
        "second": interval.second,
        "phase": status.phase,
        "open": interval.open,
        "wanted": status.wanted,
        "planned": interval.planned,
        "sent": interval.sent,
        "received": interval.received,
        "joined": interval.joined,
        "dropped": interval.dropped,
        "errors": interval.errors,
        "error_causes": detail.errors,
        "faults": status.faults,
        "latency_ns": percentiles(&interval.latency),
        "uncorrected_ns": percentiles(&detail.uncorrected),
        "schedule_lag_ns": percentiles(&detail.schedule_lag),
        "loop_lag_ns": percentiles(&detail.loop_lag),
        "regions": detail.regions.iter().map(|(name, region)| (name.clone(), region_event(region))).collect::<Map<_, _>>(),
        "threads": detail.threads,
        "server": interval.server,
    })
}

fn region_event(region: &Region) -> Value {
    json!({
        "open": region.open,
        "dialled": region.dialled,
        "failed": region.failed,
        "joined": region.joined,
        "sent_away": region.sent_away,
        "sent_here": region.sent_here,
        "lost": region.lost,
        "redirect_ns": percentiles(&region.redirect),
        "recover_ns": percentiles(&region.recover),
    })
}

fn percentiles(histogram: &Histogram) -> Value {
    let at = |percentile| histogram.percentile(percentile);
    json!({
        "count": histogram.count(), "p50": at(50.0), "p90": at(90.0), "p99": at(99.0), "p99_9": at(99.9),
        "max": histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::event;
    use crate::run::{Second, Status};

    #[test]
    fn a_second_is_one_line_with_its_percentiles() {
        let mut second = Second::default();
        second.interval.latency.record(1_000);
        let event = event(&second, &Status::default());
        assert_eq!((&event["phase"], &event["latency_ns"]["count"]), (&"connecting".into(), &1.into()));
        assert!(!event.to_string().contains('\n'));
        second.detail.regions.insert("eu".into(), crate::results::Region { open: 7, ..Default::default() });
        assert_eq!(super::event(&second, &Status::default())["regions"]["eu"]["open"], 7);
    }
}

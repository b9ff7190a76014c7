//! The node's drain and its region's name, as `/metrics` has them.

use std::sync::atomic::Ordering::Relaxed;

use pinwire_dns::{ServerCounts, Wanted};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::exposition::{counter, family, gauge, label};
use crate::dns::Status;
use crate::drain::Stage;

const STAGES: [(Stage, &str); 5] = [
    (Stage::Serving, "serving"),
    (Stage::LeavingDns, "leaving_dns"),
    (Stage::Leaving, "leaving"),
    (Stage::Closing, "closing"),
    (Stage::Over, "drained"),
];

pub(super) fn drain_family(now: Stage) -> MetricFamily {
    let stages = STAGES.map(|(stage, name)| gauge(vec![label("stage", name)], is(stage == now)));
    family("pinwire_drain", "1 for where the node is on its way out.", MetricType::GAUGE, stages.to_vec())
}

pub(super) fn dns_families(dns: &Status) -> Vec<MetricFamily> {
    let one = |name, help, value| family(name, help, MetricType::GAUGE, vec![gauge(Vec::new(), value)]);
    let attempts = dns.trouble.as_ref().map_or(0, |trouble| trouble.attempts.max(1));
    let mut families = vec![
        one(
            "pinwire_dns_wanted",
            "1 if the node wants to be in its region's name.",
            is(dns.wanted == Wanted::In),
        ),
        one(
            "pinwire_dns_failed_attempts",
            "How often in a row the region's name could not be kept; 0: it can.",
            f64::from(attempts),
        ),
        one(
            "pinwire_dns_kept",
            "1 if the node wants out of the name, and stays since too few others are in it.",
            is(dns.is_kept),
        ),
    ];
    if let Some(is_in) = dns.is_in {
        families.push(one("pinwire_dns_in", "1 if the region's name leads to the node.", is(is_in)));
    }
    families.extend(dns.counts.iter().flat_map(|counts| server_families(counts)));
    families
}

fn server_families(counts: &ServerCounts) -> [MetricFamily; 2] {
    let queries = [("udp", &counts.udp), ("tcp", &counts.tcp)];
    let outcomes = [
        ("answered", &counts.answered),
        ("no_such_name", &counts.no_such_name),
        ("refused", &counts.refused),
        ("truncated", &counts.truncated),
        ("limited", &counts.limited),
        ("connections_refused", &counts.connections_refused),
    ];
    let of = |name, (value, count): &(&'static str, &std::sync::atomic::AtomicU64)| -> Metric {
        counter(vec![label(name, value)], count.load(Relaxed) as f64)
    };
    [
        family(
            "pinwire_dns_queries_total",
            "Queries to the node's own DNS server.",
            MetricType::COUNTER,
            queries.iter().map(|query| of("transport", query)).collect(),
        ),
        family(
            "pinwire_dns_answers_total",
            "What became of them.",
            MetricType::COUNTER,
            outcomes.iter().map(|outcome| of("outcome", outcome)).collect(),
        ),
    ]
}

fn is(so: bool) -> f64 {
    f64::from(u8::from(so))
}

//! Prometheus' text. Names, units and labels follow its conventions; no label takes values that clients choose.

use std::sync::Arc;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Buckets, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use super::leaving::{dns_families, drain_family};
use super::process::Process;
use super::standing::standing_families;
use super::{Histogram, Report};
use crate::drain::Stage;
use crate::jwks;
use crate::shedding::Standing;
use crate::store;
use crate::traces::Counted;
use pinwire_shed::State;

/// What the text is served as.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is the same for all threads.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) region: String,
    pub(crate) status: State,
    pub(crate) max_connections: u32,
    pub(crate) standing: Arc<Standing>,
    pub(crate) drain: Stage,
    /// The region's name, if the nodes keep it.
    pub(crate) dns: Option<crate::dns::Status>,
    /// Keys of the configuration, and all.
    pub(crate) keys: (usize, usize),
    pub(crate) jwks: jwks::Snapshot,
    /// What became of traces, where there are any.
    pub(crate) traces: Option<Counted>,
    /// Its part in the system of many.
    pub(crate) cluster: Vec<MetricFamily>,
    /// What each certificate is called, and when it ends, Unix time.
    pub(crate) certificates: Vec<(String, i64)>,
}

/// A counter of each thread: name, help, value.
type ThreadCounter = (&'static str, &'static str, fn(&Report) -> u64);

const COUNTERS: &[ThreadCounter] = &[
    ("pinwire_messages_received_total", "Data messages received.", |r| r.stats.messages_received),
    ("pinwire_messages_sent_total", "Messages queued for one connection or session.", |r| {
        r.stats.messages_sent
    }),
    ("pinwire_fan_out_frames_total", "Frames queued by fan-out, one for each member.", |r| {
        r.stats.frames_fanned_out
    }),
    ("pinwire_updates_total", "Updates appended to a document's log.", |r| r.stats.updates),
    ("pinwire_updates_known_total", "Updates that brought nothing new.", |r| r.stats.updates_known),
    ("pinwire_merged_fan_outs_total", "Fan-outs whose updates were merged first.", |r| r.stats.merged_turns),
    ("pinwire_awareness_dropped_total", "Awareness entries dropped: stale, or past a bound.", |r| {
        r.stats.awareness_dropped
    }),
    ("pinwire_refusals_total", "Connections refused before they had a session.", |r| r.stats.refusals),
    ("pinwire_compactions_total", "Document logs compacted.", |r| r.stats.compactions),
    ("pinwire_log_entries_dropped_total", "Log entries that the Yjs library failed on.", |r| {
        r.stats.entries_dropped
    }),
];

/// A reason, and its count.
type Reason = (&'static str, fn(&Report) -> u64);

/// Reasons for which the node closes connections.
const CLOSES: &[Reason] = &[
    ("slow_reader", |r| r.stats.slow_readers),
    ("idle", |r| r.stats.idle),
    ("invalid", |r| r.stats.invalid),
    ("other", |r| r.stats.closes - r.stats.slow_readers - r.stats.idle - r.stats.invalid),
];

/// How clients are sent to another region.
const REDIRECTS: &[Reason] =
    &[("close", |r| r.stats.redirect_closes), ("permission_denied", |r| r.stats.redirect_denials)];

/// The text of all that is known.
pub(crate) fn text(node: &Node, threads: &[Option<Report>], store: Option<&store::Snapshot>) -> String {
    let mut families = node_families(node);
    families.extend(key_families(node));
    families.extend(standing_families(&node.standing));
    families.push(drain_family(node.drain));
    families.extend(node.dns.iter().flat_map(dns_families));
    families.extend(thread_families(threads));
    families.extend(time_families(threads));
    families.extend(store.into_iter().flat_map(store_families));
    families.extend(node.cluster.iter().cloned());
    families.extend(process_families(&Process::read()));
    let mut text = Vec::new();
    // Writing to memory does not fail, and the families are well-formed: a test encodes them all.
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "metrics cannot be written");
    }
    String::from_utf8(text).unwrap_or_default()
}

fn node_families(node: &Node) -> Vec<MetricFamily> {
    let statuses = State::ALL.map(|status| {
        let name = status.name();
        gauge(vec![label("status", name)], f64::from(u8::from(status == node.status)))
    });
    let build = vec![label("region", &node.region), label("version", env!("CARGO_PKG_VERSION"))];
    let ends =
        node.certificates.iter().map(|(name, end)| gauge(vec![label("certificate", name)], *end as f64));
    let mut families = vec![
        family("pinwire_build_info", "1; what runs here.", MetricType::GAUGE, vec![gauge(build, 1.0)]),
        family(
            "pinwire_status",
            "1 for the status that the node is in.",
            MetricType::GAUGE,
            statuses.to_vec(),
        ),
        family(
            "pinwire_connections_limit",
            "Most connections of the node.",
            MetricType::GAUGE,
            vec![gauge(Vec::new(), node.max_connections.into())],
        ),
    ];
    if let Some(Counted { exported, queue_full, refused }) = node.traces {
        let outcomes = [("exported", exported), ("queue_full", queue_full), ("refused", refused)];
        let of = |(outcome, count)| counter(vec![label("outcome", outcome)], count as f64);
        families.push(family(
            "pinwire_trace_spans_total",
            "Spans of traces, by what became of them.",
            MetricType::COUNTER,
            outcomes.map(of).to_vec(),
        ));
    }
    if !node.certificates.is_empty() {
        families.push(family(
            "pinwire_tls_certificate_not_after_timestamp_seconds",
            "When the certificate of this name ends, Unix time.",
            MetricType::GAUGE,
            ends.collect(),
        ));
    }
    families
}

fn key_families(node: &Node) -> Vec<MetricFamily> {
    let (configured, all) = node.keys;
    let keys = [("configured", configured), ("fetched", all.saturating_sub(configured))];
    let keys = keys.map(|(source, count)| gauge(vec![label("source", source)], count as f64));
    let outcomes = ["changed", "unchanged", "failed"].iter().zip(node.jwks.fetches);
    let fetches = outcomes.map(|(outcome, count)| counter(vec![label("outcome", outcome)], count as f64));
    let one = |value| vec![gauge(Vec::new(), value)];
    vec![
        family("pinwire_keys", "Keys that tokens are checked with.", MetricType::GAUGE, keys.to_vec()),
        family(
            "pinwire_jwks_fetches_total",
            "Requests for keys by URL, by what came of them.",
            MetricType::COUNTER,
            fetches.collect(),
        ),
        family(
            "pinwire_jwks_urls",
            "URLs that keys are fetched from.",
            MetricType::GAUGE,
            one(node.jwks.urls as f64),
        ),
        family(
            "pinwire_jwks_age_seconds",
            "Seconds since the URL that answered longest ago last did, infinite if one never did.",
            MetricType::GAUGE,
            one(node.jwks.age_seconds),
        ),
    ]
}

fn thread_families(threads: &[Option<Report>]) -> Vec<MetricFamily> {
    let of_each = |value: &dyn Fn(&Report) -> f64| -> Vec<(Vec<LabelPair>, f64)> {
        let there =
            threads.iter().enumerate().filter_map(|(number, report)| Some((number, report.as_ref()?)));
        there.map(|(number, report)| (vec![label("thread", &number.to_string())], value(report))).collect()
    };
    let gauges = |name: &str, help: &str, value: &dyn Fn(&Report) -> f64| {
        let metrics = of_each(value).into_iter().map(|(labels, value)| gauge(labels, value)).collect();
        family(name, help, MetricType::GAUGE, metrics)
    };
    let up = threads.iter().enumerate().map(|(number, report)| {
        gauge(vec![label("thread", &number.to_string())], f64::from(u8::from(report.is_some())))
    });
    let mut families = vec![
        family(
            "pinwire_thread_up",
            "1 if the data thread answered in time; its other metrics are missing if not.",
            MetricType::GAUGE,
            up.collect(),
        ),
        gauges("pinwire_connections", "Upgraded connections.", &|r| r.connections as f64),
        gauges("pinwire_documents", "Active documents.", &|r| r.documents as f64),
        gauges("pinwire_handshakes_pending", "Connections that are no WebSocket yet.", &|r| r.guests as f64),
        gauges(
            "pinwire_tls_handshakes_waiting",
            "TLS handshakes that wait for their share of a turn.",
            &|r| r.tls.waiting as f64,
        ),
    ];
    for (name, help, value) in COUNTERS {
        let metrics = of_each(&|r| value(r) as f64).into_iter();
        let metrics = metrics.map(|(labels, value)| counter(labels, value)).collect();
        families.push(family(name, help, MetricType::COUNTER, metrics));
    }
    families.extend(refused_families(&by_thread(threads)));
    let words = [
        ("pinwire_closes_total", "Connections closed by the node.", "reason", CLOSES),
        ("pinwire_redirects_total", "Clients sent to another region.", "kind", REDIRECTS),
    ];
    for (name, help, label_name, reasons) in words {
        let metrics = reasons.iter().flat_map(|(reason, value)| {
            of_each(&|r| value(r) as f64).into_iter().map(|(mut labels, value)| {
                labels.insert(0, label(label_name, reason));
                counter(labels, value)
            })
        });
        families.push(family(name, help, MetricType::COUNTER, metrics.collect()));
    }
    families
}

/// The threads that answered, with their numbers.
fn by_thread(threads: &[Option<Report>]) -> Vec<(String, &Report)> {
    let there = threads.iter().enumerate();
    there.filter_map(|(number, report)| Some((number.to_string(), report.as_ref()?))).collect()
}

/// Words with their counts.
type Each<'a> = Box<dyn Iterator<Item = (&'static str, u64)> + 'a>;

/// A counter by a label of few values: name, help, label, values.
type LabelledCounter = (&'static str, &'static str, &'static str, fn(&Report) -> Each<'_>);

const REFUSED: &[LabelledCounter] = &[
    ("pinwire_handshakes_refused_total", "Connections turned away before their upgrade.", "reason", |r| {
        Box::new(r.refused.handshakes.each())
    }),
    ("pinwire_tokens_refused_total", "Tokens refused.", "reason", |r| Box::new(r.refused.tokens.each())),
    ("pinwire_tls_handshakes_total", "TLS handshakes that came through.", "kind", |r| {
        Box::new([("full", r.tls.full), ("resumed", r.tls.resumed)].into_iter())
    }),
    ("pinwire_tls_failures_total", "TLS handshakes that came to nothing.", "reason", |r| {
        Box::new(r.refused.tls.each())
    }),
    (
        "pinwire_accept_pauses_total",
        "Times at which accepting paused, for lack of something.",
        "reason",
        |r| Box::new(r.refused.accepts.each()),
    ),
];

fn refused_families(threads: &[(String, &Report)]) -> Vec<MetricFamily> {
    let one = |(name, help, label_name, each): &LabelledCounter| {
        let mut metrics = Vec::new();
        for (thread, report) in threads {
            let labels = |word| vec![label(label_name, word), label("thread", thread)];
            metrics.extend(each(report).map(|(word, count)| counter(labels(word), count as f64)));
        }
        family(name, help, MetricType::COUNTER, metrics)
    };
    REFUSED.iter().map(one).collect()
}

fn time_families(threads: &[Option<Report>]) -> Vec<MetricFamily> {
    let all = |of: fn(&Report) -> &Histogram| {
        let mut sum = Histogram::default();
        threads.iter().flatten().for_each(|report| sum.add(of(report)));
        sum
    };
    vec![
        histogram(
            "pinwire_handshake_seconds",
            "From accepting a connection to the answer to its upgrade.",
            &all(|r| &r.times.handshake),
        ),
        histogram(
            "pinwire_tls_handshake_seconds",
            "From accepting a connection to the end of its TLS handshake.",
            &all(|r| &r.times.tls),
        ),
        histogram("pinwire_token_seconds", "Judging a token.", &all(|r| &r.times.token)),
        histogram(
            "pinwire_turn_seconds",
            "A turn of a data thread: how long what came meanwhile had to wait.",
            &all(|r| &r.times.turn),
        ),
    ]
}

fn store_families(store: &store::Snapshot) -> Vec<MetricFamily> {
    let one = |name: &str, help: &str, value: u64| {
        let value = value as f64;
        let (kind, metric) = if name.ends_with("_total") {
            (MetricType::COUNTER, counter(Vec::new(), value))
        } else {
            (MetricType::GAUGE, gauge(Vec::new(), value))
        };
        family(name, help, kind, vec![metric])
    };
    vec![
        one("pinwire_store_appends_total", "Runs of updates appended to the store's journal.", store.appends),
        one("pinwire_store_appended_bytes_total", "Bytes of them.", store.appended_bytes),
        one("pinwire_store_failures_total", "What the disk refused the store.", store.failures),
        one("pinwire_store_damages_total", "Damaged records and rows that the store found.", store.damages),
        one(
            "pinwire_store_removed_documents_total",
            "Documents removed from the store: their time was over, or they were erased.",
            store.removed,
        ),
        one("pinwire_store_documents", "Documents in the store's table.", store.documents),
        one("pinwire_store_gathered_bytes", "Bytes that wait for a checkpoint.", store.gathered_bytes),
        one(
            "pinwire_store_failing",
            "1 while the store cannot be written; edits are not acknowledged then.",
            store.is_failing.into(),
        ),
        histogram("pinwire_store_commit_seconds", "Making safe what came in.", &store.commit),
        histogram(
            "pinwire_store_checkpoint_seconds",
            "Moving the journal into the table.",
            &store.checkpoint,
        ),
        histogram("pinwire_store_load_seconds", "Loading a document.", &store.load),
    ]
}

fn process_families(process: &Process) -> Vec<MetricFamily> {
    let one = |name: &str, help: &str, kind: MetricType, value: Option<f64>| {
        let metric = |value| match kind {
            MetricType::COUNTER => counter(Vec::new(), value),
            _ => gauge(Vec::new(), value),
        };
        value.map(|value| family(name, help, kind, vec![metric(value)]))
    };
    let families = [
        one("process_resident_memory_bytes", "Resident memory.", MetricType::GAUGE, process.resident_bytes),
        one("process_cpu_seconds_total", "User and system time.", MetricType::COUNTER, process.cpu_seconds),
        one(
            "process_start_time_seconds",
            "When it was started, Unix time.",
            MetricType::GAUGE,
            process.start_seconds,
        ),
        one("process_open_fds", "Open file descriptors.", MetricType::GAUGE, process.open_files),
        one("process_max_fds", "Most file descriptors.", MetricType::GAUGE, process.max_files),
    ];
    families.into_iter().flatten().collect()
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

pub(super) fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

pub(super) fn histogram(name: &str, help: &str, times: &Histogram) -> MetricFamily {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut buckets = Buckets::default();
    buckets.set_bucket(times.cumulative().map(bucket).collect());
    buckets.set_sample_count(times.count());
    buckets.set_sample_sum(times.sum_seconds());
    let mut metric = Metric::default();
    metric.set_histogram(buckets);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node() -> Node {
        let certificates = vec![("eu.example.net".to_owned(), 1_800_000_000)];
        Node {
            region: "eu-central-1".to_owned(),
            status: State::Degraded,
            max_connections: 7,
            standing: Arc::default(),
            drain: Stage::Serving,
            dns: None,
            keys: (1, 3),
            jwks: jwks::Snapshot { fetches: [1, 2, 3], urls: 2, age_seconds: f64::INFINITY },
            certificates,
            cluster: Vec::new(),
            traces: Some(Counted::default()),
        }
    }

    #[test]
    fn threads_are_told_apart_and_one_that_does_not_answer_is_down() {
        let mut report = Report { connections: 3, ..Report::default() };
        report.stats.closes = 5;
        report.stats.idle = 2;
        report.times.token.note(Duration::from_micros(3));
        let text = text(&node(), &[Some(report), None], None);
        for line in [
            "pinwire_build_info{region=\"eu-central-1\",version=\"0.1.0\"} 1",
            "pinwire_status{status=\"degraded\"} 1",
            "pinwire_status{status=\"healthy\"} 0",
            "pinwire_connections_limit 7",
            "pinwire_keys{source=\"configured\"} 1",
            "pinwire_keys{source=\"fetched\"} 2",
            "pinwire_jwks_fetches_total{outcome=\"failed\"} 3",
            "pinwire_jwks_age_seconds inf",
            "pinwire_tls_certificate_not_after_timestamp_seconds{certificate=\"eu.example.net\"} 1800000000",
            "pinwire_connections{thread=\"0\"} 3",
            "pinwire_thread_up{thread=\"0\"} 1",
            "pinwire_thread_up{thread=\"1\"} 0",
            "pinwire_closes_total{reason=\"idle\",thread=\"0\"} 2",
            "pinwire_closes_total{reason=\"other\",thread=\"0\"} 3",
            "pinwire_token_seconds_bucket{le=\"0.000002\"} 0",
            "pinwire_token_seconds_bucket{le=\"0.000004\"} 1",
            "pinwire_token_seconds_bucket{le=\"+Inf\"} 1",
            "pinwire_token_seconds_count 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(!text.contains("pinwire_connections{thread=\"1\"}"));
    }

    #[test]
    fn names_and_labels_follow_the_conventions() {
        let text = text(&node(), &[Some(Report::default())], Some(&store::Snapshot::default()));
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let [_, _, name, kind] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(kind != "summary" && !name.contains("milli"), "{line}");
            assert_eq!(
                kind == "histogram",
                name.ends_with("_seconds")
                    && !["_age_seconds", "_lag_seconds", "_skew_seconds"]
                        .iter()
                        .any(|end| name.ends_with(end))
                    && !name.ends_with("_timestamp_seconds")
                    && !name.starts_with("process_"),
                "{line}"
            );
            let help = format!("# HELP {name} ");
            let help = text.lines().find_map(|line| line.strip_prefix(&help)).unwrap();
            assert!(help.ends_with('.'), "{name}: {help}");
        }
        let labels: std::collections::BTreeSet<&str> =
            text.split('{').skip(1).flat_map(|rest| rest.split('}').next().unwrap().split(',')).collect();
        let names: std::collections::BTreeSet<&str> =
            labels.iter().map(|label| label.split('=').next().unwrap()).collect();
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            [
                "certificate",
                "kind",
                "le",
                "outcome",
                "reason",
                "region",
                "resource",
                "rung",
                "source",
                "stage",
                "status",
                "thread",
                "version"
            ]
        );
    }
}

//! Numbers of a node's part in the system.

use prometheus::proto::{MetricFamily, MetricType};

use super::exposition::{counter, family, gauge, histogram, label};
use crate::cluster::{ClusterStats, Level};
use crate::config::Cluster;
use crate::peer::PeerStats;
use crate::regions::{Catalogue, Place};

/// A counter by a label of few values: their words, with their counts.
type Words = Vec<(&'static str, u64)>;

fn by_word(name: &str, help: &str, label_name: &str, words: Words) -> MetricFamily {
    let one = |(word, count)| counter(vec![label(label_name, word)], count as f64);
    family(name, help, MetricType::COUNTER, words.into_iter().map(one).collect())
}

fn total(name: &str, help: &str, count: u64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counter(Vec::new(), count as f64)])
}

fn level(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge(Vec::new(), value)])
}

/// All that there is to tell: of sessions if they are in the region's Redis, of links if there may be any.
pub(crate) fn families(stats: &ClusterStats, cluster: &Cluster, catalogue: &Catalogue) -> Vec<MetricFamily> {
    let mut families = pins(stats);
    if cluster.session.is_some() {
        families.extend(sessions(stats));
    }
    if cluster.peer.is_some() {
        families.extend(links(&stats.peer));
    }
    families.extend(regions(catalogue));
    families
}

fn pins(stats: &ClusterStats) -> Vec<MetricFamily> {
    let claims = vec![
        ("held", stats.claims_held.get()),
        ("elsewhere", stats.claims_elsewhere.get()),
        ("limit", stats.claims_limited.get()),
        ("try_again", stats.claims_put_off.get()),
    ];
    let asked = stats.registry_asked.get();
    let unanswered = stats.registry_unanswered.get();
    let lookups =
        vec![("answered", stats.lookups_answered.get()), ("unanswered", stats.lookups_unanswered.get())];
    let discovered = vec![
        ("pinned", stats.discovered_pinned.get()),
        ("idle", stats.discovered_idle.get()),
        ("unanswered", stats.discovered_nothing.get()),
    ];
    vec![
        level("pinwire_pins", "Documents that this node holds or is claiming.", stats.pins.get() as f64),
        by_word("pinwire_claims_total", "Claims of documents, by what came of them.", "outcome", claims),
        total(
            "pinwire_pins_lost_total",
            "Documents that another region took over while they were open here.",
            stats.pins_lost.get(),
        ),
        by_word(
            "pinwire_moves_total",
            "Documents that this node was to move here from another region, by what came of them.",
            "outcome",
            vec![("moved", stats.moves.get()), ("unmoved", stats.moves_failed.get())],
        ),
        histogram(
            "pinwire_move_seconds",
            "A document moved here: from when the other region was asked until its nodes ask where it is.",
            &stats.move_times.get(),
        ),
        total(
            "pinwire_documents_handed_over_total",
            "Documents whose sessions this node handed over to another region.",
            stats.handed_over.get(),
        ),
        total("pinwire_registry_requests_total", "Requests of leases and pins to registries.", asked),
        total("pinwire_registry_failures_total", "Those that were not answered.", unanswered),
        histogram(
            "pinwire_registry_seconds",
            "A request of leases and pins to a registry, answered.",
            &stats.registry_times.get(),
        ),
        total(
            "pinwire_lease_lapses_total",
            "Times that the node's lease ran out before it was renewed.",
            stats.lease_lapses.get(),
        ),
        level("pinwire_lease_valid", "1 while the node's lease is good.", stats.lease_valid.get() as f64),
        level(
            "pinwire_lease_remaining",
            "Seconds for which the node's lease is good, of that which ends first.",
            stats.lease_left_ms.get() as f64 / 1000.0,
        ),
        by_word(
            "pinwire_lookups_total",
            "Questions of HTTP and of operators to registries.",
            "outcome",
            lookups,
        ),
        histogram("pinwire_lookup_seconds", "Such a question.", &stats.lookup_times.get()),
        by_word("pinwire_discovery_answers_total", "Answers of /discovery.", "outcome", discovered),
    ]
}

fn links(stats: &PeerStats) -> Vec<MetricFamily> {
    let of_sides = |name: &str, help: &str, home: &Level, owner: &Level| {
        let sides = [("home", home), ("owner", owner)];
        let metrics = sides.map(|(side, level)| gauge(vec![label("side", side)], level.get() as f64));
        family(name, help, MetricType::GAUGE, metrics.to_vec())
    };
    let dials = vec![("linked", stats.dialled.get()), ("failed", stats.undialled.get())];
    let bytes = vec![("in", stats.bytes_in.get()), ("out", stats.bytes_out.get())];
    vec![
        of_sides("pinwire_links", "Links to other nodes that stand.", &stats.home_links, &stats.owner_links),
        of_sides(
            "pinwire_relayed_sessions",
            "Sessions that are carried to another region, and those carried here.",
            &stats.home_sessions,
            &stats.owner_sessions,
        ),
        by_word("pinwire_link_bytes_total", "Bytes of links.", "direction", bytes),
        by_word("pinwire_link_dials_total", "Links that were dialled.", "outcome", dials),
        by_word("pinwire_link_ends_total", "Links that ended.", "reason", stats.ends()),
        total(
            "pinwire_link_strangers_total",
            "Others that did not prove that they are nodes of this system.",
            stats.strangers.get(),
        ),
        total("pinwire_relay_refusals_total", "Sessions that their owner refused.", stats.refused.get()),
    ]
}

fn sessions(stats: &ClusterStats) -> Vec<MetricFamily> {
    vec![
        level(
            "pinwire_sessions",
            "Documents whose session is open in the region's Redis.",
            stats.sessions.get() as f64,
        ),
        total("pinwire_session_appends_total", "Appends to the region's Redis.", stats.session_appends.get()),
        total("pinwire_session_updates_total", "Updates in them.", stats.session_updates.get()),
        total(
            "pinwire_session_failures_total",
            "Requests to the region's Redis that were not answered.",
            stats.session_unanswered.get(),
        ),
        total(
            "pinwire_session_reloads_total",
            "Documents loaded again: something was missed, or the store had lost something.",
            stats.session_reloads.get(),
        ),
        level(
            "pinwire_sessions_full",
            "Documents for which the region's Redis has no room.",
            stats.sessions_full.get() as f64,
        ),
        total(
            "pinwire_sessions_given_up_total",
            "Documents that were given up since it had none for too long.",
            stats.sessions_given_up.get(),
        ),
        total(
            "pinwire_session_unreadable_total",
            "Entries of the region's Redis that were found to be no updates.",
            stats.session_unreadable.get(),
        ),
        total(
            "pinwire_session_put_back_updates_total",
            "Updates given back to a Redis that had lost them.",
            stats.session_put_back.get(),
        ),
        histogram(
            "pinwire_session_seconds",
            "A request to the region's Redis, answered.",
            &stats.session_times.get(),
        ),
    ]
}

/// Regions are few, and operators name them.
fn regions(catalogue: &Catalogue) -> Vec<MetricFamily> {
    let of_each = |name: &str, help: &str, value: &dyn Fn(&Place) -> Option<f64>| {
        let known = catalogue.others().filter_map(|place| Some((place.name(), value(place)?)));
        let metrics: Vec<_> = known.map(|(name, value)| gauge(vec![label("to", name)], value)).collect();
        (!metrics.is_empty()).then(|| family(name, help, MetricType::GAUGE, metrics))
    };
    let up = |place: &Place| Some(f64::from(u8::from(place.seen()?.condition.is_up())));
    let round_trip = |place: &Place| Some(place.seen()?.round_trip?.as_secs_f64());
    [
        of_each("pinwire_region_up", "1 if another region takes new clients, as seen from here.", &up),
        of_each("pinwire_region_round_trip", "Seconds to another region and back, smoothed.", &round_trip),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::config::{Peer, PeerSecret, RegionEntry, RegionStatus};
    use crate::regions::{Condition, Sight};

    /// With sessions in Redis and links to others, or without.
    fn text(stats: &ClusterStats, has_others: bool, catalogue: &Catalogue) -> String {
        let mut cluster = Cluster::alone();
        if has_others {
            cluster.session = Some("redis://a".into());
            cluster.peer = Some(Peer {
                listen: "127.0.0.1:0".parse().unwrap(),
                address: "127.0.0.1:1".to_owned(),
                secret: PeerSecret::new(&[7; 32]),
                certificates: None,
                authorities: Vec::new(),
            });
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families(stats, &cluster, catalogue), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_was_counted_is_told_and_what_there_is_not_is_left_out() {
        let stats = ClusterStats::default();
        stats.claims_elsewhere.more(3);
        stats.lease_valid.set(0);
        stats.lease_left_ms.set(1500);
        stats.peer.owner_links.set(2);
        stats.discovered_idle.one();
        stats.registry_times.note(Duration::from_micros(300));
        stats.looked_up(Duration::from_millis(1), false);
        let entry = |name: &str| RegionEntry {
            name: name.to_owned(),
            url: "ws://a".to_owned(),
            status: RegionStatus::Live,
            area: None,
        };
        let catalogue = Catalogue::new("eu-1", "ws://b", &[entry("us-1"), entry("us-2")]);
        let sight = Sight::answered(None, Duration::from_millis(90), Condition::Draining, None);
        catalogue.get("us-1").unwrap().see(sight);
        let all = text(&stats, true, &catalogue);
        for line in [
            "pinwire_claims_total{outcome=\"elsewhere\"} 3",
            "pinwire_lease_valid 0",
            "pinwire_lease_remaining 1.5",
            "pinwire_registry_seconds_count 1",
            "pinwire_lookups_total{outcome=\"unanswered\"} 1",
            "pinwire_sessions 0",
            "pinwire_links{side=\"owner\"} 2",
            "pinwire_link_ends_total{reason=\"silent\"} 0",
            "pinwire_discovery_answers_total{outcome=\"idle\"} 1",
            "pinwire_region_up{to=\"us-1\"} 0",
            "pinwire_region_round_trip{to=\"us-1\"} 0.09",
        ] {
            assert!(all.lines().any(|known| known == line), "{line} in\n{all}");
        }
        let alone = Catalogue::new("eu-1", "ws://b", &[]);
        let bare = text(&stats, false, &alone);
        for missing in ["pinwire_session", "pinwire_link", "pinwire_relay", "pinwire_region_"] {
            assert!(!bare.contains(missing), "{missing} in\n{bare}");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let alone = Catalogue::new("eu-1", "ws://b", &[]);
        let all = text(&ClusterStats::default(), true, &alone);
        for line in all.lines().filter(|line| line.starts_with("# TYPE ")) {
            let [_, _, name, kind] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert_eq!(name.ends_with("_seconds"), kind == "histogram", "{line}");
        }
    }
}

//! How the node stands, as `/metrics` has it.

use pinwire_shed::{Resource, Rung, State};
use prometheus::proto::{MetricFamily, MetricType};

use super::exposition::{counter, family, gauge, label};
use crate::shedding::{Reach, Standing};

pub(super) fn standing_families(standing: &Standing) -> Vec<MetricFamily> {
    let one = |value: f64| vec![gauge(Vec::new(), value)];
    let gauge_of = |name, help, value| family(name, help, MetricType::GAUGE, one(value));
    let share = |of: Resource| Some(gauge(vec![label("resource", of.name())], standing.load.share_of(of)?));
    let rungs = Rung::ALL.map(|rung| gauge(vec![label("rung", rung.name())], is(rung == standing.rung())));
    let changes = State::ALL.iter().zip(standing.changes);
    let changes = changes.map(|(state, count)| counter(vec![label("status", state.name())], count as f64));
    let refused = vec![counter(Vec::new(), standing.documents_refused as f64)];
    let mut families = vec![
        family(
            "pinwire_occupancy_ratio",
            "How full the node is, from 0 to 1, of what is known and counts.",
            MetricType::GAUGE,
            Resource::ALL.into_iter().filter_map(share).collect(),
        ),
        family("pinwire_rung", "1 for what the node still does.", MetricType::GAUGE, rungs.to_vec()),
        gauge_of(
            "pinwire_in_dns",
            "1 if the region's name is to resolve to the node.",
            is(standing.wants_dns()),
        ),
        family(
            "pinwire_standing_changes_total",
            "Changes of what the node does or why, by the status that came of it.",
            MetricType::COUNTER,
            changes.collect(),
        ),
        gauge_of("pinwire_handshakes_budget", "Handshakes that are let in in a second.", standing.budget),
        family(
            "pinwire_documents_refused_total",
            "Documents not opened since they are for other nodes.",
            MetricType::COUNTER,
            refused,
        ),
        gauge_of(
            "pinwire_loop_lag_seconds",
            "How long the slowest data thread took to answer, or does.",
            standing.measures.lag,
        ),
    ];
    if let Some(ahead) = standing.measures.ahead {
        let help = "Seconds by which the clock is ahead of that of the region's Redis.";
        families.push(gauge_of("pinwire_clock_skew_seconds", help, ahead));
    }
    if let Some(free) = standing.measures.disk_free {
        families.push(gauge_of("pinwire_store_disk_free_bytes", "Free on the store's disk.", free as f64));
    }
    families.extend(pool_families(standing));
    families
}

fn pool_families(standing: &Standing) -> Vec<MetricFamily> {
    if standing.pool.reach == Reach::Alone {
        return Vec::new();
    }
    let members = standing.pool.heard.as_ref().map_or(&[][..], |(heard, _)| &heard.members);
    let count = |is_in| members.iter().filter(|seen| seen.is_in == is_in).count() as f64;
    let members = [("in", count(true)), ("out", count(false))];
    let members = members.map(|(name, count)| gauge(vec![label("standing", name)], count)).to_vec();
    let is_reached = vec![gauge(Vec::new(), is(standing.pool.reach == Reach::Reached))];
    let (about_members, about_reach) = (
        "Living nodes of the region, in DNS and out of it.",
        "1 if the pool of the region's nodes answered last.",
    );
    vec![
        family("pinwire_pool_members", about_members, MetricType::GAUGE, members),
        family("pinwire_pool_reachable", about_reach, MetricType::GAUGE, is_reached),
    ]
}

fn is(so: bool) -> f64 {
    f64::from(u8::from(so))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use pinwire_pool::{Heard, Member, Seen};
    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::shedding::Pool;

    #[test]
    fn a_pool_is_counted_where_there_is_one() {
        let seen = |is_in| Seen { member: Member::default(), is_in };
        let members = [true, true, false].map(seen).to_vec();
        let heard = Heard { now_us: 0, may_leave: false, is_doubled: false, members, gone: Vec::new() };
        let heard = Some((Arc::new(heard), Instant::now()));
        let pool = Pool { reach: Reach::Reached, heard };
        let text = |standing: &Standing| {
            let mut text = Vec::new();
            TextEncoder::new().encode(&standing_families(standing), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let told = text(&Standing { pool, changes: [0, 0, 3, 0], ..Standing::default() });
        for line in [
            "pinwire_pool_members{standing=\"in\"} 2",
            "pinwire_pool_members{standing=\"out\"} 1",
            "pinwire_pool_reachable 1",
            "pinwire_standing_changes_total{status=\"overloaded\"} 3",
            "pinwire_rung{rung=\"serving\"} 1",
            "pinwire_rung{rung=\"thrifty\"} 0",
        ] {
            assert!(told.lines().any(|known| known == line), "{line} in\n{told}");
        }
        assert!(!told.contains("resource=\"cpu\"") && !text(&Standing::default()).contains("pinwire_pool"));
    }
}

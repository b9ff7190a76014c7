//! A node is stopped for longer than its lease. Some of its clients notice and go to the other region, which takes over what only that
//! node had; others wait, and write into its sockets. When it goes on, it writes nothing of that: it closes what it lost, with the way
//! there.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Some clients notice soon, others not at all while the node is stopped. All wait longer than until the next ping.
const SILENCE: &str = "3s..40s";
const LONG_SILENCE: &str = "12s..90s";
/// Documents of a session store, each with the number of batches that were appended.
const HEADS: &str = "local said = {} for _, key in ipairs(redis.call('KEYS', '*:doc:*')) do \
                     said[#said + 1] = key .. ' ' .. redis.call('HGET', key, 'seq') end return table.concat(said, '\\n')";

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    // One node a region, that which redirects name: what a region has is on that node alone.
    let urls: Vec<(String, String)> = rig.urls().into_iter().rev().take(2).collect();
    let shapes = Shape::both(rig.plan);
    let silence = Some(if rig.plan.is_long { LONG_SILENCE } else { SILENCE });
    let shapes = shapes.into_iter().map(|shape| Shape { silence, ..shape }).collect();
    rig.write(shapes, &urls)?;
    rig.wait_until_all_are_back("at first")?;
    // Who has more of the documents whose clients are told what is acknowledged.
    let owned = owners(rig, "hocuspocus-")?;
    let (region, _) = owned.iter().max_by_key(|(_, documents)| documents.len()).context("a pin")?;
    let had = owners(rig, "")?.remove(region).unwrap_or_default();
    let is_node = |(_, node): &(usize, &crate::cluster::Node)| node.region == *region;
    let (at, _) = rig.cluster.nodes.iter().enumerate().rfind(is_node).context("a node")?;
    rig.is_taken_over = true;
    rig.stop(at);
    let within = rig.lease() + rig.grace() * 2;
    let taken = |rig: &Rig| -> Result<Vec<String>> {
        let now = owners(rig, "")?;
        let elsewhere = now.iter().filter(|(owner, _)| *owner != region).flat_map(|(_, documents)| documents);
        Ok(elsewhere.filter(|document| had.contains(document)).cloned().collect())
    };
    let took = rig.wait("the other region takes documents over", within, |rig| {
        let taken = taken(rig)?.len();
        ensure!(taken * 10 >= had.len(), "it has {taken} of {}", had.len());
        Ok(true)
    })?;
    rig.hold()?;
    let lost = taken(rig)?;
    rig.outcome.note(format!(
        "the other region takes documents over after {:.1} s, {} of {} before the node goes on",
        took.as_secs_f64(),
        lost.len(),
        had.len()
    ));
    let before = heads(rig, region)?;
    rig.go_on(at);
    rig.wait_until_all_are_back("the node goes on")?;
    let after = heads(rig, region)?;
    for document in lost {
        let (before, after) = (before.get(&document), after.get(&document));
        let is_untouched = after.is_none_or(|after| Some(after) == before);
        rig.outcome.demand(is_untouched, || {
            format!(
                "{document}: the node wrote after it had lost it: {before:?} batches before, {after:?} after"
            )
        });
    }
    let (lapses, lost) =
        (rig.metric(at, "pinwire_lease_lapses_total")?, rig.metric(at, "pinwire_pins_lost_total")?);
    rig.outcome.demand(lapses >= 1.0, || "the node did not notice that its lease had run out".to_owned());
    rig.outcome.demand(lost >= 1.0, || "the node was not told of what it had lost".to_owned());
    Ok(())
}

/// Documents whose names begin so, by region.
fn owners(rig: &Rig, prefix: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pin in rig.pins()? {
        let name = pin["name"].as_str().unwrap_or_default();
        if name.starts_with(prefix) {
            let region = pin["region"].as_str().unwrap_or_default();
            owners.entry(region.to_owned()).or_default().push(name.to_owned());
        }
    }
    Ok(owners)
}

/// Documents that a region's store has, with the number of batches of each.
fn heads(rig: &mut Rig, region: &str) -> Result<BTreeMap<String, u64>> {
    let said = rig.cluster.stores.master(region)?.eval_first(HEADS)?;
    let head = |line: &str| {
        let (key, batches) = line.rsplit_once(' ')?;
        Some((key.rsplit('/').next()?.to_owned(), batches.trim().parse().ok()?))
    };
    let heads: BTreeMap<String, u64> = said.lines().filter_map(head).collect();
    ensure!(!heads.is_empty(), "the store of {region} has no document: {said}");
    Ok(heads)
}

//! A node is stopped for longer than its lease. Some of its clients notice and go to the other region, which takes over what only that
//! node had; others wait, and write into its sockets. When it goes on, it writes nothing of that: it closes what it lost, with the way
//! there.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Result, ensure};

/// Some clients notice soon, others not at all while the node is stopped. All wait longer than until the next ping.
const SILENCE: &str = "3s..40s";
const LONG_SILENCE: &str = "12s..90s";

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    // One node a region, that which redirects name: what a region has is on that node alone.
    let urls: Vec<(String, String)> = rig.urls().into_iter().rev().take(2).collect();
    let shapes = Shape::both(rig.plan);
    let silence = Some(if rig.plan.is_long { LONG_SILENCE } else { SILENCE });
    let shapes = shapes.into_iter().map(|shape| Shape { silence, ..shape }).collect();
    rig.write(shapes, &urls)?;
    rig.wait_until_all_are_back("at first")?;
    let (region, _) = rig.busiest()?;
    let had = rig.owners("")?.remove(&region).unwrap_or_default();
    let at = rig.lonely(&region)?;
    rig.is_taken_over = true;
    rig.stop(at);
    let within = rig.lease() + rig.grace() * 2;
    let taken = |rig: &Rig| -> Result<Vec<String>> {
        let now = rig.owners("")?;
        let elsewhere =
            now.iter().filter(|(owner, _)| **owner != region).flat_map(|(_, documents)| documents);
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
    let before = rig.batches(&region)?;
    rig.go_on(at);
    rig.wait_until_all_are_back("the node goes on")?;
    let after = rig.batches(&region)?;
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

//! A region is cut off from everything but clients that are near: the registry, the other region, all other clients. Those go to the
//! other region with what they have, once the pins have ended; those that are near go on where they are, unacknowledged. When the
//! region is back it closes what it lost, and all are together again.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Result, ensure};

/// Whoever is cut off notices within this, and not before the next ping is due.
const SILENCE: &str = "3s..6s";
const LONG_SILENCE: &str = "12s..18s";

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let mut urls = rig.urls();
    let far = rig.cluster.nodes.len() / 2;
    let region = rig.cluster.nodes[far].region.clone();
    // A third way in for every node of the region: from near.
    urls.extend(rig.cluster.nodes[far..].iter().map(|node| (region.clone(), node.near_url())));
    let shapes = Shape::both(rig.plan);
    let silence = Some(if rig.plan.is_long { LONG_SILENCE } else { SILENCE });
    let shapes = shapes.into_iter().map(|shape| Shape { silence, ..shape }).collect();
    rig.write(shapes, &urls)?;
    rig.wait_until_all_are_back("at first")?;
    rig.is_taken_over = true;
    let had = rig.owners("")?.remove(&region).unwrap_or_default();
    ensure!(!had.is_empty(), "{region} has no document to lose");
    rig.network()?.cut()?;
    let within = rig.lease() + rig.grace() * 2;
    let took = rig.wait("the region has lost all it had", within, |rig| {
        let now = rig.owners("")?.remove(&region).unwrap_or_default().len();
        ensure!(now == 0, "{now} of {} documents are still there", had.len());
        Ok(true)
    })?;
    rig.outcome.note(format!("{} documents lost after {:.1} s", had.len(), took.as_secs_f64()));
    // All who were cut off have noticed by now. They find their way, and open them, while those that are near write on.
    let opened = |rig: &Rig| -> Result<usize> {
        let now = rig.owners("")?;
        Ok(now.values().flatten().filter(|document| had.binary_search(document).is_ok()).count())
    };
    let within = rig.lease() + rig.grace();
    rig.wait_steadily("clients open them in the other region", within, |rig| {
        rig.check_all_are_connected()?;
        ensure!(opened(rig)? > 0, "nobody opens any of them");
        Ok(())
    })?;
    let opened = opened(rig)?;
    rig.outcome.note(format!("{opened} of them were opened in the other region meanwhile"));
    rig.hold()?;
    rig.network()?.heal()?;
    // Whoever was cut off dialled the other region, and so may have come to where its document is by now: then nobody is carried.
    let carried = rig.wait_for_all("the region is back")?;
    if carried.is_some() {
        // Clients of new documents dial both regions in turn: of them some are, or links have not come back.
        let urls = rig.urls();
        let newcomers = Shape::both(rig.plan).pop();
        rig.write(newcomers.into_iter().collect(), &urls)?;
        rig.wait_until_all_are_back("the region is back, and new documents")?;
    }
    let lost =
        rig.metric(far, "pinwire_pins_lost_total")? + rig.metric(far + 1, "pinwire_pins_lost_total")?;
    rig.outcome.demand(lost > 0.0, || format!("{region} was not told of anything that it had lost"));
    Ok(())
}

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
    let held = |rig: &Rig, at: usize| -> Result<usize> {
        Ok(rig.pins_by(at)?.iter().filter(|pin| pin["region"] == region.as_str()).count())
    };
    rig.is_taken_over = true;
    let before = held(rig, 0)?;
    ensure!(before > 0, "{region} has no document to lose");
    rig.network()?.cut()?;
    let within = rig.lease() + rig.grace() * 2;
    let took = rig.wait("the region has lost all it had", within, |rig| {
        let now = held(rig, 0)?;
        ensure!(now == 0, "{now} of {before} documents are still there");
        Ok(true)
    })?;
    rig.outcome.note(format!("{before} documents lost after {:.1} s", took.as_secs_f64()));
    // Long enough for those that were cut off to open them elsewhere, while those that are near write on.
    let within = rig.lease();
    rig.wait("clients open them in the other region", within, |rig| {
        let pins = rig.pins_by(0)?.len();
        let wanted: u32 = rig.loads.iter().map(|load| load.shape.documents()).sum();
        ensure!(pins * 3 > wanted as usize * 2, "{pins} of {wanted} documents are open anywhere");
        Ok(true)
    })?;
    rig.hold()?;
    rig.network()?.heal()?;
    rig.wait_until_all_are_back("the region is back")?;
    let lost =
        rig.metric(far, "pinwire_pins_lost_total")? + rig.metric(far + 1, "pinwire_pins_lost_total")?;
    rig.outcome.demand(lost > 0.0, || format!("{region} was not told of anything that it had lost"));
    Ok(())
}

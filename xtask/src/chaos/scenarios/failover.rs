//! The master of a region, or of the registry, is killed, and its replica takes over.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use crate::cluster::REGISTRY;
use anyhow::{Result, ensure};
use std::time::Duration;

pub(super) fn session(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    let (region, _) = rig.busiest()?;
    fail_over(rig, &region)?;
    rig.wait_until_all_are_back("fail-over")?;
    rig.hold()?;
    // What this node alone had is now in the new master, or nowhere.
    let node = rig.lonely(&region)?;
    rig.kill(node)?;
    rig.wait_until_all_are_back("a node killed")?;
    rig.restart(node)
}

pub(super) fn registry(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    let mut shapes = Shape::both(rig.plan);
    let later = shapes.pop();
    rig.write(shapes, &urls)?;
    rig.hold()?;
    fail_over(rig, REGISTRY)?;
    // The others come now: their documents have to be claimed from the new master.
    rig.write(later.into_iter().collect(), &urls)?;
    rig.wait_until_all_are_back("fail-over, and as many new documents")?;
    let lost = rig.sum("pinwire_pins_lost_total")?;
    rig.outcome.note(format!("{lost} pins lost by the fail-over"));
    Ok(())
}

fn fail_over(rig: &mut Rig, name: &str) -> Result<()> {
    rig.cluster.stores.master(name)?.kill_first()?;
    let took = rig.wait("the replica is the master", Duration::from_secs(5), |rig| {
        ensure!(rig.cluster.stores.master(name)?.has_failed_over(), "it is not");
        Ok(true)
    })?;
    rig.outcome.note(format!("{name}: another master after {:.1} s", took.as_secs_f64()));
    Ok(())
}

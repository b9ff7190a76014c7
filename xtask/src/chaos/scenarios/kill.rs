//! A node of each region is killed, and comes back as another life of itself.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Result, ensure};

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    let nodes = rig.cluster.nodes.len();
    // One that its region's URL leads to, and one that it does not.
    for at in [0, nodes - 1] {
        let name = rig.cluster.nodes[at].name.clone();
        rig.kill(at)?;
        rig.wait_until_all_are_back(&format!("{name} killed"))?;
        rig.restart(at)?;
        let within = rig.lease();
        rig.wait("the registry knows its new life alone", within, |rig| {
            let lives = rig.lives()?;
            ensure!(lives.len() == nodes, "it knows {lives:?}");
            Ok(true)
        })?;
        rig.hold()?;
    }
    Ok(())
}

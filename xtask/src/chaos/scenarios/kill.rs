//! A node of each region is killed, and comes back as another life of itself.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use anyhow::{Context, Result, ensure};

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    let nodes = rig.cluster.nodes.len();
    // One that redirects name, of the region that has more to lose, and one that they do not.
    let (region, _) = rig.busiest()?;
    let lonely = rig.lonely(&region)?;
    let other = (0..nodes).find(|at| rig.cluster.nodes[*at].region != region).context("another region")?;
    for at in [lonely, other] {
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
    rig.end_loads()?;
    let lost = rig.outcome.lost;
    rig.outcome.demand(lost > 0, || "nobody was on the nodes that were killed".to_owned());
    Ok(())
}

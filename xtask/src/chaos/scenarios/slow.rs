//! Servers answer late: first those of the sessions, then the registry's, then all.

use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use crate::cluster::REGISTRY;
use anyhow::Result;
use std::time::Duration;

const LATE: Duration = Duration::from_millis(500);

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    let regions: Vec<String> = rig.cluster.stores.masters.iter().map(|master| master.name.clone()).collect();
    let (registry, sessions): (Vec<&String>, Vec<&String>) =
        regions.iter().partition(|name| *name == REGISTRY);
    let both: Vec<&String> = regions.iter().collect();
    for slow in [&sessions, &registry, &both] {
        for name in slow {
            rig.cluster.stores.lane(name)?.delay(LATE);
        }
        rig.hold()?;
        rig.hold()?;
        for name in slow {
            rig.cluster.stores.lane(name)?.delay(Duration::ZERO);
        }
    }
    rig.wait_until_all_are_back("slow servers")?;
    let lapses = rig.sum("pinwire_lease_lapses_total")?;
    rig.outcome.demand(lapses == 0.0, || format!("{lapses} leases lapsed"));
    Ok(())
}

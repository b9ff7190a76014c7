//! Everybody asks where documents are, of a registry that is far: nodes keep their leases, clients their documents, and whoever asks
//! is answered in bounded time.

use crate::chaos::flood::Flood;
use crate::chaos::load::Shape;
use crate::chaos::rig::Rig;
use crate::cluster::REGISTRY;
use anyhow::Result;
use std::time::Duration;

const LATE: Duration = Duration::from_millis(500);
/// Connections to each node, each with a question under way: more than a node asks the registry at once.
const CONNECTIONS: usize = 160;
/// A node gives up a question to the registry after 2 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

pub(super) fn run(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    rig.cluster.stores.lane(REGISTRY)?.delay(LATE);
    let nodes: Vec<String> = rig.cluster.nodes.iter().map(crate::cluster::Node::http).collect();
    let flood = Flood::start(&nodes, CONNECTIONS, &rig.token("ywebsocket")?);
    // Longer than a lease.
    let until = std::time::Instant::now() + rig.lease() + rig.plan.hold;
    while std::time::Instant::now() < until {
        rig.hold()?;
    }
    let asked = flood.end();
    rig.cluster.stores.lane(REGISTRY)?.delay(Duration::ZERO);
    rig.outcome.note(format!("/discovery: {asked}"));
    rig.outcome.demand(asked.answered > 0, || "no question was answered".to_owned());
    rig.outcome.demand(asked.failed == 0, || format!("{} questions had no answer at all", asked.failed));
    rig.outcome.demand(asked.longest < ANSWER_LIMIT, || {
        format!("an answer took {:.1} s", asked.longest.as_secs_f64())
    });
    rig.wait_until_all_are_back("flood")?;
    let lapses = rig.sum("pinwire_lease_lapses_total")?;
    rig.outcome.demand(lapses == 0.0, || format!("{lapses} leases lapsed"));
    Ok(())
}

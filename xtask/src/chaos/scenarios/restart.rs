//! A server starts again with nothing, too fast for a fail-over.

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
    restart(rig, &region)?;
    rig.hold()?;
    rig.wait_until_all_are_back("restart")?;
    // What this node alone had was put back, or is lost.
    let node = rig.lonely(&region)?;
    rig.kill(node)?;
    rig.wait_until_all_are_back("a node killed")?;
    rig.restart(node)
}

/// The server and all nodes of a region at once: what was acknowledged is gone, but clients that are there bring all of it.
pub(super) fn region(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    let (region, documents) = rig.busiest()?;
    rig.wait_until_acknowledged(&region, &documents)?;
    let nodes = rig.nodes_of(&region);
    rig.is_taken_over = true;
    for &node in &nodes {
        rig.kill(node)?;
    }
    let master = rig.cluster.stores.master(&region)?;
    master.kill_first()?;
    master.restart_first()?;
    let keys = master.keys_of_first();
    ensure!(keys == 0, "{region}: the server that is to have lost everything has {keys} keys");
    for &node in &nodes {
        rig.restart(node)?;
    }
    rig.wait_until_all_are_back("all of a region began again")?;
    rig.end_loads()?;
    // Or it would not be seen elsewhere either.
    let brought = rig.outcome.brought;
    rig.outcome.demand(brought > 0, || "everything acknowledged was there, as it cannot be".to_owned());
    Ok(())
}

pub(super) fn registry(rig: &mut Rig) -> Result<()> {
    let urls = rig.urls();
    rig.write(Shape::both(rig.plan), &urls)?;
    rig.hold()?;
    let before = rig.owners("")?;
    let documents = before.values().map(Vec::len).sum::<usize>();
    restart(rig, REGISTRY)?;
    let within = rig.lease();
    let took = rig.wait("every pin is there again", within, |rig| {
        let now = rig.pins()?.len();
        ensure!(now == documents, "{now} of {documents}");
        Ok(true)
    })?;
    rig.outcome.note(format!("{documents} pins there again after {:.1} s", took.as_secs_f64()));
    let now = rig.owners("")?;
    rig.outcome.demand(now == before, || "documents have changed their regions".to_owned());
    rig.wait_until_all_are_back("restart")
}

fn restart(rig: &mut Rig, name: &str) -> Result<()> {
    let master = rig.cluster.stores.master(name)?;
    let before = master.keys_of_first();
    ensure!(before > 0, "{name}: the server that is to lose everything has nothing");
    master.kill_first()?;
    master.restart_first()?;
    let took = rig.wait("what it had is put back", Duration::from_secs(5), |rig| {
        let keys = rig.cluster.stores.master(name)?.keys_of_first();
        ensure!(keys > 0, "it has nothing");
        Ok(true)
    })?;
    ensure!(!rig.cluster.stores.master(name)?.has_failed_over(), "{name}: the sentinels were faster");
    rig.outcome
        .note(format!("{name}: began again with nothing, is being filled after {:.1} s", took.as_secs_f64()));
    Ok(())
}

//! A simulation of the whole system: regions with several nodes each, their session stores, and a registry, in virtual time, from
//! one seed.
//!
//! Real are the rules: what a node decides (`pinwire_cluster::Pins`), what it does with its sessions (`pinwire_session::Sessions`),
//! and the two books that the servers' scripts are held against. Played are threads, clocks that run apart, connections, clients,
//! and everything that goes wrong: processes that are killed or stand still longer than their leases, requests that arrive
//! after their answers were given up, one-sided partitions, servers that stop, masters that do not know that they were deposed,
//! replicas that lack the last of it, servers that come back empty.
//!
//! What is checked, at each moment or once all is calm:
//!
//! | promise | while |
//! | --- | --- |
//! | who takes an edit or acknowledges one holds the document at that moment, by the registry's own book, under its claim | nothing was rolled back; and again a lease after |
//! | claims under which a document is served never fall | likewise |
//! | a claim belongs to one region | always |
//! | what a node has acknowledged that holds a document goes along when it is moved, also if a store forgot it | the registry forgot nothing |
//! | what was acknowledged before a document was moved to another region, or stayed after all, is there after it | no store was rolled back |
//! | a document that was served is not pinned anew within the grace | nothing was rolled back |
//! | what was acknowledged is there for who opens the document under the same claim | no store was rolled back |
//! | all clients of a document agree, every edit of theirs is acknowledged | calm |
//! | what a node had when it became calm is not lost | calm |
//! | documents, connections and users are counted exactly | calm |
//! | no pin outlives the grace, or the lease and the grace where its nodes were killed; no session its time | the end |
//!
//! That it can fail is shown by planted defects in `tests/defects`.

mod check;
mod clients;
mod data;
mod faults;
mod moves;
mod network;
mod node;
mod plan;
mod server;
mod set;
mod trace;
mod world;

use pinwire_registry as registry;
use pinwire_session as session;
use plan::End;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{GRACE_US, LEASE_US, SECOND, World};

/// Time for leases that ran out, pins of dead nodes, requests that are late, and clients that wait before they dial.
const CALM_US: u64 = 100 * SECOND;
/// Time for what is under way, and for clocks that run apart.
const SLACK_US: u64 = 8 * SECOND;
/// Time for sessions that nobody holds.
const SWEPT_US: u64 = 130 * SECOND;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened, in order.
    pub digest: u64,
    /// Things that happened.
    pub events: u64,
    /// Documents that were moved to another region.
    pub moved: u64,
    /// Times that a document was granted to a node.
    pub grants: u64,
    /// Different claims.
    pub claims: usize,
    /// Edits that were acknowledged.
    pub acknowledged: u64,
    /// Connections.
    pub connections: usize,
    /// Times that it was checked whether a node may serve.
    pub checks: u64,
}

/// One run.
///
/// # Errors
/// What was violated, with the plan of the run and the last things that happened.
pub fn run(seed: u64) -> Result<Report, String> {
    attempt(seed, false)
        .map_err(|_| attempt(seed, true).err().unwrap_or_else(|| "it does not fail again".into()))
}

fn attempt(seed: u64, is_traced: bool) -> Result<Report, String> {
    let mut world = World::new(seed, is_traced);
    let outcome = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let violations = match outcome {
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            vec![format!("panic: {}", what.or_else(|| panic.downcast_ref().copied()).unwrap_or("unknown"))]
        }
        Ok(()) if world.model.violations.is_empty() => return Ok(world.report()),
        Ok(()) => std::mem::take(&mut world.model.violations),
    };
    let (lines, at_ms) = (world.tracer.lines(), world.now_us / world::MILLI);
    Err(format!("{lines}seed {seed}, at {at_ms} ms: {}\n{:?}", violations.join("\n"), world.plan))
}

fn live(world: &mut World) {
    world.run_for(world.plan.busy_us);
    world.calm_down();
    world.run_for(CALM_US);
    world.check_calm();
    match world.plan.end {
        End::Leave => {
            world.everyone_leaves();
            world.run_for(GRACE_US + SLACK_US);
            world.check_unpinned();
            world.run_for(SWEPT_US);
            world.check_swept();
        }
        End::Kill => {
            world.everything_is_killed();
            world.run_for(LEASE_US + GRACE_US + SLACK_US);
            world.check_unpinned();
        }
    }
}

fn new_registry(history: usize) -> registry::Book {
    registry::Book::new(format!("history-{history}"))
}

fn new_store() -> session::Book {
    session::Book::new(session::Bounds::default())
}

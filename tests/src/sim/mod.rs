//! A simulation of whole nodes' shards with stock clients, in virtual time, from one seed.
//!
//! Everything that decides anything is drawn from the seed: the number of threads, documents and clients, who types what,
//! how bytes are cut and delayed, which connection breaks, when the store, the verifier and the compactor answer. What
//! flows are real frames of real Yjs documents.
//!
//! That it can fail is shown by planted defects, one line each, in `tests/defects`:
//!
//! | defect | what notices |
//! | --- | --- |
//! | an acknowledgement is dropped | a device is not in step: something awaits its SyncStatus |
//! | a known edit is acknowledged at once | it was acknowledged, and the store does not have it |
//! | writers are not left out of a broadcast | a client is sent its own edit |
//! | a catch-up forgets the cursor | the same update comes again and again |
//! | a removal is not told | others still see a user whose connection broke |
//! | a connection stays counted | the app's counters are not zero at the end |
//! | an acknowledgement leaves adrift | a node that may not write says that an edit is safe |
//! | a lone writer's idle frame is put off | a device had no data frame for 30 s |
//!
//! Defects that need a schedule too rare for a few hundred seeds have directed tests beside them (`tests/tests/shard.rs`).

mod awareness;
mod check;
mod clients;
mod device;
mod faults;
mod member;
mod model;
mod plan;
mod ranges;
mod region;
mod relay;
mod replica;
mod server;
mod socket;
mod token;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Virtual time for connections that broke unnoticed to be found out (a ping, its deadline, two of slow readers), and for
/// every user to be renewed once.
const CALM_MS: u64 = 140_000;
/// Virtual time for a newcomer to be in step, and for a user to be seen by one that had lost sight.
const JOIN_MS: u64 = 25_000;
/// Virtual time for a user to vanish from others' sight, or to be back in it: a second, and the slowest verdict, load,
/// mail and four ways over the network.
const SIGHT_MS: u64 = 7_000;
/// Virtual time for the grace of documents and the last deadlines.
const EMPTY_MS: u64 = 200_000;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of every byte that shards sent, in order.
    pub digest: u64,
    /// Things that happened.
    pub events: u64,
    /// Turns of all threads.
    pub turns: u64,
    /// Connections opened.
    pub sockets: usize,
    /// Updates appended to logs.
    pub updates: u64,
    /// Edits confirmed to their writers.
    pub acknowledged: u64,
    /// Compactions finished.
    pub compactions: u64,
    /// Messages of all kinds that shards sent.
    pub messages: u64,
    /// Readers closed for taking nothing.
    pub slow_readers: u64,
}

/// One run of a node by itself.
///
/// # Errors
/// What was violated, or the panic, with the plan of the run.
pub fn run(seed: u64) -> Result<Report, String> {
    run_in(World::new(seed), seed)
}

/// One run of several nodes that share a session store.
///
/// # Errors
/// As [`run`].
pub fn run_region(seed: u64) -> Result<Report, String> {
    run_in(World::of_region(seed), seed)
}

/// One run of two nodes, of which one carries its clients to the other.
///
/// # Errors
/// As [`run`].
pub fn run_relayed(seed: u64) -> Result<Report, String> {
    run_in(World::relayed(seed), seed)
}

fn run_in(mut world: World, seed: u64) -> Result<Report, String> {
    let plan = format!("{:?}", world.plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let report = |what: &str| format!("seed {seed}: {what}\n{plan}");
    match outcome {
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(report(&format!("at {} ms: panic: {what}", world.now_ms)))
        }
        Ok(()) if world.model.violations.is_empty() => Ok(summary(&world)),
        Ok(()) => Err(report(&world.model.violations.join("\n"))),
    }
}

fn live(world: &mut World) {
    world.populate();
    world.run_for(world.plan.busy_ms);
    world.calm_down();
    world.run_for(CALM_MS);
    let joiners = world.seat_joiners();
    world.run_for(JOIN_MS);
    if world.model.violations.is_empty() {
        world.check_agreement(&joiners);
    }
    world.joiners_leave(&joiners);
    world.run_for(SIGHT_MS);
    if world.model.violations.is_empty() {
        world.check_sight(&joiners, false);
    }
    world.joiners_return(&joiners);
    world.run_for(SIGHT_MS);
    if world.model.violations.is_empty() {
        world.check_sight(&joiners, true);
    }
    world.everyone_leaves();
    world.run_for(EMPTY_MS);
    if world.model.violations.is_empty() {
        world.check_emptiness();
    }
}

fn summary(world: &World) -> Report {
    let stats = || world.threads.iter().map(|thread| thread.shard.stats());
    Report {
        digest: world.digest,
        events: world.events,
        turns: world.threads.iter().map(|thread| thread.turns).sum(),
        sockets: world.sockets.len(),
        updates: stats().map(|stats| stats.updates).sum(),
        acknowledged: world.model.acknowledged,
        compactions: stats().map(|stats| stats.compactions).sum(),
        messages: stats().map(|stats| stats.messages_sent + stats.frames_fanned_out).sum(),
        slow_readers: stats().map(|stats| stats.slow_readers).sum(),
    }
}

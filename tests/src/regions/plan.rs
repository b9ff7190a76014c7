//! What one seed decides before anything happens.

use super::world::{MILLI, SECOND};
use fastrand::Rng;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A process is killed, and starts again later.
    Crash,
    /// A process is stopped for a while, its sockets stay open.
    Pause,
    /// A node and a server do not reach each other, in one direction or both.
    Partition,
    /// A server stops for a while.
    Freeze,
    /// A node's notices stop for a while.
    Silence,
    /// A client's connection breaks.
    Break,
    /// A client leaves for good.
    Departure,
    /// A node leaves in good order, and starts again later.
    Retire,
    /// A server's replica takes over, which lacks the last of it.
    FailOver,
    /// A server starts again without its data.
    Wipe,
    /// A document is moved to another region, while anything may happen.
    Move,
}

/// How the nodes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All clients leave.
    Leave,
    /// All nodes are killed.
    Kill,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) regions: usize,
    pub(super) nodes: usize,
    pub(super) documents: usize,
    pub(super) clients: usize,
    /// Documents of the app that may be active at once.
    pub(super) max_documents: u32,
    /// How long faults, edits and departures go on.
    pub(super) busy_us: u64,
    /// Mean time between two edits of the whole run.
    pub(super) edit_us: u64,
    /// Mean time between two faults.
    pub(super) fault_us: u64,
    /// Faults of this run.
    pub(super) faults: Vec<Fault>,
    /// The registry forgets nothing.
    pub(super) registry_is_honest: bool,
    /// The session stores forget nothing.
    pub(super) store_is_honest: bool,
    /// Most of the time that something takes on its way to a server.
    pub(super) latency_us: u64,
    /// Clients come and go, so that grace matters.
    pub(super) is_restless: bool,
    pub(super) end: End,
}

const FAULTS: [Fault; 11] = [
    Fault::Crash,
    Fault::Pause,
    Fault::Partition,
    Fault::Freeze,
    Fault::Silence,
    Fault::Break,
    Fault::Departure,
    Fault::Retire,
    Fault::FailOver,
    Fault::Wipe,
    Fault::Move,
];

impl Plan {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let regions = rng.usize(1..=3);
        let documents = rng.usize(1..=3);
        let registry_is_honest = rng.u8(..100) < 65;
        let store_is_honest = rng.u8(..100) < 65;
        let is_quiet = rng.u8(..100) < 8;
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| !is_quiet && rng.bool()).collect();
        if registry_is_honest && store_is_honest {
            faults.retain(|fault| !matches!(fault, Fault::FailOver | Fault::Wipe));
        }
        Self {
            regions,
            nodes: regions + rng.usize(0..=3),
            documents,
            clients: rng.usize(1..=8),
            max_documents: if rng.u8(..100) < 20 { documents as u32 - 1 } else { 100 }.max(1),
            busy_us: rng.u64(20..=160) * SECOND,
            edit_us: rng.u64(200..=4_000) * MILLI,
            fault_us: rng.u64(1..=20) * SECOND,
            faults,
            registry_is_honest,
            store_is_honest,
            latency_us: [2, 20, 150, 600][rng.usize(..4)] * MILLI,
            is_restless: rng.bool(),
            end: if rng.bool() { End::Leave } else { End::Kill },
        }
    }
}

//! A run of one process: its threads, from the first dial to the results.

pub mod address;
mod behaviour;
mod client;
mod content;
mod counts;
mod desk;
mod dialling;
mod discovery;
pub(crate) mod layout;
mod ledger;
mod load;
mod process;
mod redial;
mod regions;
mod schedule;
pub(crate) mod server;
mod session;
mod silence;
pub(crate) mod tls;
mod tokens;
mod watch;
mod worker;

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) use counts::StageCounts;
pub(crate) use process::EXAMPLES_MAX;
pub use process::run;
pub use watch::{Detail, Faults, Phase, Second, Status, ThreadLoad, Watch};

/// Which share of a scenario this process has: clients, senders and rates are split evenly by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// From 0.
    pub index: u32,
    /// Processes in all.
    pub of: u32,
}

impl Seat {
    /// The only process.
    pub const ALONE: Seat = Seat { index: 0, of: 1 };
}

/// Keeps processes in step. Asked by the main thread only, every tenth of a second or so; nothing blocks.
pub trait Conductor: Sync {
    /// The moment that all times of the run are counted from, the same in all processes.
    fn base(&self) -> Instant;

    /// Whether clients of `idle` stop half way, so that somebody else can read the server's memory.
    fn waits_at_half(&self) -> bool {
        false
    }

    /// Half of this process's clients stand, `open` of them. True once the rest may dial.
    fn may_pass_half(&self, _open: u64) -> bool {
        true
    }

    /// This process's clients have joined, or failed. Once everybody's have, the moment the load starts; the same moment
    /// in all processes.
    ///
    /// # Errors
    /// The run was called off.
    fn start(&self) -> Result<Option<Instant>>;
}

/// A process on its own.
#[derive(Clone, Copy, Debug)]
pub struct Alone(Instant);

impl Alone {
    /// From now on.
    #[must_use]
    pub fn now() -> Self {
        Self(Instant::now())
    }
}

impl Conductor for Alone {
    fn base(&self) -> Instant {
        self.0
    }

    fn start(&self) -> Result<Option<Instant>> {
        Ok(Some(Instant::now()))
    }
}

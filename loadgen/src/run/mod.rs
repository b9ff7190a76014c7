//! A run of one process: its threads, from the first dial to the results.

pub mod address;
mod behaviour;
mod client;
mod content;
mod counts;
mod desk;
mod dialling;
mod layout;
mod ledger;
mod load;
mod process;
mod schedule;
mod session;
mod tokens;
mod worker;

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::results::Interval;

pub(crate) use counts::StageCounts;
pub use process::run;

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

/// Keeps processes in step. Calls block; they are made by the main thread only, never by one that carries load.
pub trait Conductor: Sync {
    /// This process's clients have joined, or failed. Returns, once everybody's have, the moment the load starts; the
    /// same moment in all processes.
    ///
    /// # Errors
    /// Another process is gone, or the run was called off.
    fn all_joined(&self) -> Result<Instant>;
}

/// A process on its own.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Conductor for Alone {
    fn all_joined(&self) -> Result<Instant> {
        Ok(Instant::now())
    }
}

/// What stands now, for a live view; given about every quarter of a second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// `connecting`, `warming up`, `stage 2 of 3`, `draining`, `closing`, `done`.
    pub phase: String,
    /// Seconds from the start of the run.
    pub elapsed: f64,
    /// Seconds the whole run will take, as far as is known.
    pub expected: Option<f64>,
    /// Connections wanted.
    pub wanted: u64,
    /// Open now.
    pub open: u64,
    /// Faults found so far.
    pub faults: u64,
    /// Sends planned, per second, now.
    pub rate: f64,
}

/// Who watches a run. Called from the main thread.
pub trait Watch {
    /// Four times a second or so.
    fn status(&self, status: &Status);
    /// A second is over.
    fn interval(&self, interval: &Interval);
    /// Whether the user asked to stop: the run then drains and reports what it has.
    fn is_stopped(&self) -> bool;
}

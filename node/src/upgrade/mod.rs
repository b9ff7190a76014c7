//! Another process takes over: it is given the listening sockets, says when it is ready, and the one before it drains.
//!
//! | file | concern |
//! | --- | --- |
//! | `attempt.rs` | how it is asked for, and what became of it |
//! | `handed.rs` | sockets that a process was given by the one before |
//! | `talk.rs` | what the two say to each other, and how sockets go along |
//! | `start.rs` | the process before: starts the next, waits for it, watches it |
//!
//! ```text
//!   before                              after
//!   start, with a socket as stdin ────►
//!   sockets ──────────────────────────► starts with them; connections wait in their queues
//!            ◄────────────────────────── ready (or its end: then nothing happened)
//!   takes nobody any more, drains       accepts
//!            ◄────────────────────────── leaves, if it is told to (or its end: then it is lost)
//!   goes on in its place if it is lost
//! ```
//!
//! Documents are not handed over: both are nodes of the region, and its Redis has the sessions.

mod attempt;
mod handed;
mod start;
mod talk;

pub use attempt::{Attempt, Became, Upgrades, Wanted};
pub use handed::Handed;
pub use start::{News, Successor, Upgrade, UpgradeError};
pub use talk::Predecessor;

use std::time::Duration;

/// How long a process that is to take over waits for what it needs. The one before waits a little longer.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(45);

/// Says to a process that its stdin leads to the one before it, and which process of the node it is, from 2.
pub const GENERATION: &str = "PINWIRE_GENERATION";

//! Another process takes over: it is given the listening sockets, says when it is ready, and the one before it drains.
//!
//! | file | concern |
//! | --- | --- |
//! | `handed.rs` | sockets that a process was given by the one before |
//! | `talk.rs` | what the two say to each other, and how sockets go along |
//! | `start.rs` | the process before: starts the next, waits for it, drains |
//!
//! ```text
//!   before                              after
//!   start, with a socket as stdin ────►
//!   sockets ──────────────────────────► starts with them; connections wait in their queues
//!            ◄────────────────────────── ready (or its end: then nothing happened)
//!   takes nobody any more, drains       accepts
//! ```
//!
//! Documents are not handed over: both are nodes of the region, and its Redis has the sessions.

mod handed;
mod start;
mod talk;

pub use handed::Handed;
pub use start::{Successor, Upgrade, UpgradeError};
pub use talk::Predecessor;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a process that is to take over waits for what it needs. The one before waits a little longer.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(45);

/// Asks whoever runs the node to have another process take over; what became of it is answered: its process id, or why not.
pub type Upgrades = mpsc::Sender<Wanted>;

/// See [`Upgrades`].
pub type Wanted = oneshot::Sender<Result<u32, String>>;

/// Says to a process that its stdin leads to the one before it, and which process of the node it is, from 2.
pub const GENERATION: &str = "PINWIRE_GENERATION";

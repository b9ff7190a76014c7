//! The data plane: pinned threads, each with an engine and a shard of its own.
//!
//! | file | concern |
//! | --- | --- |
//! | `thread.rs` | the turn: kernel events and mail in, bytes and mail out |
//! | `handshake.rs` | connections before their upgrade |
//! | `authority.rs` | verdicts on tokens |
//! | `connection.rs` | what a connection is called in the log |
//! | `mailbox.rs` | the door between threads |
//! | `store.rs` | the session store and its implementation in memory |
//! | `worker.rs` | the thread that compacts logs |

mod authority;
mod connection;
mod handshake;
mod mailbox;
mod store;
mod thread;
mod worker;

pub use store::{MemoryStore, SessionStore, StoreEvent};

pub(crate) use authority::{Authority, Rules};
pub(crate) use mailbox::{Envelope, Mailbox};
pub(crate) use thread::{DataThread, Parts, Shared, THREADS_MAX};
pub(crate) use worker::Worker;

//! The data plane: pinned threads, each with an engine and a shard of its own.
//!
//! | file | concern |
//! | --- | --- |
//! | `thread.rs` | the turn: kernel events and mail in, bytes and mail out |
//! | `handshake.rs` | connections before their upgrade |
//! | `authority.rs` | verdicts on tokens |
//! | `inspect.rs` | what the admin thread asks, and has done |
//! | `leaving.rs` | a drain: whom the thread closes when |
//! | `awaiting.rs` | tokens that wait for their keys to be fetched |
//! | `mailbox.rs` | the door between threads |
//! | `worker.rs` | the thread that compacts logs |

mod authority;
mod awaiting;
mod handshake;
pub(crate) mod inspect;
mod leaving;
mod mailbox;
mod thread;
mod worker;

pub(crate) use authority::{Authority, Rules, app_name, may_be_of_a_record};
pub(crate) use leaving::{Leave, Unanswered};
pub(crate) use mailbox::{Envelope, Mailbox, Outgoing, Told};
pub(crate) use thread::{DataThread, Listening, Parts, Shared, THREADS_MAX};
pub(crate) use worker::Worker;

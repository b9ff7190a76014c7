//! Sessions of documents in the Redis of a region: updates as they come, and what nodes that share a document tell each
//! other.
//!
//! As in the registry, everything is a [`Request`] with a [`Reply`]; besides, nodes that hold the same document get
//! [`Notice`]s. [`Book`] keeps the rules in memory (deterministic), a Redis server runs them as scripts. [`Sessions`] is a
//! node's side: what it asks, when, and what it makes of the answers, without I/O and without a clock.
//!
//! **Heads.** Each accepted batch of updates makes a new [`Head`]: the next number, and a digest of everything before. A node that
//! knows the head before a notice is up to date with it; else it has missed something, and loads. A head that the store does
//! not know (it was rolled back, or wiped) tells that updates were lost there, and the node puts back what is lacking. So no
//! notice needs to be reliable.
//!
//! | module | concern |
//! | --- | --- |
//! | `message` | requests, replies, notices |
//! | `partition` | which documents may lie on one server of a cluster |
//! | `book`, `session` | the rules of the store |
//! | `sessions` | what a node asks, and what it makes of the answers |
//! | `marks` | what a data thread had absorbed before a compaction began |
//! | `redis` | the store on a Redis server (feature `redis`) |

mod book;
mod marks;
mod message;
mod partition;
#[cfg(feature = "redis")]
mod redis;
mod session;
mod sessions;

pub use book::{Book, Bounds, Notices, SWEEP_MAX};
pub use marks::Marks;
pub use message::{Batch, Head, Loaded, Notice, OutOfReach, Reply, Request, Standing};
pub use partition::{PARTITIONS, partition};
#[cfg(feature = "redis")]
pub use redis::{Heard, Listener, RedisSessions};
pub use sessions::{AskId, Effect, MOVE_PATIENCE_US, Refused, Sessions, Settings, Stats};

//! Sessions of documents in the Redis of a region: updates as they come, and what nodes that share a document tell each
//! other.
//!
//! As in the registry, everything is a [`Request`] with a [`Reply`]; besides, nodes that hold the same document get
//! [`Notice`]s. `Book` keeps the rules in memory (deterministic), a Redis server runs them as scripts.
//!
//! **Heads.** Each accepted batch of updates makes a new [`Head`]: the next number and a random nonce. A node that knows the
//! head before a notice is up to date with it; else it has missed something, and loads. A head that the store does not know
//! (it was rolled back, or wiped) tells that updates were lost there, and the node puts back what is lacking. So no
//! notice needs to be reliable.

mod message;

pub use message::{Batch, Head, Loaded, Notice, Reply, Request};

//! Measurements of a node from the outside: a node in a process of its own, clients in another.
//!
//! | module | concern |
//! | --- | --- |
//! | [`node`] | the node under test, as a child of the measuring command |
//! | [`fleet`] | many y-websocket clients on one thread |
//! | [`tokens`] | a token of its own for every client |
//! | [`edits`] | the smallest edits that Yjs knows |
//! | [`ledger`] | who was sent which edit, exactly once and in order |
//! | [`procfs`] | what the kernel says about a process |
//! | [`report`] | results as files |
//! | [`instructions`] | what a piece of code takes, counted by valgrind |

pub mod edits;
pub mod fleet;
pub mod instructions;
pub mod ledger;
pub mod node;
pub mod procfs;
pub mod report;
pub mod tokens;

//! Measurements of a node from the outside: a node in a process of its own, clients in another.
//!
//! | module | concern |
//! | --- | --- |
//! | [`node`] | the node under test, as a child of the measuring command |
//! | [`peers`] | other Yjs servers, installed from npm |
//! | [`sides`] | what is held against each other: the node and its peers |
//! | [`fleet`] | many clients on one thread |
//! | [`crowd`] | many idle clients of one node, how they come and leave |
//! | [`load`] | load of `pinwire-loadgen`, with the server's processor time |
//! | [`tokens`] | a token of its own for every client |
//! | [`edits`] | the smallest edits that Yjs knows |
//! | [`typing`] | a long document, typed one character at a time |
//! | [`ledger`] | who was sent which edit, exactly once and in order |
//! | [`procfs`] | what the kernel says about a process |
//! | [`report`] | results as files |
//! | [`instructions`] | what a piece of code takes, counted by valgrind |

pub mod crowd;
pub mod edits;
pub mod fleet;
pub mod instructions;
pub mod ledger;
pub mod load;
pub mod node;
pub mod peers;
pub mod procfs;
pub mod report;
pub mod sides;
pub mod tokens;
pub mod typing;

//! What a node and its consoles tell each other: every type of the admin API, and nothing else.
//!
//! | module | concern |
//! | --- | --- |
//! | [`node`] | the node and its data threads in numbers |
//! | [`standing`] | how full the node is, what it still does, and the pool of its region's nodes |
//! | [`documents`], [`connections`], [`apps`] | what is there, a page at a time |
//! | [`cluster`] | other nodes, other regions, and who has which document |
//! | [`actions`] | what an operator can have done, and the records of that |
//! | [`log`] | the last lines of its log |
//! | [`maintenance`] | what is announced on the status page |
//! | [`events`] | what happened |
//! | [`stream`] | what a console is sent each second |
//! | [`problem`] | answers that are errors |
//!
//! Within `/v1/` fields are added, never removed or changed: who reads must not mind fields that it does not know. The files in
//! `tests/golden` are what each type looks like.

pub mod actions;
pub mod apps;
pub mod cluster;
pub mod connections;
pub mod documents;
pub mod events;
pub mod log;
pub mod maintenance;
pub mod node;
pub mod problem;
pub mod standing;
pub mod stream;

/// Version of the API, that of its description in OpenAPI. The first number stands in every path.
pub const VERSION: &str = "1.4.0";

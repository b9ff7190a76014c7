//! Connections to nodes: a task for each on one network thread. The rest of the program gets [`Update`]s through a bounded
//! queue and gives [`Ask`]s and [`Action`](crate::app::action::Action)s; it never waits for the network.
//!
//! | module | concern |
//! | --- | --- |
//! | `address` | where a node is: TCP, TLS, a Unix socket |
//! | `trust` | certificates: whom to believe, and one's own |
//! | `transport` | a connection, requests and answers |
//! | `sse` | server-sent events out of bytes |
//! | `backoff` | when to try again |
//! | `wire` | what is asked and what comes back |
//! | `node` | one node's tasks: its stream, and questions |
//! | `fleet` | all nodes, and the thread |
//! | `discover` | other nodes of a cluster from one |

mod address;
mod backoff;
mod discover;
mod fleet;
mod node;
mod sse;
mod transport;
mod trust;
mod wire;

pub use address::Address;
pub use backoff::Backoff;
pub use discover::Discovery;
pub use fleet::{Fleet, FleetOptions};
pub use node::Token;
pub use sse::{Message, Messages};
pub use trust::{Trust, TrustFiles};
pub use wire::{Answer, Ask, Happened, Look, NodeSeen, Update, What, document_path, name_path};

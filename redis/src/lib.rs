//! Links to Redis: a single server, a master under Sentinel, or a Cluster; with TLS and users; scripts and subscriptions.
//!
//! The `redis` crate brings the protocol and one pipelined connection. Ways to servers are decided here, since a node has
//! to know three things that a general client hides: which server answered (its history tells whether something may have been
//! forgotten), when messages may have been missed, and that no call waits longer than its deadline, however a server hangs.
//!
//! | module | concern |
//! | --- | --- |
//! | `endpoint` | URLs of servers, with secrets that are never shown |
//! | `dial` | one connection: TCP, TLS, who we are |
//! | `server` | one server, reached again by itself after a loss |
//! | `sentinel`, `cluster` | which server has a key |
//! | `link` | calls: deadlines, bounds, redirections |
//! | `script` | scripts by their hash |
//! | `subscription` | messages, and the places where some may be missing |
//! | `probe` | servers asked one by one, for tools |
//! | `rig` | real servers for tests |

mod cluster;
mod dial;
mod endpoint;
mod error;
mod link;
mod probe;
#[cfg(feature = "rig")]
pub mod rig;
mod script;
mod sentinel;
mod server;
mod subscription;

pub use cluster::slot_of;
pub use endpoint::{Endpoint, EndpointError, Host, Kind};
pub use error::Error;
pub use link::{Link, Settings, info_field};
pub use probe::{Probe, Prober};
pub use redis::{Cmd, Value, cmd, from_redis_value};
pub use script::{Invocation, Script};
pub use sentinel::field;
pub use subscription::{Event, Subscription};

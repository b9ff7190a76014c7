//! The admin API: a listener of its own, on a thread of its own, for those who operate the node.
//!
//! It asks data threads through their mailboxes, a bounded piece at a time, and waits for none of them for long; what did
//! not come in time is missing from an answer that says so. `pinwire-admin-api` has the types that it speaks.
//!
//! | module | concern |
//! | --- | --- |
//! | `operators` | the API as the rest of the node sees it |
//! | `thread` | the thread: connections, stopping |
//! | `listener` | sockets to listen on, and who is at the other end of a connection |
//! | `access` | who may ask, and by which certificates |
//! | `routes` | which request gets which answer, and the description of that |
//! | `request`, `problem` | what requests say, and the answers that are errors |
//! | `version` | which version a request replaces, and of which one an answer is |
//! | `plane` | asking the data threads |
//! | `overview`, `documents`, `connections`, `apps` | what there is |
//! | `cluster` | what registries know, and other regions |
//! | `maintenance` | what is announced on the status page |
//! | `moves` | documents that go to another region |
//! | `records` | what license regions say of apps |
//! | `actions`, `store` | what an operator has done |
//! | `audit`, `events` | records of that, and of what else happened |
//! | `stream` | what consoles are sent each second |

#![allow(unused_qualifications, reason = "what describes a path writes out the types of its parameters")]

mod access;
mod actions;
mod apps;
mod audit;
mod cluster;
mod connections;
mod documents;
mod events;
pub(crate) mod leaving;
mod listener;
mod maintenance;
mod moves;
mod operators;
mod overview;
mod pins;
mod plane;
mod problem;
mod records;
mod request;
mod routes;
mod standing;
mod store;
mod stream;
mod thread;
mod version;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::apps::{Apps, Records};
use crate::cluster::ClusterStats;
use crate::config::Cluster;
use crate::control::Lookup;
use crate::dns::Dns;
use crate::drain::Drains;
use crate::log::Log;
use crate::peer::Relay;
use crate::regions::{Catalogue, Own};
use crate::shedding::Health;
use crate::status::Desk;
use crate::store::Way;
use crate::upgrade::Upgrades;

pub use access::AdminToken;
pub(crate) use access::{Access, hex_digest};
pub(crate) use audit::Audit;
pub use events::Events;
pub use listener::AdminAddress;
pub use listener::ListenError;
pub(crate) use listener::Listeners;
pub(crate) use operators::{Around, Doorway, Operators};
pub(crate) use plane::Plane;
pub use routes::description;
pub(crate) use standing::{rung_of, status_of};

/// What answers are made from.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) region: String,
    pub(crate) max_connections: u32,
    pub(crate) clock: Clock,
    pub(crate) health: Arc<Health>,
    pub(crate) apps: Arc<Apps>,
    /// What their license regions say of them.
    pub(crate) records: Arc<Records>,
    pub(crate) cluster: Cluster,
    /// What is counted of its part in it.
    pub(crate) stats: Arc<ClusterStats>,
    pub(crate) known_db_codes: Vec<String>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) own: Own,
    /// The registries.
    pub(crate) lookup: Lookup,
    /// To other nodes, if there are links.
    pub(crate) relay: Option<Relay>,
    pub(crate) plane: Plane,
    pub(crate) events: Arc<Events>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) access: Arc<Access>,
    pub(crate) log: Option<Log>,
    /// To the store on disk, if there is one.
    pub(crate) store: Option<Way>,
    pub(crate) drains: Drains,
    /// The region's name, if the nodes keep it.
    pub(crate) dns: Option<Dns>,
    /// How another process is had take over, where that can be.
    pub(crate) upgrades: Option<Upgrades>,
    /// To what is published, if anything is.
    pub(crate) status: Option<Desk>,
    /// Of the configuration in force.
    pub(crate) digest: Arc<ArcSwapOption<String>>,
    /// Something is in there once the node stops.
    pub(crate) stopping: watch::Receiver<Option<Duration>>,
    pub(crate) streams: stream::Streams,
}

/// The node's clock: its start, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
    started: OffsetDateTime,
}

impl Clock {
    /// A clock whose zero was at `epoch`.
    pub(crate) fn since(epoch: Instant) -> Self {
        Self { epoch, started: OffsetDateTime::now_utc() - epoch.elapsed() }
    }

    fn uptime(self) -> Duration {
        self.epoch.elapsed()
    }

    /// A tick of a shard as RFC 3339.
    fn at_tick(self, tick: u32) -> String {
        rfc3339(self.started + Duration::from_millis(u64::from(tick) * pinwire_shard::TICK_MS))
    }

    /// Seconds since a tick.
    fn since_tick(self, tick: u32) -> f64 {
        let then = Duration::from_millis(u64::from(tick) * pinwire_shard::TICK_MS);
        self.uptime().saturating_sub(then).as_millis() as f64 / 1000.0
    }

    /// Of the limits of apps.
    fn minute(self) -> u32 {
        (self.uptime().as_millis() / 60_000) as u32
    }
}

/// In UTC, with milliseconds.
fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_millisecond(at.millisecond()).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

//! The control plane: one named thread that does everything slow, away from the data threads.
//!
//! Today it serves plain HTTP. Data threads look at the head of a request; what is no WebSocket upgrade they hand over
//! through an [`HttpDoor`], socket and read bytes together, and never see again.
//!
//! | module | concern |
//! | --- | --- |
//! | [`door`] | handing a socket over, bounded |
//! | [`thread`] | the thread: sockets, deadlines, stopping |
//! | [`socket`], [`sealed`] | a socket whose first bytes were read elsewhere, with TLS or without |
//! | [`routes`] | which request gets which answer, CORS |
//! | [`caller`] | who asks: address, token |
//! | [`discovery`], [`usage`], [`regions`], [`health`], [`metrics`] | the answers |
//! | [`status`] | how the regions are, for everybody |
//! | [`lookup`] | asking registries |
//! | [`page`] | the built-in page of `dev` |
//! | [`problem`], [`retry`] | the answers that are errors, and when to come back |
//! | [`traced`] | requests that are traced |
//! | [`pins`] | where a document is active |
//!
//! What an answer needs to know it asks of a trait ([`Pins`], [`Usage`]), so that a registry shared by many nodes can
//! take the place of this node's memory.

mod caller;
mod discovery;
mod door;
mod health;
mod lookup;
mod metrics;
mod page;
mod pins;
mod problem;
mod regions;
mod retry;
mod routes;
mod sealed;
mod socket;
mod status;
#[cfg(test)]
mod tests;
mod thread;
mod traced;
mod usage;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use pinwire_protocol::document::name::NameRules;
use pinwire_token::{Claims, Forbidden};

use crate::apps::{Apps, Records};
use crate::cluster::ClusterStats;
use crate::config::Cluster;
use crate::dns::Dns;
use crate::drain::Drains;
use crate::jwks::Numbers;
use crate::live::Live;
use crate::metrics::Threads;
use crate::regions::{Catalogue, Own};
use crate::status::Published;
use crate::store::StoreStats;
use crate::traces::Queue;

pub use door::{HandOver, HttpDoor, busy_answer};
pub use lookup::{Lookup, Open};
pub use page::Page;
pub use pins::{Located, Pins, RegistryPins, Wanted};
pub use retry::retry_after_secs;
pub(crate) use socket::Socket;
pub use thread::{Control, start};
pub(crate) use thread::{Stopping, is_stopping, serve_connection};
pub use usage::{Current, LocalUsage, RegistryUsage, Usage};

/// What HTTP answers are made from.
#[derive(Debug)]
pub struct Services {
    /// The region this node serves.
    pub region: String,
    /// What tokens are judged by, and limits per client address.
    pub live: Arc<Live>,
    /// License regions this node knows.
    pub known_db_codes: Vec<String>,
    /// The registries of license regions.
    pub cluster: Cluster,
    /// The region's name, if the nodes keep it.
    pub(crate) dns: Option<Dns>,
    /// How the node leaves.
    pub(crate) drains: Option<Drains>,
    /// The apps that this node has seen.
    pub apps: Arc<Apps>,
    /// What their license regions say of them.
    pub records: Arc<Records>,
    /// The regions that there are.
    pub catalogue: Arc<Catalogue>,
    /// How this one looks.
    pub own: Own,
    /// What is counted of the system.
    pub stats: Arc<ClusterStats>,
    /// What a document name may contain.
    pub names: NameRules,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where documents are active.
    pub pins: Arc<dyn Pins>,
    /// What apps use.
    pub usage: Arc<dyn Usage>,
    /// Most connections of the node.
    pub max_connections: u32,
    /// Where numbers come from, if `/metrics` is answered.
    pub(crate) threads: Option<Arc<Threads>>,
    /// Numbers about the store on disk, if there is one.
    pub(crate) store: Option<Arc<StoreStats>>,
    /// What `/status` answers, if it does.
    pub(crate) status: Option<Published>,
    /// The built-in page, if it is served.
    pub page: Option<Page>,
    /// Numbers of keys by URL.
    pub(crate) key_numbers: Arc<Numbers>,
    /// Where traces go, if anywhere.
    pub(crate) traces: Option<Arc<Queue>>,
}

impl Services {
    /// The number of the license region of a token's app.
    ///
    /// # Errors
    /// It names none and there are several, or another one than its app is of.
    fn license(&self, claims: &Claims) -> Result<u8, Forbidden> {
        let code = claims.db_code.as_deref();
        if let (Some(named), Some(known)) = (code, self.apps.db_code(&claims.tenant, &claims.app))
            && *named != *known
        {
            return Err(Forbidden::OtherDbCode { named: named.into(), known });
        }
        self.cluster.license(code).ok_or_else(|| match code {
            Some(code) => Forbidden::UnknownDbCode(code.into()),
            None => Forbidden::NoDbCode,
        })
    }
}

/// A future that a trait object returns; it runs on the control thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is asked for lies in a registry that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry is out of reach")]
pub struct OutOfReach;

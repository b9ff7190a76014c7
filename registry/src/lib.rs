//! The registry of one license region: which region has which document, which nodes live, and what apps use.
//!
//! Everything is a [`Request`] with an [`Answer`], so that one set of rules has several homes: [`Book`] keeps them in memory
//! (deterministic, time passed in), a Redis server runs them as scripts. What holds for both is in the conformance suite.
//!
//! | module | concern |
//! | --- | --- |
//! | `names` | documents, apps, regions, incarnations of nodes |
//! | `claim` | the identity of a pin, and the order by which everybody picks the same winner |
//! | `message` | requests and answers |
//! | `book` | the rules, in memory: deterministic, without a clock |
//! | `embedded` | a registry within the process |
//! | `redis` (feature) | a registry on Redis: a server, under Sentinel, or a Cluster |
//!
//! Without the feature `redis` nothing here opens a socket.

mod book;
mod claim;
mod embedded;
mod message;
mod names;
#[cfg(feature = "redis")]
mod redis;

pub use book::Book;
pub use embedded::Embedded;

pub use claim::Claim;
pub use message::{
    Answer, AppRecord, AppUse, Asserted, Claimed, Grace, Hold, NodeView, Owner, Pin, Renewed, Request, Share,
    Used,
};
pub use names::{AppName, DocumentName, Node, Region};
#[cfg(feature = "redis")]
pub use redis::{REVISION, RedisRegistry};

use std::fmt;
use std::pin::Pin as Pinned;
use std::sync::Arc;

/// No registry answered. Whether the request was carried out is unknown; each may be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// Why, for logs and for `/health`.
    pub reason: Arc<str>,
}

/// An answer that is under way. Dropping it does not take the request back.
pub type Answering = Pinned<Box<dyn Future<Output = Result<Answer, OutOfReach>> + Send>>;

/// A registry, wherever it is.
pub trait Registry: fmt::Debug + Send + Sync {
    /// Asks it. Requests of one caller are under way side by side, and may be carried out in any order: who needs an order waits for
    /// the answer before.
    fn ask(&self, request: Request) -> Answering;
}

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

mod claim;
mod message;
mod names;

pub use claim::Claim;
pub use message::{
    Answer, AppRecord, AppUse, Asserted, Claimed, Grace, Hold, NodeView, Owner, Pin, Renewed, Request, Share,
    Used,
};
pub use names::{AppName, DocumentName, Node, Region};

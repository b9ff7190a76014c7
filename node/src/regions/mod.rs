//! The regions that there are, how each looks from here, and which is best for a client.
//!
//! | module | concern |
//! | --- | --- |
//! | `catalogue` | the regions, by name, with what was seen of them last |
//! | `own` | how this node's own region looks |
//! | `sight` | what was seen of a region: round trip, health, occupancy |
//! | `choice` | the best region for a client with a new document |
//! | `prober` | the thread that asks the others how they are |

mod catalogue;
mod choice;
mod own;
mod prober;
mod sight;

pub use catalogue::{Catalogue, Place};
pub use own::Own;
pub use prober::Prober;
pub(crate) use prober::{look_once, start};
pub use sight::{Condition, Sight};

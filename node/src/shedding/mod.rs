//! A node that looks after itself: how full it is and how well, what it still does, and whether it belongs into DNS.
//!
//! ```text
//!  host, cgroups ─► sources ─┐                          ┌─► Admission (words) ──► data threads
//!  data threads, disk ─► checks ─► judge ─► standing ───┤
//!  other threads ──► health ─┘        ▲                 └─► Health (a watch) ───► /health, DNS, drain, operators
//!                                     │ may leave
//!                                   beats ◄──► the pool in the region's Redis
//! ```
//!
//! | module | concern |
//! | --- | --- |
//! | `thread` | the thread "shedding": it looks four times a second, and never waits for Redis |
//! | `sources` | what the node uses and may use |
//! | `checks` | whether it works as it should |
//! | `disk` | how much is free on the store's disk |
//! | `beats` | the pool of the region's nodes |
//! | `standing` | how the node stands, as other threads read it |
//! | `health` | what other threads tell, and where the standing is published |
//! | `admission` | words that data threads read before they let somebody in |
//! | `names` | whether a document of some name is open here |
//!
//! What is decided of it lies in `pinwire_shed`, without I/O and without a clock.

mod admission;
mod beats;
mod checks;
mod disk;
mod health;
mod names;
mod sources;
mod standing;
mod thread;

pub(crate) use admission::Admission;
pub(crate) use checks::{Measures, Pulse};
pub use health::{Cause, Health};
pub use standing::{ChangeId, Pool, Reach, Standing};
pub(crate) use thread::{Around, SheddingWay, start};

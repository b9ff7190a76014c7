//! A node that looks after itself: how full it is and how well, what it still does, and whether it belongs into DNS.
//!
//! | module | concern |
//! | --- | --- |
//! | `standing` | how the node stands, as other threads read it |
//! | `health` | what other threads tell, and where the standing is published |
//! | `admission` | words that data threads read before they let somebody in |
//!
//! Data threads read words ([`Admission`]); everybody else reads or awaits a [`Standing`] through [`Health`].

mod admission;
mod health;
mod standing;

pub(crate) use admission::Admission;
pub use health::{Cause, Health};
pub use standing::{ChangeId, Pool, Reach, Standing};

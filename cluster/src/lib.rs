//! What a node of a cluster decides, without I/O and without a clock: whether its lease holds, which documents it has and under
//! which claims, and what it asks the registry. [`Pins`] is told what happens, and says what to do ([`Effect`]); one stands for
//! each license region. What a [`Gate`] publishes is what all other threads go by.
//!
//! | module | concern |
//! | --- | --- |
//! | `pins` | the core: its state, what is put in, what comes out |
//! | `life` | registering, renewing, retiring: the lease |
//! | `assertions` | saying again what is held, after the registry may have forgotten it |
//! | `claims` | taking documents, and losing them |
//! | `releases` | giving documents back, also those that the node does not know to have |
//! | `moving` | a document that comes from another region, step by step |
//! | `apps` | what is said and learnt about apps with each renewal |
//! | `lease` | leases, as all threads of a node see them |
//! | `effect` | what the core wants done |

mod apps;
mod assertions;
#[cfg(test)]
mod bench;
mod claims;
mod effect;
mod lease;
mod life;
mod moving;
mod pins;
mod releases;

pub use effect::{AskId, Decision, Effect, Ticket};
pub use lease::{ENDLESS_US, Gate, Lease, Standing};
pub use moving::{Came, Mover, Outcome, Step, Unmoved};
pub use pins::{Pins, Settings};

//! Traces for OpenTelemetry, where an operator wants them: what a thread saw is a small record of fixed size in a bounded queue,
//! and everything else happens on a thread of its own.
//!
//! A thread that records never waits and allocates nothing; a full queue drops the newest, counted. Where traces are off there is
//! no queue.
//!
//! | module | concern |
//! | --- | --- |
//! | `record` | what is recorded, and who of many is |
//! | `exporter` | the thread: from the queue to a collector |
//! | `otlp` | records as OTLP has them |
//! | `settings` | where to, and how often |

mod exporter;
mod otlp;
mod record;
mod settings;

pub(crate) use exporter::{Exporter, start};
pub(crate) use record::{Counted, Parent, Queue, Record, Recorder, What};
pub use settings::Traces;

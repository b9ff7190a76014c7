//! What a node tells about itself in numbers: data threads count, and hand a copy over when they are asked.
//!
//! | module | concern |
//! | --- | --- |
//! | `histogram` | times in buckets |
//! | `refused` | what was turned away, by reason, and what of it the log is told |
//! | `report` | what a data thread hands over, and how it is asked |
//! | `process` | what the kernel knows of the process |
//! | `cluster` | a node's part in the system of many |
//! | `standing` | how the node stands |
//! | `leaving` | its drain, and its region's name |
//! | `exposition` | Prometheus' text |

mod cluster;
mod exposition;
mod histogram;
mod leaving;
mod process;
mod refused;
mod report;
mod standing;

pub(crate) use cluster::families as cluster_families;
pub(crate) use exposition::{CONTENT_TYPE, Node, text};
pub(crate) use histogram::Histogram;
pub(crate) use process::Process;
pub(crate) use refused::{CLOSED, Refusals, Refused, handshake, tls_reason};
pub(crate) use report::{Report, Threads, Times, TlsHandshakes};

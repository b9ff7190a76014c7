//! One run shared out to several processes: on this machine (`--processes`) or on others (`--agents`).
//!
//! ```text
//! coordinator                                  agent: a process of this program
//!   hello, proof           ◄──────────────►      knows the token, is of the same version, is free
//!   task                   ───────────────►      looks whether its share can work: ready
//!   pings                  ◄──────────────►      whose clock says what
//!   begin                  ───────────────►      dials; tells what stands and every second that is over
//!   start, once all joined ───────────────►      sends from that moment on
//!   merges                 ◄───────────────      results
//! ```
//!
//! Every document and topic is in one process ([`crate::run::Seat`]), so nothing that is checked or timed crosses them;
//! only the start and the alignment of seconds need the clocks. Processes on this machine speak the same over a pair of
//! sockets. Whoever loses the other stops: an agent its load, the coordinator the whole run.

pub mod agent;
mod clock;
pub mod coordinator;
mod greeting;
mod wire;

pub use coordinator::{AgentsLost, Team};

//! When a node takes no new clients, and when it does again: what it was measured to use goes in, and what it is to do comes out.
//! There is no I/O here and no clock; times are microseconds of the caller's monotonic clock, random numbers are the caller's.
//!
//! ```text
//!  cgroup, host ──► Load ──► Judge ──► Verdict ──► who may come, DNS, /health
//!                             ▲  │
//!           Duty (drain, ills)┘  └──► Change (why, with numbers)
//! ```
//!
//! | module | concern |
//! | --- | --- |
//! | `cgroup` | what a process may use and uses, from the kernel's files |
//! | `cpu` | processor time between two looks, smoothed |
//! | `load` | connections, memory, processor: how full a node is, and of what |
//! | `water` | a mark that is passed upwards at once, and downwards after a while |
//! | `judge` | from load to verdict: the one place where that is decided |
//! | `pacing` | when somebody who was refused is asked to come again |
//! | `budget` | how many may come in at a time |
//! | `drain` | when the clients of a node that ends are closed |

mod budget;
pub mod cgroup;
mod cpu;
mod drain;
mod judge;
mod load;
mod pacing;
mod water;

pub use budget::{Budget, Demand, Turn, allot};
pub use cpu::CpuMeter;
pub use drain::{Drain, Phase, Windows};
pub use judge::{Change, Duty, Judge, Leave, Marks, Rung, State, Verdict, Why};
pub use load::{Load, Occupancy, Part, Resource};
pub use pacing::Pacing;
pub use water::{Lasting, Mark, Water};

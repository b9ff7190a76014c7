//! The Pinwire node: effects to kernel, HTTP, tokens and the command line.

pub mod apps;
mod capacity;
pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod doctor;
pub mod limits;
pub mod live;
pub mod log;
pub mod memory;
mod metrics;
mod node;
mod overload;
pub mod signals;
pub mod traces;

pub use node::{Node, StartError};

//! The Pinwire node: effects to kernel, HTTP, tokens and the command line.

pub mod admin;
pub mod apps;
mod capacity;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod data;
mod dns;
pub mod doctor;
mod drain;
mod https;
pub mod jwks;
pub mod limits;
mod listening;
pub mod live;
pub mod log;
pub mod memory;
mod metrics;
mod node;
mod peer;
mod ready;
pub mod regions;
pub mod shedding;
pub mod signals;
mod status;
pub mod store;
pub mod traces;
pub mod upgrade;

pub use node::{Hung, Node, OtherThreads, Start, StartError};

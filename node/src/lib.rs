//! The Pinwire node: effects to kernel, HTTP, tokens and the command line.

pub mod apps;
pub mod cli;
pub mod config;
pub mod control;
pub mod limits;
pub mod log;
pub mod signals;

//! Integration tests, simulator and rigs.

pub mod node;
pub mod sim;

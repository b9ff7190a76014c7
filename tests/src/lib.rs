//! Integration tests, simulator and rigs.

pub mod node;
pub mod shards;
pub mod sim;

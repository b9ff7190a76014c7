//! Integration tests, simulator and rigs.

pub mod kills;
pub mod node;
pub mod regions;
pub mod shards;
pub mod sim;

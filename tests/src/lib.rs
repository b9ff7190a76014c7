//! Integration tests, simulator and rigs.

pub mod sim;

//! Integration tests, simulator and rigs.

//! Results as people and machines read them.

pub mod csv;
pub mod json;
pub mod summary;

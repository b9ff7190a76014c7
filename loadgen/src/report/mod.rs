//! Results as people and machines read them.

pub mod csv;
pub mod hdr;
pub mod html;
pub mod json;
pub mod junit;
mod plot;
pub mod summary;

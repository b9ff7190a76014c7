//! Limits per client address: how many handshakes, discoveries and usage reports one client may ask for in a minute.

mod address;
mod client;

pub use address::{AddressLimiter, Asking, TooMany};
pub use client::client_address;

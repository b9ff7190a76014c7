//! Ports to listen on.

use anyhow::{Result, bail};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what Linux gives to outgoing connections, so that no client has the port of a node that is away for a moment.
const FIRST: u16 = 10_240;
const COUNT: u16 = 20_000;

/// Ports given so far by this process; each process begins elsewhere.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on now, and that this process has not given yet.
pub(crate) fn free_port() -> Result<u16> {
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + GIVEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {FIRST} and {} is free", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let (one, other) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(one, other);
        assert!(one >= FIRST && one - FIRST < COUNT);
    }
}

//! What a connection is called in the log.

use std::fmt;

use pinwire_shard::ConnRef;

/// A connection by its thread, its slot there, and a number that tells it from others that had the slot: `0-17-5`. It has another
/// one after it moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionId {
    pub(crate) thread: u16,
    pub(crate) conn: ConnRef,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.thread, self.conn.slot, self.conn.serial)
    }
}

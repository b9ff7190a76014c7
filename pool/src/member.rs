//! What a node says of itself, and what it hears of the others.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How a node is. Fields that another version added are ignored, and those that it does not know are as if nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its name, unique in the region.
    pub name: Box<str>,
    /// Differs with each start.
    pub life: u64,
    /// What the region's name is to resolve to.
    pub addresses: Vec<IpAddr>,
    /// It can serve at all.
    pub is_able: bool,
    /// It would rather have its clients elsewhere.
    pub wants_out: bool,
    /// From 0, nothing, to 1,000, full, and beyond.
    pub occupancy: u32,
    /// Handshakes that it was asked for in a second of late.
    pub asked: u32,
    /// Handshakes that it can serve in a second.
    pub most: u32,
    /// By how much its clock is ahead of the pool's, in milliseconds; negative if it is behind.
    pub ahead_ms: i64,
}

/// A node tells the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// How it is.
    pub me: Member,
    /// It is dead if nothing more is heard of it for so long, in microseconds.
    pub lease_us: u64,
    /// Of the living nodes, so many thousandths stay in DNS, and one at least.
    pub keep: u32,
    /// How long addresses of nodes that are gone are told, in microseconds.
    pub recall_us: u64,
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Microseconds by the pool's clock.
    pub now_us: u64,
    /// It wants out, and enough others are in. Taken back when that is no longer so.
    pub may_leave: bool,
    /// Somebody else called itself the same within its lease: this node before a restart, or one that is configured like it.
    pub is_doubled: bool,
    /// All who live, also the one who asks, by name.
    pub members: Vec<Seen>,
    /// Addresses that nobody who lives has, by address.
    pub gone: Vec<Gone>,
}

/// A node that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As it said last.
    pub member: Member,
    /// Its addresses belong into DNS.
    pub is_in: bool,
}

/// An address of a node that is dead, or has another one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The address.
    pub address: IpAddr,
    /// Since when, in microseconds by the pool's clock.
    pub since_us: u64,
}

//! What a keeper shows, and tells.

use super::{Reason, Wanted};
use crate::provider::Addresses;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How a node stands with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the node wants.
    pub wanted: Wanted,
    /// Why, in its own words.
    pub cause: Arc<str>,
    /// All its addresses are in the zone, as far as is known.
    pub is_in: Option<bool>,
    /// None of them is.
    pub is_out: Option<bool>,
    /// It wants to be out, and stays for the pool's sake.
    pub is_kept: bool,
    /// What the zone has, as far as is known.
    pub zone: Option<Addresses>,
    /// When it was looked at, by the node's monotonic clock.
    pub looked_us: Option<u64>,
    /// The provider does not do what it is asked.
    pub trouble: Option<Trouble>,
}

/// A provider that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, by the node's monotonic clock.
    pub since_us: u64,
    /// What it was asked since.
    pub attempts: u32,
    /// What it said last.
    pub last: Arc<str>,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The node wants something else than before.
    Wants {
        /// From now on.
        wanted: Wanted,
        /// In the node's words.
        cause: Arc<str>,
    },
    /// The node is in.
    Joined {
        /// With these addresses.
        addresses: Addresses,
        /// In the node's words.
        cause: Arc<str>,
    },
    /// Somebody had removed the node's addresses; they are in again.
    Repaired {
        /// These.
        addresses: Addresses,
    },
    /// The node wants to be out, but the name had no living node.
    CameBack {
        /// With these addresses.
        addresses: Addresses,
    },
    /// The node is out.
    Left {
        /// With these addresses.
        addresses: Addresses,
        /// Why.
        reason: Reason,
        /// In the node's words.
        cause: Arc<str>,
    },
    /// The node wants to be out, but too few would be left.
    Kept {
        /// Why it wants to.
        reason: Reason,
        /// In the node's words.
        cause: Arc<str>,
    },
    /// The addresses of a dead node are out.
    RemovedDead {
        /// Whose they were.
        node: String,
        /// These.
        addresses: Addresses,
    },
    /// Resolvers kept the node's addresses for too long, since somebody had changed their TTL.
    Shortened {
        /// These.
        addresses: Addresses,
        /// It was done before, and was never so afterwards: no more is tried.
        is_last: bool,
    },
    /// The address of a dead node was removed, and came back again and again: somebody else has it.
    LeftAlone {
        /// Whose it was.
        node: String,
        /// This.
        address: IpAddr,
    },
    /// The provider fails, or for another reason than before.
    Failing {
        /// What it said.
        error: Arc<str>,
    },
    /// The provider works again.
    Recovered {
        /// After so long.
        lasted_us: u64,
        /// And so many attempts.
        attempts: u32,
    },
}

impl News {
    /// An operator can do something about it.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Kept { .. } | Self::CameBack { .. } | Self::Failing { .. } | Self::LeftAlone { .. } => true,
            Self::Shortened { is_last, .. } => *is_last,
            _ => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Starting => "starting",
            Self::HighWater => "high water",
            Self::SelfCheck => "failed self-check",
            Self::Draining => "draining",
        })
    }
}

impl fmt::Display for News {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wants { wanted: Wanted::In, cause } => write!(formatter, "wants to be in DNS: {cause}"),
            Self::Wants { wanted: Wanted::Out(reason), cause } => {
                write!(formatter, "wants to be out of DNS ({reason}): {cause}")
            }
            Self::Joined { addresses, cause } => {
                write!(formatter, "in DNS with {}: {cause}", list(addresses))
            }
            Self::Repaired { addresses } => {
                write!(formatter, "in DNS again with {}, which somebody had removed", list(addresses))
            }
            Self::CameBack { addresses } => {
                write!(formatter, "back in DNS with {}: the name had no living node", list(addresses))
            }
            Self::Left { addresses, reason, cause } => {
                write!(formatter, "out of DNS with {} ({reason}): {cause}", list(addresses))
            }
            Self::Kept { reason, cause } => {
                write!(formatter, "stays in DNS ({reason}), since too few other nodes are in it: {cause}")
            }
            Self::RemovedDead { node, addresses } => {
                write!(formatter, "{} of the dead node {node} removed from DNS", list(addresses))
            }
            Self::Shortened { addresses, is_last: false } => {
                write!(
                    formatter,
                    "TTL of {} in DNS set again, which somebody had made longer",
                    list(addresses)
                )
            }
            Self::Shortened { addresses, is_last: true } => write!(
                formatter,
                "TTL of {} in DNS stays longer than configured, whatever is asked: resolvers lead clients there for so long after the \
                 node has left",
                list(addresses)
            ),
            Self::LeftAlone { node, address } => write!(
                formatter,
                "{address} of the dead node {node} was removed from DNS, and came back again and again: it is left alone, as that of \
                 somebody else"
            ),
            Self::Failing { error } => write!(formatter, "DNS cannot be kept: {error}"),
            Self::Recovered { lasted_us, attempts } => {
                write!(
                    formatter,
                    "DNS is kept again, after {} s and {attempts} attempts",
                    lasted_us / 1_000_000
                )
            }
        }
    }
}

fn list(addresses: &Addresses) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

//! How a node stands: what the thread that judges it publishes, and other threads go by.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinwire_pool::Heard;
use pinwire_shed::{Load, Rung, State, Verdict, Why};

use super::Measures;

/// A node is dead if nothing more was heard of it for so long; and so long it believes what it heard last.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// So long before that it takes itself for one that others take for dead.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Names a change of a node's standing: in the log, among its events, in answers to whom it refuses. Written as a life of the node
/// in hexadecimal, and how many changes there were in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeId {
    /// Another one after each start.
    pub life: u32,
    /// Counts from 1; 0 before the first.
    pub number: u64,
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.life, self.number)
    }
}

/// How a node stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What it does.
    pub verdict: Verdict,
    /// The change that made it so.
    pub change: ChangeId,
    /// Why, in words with numbers as of that change.
    pub cause: Arc<str>,
    /// The same as a value, with numbers of now.
    pub why: Why,
    /// What was measured last.
    pub load: Load,
    /// The high and the low mark of occupancy.
    pub marks: (f64, f64),
    /// Handshakes that are let in in a second.
    pub budget: f64,
    /// Documents that were not opened since they are for other nodes.
    pub documents_refused: u64,
    /// How often it came to each state.
    pub changes: [u64; 4],
    /// What the node's checks measured last.
    pub(crate) measures: Measures,
    /// The nodes of the region.
    pub pool: Pool,
}

impl Standing {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.verdict.state
    }

    /// What it still does.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.verdict.rung
    }

    /// Whether its addresses belong into DNS; [`Self::cause`] says why, or why not.
    #[must_use]
    pub fn wants_dns(&self) -> bool {
        self.verdict.is_in_dns
    }

    /// It would leave, and stays since nobody could stand in for it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.verdict.wants_out && self.verdict.is_in_dns
    }
}

/// The pool of the region's nodes, as this node knows it.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Where it is kept.
    pub reach: Reach,
    /// What was heard last, and when; `None` where nothing was, or where the node is its own pool.
    pub heard: Option<(Arc<Heard>, Instant)>,
}

impl Pool {
    /// What was heard last, as long as that counts.
    pub(crate) fn fresh(&self, now: Instant) -> Option<&Heard> {
        self.heard_within(LEASE, now)
    }

    /// The others take this node for dead by now, or will at once, unless they do not reach the pool either.
    pub(crate) fn is_lapsed(&self, now: Instant) -> bool {
        self.reach != Reach::Alone && self.heard_within(LEASE - LEASE_MARGIN, now).is_none()
    }

    fn heard_within(&self, time: Duration, now: Instant) -> Option<&Heard> {
        self.heard.as_ref().filter(|(_, at)| now < *at + time).map(|(heard, _)| &**heard)
    }
}

/// Whether a pool can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// There is no Redis that nodes share: the node is its own pool.
    #[default]
    Alone,
    /// It answers.
    Reached,
    /// It does not: what was heard last counts for a while, and then the node takes itself for the last one.
    Lost {
        /// As the Redis or the link to it says.
        why: Arc<str>,
    },
}

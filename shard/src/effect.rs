//! What a shard wants done. The frequent case, bytes for a socket, goes through the [`Outbox`]; everything else is an
//! [`Effect`].

use crate::document::log::Position;
use crate::document::yjs::Compaction;
use crate::mail::Mail;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Index of a connection on its thread: the engine's slot.
pub type Slot = u32;

/// A connection that may have gone, or moved, meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnRef {
    /// Where it is or was.
    pub slot: Slot,
    /// Tells it from others that had the slot.
    pub serial: u32,
}

/// A document that may have ended meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DocumentRef {
    /// Where it is or was.
    pub index: u32,
    /// Tells it from others that had the index.
    pub serial: u32,
}

/// Names a document in the whole system: `{tenant}::{app}::{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentName {
    /// `tenantid`, shared by the documents of an app.
    pub tenant: Arc<str>,
    /// `appId`, shared likewise.
    pub app: Arc<str>,
    /// The name within the app.
    pub name: Box<str>,
}

impl fmt::Display for DocumentName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}::{}::{}", self.tenant, self.app, self.name)
    }
}

/// What the session store kept of a document.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The compacted past, as one update.
    pub base: Option<Arc<[u8]>>,
    /// Updates since, in the order in which they were stored.
    pub tail: Vec<Box<[u8]>>,
    /// Other nodes that hold the document.
    pub nodes: Vec<NodeTag>,
}

/// Another node, as the caller numbers those that it hears of: the same number for as long as it is the same incarnation.
/// Numbers stay below 2^31 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeTag(pub u32);

/// What of a document the session store lacks, though it had it or was to have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutBack {
    /// To be confirmed by [`Shard::stored`](crate::Shard::stored) with this position. What was submitted before and is not
    /// stored yet stands in here, too.
    pub upto: Position,
    /// Updates, in order; none, if the store has everything. Then nothing is left to be confirmed.
    pub updates: Vec<Box<[u8]>>,
    /// How many of the store's updates are none.
    pub unreadable: u64,
}

/// Something other than bytes for a socket.
#[derive(Debug)]
pub enum Effect {
    /// Verify a token and answer with [`Shard::verdict`](crate::Shard::verdict).
    Verify {
        /// Who waits.
        conn: ConnRef,
        /// To be given back with the verdict.
        ticket: u64,
        /// A token as the client sent it.
        token: Box<str>,
    },
    /// Do this to a socket.
    Socket(Slot, SocketAction),
    /// Hand the connection to another thread: [`Shard::depart`](crate::Shard::depart) when its socket is there.
    Move(Slot, u16),
    /// Claim the document and load its session: answer with [`Shard::opened`](crate::Shard::opened).
    Open(DocumentRef, DocumentName),
    /// The document has entries that the session store lacks: answer with [`Shard::stored`](crate::Shard::stored).
    Store(DocumentRef),
    /// Run the job on a worker: answer with [`Shard::compacted`](crate::Shard::compacted).
    Compact(DocumentRef, Compaction),
    /// The document ended, or was refused: give up the claim, end the session.
    Closed(DocumentRef, DocumentName),
    /// A reader took nothing for long: answer with [`Shard::backlog`](crate::Shard::backlog), the number given back, how
    /// many bytes wait now.
    Backlog(Slot, u32),
    /// Tell the other nodes that hold the document: for [`Shard::said`](crate::Shard::said) there.
    Say(DocumentRef, Box<[u8]>),
    /// Deliver to another thread's shard, in order.
    Mail(u16, Mail),
    /// A stateless message came from a client.
    Stateless {
        /// On which document.
        document: DocumentName,
        /// Whose.
        subject: Box<str>,
        /// What it says.
        payload: Box<str>,
    },
}

/// See [`Effect::Socket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAction {
    /// Receive no more for now.
    PauseRead,
    /// Receive again.
    ResumeRead,
    /// Send FIN once everything queued has left.
    Finish,
    /// Close now.
    Close,
}

/// Bytes for sockets, gathered over a turn.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What [`Segment::Arena`] refers to.
    pub arena: Vec<u8>,
    /// In order per slot.
    pub sends: Vec<(Slot, Segment)>,
}

/// A run of bytes for one socket.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Part of this turn's arena.
    Arena(Range<u32>),
    /// Large bytes that many may share.
    Shared(Arc<[u8]>),
}

impl Segment {
    /// Bytes of the run.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Arena(range) => range.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the arena ends, as far as a range can name it.
pub(crate) fn position(arena: &[u8]) -> u32 {
    u32::try_from(arena.len()).unwrap_or(u32::MAX)
}

impl Outbox {
    /// Appends what `write` writes to the arena and queues it for `slot`.
    pub fn write(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let range = self.store(write);
        let len = range.len();
        self.send(slot, Segment::Arena(range));
        len
    }

    /// Appends to the arena without queueing.
    pub fn store(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<u32> {
        let start = position(&self.arena);
        write(&mut self.arena);
        start..position(&self.arena)
    }

    /// Queues a run; one that continues the last is joined to it.
    pub fn send(&mut self, slot: Slot, mut segment: Segment) {
        if matches!(&segment, Segment::Arena(range) if range.end == u32::MAX) {
            // Not to be named: a range that the engine refuses cuts the connection, rather than send it other bytes.
            #[allow(clippy::reversed_empty_ranges, reason = "no range of any arena")]
            let refused = u32::MAX..0;
            segment = Segment::Arena(refused);
        }
        if let (Some((last_slot, Segment::Arena(last))), Segment::Arena(next)) =
            (self.sends.last_mut(), &segment)
            && *last_slot == slot
            && last.end == next.start
        {
            last.end = next.end;
            return;
        }
        self.sends.push((slot, segment));
    }
}

//! What a node knows of one document it holds.

use super::limits::{EARLY_MAX, LINK_BYTES_MAX, LINKS_MAX, SAYING_BYTES_MAX, SAYINGS_MAX};
use super::outgoing::Outgoing;
use super::trail::Trail;
use crate::marks::is_at_or_before;
use crate::{Batch, Head};
use pinwire_registry::{Claim, DocumentName, Node};
use std::collections::VecDeque;
use std::sync::Arc;

/// A document that may have been closed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    pub index: u32,
    /// Tells it from others that had the index.
    pub serial: u32,
}

/// ```text
/// Opening --Loaded--> Live --newer claim--> Fenced --reclaimed--> Live
///    |                  | |                   | ^
///    |                  | +--moves--> Moving --settled, or not in time
///    |                  |               |     |
///    +-----close--------+-----close-----+-----+--> Closing --Done--> gone
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Live,
    /// It may be on its way to another region: what is in the history was handed over, and nothing is added to it.
    Moving,
    /// The session belongs to a newer claim: nothing is asked until the node has that too, or closes.
    Fenced,
    Closing,
}

/// A batch that follows a head which is not reached yet.
#[derive(Debug)]
pub(super) struct Link {
    pub prev: Head,
    pub head: Head,
    pub what: Linked,
}

#[derive(Debug)]
pub(super) enum Linked {
    /// Of another node.
    Foreign(Batch),
    /// This node's; the log up to here holds it.
    Own(u32),
}

/// Another node that holds the document.
#[derive(Debug)]
pub(super) struct Peer {
    pub node: Node,
    /// The newest beat that had been asked when it was heard of: the answer to that one may be older than it.
    pub since_beat: u64,
}

/// What came while the store was asked how the session stands: it may be older than the answer, or newer.
#[derive(Debug)]
pub(super) enum Early {
    Joined(Node),
    Left(Node),
    Said(Node, Arc<[u8]>),
    Moving(Claim),
}

/// Where a document stands that is being moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// What its session was fenced with.
    pub fence: Claim,
    /// When it is asked for whatever anybody says.
    pub until_us: u64,
    /// The store was told that nothing is added, or would not have it.
    pub is_said: bool,
}

/// A compaction's result that the store is to take.
#[derive(Debug)]
pub(super) struct Rebase {
    /// The data thread's log up to here is in it.
    pub position: u32,
    pub upto: Head,
    pub base: Arc<[u8]>,
    pub left: Batch,
}

/// Since when the store has no room for a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub since_us: u64,
    /// Nothing is sent before then.
    pub until_us: u64,
    pub is_given_up: bool,
}

/// Messages to other nodes, in order.
#[derive(Debug, Default)]
pub(super) struct Sayings {
    pub waiting: VecDeque<Arc<[u8]>>,
    bytes: usize,
    pub is_under_way: bool,
    /// Something was dropped: the data thread is to say everything anew once there is room.
    pub again: bool,
}

impl Sayings {
    pub(super) fn push(&mut self, message: Arc<[u8]>) {
        self.bytes += message.len();
        self.waiting.push_back(message);
        if self.waiting.len() > SAYINGS_MAX || self.bytes > SAYING_BYTES_MAX {
            self.drop_all();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Arc<[u8]>> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    pub(super) fn drop_all(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
        self.again = true;
    }
}

#[derive(Debug)]
pub(super) struct Document {
    pub name: DocumentName,
    pub lane: usize,
    /// The number of its license region.
    pub license: u8,
    pub claim: Claim,
    pub hold: u64,
    pub phase: Phase,
    /// The store may have this node for a holder.
    pub is_held: bool,
    /// It may have it by an open that was before this one, and was not closed there: also if it refuses this one.
    pub was_held: bool,
    /// Open, Load, Append or Close is under way: one at a time.
    pub is_asking: bool,
    /// Open or Load is under way.
    pub is_loading: bool,
    /// Heads is under way.
    pub is_heads_asked: bool,
    /// Something may have been missed since the one or the other was asked.
    pub is_missed: bool,
    /// In a queue of documents that have something to ask.
    pub is_queued: bool,
    /// In that of documents that wait until fewer sessions are being loaded.
    pub waits_to_load: bool,
    /// The same with compacted pasts.
    pub waits_to_rebase: bool,
    /// In a lane's queue of documents to be compared.
    pub is_comparing: bool,

    /// Everything up to here was given to the data thread, or came from it.
    pub known: Head,
    pub trail: Trail,
    /// Numbers what the data thread was given.
    pub mark: u64,
    pub links: VecDeque<Link>,
    link_bytes: usize,
    /// Since when a batch is missing, or a head of the store's not reached.
    pub gap_since: Option<u64>,
    pub early: Vec<Early>,
    /// Times that the session was loaded.
    pub reloads: u32,
    /// Something was dropped meanwhile: the session has to be loaded again.
    pub is_overrun: bool,
    /// A head that the store was heard to have.
    pub behind: Option<Head>,
    /// What is known may not be what the store has: to be loaded.
    pub needs_load: bool,
    /// It was given this claim while it was being opened, which is to be told once it is.
    pub reclaimed: Option<Claim>,
    /// The data thread was given what was loaded and has to say what is lacking there.
    pub awaits_put_back: bool,
    /// What the store lacked up to here is on its way.
    pub puts_back: Option<u32>,
    /// It is being moved.
    pub leaving: Option<Leaving>,

    pub outgoing: Outgoing,
    /// The log up to here is stored.
    pub stored: Option<u32>,
    /// Stored, but not to be said without a lease.
    pub unsaid: Option<u32>,
    /// The store has no room.
    pub full: Option<Full>,
    /// Of what the data thread was given under this mark, something could not be read.
    pub unread: Option<u64>,
    pub rebase: Option<Box<Rebase>>,
    pub is_rebasing: bool,
    pub sayings: Option<Box<Sayings>>,
    pub peers: Vec<Peer>,
}

impl Document {
    /// Whether it is of one of these license regions: a bit for each number.
    pub(super) fn is_of(&self, licenses: u64) -> bool {
        licenses >> (self.license & 63) & 1 != 0
    }

    pub(super) fn new(name: DocumentName, claim: Claim, hold: u64, license: u8) -> Self {
        Self {
            license,
            lane: crate::partition(&name),
            name,
            claim,
            hold,
            phase: Phase::Opening,
            is_held: false,
            was_held: false,
            is_asking: false,
            is_loading: false,
            is_heads_asked: false,
            is_missed: false,
            is_queued: false,
            waits_to_load: false,
            waits_to_rebase: false,
            is_comparing: false,
            known: Head::default(),
            trail: Trail::default(),
            mark: 0,
            links: VecDeque::new(),
            link_bytes: 0,
            gap_since: None,
            early: Vec::new(),
            reloads: 0,
            is_overrun: false,
            behind: None,
            needs_load: false,
            reclaimed: None,
            awaits_put_back: false,
            puts_back: None,
            leaving: None,
            outgoing: Outgoing::default(),
            stored: None,
            unsaid: None,
            full: None,
            unread: None,
            rebase: None,
            is_rebasing: false,
            sayings: None,
            peers: Vec::new(),
        }
    }

    /// Begins to follow a history at `head`.
    pub(super) fn restart(&mut self, head: Head) {
        self.known = head;
        self.trail.restart(head, self.mark);
        self.behind = None;
        self.gap_since = None;
    }

    /// Keeps what came while the store is being asked how the session stands.
    pub(super) fn keep_early(&mut self, early: Early) {
        if self.early.len() < EARLY_MAX {
            self.early.push(early);
        } else {
            self.is_overrun = true;
        }
    }

    /// The store is being asked how the session stands: what others do meanwhile is kept, to be taken up after it.
    pub(super) fn is_hearing(&self) -> bool {
        self.is_loading || self.is_heads_asked
    }

    /// Keeps a batch until what comes before it is known; false if there are too many.
    pub(super) fn link(&mut self, prev: Head, head: Head, what: Linked) -> bool {
        if let Linked::Foreign(updates) = &what {
            self.link_bytes += bytes_of(updates);
        }
        self.links.push_back(Link { prev, head, what });
        let is_bounded = self.links.len() <= LINKS_MAX && self.link_bytes <= LINK_BYTES_MAX;
        if !is_bounded {
            self.unlink();
        }
        is_bounded
    }

    pub(super) fn unlink(&mut self) {
        self.links = VecDeque::new();
        self.link_bytes = 0;
    }

    /// The next batch in the history, if it is there: what others wrote, under a mark.
    pub(super) fn follow(&mut self) -> Option<Option<(u64, Batch)>> {
        let at = self.links.iter().position(|link| link.prev == self.known)?;
        let link = self.links.remove(at)?;
        self.known = link.head;
        if self.behind.is_some_and(|head| head.seq <= link.head.seq) {
            self.behind = None;
        }
        Some(match link.what {
            Linked::Own(end) => {
                self.trail.push(link.head, Some(end), self.mark);
                None
            }
            Linked::Foreign(updates) => {
                self.link_bytes -= bytes_of(&updates);
                self.mark += 1;
                self.trail.push(link.head, None, self.mark);
                Some((self.mark, updates))
            }
        })
    }

    /// Drops what is behind. False: a batch of this node was among it, so that the history became one without it.
    #[must_use]
    pub(super) fn drop_behind(&mut self) -> bool {
        let (known, bytes, mut is_whole) = (self.known, &mut self.link_bytes, true);
        self.links.retain(|link| {
            let is_ahead = link.head.seq > known.seq;
            match &link.what {
                _ if is_ahead => {}
                Linked::Foreign(updates) => *bytes -= bytes_of(updates),
                Linked::Own(_) => is_whole = false,
            }
            is_ahead
        });
        if self.links.is_empty() {
            self.links = VecDeque::new();
        }
        is_whole
    }

    /// The session is followed.
    pub(super) fn is_followed(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Moving)
    }

    /// Everything that was said to be stored is in the history that is known.
    pub(super) fn is_settled(&self) -> bool {
        let is_put_back = self.puts_back.is_none() && !self.awaits_put_back;
        !self.needs_load && is_put_back && !self.has_gap()
    }

    /// Whether something is missing.
    pub(super) fn has_gap(&self) -> bool {
        !self.links.is_empty() || self.behind.is_some()
    }

    /// True if a compaction's result may be sent: everything of this node's in it is stored, in a history that is known.
    pub(super) fn is_rebase_due(&self) -> bool {
        let is_stored = |rebase: &Rebase| {
            self.outgoing.is_empty()
                || self.stored.is_some_and(|stored| is_at_or_before(rebase.position, stored))
        };
        let is_known = || !self.links.iter().any(|link| matches!(link.what, Linked::Own(_)));
        !self.is_rebasing
            && !self.awaits_put_back
            && self.rebase.as_deref().is_some_and(is_stored)
            && is_known()
    }

    /// The newest mark, up to this one, up to which everything could be read; None: not even what it was opened with.
    pub(super) fn readable(&self, mark: u64) -> Option<u64> {
        self.unread.map_or(Some(mark), |unread| Some(mark.min(unread.checked_sub(1)?)))
    }

    /// Messages were dropped, and there is room to say everything anew.
    pub(super) fn is_to_say_anew(&mut self) -> bool {
        let is_due = |sayings: &Sayings| sayings.again && !sayings.is_under_way && sayings.waiting.is_empty();
        let is_due = self.phase == Phase::Live && self.sayings.as_deref().is_some_and(is_due);
        if is_due {
            self.sayings = None;
        }
        is_due
    }

    pub(super) fn peer(&self, node: &Node) -> bool {
        self.peers.iter().any(|peer| peer.node == *node)
    }
}

fn bytes_of(updates: &Batch) -> usize {
    updates.iter().map(|update| update.len()).sum()
}

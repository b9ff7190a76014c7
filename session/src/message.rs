//! What a node asks the store of its region, and what it is told without asking.

use pinwire_registry::{Claim, DocumentName, Node};
use std::fmt;
use std::sync::Arc;

/// Where a document's history ends: the number of accepted batches, and what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Head {
    /// Batches since the session began.
    pub seq: u64,
    /// A digest of the nonces of all of them, in order: equal heads have equal pasts, also where the store was rolled back
    /// and went on. 0 for the beginning.
    pub chain: u64,
}

impl Head {
    /// The head after one more batch.
    #[must_use]
    pub fn after(self, nonce: u64) -> Self {
        // As a script can compute it: SHA-1 of both numbers in hexadecimal.
        let digest = sha1_smol::Sha1::from(format!("{:016x}{nonce:016x}", self.chain)).digest().bytes();
        let mut chain = [0; 8];
        chain.copy_from_slice(&digest[..8]);
        Self { seq: self.seq + 1, chain: u64::from_be_bytes(chain) }
    }
}

/// The store did not answer: whether it did what was asked is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfReach;

impl fmt::Display for OutOfReach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the session store did not answer")
    }
}

impl std::error::Error for OutOfReach {}

/// Updates of one writer that came together, byte for byte.
pub type Batch = Arc<[Box<[u8]>]>;

/// Something asked of the store. Every request names the claim under which the node holds the document: one that is older than
/// the session's is refused ([`Reply::Fenced`]); a newer one begins the session anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The node holds the document from now on, and is told of it. Answered by [`Reply::Loaded`].
    Open {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
        /// Rises with each open of this node: see [`Request::Close`].
        hold: u64,
    },
    /// Keeps updates and tells the other nodes that hold the document. Answered by [`Reply::Appended`], also if it was kept
    /// before; or [`Reply::Diverged`] if the node is no holder or `known` is not part of the history (any more: it may lie
    /// before the base). Nothing is kept then.
    Append {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
        /// The newest head that the node knows.
        known: Head,
        /// Random: names the batch, see [`Head::after`].
        nonce: u64,
        /// What.
        updates: Batch,
    },
    /// Everything, again; the others are told as if the node had just come. Answered by [`Reply::Loaded`].
    Load {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who; it holds the document from now on if it did not (the store may have been wiped).
        node: Node,
        /// As in [`Request::Open`].
        hold: u64,
    },
    /// `base` and `left` stand for everything up to `upto`, which is dropped, if both heads are part of the history. Answered by
    /// [`Reply::Done`], or [`Reply::Full`] if they would take more than what they stand for, and too much.
    Rebase {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// What the base holds at least.
        upto: Head,
        /// What it holds at most. More than the history has must not be in a base alone: whoever finds it there takes it for
        /// stored, and the next base may be of a node that never saw it.
        within: Head,
        /// One update.
        base: Arc<[u8]>,
        /// Updates that build on something that is not there (yet).
        left: Batch,
    },
    /// Tells the other nodes that hold the document something that is not kept (awareness). Answered by [`Reply::Done`], also if
    /// the node is no holder (any more), and nobody is told.
    Say {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
        /// As in [`Request::Open`].
        hold: u64,
        /// What.
        message: Arc<[u8]>,
    },
    /// The node does not hold the document any more; the session stays for who comes in the grace. Answered by
    /// [`Reply::Done`].
    Close {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
        /// What ends: a later hold of the same node stays, should this come late.
        hold: u64,
    },
    /// The session is over: removes it, whatever is left of it, if it is of this very claim.
    End {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
    },
    /// Freezes a session for its document to be moved to another region: it belongs to `to` from now on, so that nothing is kept
    /// under `claim` any more, and its holders are told. Answered by [`Reply::Loaded`] once all of them have agreed
    /// ([`Request::Agree`]), and by [`Reply::Waiting`] before; asked again and again until then. [`Reply::Diverged`]: there is no
    /// session under `claim`.
    Fence {
        /// Which.
        document: DocumentName,
        /// Under which claim it is held.
        claim: Claim,
        /// A higher one, under which the region goes on should the document not be moved.
        to: Claim,
        /// For how long holders are told that it is being moved ([`Reply::Moving`]), in microseconds; then, that it
        /// belongs to a newer claim.
        for_us: u64,
    },
    /// A holder has stopped: whatever it said to be stored is in the history up to `known`, and nothing is said from now on.
    /// Answered by [`Reply::Done`], or [`Reply::Diverged`] if `known` is not part of the history.
    Agree {
        /// Which.
        document: DocumentName,
        /// What it was fenced with.
        claim: Claim,
        /// Who.
        node: Node,
        /// The newest head that the node knows.
        known: Head,
    },
    /// Whether the document was moved is decided, one way or the other: its holders are told to ask the registry. Answered by
    /// [`Reply::Done`].
    Settle {
        /// Which.
        document: DocumentName,
        /// What it was fenced with.
        claim: Claim,
    },
    /// Begins a session with what another region handed over, which nobody holds yet. Answered by [`Reply::Done`], also if it
    /// is there already; [`Reply::Full`], [`Reply::Fenced`].
    Import {
        /// Which.
        document: DocumentName,
        /// Under which claim this region will have it.
        claim: Claim,
        /// The compacted past.
        base: Option<Arc<[u8]>>,
        /// Updates since.
        updates: Batch,
        /// As in [`Request::Append`].
        nonce: u64,
    },
    /// How the sessions of these documents stand, after the node may have missed something; the other nodes are told as if it
    /// had just come. Answered by [`Reply::Heads`], in order; `None`: there is no session under this claim, or it does not
    /// know the node as a holder under that number.
    Heads {
        /// Who.
        node: Node,
        /// Which, under which claims, and as in [`Request::Open`]; all of one [partition](crate::partition).
        documents: Vec<(DocumentName, Claim, u64)>,
    },
    /// The node lives; who else does in this region? Answered by [`Reply::Nodes`].
    Beat {
        /// Who.
        node: Node,
        /// For how long others may believe it, in microseconds.
        lease_us: u64,
        /// Which documents does it hold, as far as the store knows?
        with_holds: bool,
    },
}

/// A session as the store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The compacted past.
    pub base: Option<Arc<[u8]>>,
    /// Updates since. An empty one, which is none, stands for an entry that is damaged.
    pub tail: Vec<Box<[u8]>>,
    /// Where it ends.
    pub head: Head,
    /// The other nodes that hold the document.
    pub nodes: Vec<Node>,
}

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it ends.
    pub head: Head,
    /// The other nodes that hold the document.
    pub nodes: Vec<Node>,
}

/// An answer of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// See [`Request::Open`], [`Request::Load`].
    Loaded(Loaded),
    /// The updates are kept.
    Appended {
        /// Where the history ended before.
        prev: Head,
        /// Where it ends now.
        head: Head,
    },
    /// What the node knows is not part of the history: it has to load, and to put back what is lacking.
    Diverged,
    /// The session belongs to this newer claim.
    Fenced(Claim),
    /// The same; and the document is being moved to another region: which of the two has it is not decided yet.
    Moving(Claim),
    /// See [`Request::Fence`]: holders have not agreed yet.
    Waiting,
    /// The document, or the store as a whole, may hold no more.
    Full,
    /// Done.
    Done,
    /// See [`Request::Heads`].
    Heads(Vec<Option<Standing>>),
    /// See [`Request::Beat`].
    Nodes {
        /// The nodes of the region that live.
        nodes: Vec<Node>,
        /// The store, or part of it, did not know that the asking node lives: what it held may have been given up.
        is_forgotten: bool,
        /// Documents for whose holder the store takes the asking node, if it asked for them.
        held: Vec<DocumentName>,
    },
}

/// Something that a node is told about a document it holds. Notices may get lost and never come twice; those of one writer come in
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another node appended.
    Appended {
        /// Where to.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Where the history ended before.
        prev: Head,
        /// Where it ends now.
        head: Head,
        /// What.
        updates: Batch,
    },
    /// Another node said something.
    Said {
        /// Under which number the one who is told holds the document: notices of a hold that is over may come late.
        hold: u64,
        /// About what.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        from: Node,
        /// What.
        message: Arc<[u8]>,
    },
    /// Another node holds the document now: it wants to be told who is present.
    Joined {
        /// Under which number the one who is told holds the document: notices of a hold that is over may come late.
        hold: u64,
        /// Which.
        document: DocumentName,
        /// Who.
        node: Node,
    },
    /// Another node holds it no more: who was present there is gone.
    Left {
        /// Under which number the one who is told holds the document: notices of a hold that is over may come late.
        hold: u64,
        /// Which.
        document: DocumentName,
        /// Who.
        node: Node,
    },
    /// The document is being moved to another region: see [`Request::Fence`].
    Moving {
        /// Under which number the one who is told holds the document.
        hold: u64,
        /// Which.
        document: DocumentName,
        /// What it was fenced with.
        claim: Claim,
    },
    /// Whether it was is decided: see [`Request::Settle`].
    Settled {
        /// Under which number the one who is told holds the document.
        hold: u64,
        /// Which.
        document: DocumentName,
        /// What it was fenced with.
        claim: Claim,
    },
}

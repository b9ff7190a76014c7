//! What a node asks the store of its region, and what it is told without asking.

use pinwire_registry::{Claim, DocumentName, Node};
use std::sync::Arc;

/// Where a document's history ends: the number of accepted batches, and what the last one was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Head {
    /// Batches since the session began.
    pub seq: u64,
    /// Random, of the batch's writer; 0 for the beginning.
    pub nonce: u64,
}

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
    },
    /// Keeps updates and tells the other nodes that hold the document. Answered by [`Reply::Appended`], or
    /// [`Reply::Diverged`] if `known` is not part of the history: nothing is kept then.
    Append {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
        /// The newest head that the node knows.
        known: Head,
        /// Becomes [`Head::nonce`].
        nonce: u64,
        /// What.
        updates: Batch,
    },
    /// Everything, again. Answered by [`Reply::Loaded`].
    Load {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who; it holds the document from now on if it did not (the store may have been wiped).
        node: Node,
    },
    /// `base` stands for everything up to `upto`, which is dropped if it is still there. Answered by [`Reply::Done`].
    Rebase {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// What the base holds at least.
        upto: Head,
        /// One update.
        base: Arc<[u8]>,
    },
    /// Tells the other nodes that hold the document something that is not kept (awareness). Answered by [`Reply::Done`].
    Say {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
        /// Who.
        node: Node,
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
    },
    /// The session is over: removes it, whatever is left of it, if it belongs to this claim or an older one.
    End {
        /// Which.
        document: DocumentName,
        /// Under which claim.
        claim: Claim,
    },
    /// Where the histories of these documents end, after the node may have missed something. Answered by [`Reply::Heads`], in
    /// order; `None`: there is no session under this claim.
    Heads {
        /// Which, and under which claims.
        documents: Vec<(DocumentName, Claim)>,
    },
    /// The node lives; who else does in this region? Answered by [`Reply::Nodes`].
    Beat {
        /// Who.
        node: Node,
        /// For how long others may believe it, in microseconds.
        lease_us: u64,
    },
}

/// A session as the store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The compacted past.
    pub base: Option<Arc<[u8]>>,
    /// Updates since.
    pub tail: Vec<Box<[u8]>>,
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
    /// The document, or the store as a whole, may hold no more.
    Full,
    /// Done.
    Done,
    /// See [`Request::Heads`].
    Heads(Vec<Option<Head>>),
    /// See [`Request::Beat`]: the nodes of the region that live.
    Nodes(Vec<Node>),
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
        /// Which.
        document: DocumentName,
        /// Who.
        node: Node,
    },
    /// Another node holds it no more: who was present there is gone.
    Left {
        /// Which.
        document: DocumentName,
        /// Who.
        node: Node,
    },
}

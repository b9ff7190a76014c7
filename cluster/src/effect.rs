//! What the core wants done.

use crate::Lease;
use pinwire_registry::{AppName, AppRecord, Claim, DocumentName, Node, Owner, Request, Share};

/// Numbers what is asked of the registry, so that its answer finds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What a caller calls one of its holds of a document: of its choice, and never used twice. Decisions carry it, so that one that
/// crosses a close and a new open on its way is not mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that whoever runs the core has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the registry. Every ask has to end, by an answer or by a failure, in bounded time.
    Ask(AskId, Request),
    /// What became of a hold.
    Decided(DocumentName, Ticket, Decision),
    /// Another region has the document: its members are closed and sent there. The hold is over.
    Lost(DocumentName, Ticket, Owner),
    /// The document is held under this claim from now on.
    Reclaimed(DocumentName, Ticket, Claim),
    /// Publish it to all threads.
    Lease(Lease),
    /// The node is known to the registry as this from now on. Reassertion under it begins.
    Life(Node),
    /// What may be admitted of apps; and what the registry had been asked for when it said so, 0 if nothing.
    Shares(Vec<(Share, u32)>),
    /// App records that changed.
    Records(Vec<(AppName, AppRecord)>),
    /// Whether the registry answers.
    Reach(bool),
    /// The node is out of the registry, or cannot say so: it may end.
    Retired,
}

/// What became of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The node holds the document until the hold is left or [`Effect::Lost`].
    Held {
        /// Under this claim.
        claim: Claim,
        /// It was idle: there is no session to go on with.
        is_new: bool,
    },
    /// Another region has it.
    Elsewhere(Owner),
    /// The app has so many active documents already.
    Limit {
        /// How many.
        active: u32,
    },
    /// The registry is out of reach, or too much is asked of it.
    TryAgain,
    /// Of a move: the document is not held under the claim it was handed over with.
    Stale,
}

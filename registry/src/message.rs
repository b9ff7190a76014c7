//! What a node asks a registry, and what it answers. One request is one atomic step at the registry, in one round trip.
//!
//! Times are microseconds. `now` in answers is the registry's clock, which alone decides leases and grace.

use crate::{AppName, Claim, DocumentName, Node, Region};
use std::sync::Arc;

/// Something asked of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A node begins to live, with a lease of so many microseconds: answered by [`Answer::Renewed`].
    Register {
        /// Who.
        node: NodeView,
        /// From the registry's receiving this on.
        lease_us: u64,
    },
    /// A node lives: answered by [`Answer::Renewed`], or [`Answer::Unknown`] if the registry has given it up or forgotten it.
    Renew {
        /// Who.
        node: Node,
        /// From the registry's receiving this on.
        lease_us: u64,
        /// What changed of what it uses of its apps, and what it would like to be allotted.
        apps: Vec<AppUse>,
        /// Versions of the app records that it has: changed ones come back.
        versions: Vec<(AppName, u64)>,
    },
    /// A node ends in good order: everything it holds is left, with grace. Answered by [`Answer::Done`].
    Retire {
        /// Who.
        node: Node,
        /// How long its documents wait for their clients.
        grace_us: u64,
    },
    /// The first connection on this node: answered by [`Answer::Claimed`].
    Claim {
        /// What for.
        document: DocumentName,
        /// Who asks; must be registered.
        node: Node,
        /// Becomes [`Claim::nonce`] if the document is pinned now.
        nonce: u64,
        /// What the node calls this hold, see [`Hold`].
        hold: Hold,
        /// Documents that the app may have active at once.
        max_documents: u32,
        /// Microseconds of grace of the app's documents, should this node die.
        grace_us: u64,
    },
    /// The last connection left this node: answered by [`Answer::Done`], also if there is nothing to release. Whose answer to a
    /// claim was lost can release it, too.
    Release {
        /// What.
        document: DocumentName,
        /// Who.
        node: Node,
        /// Which hold ends: a later one of the node stays.
        hold: Hold,
        /// How long it waits for its clients if no other node holds it; 0: not at all.
        grace_us: u64,
    },
    /// What a node holds, after the registry may have forgotten something: answered by [`Answer::Asserted`], in order.
    Assert {
        /// Who; must be registered.
        node: Node,
        /// What it holds, under which claims and by which holds.
        pins: Vec<(DocumentName, Claim, Hold)>,
        /// As in [`Request::Claim`].
        grace_us: u64,
    },
    /// Where a document is: answered by [`Answer::Located`]. Claims nothing.
    Locate {
        /// Which.
        document: DocumentName,
    },
    /// Moves a live pin to another region: answered by [`Answer::Claimed`] for the node that asks, which then has it under a
    /// higher claim; holders before it find it in [`Renewed::lost`].
    Move {
        /// What.
        document: DocumentName,
        /// Under which claim it was handed over: nothing moves if that is not the current one any more.
        claim: Claim,
        /// Under which it is held from then on: a higher one, under which its new region has it already.
        to: Claim,
        /// The new holder.
        node: Node,
        /// As in [`Request::Claim`].
        hold: Hold,
        /// As in [`Request::Claim`].
        grace_us: u64,
    },
    /// Takes a document away from the region that has it: nobody goes on under its claim. Nodes that hold it find it in
    /// [`Renewed::lost`], with [nobody](Owner::is_nobody) as its owner; once all of them have released it, or are dead, it is idle.
    /// Answered by [`Answer::Located`] with the pin as it was.
    Unpin {
        /// Which.
        document: DocumentName,
    },
    /// What an app uses over all regions: answered by [`Answer::Used`].
    Usage {
        /// Whose.
        app: AppName,
    },
    /// An app's record: answered by [`Answer::App`].
    App {
        /// Whose.
        app: AppName,
    },
    /// Writes or (`None`) removes an app's record, if `version` is the current one (0: there is none): answered by
    /// [`Answer::App`] with what there is now.
    PutApp {
        /// Whose.
        app: AppName,
        /// Which version it replaces.
        version: u64,
        /// What it says.
        record: Option<Arc<str>>,
    },
    /// Nodes that live: answered by [`Answer::Nodes`].
    Nodes,
    /// Pins in the order of their names: answered by [`Answer::Pins`].
    Pins {
        /// The last of the page before.
        after: Option<DocumentName>,
        /// Most of them.
        limit: u32,
    },
}

/// Numbers a node's holds of documents, rising within its life: below 2^53. The registry keeps, for each pin and node, the highest that
/// it heard of; a release ends the hold if that is not above its own.
///
/// A request whose answer never came may still be on its way, and come after the ones that the node sent later: a
/// release must not end the hold of who came back meanwhile, and a claim must not take the place of a later one.
pub type Hold = u64;

/// What a node uses of an app's limits, and would be allotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppUse {
    /// Whose.
    pub app: AppName,
    /// Open connections on this node now.
    pub connections: u32,
    /// Connections that it would admit without asking, at least [`Self::connections`].
    pub wanted: u32,
    /// The app's limit over all nodes.
    pub max_connections: u32,
}

/// What a node may admit of an app without asking: the sum of all nodes' shares never passes the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose.
    pub app: AppName,
    /// Connections on this node at most. Never below what it said that it has.
    pub connections: u32,
}

/// A node as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Who.
    pub node: Node,
    /// Base of its region's WebSocket URLs, without a trailing slash.
    pub ws_url: Arc<str>,
    /// Where other nodes reach it, `host:port`; empty if they cannot.
    pub peer_address: Arc<str>,
    /// Version of its software.
    pub version: Arc<str>,
    /// Where operators reach its admin API, a URL; empty if they cannot, or it does not say.
    pub admin_url: Arc<str>,
}

/// Which region has a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The region; empty for [nobody](Self::is_nobody).
    pub region: Region,
    /// Base of its WebSocket URLs.
    pub ws_url: Arc<str>,
    /// Under which claim.
    pub claim: Claim,
}

impl Owner {
    /// The document was taken away ([`Request::Unpin`]), and waits for those who held it to leave it.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.region.is_empty()
    }
}

/// A pin with who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Which document.
    pub document: DocumentName,
    /// Where.
    pub owner: Owner,
    /// Nodes that hold it: none during grace.
    pub nodes: Vec<Node>,
    /// The time it has left, if it is in its grace.
    pub grace: Option<Grace>,
}

/// Microseconds for which a pin still waits for its clients.
pub type Grace = u64;

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The node holds it.
    Held {
        /// Under this claim.
        claim: Claim,
        /// It was idle: there is no session to go on with.
        is_new: bool,
    },
    /// Another region has it, with clients or in its grace.
    Elsewhere(Owner),
    /// The app has so many active documents already.
    Limit {
        /// How many.
        active: u32,
    },
    /// The node is not registered (any more).
    Unknown,
    /// [`Request::Move`]: it is not held under this claim.
    Stale,
}

/// What became of one asserted pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asserted {
    /// The node holds it: under the claim it said, or a higher one of its own region, which it has to take over.
    Held(Claim),
    /// Another region has it under a higher claim.
    Lost(Owner),
}

/// A node's lease goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The registry's clock.
    pub now: u64,
    /// Which server and which history answered: another value means that something may have been forgotten, and everything
    /// has to be asserted again.
    pub history: Arc<str>,
    /// Pins that this node held and that belong to a higher claim now: another region's, or one of its own region, which it has
    /// to take over. Told again in each renewal, for two leases at most, until the node claims, asserts or releases the
    /// document: it counts only for who holds it under a lower claim.
    pub lost: Vec<(DocumentName, Owner)>,
    /// What it may admit of the apps that it told of, and of others whose share has changed.
    pub shares: Vec<Share>,
    /// App records that are other than those it has.
    pub records: Vec<(AppName, AppRecord)>,
}

/// What the license region says of an app; the node's configuration and the token fill in what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppRecord {
    /// Rises with each change.
    pub version: u64,
    /// JSON; `None`: there is none (any more).
    pub record: Option<Arc<str>>,
}

/// What an app uses over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Open connections, as their nodes said last.
    pub connections: u32,
    /// Active documents, those in their grace included: exact.
    pub documents: u32,
}

/// An answer of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// See [`Request::Register`], [`Request::Renew`].
    Renewed(Renewed),
    /// The node is not registered (any more): it has to register as a new life and assert what it holds.
    Unknown,
    /// Nothing to say.
    Done,
    /// See [`Request::Claim`], [`Request::Move`].
    Claimed(Claimed),
    /// See [`Request::Assert`]; `None`: the node is not registered.
    Asserted(Option<Vec<Asserted>>),
    /// See [`Request::Locate`], [`Request::Unpin`]: `None` if nobody has it.
    Located(Option<Pin>),
    /// See [`Request::Usage`].
    Used(Used),
    /// See [`Request::App`], [`Request::PutApp`].
    App(AppRecord),
    /// See [`Request::Nodes`].
    Nodes(Vec<NodeView>),
    /// See [`Request::Pins`].
    Pins(Vec<Pin>),
}

//! What shards tell each other of sessions whose socket (its thread is their *home*) and document (its thread is their
//! *owner*) are on different threads. Within a node that is so for Hocuspocus sockets alone, which have several documents;
//! a y-websocket connection moves to the thread of its document.
//!
//! Order is kept per pair of threads. The owner has at most one delivery per remote session under way and sends the next
//! when the home shard gave the credit back, which it does once the socket took the last: a slow reader is a cursor there
//! too. The other way, home sends a bounded number of frames and bytes ahead of what the owner handled, and then reads no
//! more from the socket. So no queue grows between threads.
//!
//! *Relay.* The owner may be a thread of another node, in the region that the document is pinned to: numbers from
//! [`FIRST_LINK`] on name a link to such a node, and what is mailed there is carried over it. A socket cannot move over a
//! link, so y-websocket connections are remote members there too. How a document comes to be relayed:
//!
//! 1. The first session opens the document as any other. Instead of [`opened`](crate::Shard::opened) comes
//!    [`relayed`](crate::Shard::relayed) with a [`Route`]: the link, and the claim under which the other region has it.
//! 2. The placeholder goes. Who waited for it joins over the link; sessions of other threads of this node are told the route
//!    with [`Mail::Elsewhere`] and join by themselves.
//! 3. Whoever comes within [`ROUTE_MS`] goes the same way without the registry being asked. An owner's `Joined` renews that
//!    time, which is no longer than the grace of a pin: as long as it runs, no other region can have pinned the document.
//! 4. The owner refuses a session that names another claim than its own, and one whose document it does not have
//!    either (it never relays on what was relayed to it), with 4009. The route is forgotten then, and the registry is asked again,
//!    a few times. A link that breaks takes its routes with it.
//!
//! No client sees a 4009: of a running session the owner ends so, home makes 1012, and its client comes back.

use crate::effect::ConnRef;
use crate::{Access, App, AppLimits, Subject};
use pinwire_protocol::close::Close;
use std::sync::Arc;

/// Thread numbers from here on stand for links to other nodes.
pub const FIRST_LINK: u16 = 1 << 15;

/// Milliseconds for which a route is used again.
pub const ROUTE_MS: u64 = 10_000;

/// The claim under which a region has a document, as the registry gave it: the higher wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pinned {
    /// Rises with each pinning of the document.
    pub epoch: u64,
    /// Tells claims of one epoch apart.
    pub nonce: u64,
}

/// How a document that another region has is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The link to a node of that region, from [`FIRST_LINK`] on.
    pub link: u16,
    /// Under which claim it has it.
    pub claim: Pinned,
}

/// A session of a socket on another thread: the connection and which of its Hocuspocus keys. Over a link it is any name that
/// is unique there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSession {
    /// The socket, on its home thread.
    pub conn: ConnRef,
    /// Number of the key, unique on its socket; 0 of a y-websocket connection.
    pub key: u16,
}

/// A frame without its key, in two parts: what was made for it, and large bytes that many share.
#[derive(Clone, Debug)]
pub struct Body {
    /// The frame, or the front of it.
    pub head: Box<[u8]>,
    /// The rest.
    pub tail: Option<Arc<[u8]>>,
}

impl From<Vec<u8>> for Body {
    fn from(frame: Vec<u8>) -> Self {
        Self { head: frame.into_boxed_slice(), tail: None }
    }
}

impl Body {
    /// A frame that ends in shared bytes.
    #[must_use]
    pub fn shared(head: Vec<u8>, tail: &Arc<[u8]>) -> Self {
        Self { head: head.into_boxed_slice(), tail: Some(Arc::clone(tail)) }
    }
}

/// A message from one shard to another.
#[derive(Debug)]
pub enum Mail {
    /// Home to owner: the session was authorised and joins.
    Join {
        /// Who.
        session: RemoteSession,
        /// The document's name within the app.
        document: Box<str>,
        /// Whose it is.
        app: Arc<App>,
        /// What the token allows the app.
        limits: AppLimits,
        /// The token's `sub`; empty without one.
        subject: Subject,
        /// The token's `regions`: the document may be in no other.
        regions: Option<Arc<[Box<str>]>>,
        /// How.
        access: Access,
        /// It speaks y-websocket. Frames are the same behind a key, but fewer, and nothing is acknowledged.
        is_ywebsocket: bool,
        /// Over a link: the claim under which the document was looked for there.
        claim: Option<Pinned>,
    },
    /// Home to owner: a frame of the session without its key.
    Frame(RemoteSession, Box<[u8]>),
    /// Home to owner: a fresh token changed how the session may use the document.
    Access(RemoteSession, Access),
    /// Home to owner: the socket took the last delivery.
    Credit(RemoteSession),
    /// Home to owner: the session ended.
    Leave(RemoteSession),
    /// Owner to home: so many frames of the session, of so many bytes, were handled. Home sends no more than a window ahead.
    Taken(RemoteSession, u32, u32),
    /// Owner to home: it is a member now.
    Joined(RemoteSession, Access),
    /// Owner to home: refused, or ended.
    Refused(RemoteSession, Close),
    /// Owner to home, within a node: another region has the document, which is reached so.
    Elsewhere(RemoteSession, Route),
    /// Owner to home: frames without keys, in order, for each of these sessions.
    Deliver {
        /// Who gets them.
        to: Vec<RemoteSession>,
        /// Each is a frame without its key.
        bodies: Arc<[Body]>,
        /// Whether the owner waits for [`Mail::Credit`].
        wants_credit: bool,
    },
    /// Owner to home: the socket must be closed.
    Close(RemoteSession, Close),
}

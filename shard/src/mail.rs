//! What shards of one node tell each other. Only Hocuspocus sockets need it: the connection lives on the thread that owns
//! its first document (its *home*), and is a remote member of documents that other threads own.
//!
//! Order is kept per pair of threads. The owner has at most one delivery per remote session under way and sends the next
//! when the home shard gave the credit back, which it does once the socket took the last: a slow reader is a cursor there
//! too. The other way, home sends a bounded number of frames ahead of what the owner handled, and then reads no more from
//! the socket. So no queue grows between threads.

use crate::effect::ConnRef;
use crate::{Access, App, AppLimits};
use pinwire_protocol::close::Close;
use std::sync::Arc;

/// A session of a socket on another thread: the connection and which of its Hocuspocus keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSession {
    /// The socket, on its home thread.
    pub conn: ConnRef,
    /// Number of the key, unique on its socket.
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
        /// How.
        access: Access,
    },
    /// Home to owner: a frame of the session without its key.
    Frame(RemoteSession, Box<[u8]>),
    /// Home to owner: a fresh token changed how the session may use the document.
    Access(RemoteSession, Access),
    /// Home to owner: the socket took the last delivery.
    Credit(RemoteSession),
    /// Home to owner: the session ended.
    Leave(RemoteSession),
    /// Owner to home: so many frames of the session were handled. Home sends no more than a window ahead of this.
    Taken(RemoteSession, u32),
    /// Owner to home: it is a member now.
    Joined(RemoteSession, Access),
    /// Owner to home: refused, or ended.
    Refused(RemoteSession, Close),
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

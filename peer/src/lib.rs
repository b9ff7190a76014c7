//! What nodes of different regions tell each other: sessions whose socket is on one and whose document is on the other.
//!
//! The node with the socket (*home*) dials the node with the document (*owner*) and keeps one link to it, which all such
//! sessions share. A link is a stream of bytes, TCP or TLS, that begins with proofs of a shared secret ([`Handshake`]) and goes on
//! with fragments of messages ([`Fragments`], [`Assembler`]). What it carries is the mail of shards ([`pinwire_shard::Mail`]),
//! with a number for each session in place of its name ([`HomeEnd`], [`OwnerEnd`]).
//!
//! Invariants worth naming:
//! - Nothing of a peer is looked at before it has proved the secret, for this link and its role.
//! - What waits to be sent is bounded: deliveries by the credit of each session, frames by its window, and all of a link
//!   together; a link beyond that is cut, which its clients' coming back makes good.
//! - Streams take turns, a fragment each: a large document does not hold up the others, and mail of one session stays in
//!   order, since it is all of one stream.
//! - No length that a peer names is allocated before that many bytes came.
//!
//! | module | concern |
//! | --- | --- |
//! | `handshake` | who is at the other end: nonces, proofs, versions |
//! | `fragment` | messages cut into fragments and put together again, streams in turn |
//! | `message` | messages and their bytes |
//! | `moving` | messages of documents that move from one region to another |
//! | `home` | the end whose node has the sockets |
//! | `owner` | the end whose node has the documents |

mod fragment;
mod handshake;
mod home;
mod message;
mod moving;
mod owner;

pub use fragment::{Assembler, Fragments, HEADER_LEN, PAYLOAD_MAX};
pub use handshake::{Handshake, HandshakeError, Role, SECRET_MIN, Secret, Step, VERSION};
pub use home::HomeEnd;
pub use message::{Join, LEAVING_SINCE, Message, decode, encode};
pub use moving::{
    GIVES_BACK_SINCE, HOLDERS_SINCE, Moving, Named, PIECE_MAX, PIECES_UNDER_WAY, Unpacked, pack, unpack,
};
pub use owner::OwnerEnd;

use pinwire_shard::App;
use std::sync::Arc;

/// Bytes of one message at most: a whole document, and what is new of it.
pub const MESSAGE_MAX: usize = 256 << 20;
/// Bytes that wait to be sent on one link; beyond it the link is cut.
pub const QUEUED_MAX: usize = 512 << 20;
/// Sessions of one link at most.
pub const SESSIONS_MAX: usize = 1 << 17;

/// The apps of a node, which the two ends know by the same names.
pub trait Apps {
    /// The license region of an app, as tokens spell it: its documents are looked for in that registry.
    fn license(&self, app: &App) -> Arc<str>;

    /// The app of a session that comes over a link; `None` if this node does not serve its license region.
    fn enter(&self, tenant: &str, app: &str, license: &str) -> Option<Arc<App>>;
}

/// Why a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A message is not one of this protocol.
    #[error("a message that is not understood: {0}")]
    Malformed(#[from] pinwire_protocol::document::Malformed),
    /// A message has a kind that this version does not know.
    #[error("a message of an unknown kind, {0}")]
    Kind(u8),
    /// The other end's message.
    #[error("a message that only the other end may send")]
    Role,
    /// A number stands for something that is under way.
    #[error("a number that is in use")]
    InUse,
    /// A bound is passed.
    #[error("more than is taken: {0}")]
    TooMuch(&'static str),
}

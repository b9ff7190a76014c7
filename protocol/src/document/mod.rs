//! Yjs documents on the wire: the y-websocket and Hocuspocus dialects, awareness, state vectors, and the structural
//! walk every update passes before it is stored or forwarded.
//!
//! | module | concern |
//! | --- | --- |
//! | [`varint`] | `varUint`, `varBytes`, `varString`: a bounded reader and the writers |
//! | [`name`], [`target`] | document names; the request target that carries one |
//! | [`dialect`] | which dialect a connection speaks, from its first binary frame |
//! | [`ywebsocket`], [`hocuspocus`] | frames of the two dialects, decoded and encoded |
//! | [`awareness`], [`state_vector`] | the two small bodies those frames carry |
//! | [`update`] | the walk of an update: structure, bounds, client and clock ranges |
//! | [`json`] | whether a text is JSON, without building it |
//!
//! Decoders borrow from the frame and allocate nothing (a [`state_vector::StateVector`] apart, which is bounded).
//! Encoders append to a caller's buffer and come with a `*_len`, so that a frame header can be written first.

pub mod awareness;
pub mod dialect;
pub mod hocuspocus;
pub mod json;
pub mod name;
pub mod state_vector;
pub mod sync;
pub mod target;
pub mod update;
pub mod varint;
pub mod ywebsocket;

/// The largest integer a `varUint` carries: 53 bits, what a JavaScript number holds exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Why bytes from a peer are not the message they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A `varUint` above 53 bits, or one spread over more than eight bytes.
    #[error("an integer is out of range")]
    Integer,
    /// A `varString` that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// Bytes follow where the message has ended.
    #[error("bytes follow the end of the message")]
    Trailing,
    /// A message or sub-message type outside the dialect.
    #[error("an unknown message type")]
    UnknownType,
    /// A count or length above its bound.
    #[error("a count or length is above its bound")]
    TooLarge,
    /// A text that has to be JSON and is not, or nests too deep.
    #[error("a state is not well-formed JSON")]
    Json,
    /// The same client appears twice where it may stand once.
    #[error("a client is listed twice")]
    Duplicate,
}

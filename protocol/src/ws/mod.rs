//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), without I/O, for both roles.
//!
//! A caller feeds received bytes to a [`Decoder`] until they are consumed and acts on each [`Event`]; what is
//! to be sent is appended to a buffer of the caller's. The upgrade stands in [`handshake`].
//!
//! ```text
//! received bytes -> handshake::parse_request -> Decoder::decode -> Event
//! append_message, append_close, ...          -> bytes to send
//! ```
//!
//! Memory: a [`Decoder`] is 16 bytes and owns heap only while a message or a frame header is incomplete. What
//! every connection of a thread can share (inflate and deflate states, the last assembled message) is in
//! [`Scratch`]; that works because both sides always negotiate *no context takeover*.

mod decoder;
mod deflate;
mod encode;
mod error;
mod frame;
pub mod handshake;
mod mask;
mod utf8;

pub use decoder::{Decoded, Decoder, Event};
pub use deflate::{Scratch, WindowBits, append_stored_block};
pub use encode::{
    Frame, append_close, append_close_reply, append_frame, append_message, append_ping, append_pong, header,
};
pub use error::ProtocolError;
pub use frame::{HeaderBytes, MAX_CONTROL_PAYLOAD, Opcode};
pub use mask::apply_mask;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We are the server: incoming frames must be masked (RFC 6455 5.1).
    Server,
    /// We are the client: incoming frames must not be masked.
    Client,
}

/// The type of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Valid UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// What a peer may make us hold or do. Every bound holds as written: 0 means "none at all", never
/// "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of one frame, as its header claims them.
    pub max_frame: u64,
    /// Payload bytes of one message, over all its frames; after inflating if it is compressed.
    pub max_message: usize,
    /// Frames of one message, empty ones included.
    pub max_fragments: u32,
}

impl Limits {
    /// The defaults: 16 MiB frames and messages, 4,096 fragments. There is no bound on the compression ratio: the bound on
    /// the message holds while it inflates, and a document full of one character is a fair one.
    pub const DEFAULT: Self = Self { max_frame: 16 << 20, max_message: 16 << 20, max_fragments: 4096 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

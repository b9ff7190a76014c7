//! The byte transform between socket and codec: none for plaintext, TLS where it is wanted.

use std::fmt;
use std::io::IoSlice;

/// How much of the received bytes an inbound step used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Bytes of the input that are dealt with. The engine keeps the rest and puts it in front of the next read.
    pub consumed: usize,
    /// Plain bytes now at the start of the buffer; at most `consumed`.
    pub plain: usize,
    /// The peer said that nothing follows: input is over as if the socket had ended.
    pub is_end: bool,
}

/// The transform refused the bytes: the connection ends with `Cause::Io(InvalidData)` after the reply has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the byte transform refused the peer's bytes")]
pub struct TransformError;

/// How far a transform has come with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Both are still agreeing: no plain byte goes through.
    Opening,
    /// Plain bytes go through.
    Open {
        /// They went on from what they had agreed on before, which is cheaper.
        is_resumed: bool,
    },
    /// The peer's bytes were refused. The reason is one of a few words, for those who count.
    Refused(&'static str),
}

/// A transform of one connection's bytes. The shape is that of rustls's unbuffered connections: records are
/// opened in place in the engine's read buffer, incomplete ones stay with the caller, and what has to be sent is
/// appended to a buffer of the caller's.
pub trait Transform: Send {
    /// Whether the step that `wire` makes due is much work, as a signature is. The engine takes a few of those a turn
    /// ([`Config::costly_steps_per_turn`](crate::Config::costly_steps_per_turn)), first come, first served; what waits for its
    /// turn is not read from meanwhile. To be told without work.
    fn is_costly(&self, _wire: &[u8]) -> bool {
        false
    }

    /// How far it has come.
    fn stage(&self) -> Stage {
        Stage::Open { is_resumed: false }
    }

    /// Opens what the peer sent. `wire[..]` holds the rest of the last call followed by new bytes; plain bytes are
    /// moved to the front, bytes that must be sent now (handshake, alerts) are appended to `reply`.
    ///
    /// # Errors
    /// When the peer's bytes cannot be opened; `reply` may then hold an alert.
    fn inbound(&mut self, wire: &mut [u8], reply: &mut Vec<u8>) -> Result<Inbound, TransformError>;

    /// Seals `plain`, given in pieces, and appends the result to `wire`. `unread` is what `inbound` did not use: the caller
    /// puts it in front of the next read.
    ///
    /// # Errors
    /// When no more can be sealed: the connection is dead.
    fn outbound(
        &mut self,
        plain: &[IoSlice<'_>],
        unread: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), TransformError>;

    /// Appends what says that nothing more will follow (TLS: `close_notify`), before the FIN. What was sealed before is before
    /// it. Nothing, where that was said before, or while both are still agreeing.
    fn finish(&mut self, _unread: &mut [u8], _wire: &mut Vec<u8>) {}
}

/// A connection's transform on its way: out of the engine with the socket, or to another engine behind it.
pub struct Carried {
    pub(crate) transform: Box<dyn Transform>,
    /// Received bytes that it could not use yet.
    pub(crate) wire: Vec<u8>,
}

impl Carried {
    /// The transform, and the received bytes that it could not use yet: they go in front of what is received next.
    #[must_use]
    pub fn into_parts(self) -> (Box<dyn Transform>, Vec<u8>) {
        (self.transform, self.wire)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("wire", &self.wire.len()).finish_non_exhaustive()
    }
}

//! The 64-bit tag of a ring operation: what it was, and for whom.
//!
//! ```text
//! 63..60 kind | 59..52 buffer | 51..32 generation | 31..0 index
//! 63..60 kind (Arrived) | 59..0 token of the move, set by the other ring
//! ```

use crate::slab::GENERATION_MAX;
use crate::slot::Handle;

const _: () = assert!(GENERATION_MAX < 1 << 20);

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody waits for it.
    Ignore,
    PollIn,
    PollOut,
    /// `buffer` names the read.
    Receive,
    /// The index is that of the job in the present round.
    Send,
    /// `buffer` names the address, the index the listener.
    Accept,
    Listen,
    Timer,
    Close,
    Shutdown,
    Install,
    Move,
    Linger,
    Adopt,
    /// Posted by another engine's ring.
    Arrived,
    /// The waker's eventfd was signalled.
    Wake,
}

const KINDS: [Kind; 16] = [
    Kind::Ignore,
    Kind::PollIn,
    Kind::PollOut,
    Kind::Receive,
    Kind::Send,
    Kind::Accept,
    Kind::Listen,
    Kind::Timer,
    Kind::Close,
    Kind::Shutdown,
    Kind::Install,
    Kind::Move,
    Kind::Linger,
    Kind::Adopt,
    Kind::Arrived,
    Kind::Wake,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u64);

impl Tag {
    pub(crate) fn new(kind: Kind, buffer: u8, handle: Handle) -> Tag {
        let kind = (kind as u64) << 60;
        Tag(kind | u64::from(buffer) << 52 | u64::from(handle.generation) << 32 | u64::from(handle.index))
    }

    /// For an operation that is not a connection's.
    pub(crate) fn plain(kind: Kind, buffer: u8, index: u32) -> Tag {
        Tag::new(kind, buffer, Handle { index, generation: 0 })
    }

    /// For the completion that a move posts on the target's ring; `token` is below 2^60.
    pub(crate) fn arrived(token: u64) -> Tag {
        Tag((Kind::Arrived as u64) << 60 | token)
    }

    pub(crate) fn kind(self) -> Kind {
        KINDS.get((self.0 >> 60) as usize).copied().unwrap_or(Kind::Ignore)
    }

    pub(crate) fn buffer(self) -> usize {
        (self.0 >> 52 & 0xFF) as usize
    }

    pub(crate) fn handle(self) -> Handle {
        Handle { index: self.0 as u32, generation: (self.0 >> 32) as u32 & GENERATION_MAX }
    }

    pub(crate) fn token(self) -> u64 {
        self.0 & ((1 << 60) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_went_in() {
        let handle = Handle { index: u32::MAX, generation: GENERATION_MAX };
        for kind in KINDS {
            let tag = Tag::new(kind, 255, handle);
            assert_eq!((tag.kind(), tag.buffer(), tag.handle()), (kind, 255, handle));
        }
        let tag = Tag::arrived((1 << 60) - 1);
        assert_eq!((tag.kind(), tag.token()), (Kind::Arrived, (1 << 60) - 1));
    }
}

//! One connection: the hot 24 bytes every slot has, and the boxed part only a busy one needs.

use std::os::fd::OwnedFd;

use crate::door::Door;
use crate::event::Cause;
use crate::tail::Tail;
use crate::transform::{Carried, Transform};

/// A connection on this thread. It stays valid from the event that announced it (`Accepted`, `Arrived`, or the
/// return of [`Engine::adopt`](crate::Engine::adopt)) until `close`, `abort`, `Departed` or `Detached`; after
/// that the number may name another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The slot with this index, for an owner that keeps its own state by index. What is asked of a slot that is not in
    /// use has no effect.
    #[must_use]
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The number as an index: dense, starts at 0, below `slots_max`.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A slot together with the generation of its occupant: what queues hold, so that an entry made for one
/// connection never reaches the next one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Handle {
    pub(crate) fn slot(self) -> Slot {
        Slot(self.index)
    }
}

/// State bits of a slot, and in the highest five bits how many io_uring operations of it have not completed: its two
/// polls and a few steps of closing or leaving.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags(u32);

impl Flags {
    /// In the queue of slots to read from.
    pub(crate) const READY: u32 = 1;
    /// The owner asked for no data.
    pub(crate) const PAUSED: u32 = 1 << 1;
    /// Became readable while it could not be read.
    pub(crate) const PENDING: u32 = 1 << 2;
    /// The kernel reported a hang-up or an error: read until the end of file or the error is seen.
    pub(crate) const HANGUP: u32 = 1 << 3;
    /// `Ended { cause: Eof }` was given out.
    pub(crate) const EOF: u32 = 1 << 4;
    /// An `Ended` other than end of file was given out; the socket is of no more use.
    pub(crate) const FAILED: u32 = 1 << 5;
    /// Sending failed: output is dropped, what was received is still read.
    pub(crate) const OUT_DEAD: u32 = 1 << 6;
    /// A tail waits for the socket.
    pub(crate) const BLOCKED: u32 = 1 << 7;
    /// FIN is to follow the output.
    pub(crate) const FIN_WANTED: u32 = 1 << 8;
    /// FIN was sent.
    pub(crate) const FIN_SENT: u32 = 1 << 9;
    /// The owner gave the slot back.
    pub(crate) const CLOSING: u32 = 1 << 10;
    /// Close by RST.
    pub(crate) const ABORT: u32 = 1 << 11;
    /// On its way to another thread or out of the engine.
    pub(crate) const LEAVING: u32 = 1 << 12;
    /// io_uring: a multishot poll for input is armed.
    pub(crate) const POLL_IN: u32 = 1 << 13;
    /// io_uring: a one-shot poll for output is armed.
    pub(crate) const POLL_OUT: u32 = 1 << 14;
    /// io_uring: the armed polls were told to end.
    pub(crate) const CANCELLED: u32 = 1 << 15;
    /// io_uring: the descriptor's close was submitted.
    pub(crate) const CLOSE_SENT: u32 = 1 << 16;
    /// io_uring: linger was set to zero (or tried).
    pub(crate) const LINGER_SENT: u32 = 1 << 17;
    /// `Overflow` was given out for the present tail.
    pub(crate) const OVERFLOW: u32 = 1 << 18;
    /// In the queue of slots whose tail may be tried again.
    pub(crate) const WRITABLE: u32 = 1 << 19;
    /// The transform refused the peer's bytes: input is over, output is not.
    pub(crate) const REFUSED: u32 = 1 << 20;
    /// The event that announces it was not taken yet: nothing is read, so that a transform set then sees every byte.
    pub(crate) const NEW: u32 = 1 << 21;
    /// Read bytes wait for the transform's share of a turn; nothing more is read until then.
    pub(crate) const STEP_WAITS: u32 = 1 << 22;

    const OPERATION: u32 = 1 << 27;
    const OPERATIONS: u32 = 31 * Self::OPERATION;

    /// io_uring: an operation of the slot was prepared.
    pub(crate) fn operation_began(&mut self) {
        debug_assert!(self.0 < Self::OPERATIONS, "more operations than a slot can count");
        self.0 += Self::OPERATION;
    }

    /// io_uring: an operation of the slot has completed.
    pub(crate) fn operation_ended(&mut self) {
        if self.has_operations() {
            self.0 -= Self::OPERATION;
        }
    }

    /// io_uring: nothing of the slot is in flight any more.
    pub(crate) fn all_operations_ended(&mut self) {
        self.0 &= !Self::OPERATIONS;
    }

    /// io_uring: something of the slot is in flight.
    pub(crate) fn has_operations(self) -> bool {
        self.has(Self::OPERATIONS)
    }

    pub(crate) fn has(self, any_of: u32) -> bool {
        self.0 & any_of != 0
    }

    pub(crate) fn set(&mut self, bits: u32) {
        self.0 |= bits;
    }

    pub(crate) fn clear(&mut self, bits: u32) {
        self.0 &= !bits;
    }

    /// Sets one bit; false when it was set before.
    pub(crate) fn raise(&mut self, bit: u32) -> bool {
        let fresh = !self.has(bit);
        self.set(bit);
        fresh
    }
}

/// No output queued this turn.
pub(crate) const NO_TURN: u32 = u32::MAX;

/// What every connection costs in user space.
pub(crate) struct Hot {
    /// Zero: vacant.
    pub(crate) generation: u32,
    pub(crate) flags: Flags,
    /// The descriptor (epoll); io_uring keeps it in its own table under the slot's number.
    pub(crate) fd: Option<OwnedFd>,
    /// Index into this turn's output, or [`NO_TURN`].
    pub(crate) turn: u32,
    pub(crate) cold: Option<Box<Cold>>,
}

const _: () = assert!(size_of::<Hot>() <= 24, "a slot must stay within 24 bytes");

impl Hot {
    pub(crate) fn vacant() -> Hot {
        Hot { generation: 0, flags: Flags::default(), fd: None, turn: NO_TURN, cold: None }
    }

    pub(crate) fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_with(Box::default)
    }

    /// Gives the cold part back when nothing in it is in use.
    pub(crate) fn trim(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.is_idle()) {
            self.cold = None;
        }
    }

    pub(crate) fn tail_bytes(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.tail.bytes())
    }

    /// Why sending failed, if it did.
    pub(crate) fn failure(&self) -> Option<Cause> {
        self.cold.as_ref().and_then(|cold| cold.failure)
    }

    pub(crate) fn has_transform(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.transform.is_some())
    }

    /// Takes the transform out, for a socket that leaves.
    pub(crate) fn take_transform(&mut self) -> Option<Carried> {
        let cold = self.cold.as_mut()?;
        let transform = cold.transform.take()?;
        Some(Carried { transform, wire: std::mem::take(&mut cold.carry) })
    }
}

/// What only a connection with unsent bytes, a transform or a move under way needs.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) tail: Tail,
    pub(crate) transform: Option<Box<dyn Transform>>,
    /// Received bytes the transform could not use yet: they go in front of the next read.
    pub(crate) carry: Vec<u8>,
    pub(crate) leaving: Option<Leaving>,
    /// Why sending failed, kept until what was received is read.
    pub(crate) failure: Option<Cause>,
}

impl Cold {
    fn is_idle(&self) -> bool {
        self.tail.is_empty() && self.transform.is_none() && self.leaving.is_none() && self.failure.is_none()
    }
}

/// Where a slot with `LEAVING` set is going.
#[derive(Clone)]
pub(crate) enum Leaving {
    /// Out of the engine, as a plain descriptor.
    Detach,
    /// To another thread's engine.
    Move {
        door: Door,
        token: u64,
        /// Where a slot is reserved, once one is.
        table: u32,
    },
}

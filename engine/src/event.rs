//! What the engine tells the owner of a thread.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::buffers::ReadBuf;
use crate::slot::Slot;
use crate::transform::Carried;

/// One happening. Events of one slot are in order; an event never refers to a slot its owner has closed.
#[derive(Debug)]
pub enum Event {
    /// A listener took a connection.
    Accepted {
        /// Where it lives.
        slot: Slot,
        /// The peer's address.
        peer: SocketAddr,
        /// Which listener, in the order of the calls of `listen` since the last of `stop_listening`, from 0.
        listener: u32,
    },
    /// Bytes were received, in order. Give the buffer back soon: while all are out, nothing is read.
    Data {
        /// From whom.
        slot: Slot,
        /// The bytes.
        buf: ReadBuf,
    },
    /// The transform and the peer have agreed: from now on plain bytes go through.
    Opened {
        /// Whose.
        slot: Slot,
        /// They went on from what they had agreed on before.
        is_resumed: bool,
    },
    /// Nothing more will be received. The slot stays until `close`. After [`Cause::Eof`] output still leaves, and a
    /// second `Ended` follows if that fails; so it does after the `Io(InvalidData)` of a transform that refused the
    /// peer's bytes. After any other cause the socket is dead.
    Ended {
        /// Whose input ended.
        slot: Slot,
        /// Why.
        cause: Cause,
    },
    /// The tail has left: `is_blocked` is false again.
    Drained {
        /// Whose.
        slot: Slot,
    },
    /// The bytes kept for this slot, or for the whole thread, are above their bound. Nothing was lost; the owner
    /// decides whether to close. Given once per tail.
    Overflow {
        /// Whose tail grew when the bound was passed.
        slot: Slot,
    },
    /// A move is done; the slot is free and the other engine has the connection.
    Departed {
        /// The slot it had here.
        slot: Slot,
        /// As given to `send_to`.
        token: u64,
        /// Its transform, for `restore_transform` on the other thread: the socket goes without it.
        carried: Option<Carried>,
    },
    /// A move failed; the slot is as usable as before.
    MoveFailed {
        /// The slot.
        slot: Slot,
        /// As given to `send_to`.
        token: u64,
        /// Why.
        error: io::Error,
    },
    /// A connection came from another engine. It may be seen before or after anything the source's thread sends
    /// on other ways when it gets `Departed`.
    Arrived {
        /// Where it lives now.
        slot: Slot,
        /// As given to `send_to` on the other thread.
        token: u64,
    },
    /// A connection that left another engine could not be taken in and is closed.
    ArrivalFailed {
        /// As given to `send_to` on the other thread.
        token: u64,
        /// Why.
        error: io::Error,
    },
    /// A descriptor taken out of the engine; the slot is free. The socket is non-blocking.
    Detached {
        /// The slot it had.
        slot: Slot,
        /// The socket, closed on exec.
        fd: OwnedFd,
        /// Its transform.
        carried: Option<Carried>,
    },
    /// A descriptor could not be taken out; the slot is as usable as before.
    DetachFailed {
        /// The slot.
        slot: Slot,
        /// Why.
        error: io::Error,
    },
    /// No more connections can be taken for now. Accepting resumes by itself when a slot is freed, or is tried again
    /// after [`ACCEPT_BACKOFF`](crate::ACCEPT_BACKOFF). Given once per episode.
    Pressure {
        /// What ran out.
        of: Pressure,
    },
    /// Accepting failed for another reason than the above; it is tried again after the same pause.
    AcceptFailed {
        /// The kernel's error.
        error: io::Error,
    },
}

/// Why input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer finished sending.
    Eof,
    /// The peer reset the connection, or closed it while we were sending.
    Reset,
    /// Keep-alive probes or unacknowledged data ran into the time limit.
    TimedOut,
    /// Anything else.
    Io(io::ErrorKind),
}

impl Cause {
    pub(crate) fn of(error: &io::Error) -> Cause {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Cause::Reset
            }
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Cause::TimedOut
            }
            kind => Cause::Io(kind),
        }
    }
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// `slots_max` connections are open.
    Slots,
    /// The process or the machine has no descriptors left.
    Descriptors,
    /// The kernel has no memory for sockets.
    Memory,
}

impl Pressure {
    pub(crate) fn of(error: &io::Error) -> Option<Pressure> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Pressure::Descriptors),
            libc::ENOMEM | libc::ENOBUFS => Some(Pressure::Memory),
            _ => None,
        }
    }
}

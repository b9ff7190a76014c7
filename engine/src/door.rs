//! The way into an engine from other threads.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_queue::SegQueue;

use crate::waker::Waker;

/// Tokens of moves are below this: the kernel carries them to the other ring in one word together with its kind.
pub const TOKEN_MAX: u64 = 1 << 60;

/// A socket on its way to an engine that cannot take it from ring to ring.
pub(crate) struct Parcel {
    pub(crate) fd: OwnedFd,
    pub(crate) token: u64,
}

pub(crate) struct Shared {
    /// Slots not taken. Whoever brings a connection in takes one first, so a table never fills behind its back.
    free: AtomicU32,
    /// Bounded by `free`: a parcel is pushed only with a slot reserved for it.
    inbox: SegQueue<Parcel>,
    open: AtomicBool,
    waker: Waker,
    /// The target's ring, for moves between rings.
    ring: Option<OwnedFd>,
}

/// A handle other threads use to hand connections to this engine ([`Engine::send_to`](crate::Engine::send_to)).
#[derive(Clone)]
pub struct Door(Arc<Shared>);

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("free_slots", &self.free_slots()).finish_non_exhaustive()
    }
}

impl Door {
    pub(crate) fn new(slots: u32, waker: Waker, ring: Option<OwnedFd>) -> Door {
        Door(Arc::new(Shared {
            free: AtomicU32::new(slots),
            inbox: SegQueue::new(),
            open: AtomicBool::new(true),
            waker,
            ring,
        }))
    }

    /// Connections the engine can still take, for placement. It may change at any moment.
    #[must_use]
    pub fn free_slots(&self) -> u32 {
        if self.is_open() { self.0.free.load(Ordering::Relaxed) } else { 0 }
    }

    /// The engine's waker.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.waker.clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Takes a slot; false when none is free.
    pub(crate) fn reserve(&self) -> bool {
        self.0.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1)).is_ok()
    }

    /// Gives a slot back.
    pub(crate) fn release(&self) {
        self.0.free.fetch_add(1, Ordering::AcqRel);
    }

    /// As `reserve`, with the error a move reports.
    pub(crate) fn reserve_for_move(&self) -> io::Result<()> {
        if !self.is_open() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the target engine has ended"));
        }
        if self.reserve() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENFILE)) }
    }

    /// Leaves a socket; the caller holds a reservation.
    pub(crate) fn push(&self, parcel: Parcel) {
        self.0.inbox.push(parcel);
        self.0.waker.wake();
    }

    pub(crate) fn pop(&self) -> Option<Parcel> {
        self.0.inbox.pop()
    }

    pub(crate) fn has_parcels(&self) -> bool {
        !self.0.inbox.is_empty()
    }

    pub(crate) fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.0.ring.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn same_engine(&self, other: &Door) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// No more arrivals; what is in the inbox is closed.
    pub(crate) fn shut(&self) {
        self.0.open.store(false, Ordering::Release);
        while self.0.inbox.pop().is_some() {}
    }
}

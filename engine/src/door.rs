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
    /// Where a slot is reserved for it.
    pub(crate) table: u32,
}

/// A part of an engine's slots: those of one ring. An engine without rings has one table.
pub(crate) struct Table {
    slots: u32,
    /// Slots not taken. Whoever brings a connection in takes one first, so a table never fills behind its back.
    free: AtomicU32,
    /// The ring, for moves between rings.
    ring: Option<OwnedFd>,
}

impl Table {
    pub(crate) fn new(slots: u32, ring: Option<OwnedFd>) -> Table {
        Table { slots, free: AtomicU32::new(slots), ring }
    }
}

pub(crate) struct Shared {
    /// In the order of the slots' numbers, all of one size but the last, which may be smaller.
    tables: Box<[Table]>,
    /// Bounded by the free slots: a parcel is pushed only with a slot reserved for it.
    inbox: SegQueue<Parcel>,
    open: AtomicBool,
    waker: Waker,
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
    /// `tables` are at least one, and alike in size, but for the last.
    pub(crate) fn new(tables: Vec<Table>, waker: Waker) -> Door {
        Door(Arc::new(Shared {
            tables: tables.into_boxed_slice(),
            inbox: SegQueue::new(),
            open: AtomicBool::new(true),
            waker,
        }))
    }

    /// Connections the engine can still take, for placement. It may change at any moment.
    #[must_use]
    pub fn free_slots(&self) -> u32 {
        let free = |table: &Table| table.free.load(Ordering::Relaxed);
        if self.is_open() { self.0.tables.iter().map(free).sum() } else { 0 }
    }

    /// The engine's waker.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.waker.clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Takes a slot of the first table that has one; `None` when all are full.
    pub(crate) fn reserve(&self) -> Option<u32> {
        let take = |table: &Table| {
            // Most full tables are passed by without a write.
            table.free.load(Ordering::Relaxed) > 0
                && table
                    .free
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1))
                    .is_ok()
        };
        self.0.tables.iter().position(take).map(|number| number as u32)
    }

    /// Gives a slot of a table back.
    pub(crate) fn release(&self, table: u32) {
        if let Some(table) = self.0.tables.get(table as usize) {
            table.free.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The table that the slot with this number is in.
    pub(crate) fn table_of(&self, index: u32) -> u32 {
        index / self.0.tables[0].slots
    }

    /// As `reserve`, with the error a move reports.
    pub(crate) fn reserve_for_move(&self) -> io::Result<u32> {
        if !self.is_open() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the target engine has ended"));
        }
        self.reserve().ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))
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

    /// The ring that has the table, where there is one.
    pub(crate) fn ring(&self, table: u32) -> Option<BorrowedFd<'_>> {
        self.0.tables.get(table as usize)?.ring.as_ref().map(AsFd::as_fd)
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

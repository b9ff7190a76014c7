//! What the thread of the pins has to say to a data thread.
//!
//! Not through the mailbox: that may be full, and a data thread that may not serve empties nothing. What it lost must have been
//! told before it may serve again, so the teller cannot wait for room. A tray holds at most a decision for each document being
//! opened, a loss or a few new claims for each that is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pinwire_cluster::{Decision, Ticket};
use pinwire_registry::{Claim, Owner};

/// News of a hold.
#[derive(Debug)]
pub(crate) enum PinEvent {
    /// What became of it.
    Decided(Ticket, Decision),
    /// Another region has the document.
    Lost(Ticket, Owner),
    /// The document is held under this claim from now on.
    Reclaimed(Ticket, Claim),
}

#[derive(Debug, Default)]
struct Tray {
    events: Mutex<Vec<PinEvent>>,
    has_any: AtomicBool,
}

/// A tray for each data thread.
#[derive(Clone, Debug)]
pub(crate) struct Trays(Arc<[Tray]>);

impl Trays {
    pub(crate) fn new(threads: usize) -> Self {
        Self(std::iter::repeat_with(Tray::default).take(threads).collect())
    }

    /// Lays down what `events` has, which is empty then.
    pub(crate) fn put(&self, thread: usize, events: &mut Vec<PinEvent>) {
        let Some(tray) = self.0.get(thread) else { return events.clear() };
        tray.events.lock().unwrap_or_else(PoisonError::into_inner).append(events);
        tray.has_any.store(true, Ordering::Release);
    }

    pub(crate) fn has_any(&self, thread: usize) -> bool {
        self.0.get(thread).is_some_and(|tray| tray.has_any.load(Ordering::Acquire))
    }

    /// What lies there, in order.
    pub(crate) fn take(&self, thread: usize) -> Vec<PinEvent> {
        let Some(tray) = self.0.get(thread) else { return Vec::new() };
        if !tray.has_any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *tray.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

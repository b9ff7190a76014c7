//! Waking a data thread from another one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys;

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

struct State {
    now: AtomicU8,
    eventfd: OwnedFd,
}

/// Makes the thread's `wait` return. Cheap while that thread is awake: only a sleeping thread costs a system call,
/// and of many wakes only the first.
///
/// Put the message in the mailbox first, then wake: the thread looks into its mailboxes after every return of
/// `wait`, and a wake between that look and the next `wait` makes the latter return at once.
#[derive(Clone)]
pub struct Waker(Arc<State>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(State { now: AtomicU8::new(AWAKE), eventfd: sys::eventfd()? })))
    }

    /// Wakes the thread. Never blocks.
    pub fn wake(&self) {
        if self.0.now.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            sys::eventfd_signal(self.0.eventfd.as_fd());
        }
    }

    /// The owner is about to sleep; false when it was woken meanwhile.
    pub(crate) fn doze(&self) -> bool {
        self.0.now.compare_exchange(AWAKE, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The owner runs; wakes from here on are for its next sleep.
    pub(crate) fn rouse(&self) {
        self.0.now.swap(AWAKE, Ordering::AcqRel);
    }

    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeping_owner_costs_a_signal() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(!sys::eventfd_clear(waker.eventfd()));
        assert!(!waker.doze());
        waker.rouse();
        assert!(waker.doze());
        waker.wake();
        waker.wake();
        assert!(sys::eventfd_clear(waker.eventfd()));
        assert!(!sys::eventfd_clear(waker.eventfd()));
    }
}

//! One io_uring instance: its queues, its table of direct descriptors, and how many operations in it use memory of ours.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::types::CancelBuilder;
use io_uring::{IoUring, cqueue};

use super::probe;
use crate::fallback::FallbackReason;
use crate::tag::Tag;

/// `IORING_ENTER_GETEVENTS`: also runs deferred work.
const GETEVENTS: u32 = 1;

/// Entries of a submission queue where a thread has one ring, and where it has several: then each has a part of the
/// thread's work only, and its queues are memory.
const ENTRIES: [u32; 2] = [1024, 256];
/// A turn's completions and a poll event of every fourth connection fit without overflow.
const COMPLETIONS_PER_ENTRY: u32 = 8;

pub(super) struct Ring {
    io: IoUring,
    /// Prepared operations that did not fit the submission queue.
    overflow: VecDeque<Entry>,
    /// Operations in flight that use memory of ours.
    pub(super) borrowed: usize,
}

impl Ring {
    /// Makes a ring with a table of `slots` descriptors as one of `rings` of its thread; of several each signals
    /// `eventfd`.
    pub(super) fn new(slots: u32, rings: u32, eventfd: BorrowedFd<'_>) -> Result<Ring, FallbackReason> {
        let entries = ENTRIES[usize::from(rings > 1)];
        let io: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
            .build(entries)
            .map_err(|error| FallbackReason::of_setup(&error))?;
        if !io.params().is_feature_nodrop() {
            return Err(FallbackReason::Missing("completions that are never dropped (NODROP)"));
        }
        probe::probe(&io)?;
        io.submitter()
            .register_files_sparse(slots)
            .map_err(|error| FallbackReason::of_step("registering the descriptor table", &error))?;
        // A thread with one ring sleeps in it, and needs no signal.
        if rings > 1 {
            io.submitter()
                .register_eventfd(eventfd.as_raw_fd())
                .map_err(|error| FallbackReason::of_step("registering the eventfd", &error))?;
        }
        Ok(Ring { io, overflow: VecDeque::new(), borrowed: 0 })
    }

    /// A second descriptor of the ring, for other threads to post to.
    pub(super) fn door_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring is open while `self` lives, which is longer than the borrow.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Prepares an operation that uses no memory of ours after it was submitted.
    pub(super) fn push(&mut self, entry: Entry, tag: Tag) {
        let entry = entry.user_data(tag.0);
        // SAFETY: nothing in it points to memory, or (timers) only to what lives as long as the ring and is read at
        // submission.
        if !self.overflow.is_empty() || unsafe { self.io.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    /// Prepares an operation that uses memory of ours.
    ///
    /// # Safety
    /// That memory stays in place, and is not touched, until `borrowed` is back at zero.
    pub(super) unsafe fn push_borrowing(&mut self, entry: Entry, tag: Tag) {
        self.borrowed += 1;
        self.push(entry, tag);
    }

    pub(super) fn has_prepared(&mut self) -> bool {
        !self.overflow.is_empty() || !self.io.submission().is_empty()
    }

    /// True when the kernel has deferred work or completions that only a call brings.
    pub(super) fn needs_a_call(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is prepared, runs deferred work, and waits for `want` completions.
    pub(super) fn enter(&mut self, want: u32) -> io::Result<()> {
        loop {
            let prepared = {
                let mut queue = self.io.submission();
                while let Some(entry) = self.overflow.front() {
                    // SAFETY: as in `push`.
                    if unsafe { queue.push(entry) }.is_err() {
                        break;
                    }
                    self.overflow.pop_front();
                }
                queue.len()
            };
            let want = if self.overflow.is_empty() { want } else { 0 };
            // SAFETY: the memory that prepared operations name is kept in place until they complete
            // (`push_borrowing`).
            unsafe { self.io.submitter().enter::<()>(prepared as u32, want, GETEVENTS, None) }?;
            if self.overflow.is_empty() {
                return Ok(());
            }
        }
    }

    /// Moves the completions that are there to `into`.
    pub(super) fn take_completions(&mut self, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.io.completion());
    }

    /// Signals the eventfd from now on.
    pub(super) fn rouse_on_completion(&mut self) {
        self.io.completion().enable_eventfd();
    }

    /// Signals nothing from now on.
    pub(super) fn be_quiet(&mut self) {
        self.io.completion().disable_eventfd();
    }

    /// True when there is nothing to take and nothing that a call would bring.
    pub(super) fn is_idle(&mut self) -> bool {
        self.io.completion().is_empty() && !self.needs_a_call()
    }
}

impl Drop for Ring {
    /// Doors of other threads may keep the ring itself alive: what it holds is let go of here.
    fn drop(&mut self) {
        // Failing, they leave the rest to the end of the process.
        let _ = self.io.submitter().register_sync_cancel(None, CancelBuilder::any());
        let _ = self.enter(0);
        let _ = self.io.submitter().unregister_files();
    }
}

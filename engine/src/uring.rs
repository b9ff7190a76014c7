//! The io_uring backend: a ring of the thread's own, driven by completions.
//!
//! Sockets are direct descriptors, and a slot's number is its index in the ring's table: the kernel hands the numbers
//! out (for accepts, adoptions and arrivals from other rings alike), so table and slab cannot disagree.
//!
//! An idle connection has one multishot poll. When it fires, the socket is read by RECV into one of the thread's large
//! buffers; a turn's reads go in one call, and so do its sends. Every operation that uses memory of ours is
//! non-blocking and is waited for before the function that prepared it returns ([`Uring::settle`]), so nothing
//! in the kernel refers to our memory between calls. Only polls, and operations without memory, stay in flight.
//!
//! The ring signals the waker's eventfd, but only while the thread is about to sleep or asleep.
#![allow(unsafe_code, reason = "ring operations take raw pointers; every use has its SAFETY note")]

mod incoming;
mod leaving;
mod probe;

use std::collections::VecDeque;
use std::io;
use std::mem::zeroed;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use crate::backend::Backend;
use crate::buffers::ReadBuf;
use crate::config::{Config, DriverInUse};
use crate::core::Core;
use crate::event::Cause;
use crate::fallback::FallbackReason;
use crate::output::{Job, Source, gather};
use crate::slot::{Flags, Handle};
use crate::sys;
use crate::tag::{Kind, Tag};
use crate::waker::Waker;

const ENTRIES: u32 = 1024;
/// A turn's completions and a poll event of every fourth connection fit without overflow.
const CQ_ENTRIES: u32 = 8 * ENTRIES;
/// Accepts tried in one call.
const ACCEPTS: usize = 16;
/// `IORING_ENTER_GETEVENTS`: also runs deferred work.
const GETEVENTS: u32 = 1;
/// `IORING_ACCEPT_DONTWAIT` (Linux 6.10).
const ACCEPT_DONTWAIT: u16 = 1 << 1;
/// `IORING_FILE_INDEX_ALLOC`: the kernel chooses the index.
const INDEX_ALLOC: i32 = -1;

struct Listener {
    id: u32,
    fd: OwnedFd,
    ready: bool,
}

/// A read in flight.
struct Read {
    handle: Handle,
    buf: ReadBuf,
    start: usize,
}

/// Where the kernel puts the peer's address.
struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

pub(crate) struct Uring {
    ring: IoUring,
    eventfd: OwnedFd,
    /// Prepared operations that did not fit the submission queue.
    overflow: VecDeque<Entry>,
    /// Completions taken from the queue and not yet dealt with.
    completed: Vec<cqueue::Entry>,
    /// Operations in flight that use memory of ours.
    borrowed: usize,
    /// How often such an operation had not completed when the call that submitted it returned.
    late: u64,
    slept: bool,
    timer_at: Option<Instant>,
    timer_id: u32,
    timespec: Box<Timespec>,
    listeners: Vec<Listener>,
    last_listener: u32,
    addresses: Box<[Address]>,
    /// What the accepts of the present call gave: connections, and whether the backlog was seen empty.
    accept_outcome: (usize, bool),
    reads: Vec<Option<Read>>,
    spare_reads: Vec<u8>,
    iovecs: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
    send_results: Vec<i32>,
    adopting: Box<[RawFd; 1]>,
    adopt_result: i32,
}

// Setting up.

impl Uring {
    /// Makes the thread's ring; its table has `config.slots_max` entries, lowered to what the system allows.
    pub(crate) fn new(config: &mut Config, waker: &Waker) -> Result<Uring, FallbackReason> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .build(ENTRIES)
            .map_err(|error| FallbackReason::of_setup(&error))?;
        if !ring.params().is_feature_nodrop() {
            return Err(FallbackReason::Missing("completions that are never dropped (NODROP)"));
        }
        probe::probe(&ring)?;
        config.slots_max = config.slots_max.min(sys::descriptor_limit());
        ring.submitter()
            .register_files_sparse(config.slots_max)
            .map_err(|error| FallbackReason::of_step("registering the descriptor table", &error))?;
        let eventfd = waker
            .eventfd()
            .try_clone_to_owned()
            .map_err(|error| FallbackReason::of_step("duplicating the eventfd", &error))?;
        ring.submitter()
            .register_eventfd(eventfd.as_raw_fd())
            .map_err(|error| FallbackReason::of_step("registering the eventfd", &error))?;
        let mut uring = Uring::with(ring, eventfd, config.read_buffers);
        uring.probe_accept()?;
        uring.ring.completion().disable_eventfd();
        Ok(uring)
    }

    fn with(ring: IoUring, eventfd: OwnedFd, reads: usize) -> Uring {
        // SAFETY: all-zero bytes are a valid sockaddr_storage.
        let address = || Address { storage: unsafe { zeroed() }, length: 0 };
        Uring {
            ring,
            eventfd,
            overflow: VecDeque::new(),
            completed: Vec::new(),
            borrowed: 0,
            late: 0,
            slept: false,
            timer_at: None,
            timer_id: 0,
            timespec: Box::new(Timespec::new()),
            listeners: Vec::new(),
            last_listener: 0,
            addresses: (0..ACCEPTS).map(|_| address()).collect(),
            accept_outcome: (0, false),
            reads: (0..reads).map(|_| None).collect(),
            spare_reads: (0..=u8::MAX).take(reads).rev().collect(),
            iovecs: Vec::new(),
            messages: Vec::new(),
            send_results: Vec::new(),
            adopting: Box::new([-1]),
            adopt_result: 0,
        }
    }

    /// A second descriptor of the ring, for other threads to post to.
    pub(crate) fn door_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring is open while `self` lives, which is longer than the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Tries an accept that must not wait: kernels that do not know the flag refuse it.
    fn probe_accept(&mut self) -> Result<(), FallbackReason> {
        let step = |error: io::Error| FallbackReason::of_step("probing ACCEPT", &error);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(step)?;
        self.prepare_accept(listener.as_raw_fd(), 0, Tag::plain(Kind::Ignore, 0, 0));
        // SAFETY: the address lives as long as `self`; the completion is awaited here.
        let submitted = unsafe { self.ring.submitter().enter::<()>(1, 1, GETEVENTS, None) };
        self.borrowed -= 1;
        submitted.map_err(step)?;
        let result = self.ring.completion().next().map_or(0, |entry| entry.result());
        match -result {
            libc::EAGAIN => Ok(()),
            libc::EINVAL => Err(FallbackReason::Missing("ACCEPT that does not wait (Linux 6.10)")),
            code => Err(FallbackReason::Failed("probing ACCEPT", code)),
        }
    }
}

// Submitting and completing.

impl Uring {
    /// Prepares an operation that uses no memory of ours after it was submitted.
    fn push(&mut self, entry: Entry, tag: Tag) {
        let entry = entry.user_data(tag.0);
        // SAFETY: nothing in it points to memory, or (timers) only to what lives as long as the ring and is read at
        // submission.
        if !self.overflow.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    /// Prepares an operation that uses memory of ours.
    ///
    /// # Safety
    /// That memory stays in place, and is not touched, until `settle` has returned.
    unsafe fn push_borrowing(&mut self, entry: Entry, tag: Tag) {
        self.borrowed += 1;
        self.push(entry, tag);
    }

    fn has_prepared(&mut self) -> bool {
        !self.overflow.is_empty() || !self.ring.submission().is_empty()
    }

    /// Submits what is prepared, runs deferred work, and waits for `want` completions.
    fn enter(&mut self, want: u32) -> io::Result<()> {
        loop {
            let prepared = {
                let mut queue = self.ring.submission();
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
            // SAFETY: the memory that prepared operations name is kept in place until they complete (`settle`).
            unsafe { self.ring.submitter().enter::<()>(prepared as u32, want, GETEVENTS, None) }?;
            if self.overflow.is_empty() {
                return Ok(());
            }
        }
    }

    /// Submits, and deals with what has completed.
    fn turn(&mut self, core: &mut Core, want: u32) {
        if let Err(error) = self.enter(want) {
            match error.raw_os_error() {
                // Interrupted, short of memory, or completions must be taken first: the loop comes again.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                _ => give_up(&error),
            }
        }
        self.drain(core);
    }

    /// Submits, and returns when nothing in the kernel refers to memory of ours.
    fn settle(&mut self, core: &mut Core) {
        while self.borrowed > 0 {
            self.turn(core, 1);
            self.late += u64::from(self.borrowed > 0);
        }
    }

    fn drain(&mut self, core: &mut Core) {
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion());
        for entry in completed.drain(..) {
            self.dispatch(core, Tag(entry.user_data()), entry.result(), entry.flags());
        }
        self.completed = completed;
    }

    fn dispatch(&mut self, core: &mut Core, tag: Tag, result: i32, flags: u32) {
        match tag.kind() {
            Kind::Ignore => {}
            Kind::PollIn => self.polled_in(core, tag.handle(), result, cqueue::more(flags)),
            Kind::PollOut => self.polled_out(core, tag.handle(), result),
            Kind::Receive => self.received(core, tag.buffer(), result, cqueue::sock_nonempty(flags)),
            Kind::Send => {
                self.borrowed -= 1;
                self.send_results[tag.handle().index as usize] = result;
            }
            Kind::Accept => self.accepted(core, tag.buffer(), result),
            Kind::Listen => self.listener_ready(tag.handle().index, cqueue::more(flags)),
            Kind::Timer if tag.handle().index == self.timer_id => self.timer_at = None,
            Kind::Timer => {}
            Kind::Close => core.vacate(tag.handle()),
            Kind::Shutdown => {
                if let Err(error) = outcome(result) {
                    core.out_failed(tag.handle(), Cause::of(&error));
                }
                self.completed_one(core, tag.handle());
            }
            Kind::Linger => self.completed_one(core, tag.handle()),
            Kind::Install => {
                let fd = outcome(result).map(|fd| {
                    // SAFETY: the kernel has just installed it for us.
                    unsafe { sys::own(fd as RawFd) }
                });
                self.installed(core, tag.handle(), fd);
            }
            Kind::Move => self.moved(core, tag.handle(), result),
            Kind::Adopt => {
                self.borrowed -= 1;
                self.adopt_result = result;
            }
            Kind::Arrived => self.arrived(core, tag.token(), result),
        }
    }

    /// Prepares an operation of a slot; its completion is counted.
    fn push_for(&mut self, core: &mut Core, handle: Handle, kind: Kind, entry: Entry) {
        if let Some(hot) = core.slab.get(handle) {
            hot.inflight += 1;
            self.push(entry, Tag::new(kind, 0, handle));
        }
    }

    /// One operation of the slot is over. The last one lets a close or departure go on.
    fn completed_one(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        hot.inflight = hot.inflight.saturating_sub(1);
        if hot.inflight > 0 || !hot.flags.has(Flags::CANCELLED) {
            return;
        }
        if hot.flags.has(Flags::CLOSING) {
            self.close(core, handle);
        } else if hot.flags.has(Flags::LEAVING) {
            self.leave(core, handle);
        }
    }

    /// Tells the slot's polls to end, once. Not by POLL_REMOVE: that gives up (EALREADY) on a poll whose wake-up is
    /// being worked off, and the poll would live on.
    fn cancel_polls(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        if !hot.flags.raise(Flags::CANCELLED) {
            return;
        }
        let flags = hot.flags;
        for (bit, kind) in [(Flags::POLL_IN, Kind::PollIn), (Flags::POLL_OUT, Kind::PollOut)] {
            if flags.has(bit) {
                let poll = Tag::new(kind, 0, handle);
                self.push(opcode::AsyncCancel::new(poll.0).build(), Tag::plain(Kind::Ignore, 0, 0));
            }
        }
    }
}

// Readiness and reading.

impl Uring {
    /// Watches the slot for input until told otherwise. What is ready already is reported too.
    fn poll_in(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        if !hot.flags.raise(Flags::POLL_IN) {
            return;
        }
        let mask = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let entry = opcode::PollAdd::new(Fixed(handle.index), mask).multi(true).build();
        self.push_for(core, handle, Kind::PollIn, entry);
    }

    /// Tells once when the socket takes bytes again.
    fn poll_out(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        if !hot.flags.has(Flags::BLOCKED)
            || hot.flags.has(Flags::CLOSING)
            || !hot.flags.raise(Flags::POLL_OUT)
        {
            return;
        }
        let entry = opcode::PollAdd::new(Fixed(handle.index), libc::POLLOUT as u32).build();
        self.push_for(core, handle, Kind::PollOut, entry);
    }

    fn polled_in(&mut self, core: &mut Core, handle: Handle, result: i32, more: bool) {
        match outcome(result) {
            Ok(mask) => {
                let bits = mask as libc::c_short;
                core.readable(
                    handle,
                    bits & libc::POLLRDHUP != 0,
                    bits & (libc::POLLERR | libc::POLLHUP) != 0,
                );
            }
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => core.out_failed(handle, Cause::of(&error)),
        }
        if more {
            return;
        }
        let Some(hot) = core.slab.get(handle) else { return };
        hot.flags.clear(Flags::POLL_IN);
        let watch = !hot.flags.has(Flags::CLOSING | Flags::LEAVING | Flags::FAILED | Flags::OUT_DEAD);
        self.completed_one(core, handle);
        if watch {
            self.poll_in(core, handle);
        }
    }

    fn polled_out(&mut self, core: &mut Core, handle: Handle, result: i32) {
        if let Some(hot) = core.slab.get(handle) {
            hot.flags.clear(Flags::POLL_OUT);
        }
        if result != -libc::ECANCELED {
            core.writable(handle);
        }
        self.completed_one(core, handle);
    }

    fn received(&mut self, core: &mut Core, number: usize, result: i32, more: bool) {
        self.borrowed -= 1;
        self.spare_reads.push(number as u8);
        if let Some(Read { handle, buf, start }) = self.reads[number].take() {
            core.finish_read(handle, buf, start, outcome(result).map(|count| count as usize), more);
        }
    }

    /// Prepares a read for every ready slot as long as buffers last; returns how many.
    fn prepare_reads(&mut self, core: &mut Core) -> usize {
        let mut count = 0;
        while let Some(number) = self.spare_reads.pop() {
            let Some((handle, buf, start)) = core.start_read() else {
                self.spare_reads.push(number);
                break;
            };
            let read = self.reads[usize::from(number)].insert(Read { handle, buf, start });
            let space = &mut read.buf.space()[start..];
            let entry = opcode::Recv::new(Fixed(handle.index), space.as_mut_ptr(), space.len() as u32)
                .flags(libc::MSG_DONTWAIT)
                .build();
            // SAFETY: the buffer stays in `self.reads`, where only its completion takes it from.
            unsafe { self.push_borrowing(entry, Tag::new(Kind::Receive, number, handle)) };
            count += 1;
        }
        count
    }
}

// Connections coming in.

impl Uring {
    fn prepare_accept(&mut self, listener: RawFd, number: usize, tag: Tag) {
        let address = &mut self.addresses[number];
        address.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let mut entry =
            opcode::Accept::new(Fd(listener), (&raw mut address.storage).cast(), &raw mut address.length)
                .file_index(Some(DestinationSlot::auto_target()))
                .flags(libc::SOCK_NONBLOCK)
                .build();
        // SAFETY: an entry is a 64-byte io_uring_sqe, which has `ioprio`, where accept flags go, as 16 bits at offset 2
        // (linux/io_uring.h); the crate has no setter for it.
        unsafe { (&raw mut entry).cast::<u16>().add(1).write(ACCEPT_DONTWAIT) };
        // SAFETY: `self.addresses` is never resized, and read only by the completion; every caller settles before it
        // prepares the same number again.
        unsafe { self.push_borrowing(entry, tag) };
    }
}

// Sending.

impl Uring {
    /// Prepares one call's worth of every job. The pieces stay in place: the arena and the tails change only in
    /// `Core::send` and `Core::sent`, and neither is called before `settle` has returned.
    fn prepare_sends(&mut self, core: &mut Core, jobs: &mut [Job]) {
        self.iovecs.clear();
        self.messages.clear();
        let mut ranges = Vec::with_capacity(jobs.len());
        for job in &mut *jobs {
            let start = self.iovecs.len();
            let iovecs = &mut self.iovecs;
            let each = |piece: &[u8]| {
                iovecs.push(libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
            };
            job.asked = match job.source {
                Source::Turn(turn) => gather(core.out.slices(turn), job.offset, each),
                Source::Tail => match core.slab.get(job.handle).and_then(|hot| hot.cold.as_ref()) {
                    Some(cold) => gather(cold.tail.pieces(), 0, each),
                    None => 0,
                },
            };
            ranges.push(start..self.iovecs.len());
        }
        for range in ranges {
            // SAFETY: all-zero bytes are a valid msghdr.
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_iovlen = range.len() as _;
            message.msg_iov = self.iovecs[range].as_mut_ptr();
            self.messages.push(message);
        }
        for (number, job) in jobs.iter().enumerate() {
            let message = &raw const self.messages[number];
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
            let entry = opcode::SendMsg::new(Fixed(job.handle.index), message).flags(flags).build();
            // SAFETY: `iovecs` and `messages` are not touched before the next round, and what they point to is as said
            // above.
            unsafe { self.push_borrowing(entry, Tag::plain(Kind::Send, 0, number as u32)) };
        }
    }

    /// One call for each job; those that need another are left.
    fn send_round(&mut self, core: &mut Core, jobs: &mut Vec<Job>) {
        self.prepare_sends(core, jobs);
        self.send_results.clear();
        self.send_results.resize(jobs.len(), 0);
        self.settle(core);
        let results = std::mem::take(&mut self.send_results);
        let mut numbers = results.iter();
        jobs.retain_mut(|job| {
            let result = outcome(*numbers.next().unwrap_or(&0)).map(|count| count as usize);
            let again = core.sent(job, result);
            self.poll_out(core, job.handle);
            again
        });
        self.send_results = results;
    }
}

impl Backend for Uring {
    fn driver(&self) -> DriverInUse {
        DriverInUse::Uring
    }

    fn listen(&mut self, core: &mut Core, fd: OwnedFd) -> io::Result<()> {
        self.last_listener += 1;
        let id = self.last_listener;
        self.watch_listener(fd.as_raw_fd(), id);
        self.listeners.push(Listener { id, fd, ready: true });
        self.commit(core);
        Ok(())
    }

    fn stop_listening(&mut self, core: &mut Core) {
        for listener in std::mem::take(&mut self.listeners) {
            let poll = Tag::plain(Kind::Listen, 0, listener.id);
            self.push(opcode::AsyncCancel::new(poll.0).build(), Tag::plain(Kind::Ignore, 0, 0));
            // The poll must be gone before the descriptor, or it would keep the port open.
            self.commit(core);
        }
    }

    fn adopt(&mut self, core: &mut Core, fd: OwnedFd) -> io::Result<Handle> {
        self.adopting[0] = fd.as_raw_fd();
        let entry = opcode::FilesUpdate::new(self.adopting.as_ptr(), 1).offset(INDEX_ALLOC).build();
        // SAFETY: the box lives as long as `self`, and is read after `settle`.
        unsafe { self.push_borrowing(entry, Tag::plain(Kind::Adopt, 0, 0)) };
        self.settle(core);
        // The result counts descriptors; the index stands where the descriptor was.
        if outcome(self.adopt_result)? != 1 {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let index = outcome(self.adopting[0])?;
        self.occupy(core, index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))
    }

    fn reap(&mut self, core: &mut Core) {
        /// Deferred work that keeps coming is left to the next turn.
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            let queue = self.ring.submission();
            let work = queue.taskrun() || queue.cq_overflow();
            drop(queue);
            if work || self.has_prepared() {
                self.turn(core, 0);
            } else {
                return self.drain(core);
            }
        }
    }

    fn accept(&mut self, core: &mut Core) {
        for position in 0..self.listeners.len() {
            let mut count = 1;
            while self.listeners[position].ready
                && !core.is_backing_off()
                && self.accept_some(core, position, count)
            {
                count = (2 * count).min(ACCEPTS);
            }
        }
    }

    fn can_accept(&self) -> bool {
        self.listeners.iter().any(|listener| listener.ready)
    }

    fn retry_accept(&mut self) {
        for listener in &mut self.listeners {
            listener.ready = true;
        }
    }

    fn read(&mut self, core: &mut Core) {
        while self.prepare_reads(core) > 0 {
            self.settle(core);
        }
    }

    fn send(&mut self, core: &mut Core, mut jobs: Vec<Job>) {
        while !jobs.is_empty() {
            // As many as the submission queue holds go in one call.
            let later = jobs.split_off(jobs.len().min(ENTRIES as usize));
            self.send_round(core, &mut jobs);
            jobs.extend(later);
        }
    }

    fn shutdown_write(&mut self, core: &mut Core, handle: Handle) {
        let entry = opcode::Shutdown::new(Fixed(handle.index), libc::SHUT_WR).build();
        self.push_for(core, handle, Kind::Shutdown, entry);
    }

    fn close(&mut self, core: &mut Core, handle: Handle) {
        core.drop_tail(handle);
        self.cancel_polls(core, handle);
        let Some(hot) = core.slab.get(handle) else { return };
        if hot.inflight > 0 {
            return;
        }
        if hot.flags.has(Flags::ABORT) && hot.flags.raise(Flags::LINGER_SENT) {
            let value = (&raw const sys::LINGER_ZERO).cast();
            let length = size_of::<libc::linger>() as u32;
            let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
            // The value is a static: no memory of ours that could go away.
            let entry = opcode::SetSockOpt::new(Fixed(handle.index), level, name, value, length).build();
            return self.push_for(core, handle, Kind::Linger, entry);
        }
        self.close_descriptor(core, handle);
    }

    fn leave(&mut self, core: &mut Core, handle: Handle) {
        let Some(how) = core.departure(handle) else { return };
        self.cancel_polls(core, handle);
        if core.slab.get(handle).is_none_or(|hot| hot.inflight > 0) {
            return;
        }
        if let Err(error) = self.depart(core, handle, &how) {
            self.stay(core, handle);
            core.stayed(handle, error);
        }
    }

    fn stay(&mut self, core: &mut Core, handle: Handle) {
        if let Some(hot) = core.slab.get(handle) {
            hot.flags.clear(Flags::CANCELLED);
            // A poll still to be cancelled is armed again by its last completion.
            self.poll_in(core, handle);
        }
    }

    fn commit(&mut self, core: &mut Core) {
        while self.has_prepared() {
            self.turn(core, 0);
        }
    }

    fn arm_timer(&mut self, _core: &mut Core, deadline: Instant) {
        if self.timer_at.is_some_and(|armed| armed <= deadline) {
            return;
        }
        if self.timer_at.is_some() {
            let old = Tag::plain(Kind::Timer, 0, self.timer_id);
            self.push(opcode::TimeoutRemove::new(old.0).build(), Tag::plain(Kind::Ignore, 0, 0));
        }
        self.timer_id = self.timer_id.wrapping_add(1);
        self.timer_at = Some(deadline);
        *self.timespec = Timespec::from(deadline.saturating_duration_since(Instant::now()));
        let entry = opcode::Timeout::new(&raw const *self.timespec).build();
        self.push(entry, Tag::plain(Kind::Timer, 0, self.timer_id));
    }

    fn before_sleep(&mut self) -> bool {
        let completion = self.ring.completion();
        completion.enable_eventfd();
        // Between "signals are on" and the look for what came before: the kernel does the reverse.
        fence(Ordering::SeqCst);
        drop(completion);
        self.slept = self.ring.completion().is_empty() && !self.ring.submission().taskrun();
        self.slept
    }

    fn after_sleep(&mut self) {
        if std::mem::take(&mut self.slept) {
            sys::eventfd_clear(self.eventfd.as_fd());
        }
        self.ring.completion().disable_eventfd();
    }

    fn late_completions(&self) -> u64 {
        self.late
    }

    fn wait_fd(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }
}

impl Drop for Uring {
    /// Doors of other threads may keep the ring itself alive: what it holds is let go of here.
    fn drop(&mut self) {
        // Failing, they leave the rest to the end of the process.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let _ = self.enter(0);
        let _ = self.ring.submitter().unregister_files();
    }
}

/// A completion's result: a count or an index, or an error code below zero.
fn outcome(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}

/// The ring does not take calls any more, and the kernel may still use our memory: nothing after this would be sound.
fn give_up(error: &io::Error) -> ! {
    tracing::error!(%error, "io_uring_enter failed");
    std::process::abort()
}

//! The io_uring backend: rings of the thread's own, driven by completions.
//!
//! Sockets are direct descriptors. The kernel bounds a ring's table by the process's descriptor limit, so a thread that
//! is to hold more has several rings; ring `n` has the slots from `n * table` on, and a slot's place in its ring's table
//! is what remains. The kernel hands the places out (for accepts, adoptions and arrivals from other rings alike), so
//! tables and slab cannot disagree. The door says which ring has room: the first that has any, so that few rings have
//! work at once.
//!
//! An idle connection has one multishot poll. When it fires, the socket is read by RECV into one of the thread's large
//! buffers; a turn's reads go in one call, and so do its sends. Every operation that uses memory of ours is
//! non-blocking and is waited for before the function that prepared it returns ([`Uring::settle`]), so nothing
//! in the kernel refers to our memory between calls. Only polls, and operations without memory, stay in flight.
//!
//! A thread with one ring sleeps in a call of that ring, which has a poll of the waker's eventfd. Of several rings all signal
//! the eventfd, but only while the thread is about to sleep or asleep. Timers and listeners are the first ring's.
#![allow(unsafe_code, reason = "ring operations take raw pointers; every use has its SAFETY note")]

mod incoming;
mod leaving;
mod probe;
mod ring;

use std::io;
use std::mem::zeroed;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use io_uring::squeue::Entry;
use io_uring::types::{DestinationSlot, Fd, Fixed, Timespec};
use io_uring::{cqueue, opcode};

use crate::backend::Backend;
use crate::buffers::ReadBuf;
use crate::config::{Config, DriverInUse};
use crate::core::Core;
use crate::door::Table;
use crate::event::Cause;
use crate::fallback::FallbackReason;
use crate::output::{Job, Source, gather};
use crate::slot::{Flags, Handle};
use crate::sys;
use crate::tag::{Kind, Tag};
use crate::waker::Waker;
use ring::Ring;

/// Sends of one round.
const SENDS: usize = 1024;
/// Accepts tried in one call.
const ACCEPTS: usize = 16;
/// `IORING_ACCEPT_DONTWAIT` (Linux 6.10).
const ACCEPT_DONTWAIT: u16 = 1 << 1;
/// `IORING_FILE_INDEX_ALLOC`: the kernel chooses the index.
const INDEX_ALLOC: i32 = -1;

struct Listener {
    /// Never used twice: polls of one that was closed may still be told of.
    id: u32,
    /// Its place in the order of the calls of `listen`.
    number: u32,
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
    /// At least one.
    rings: Vec<Ring>,
    /// Slots of one ring; the last may have fewer.
    table: u32,
    /// Slots of all rings.
    slots: u32,
    eventfd: OwnedFd,
    /// Completions taken from a queue and not yet dealt with.
    completed: Vec<cqueue::Entry>,
    /// How often such an operation had not completed when the call that submitted it returned.
    late: u64,
    slept: bool,
    /// A poll of the eventfd ends sleeps in the only ring.
    is_waker_watched: bool,
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
    /// Makes the thread's rings. `config.slots_max` is lowered to what they can hold; `config.rings` becomes their number.
    pub(crate) fn new(config: &mut Config, waker: &Waker) -> Result<Uring, FallbackReason> {
        let table = config.slots_max.min(config.ring_slots_max).min(sys::descriptor_limit());
        config.rings = config.rings.min(config.slots_max.div_ceil(table));
        config.slots_max = config.slots_max.min(table.saturating_mul(config.rings));
        let eventfd = waker
            .eventfd()
            .try_clone_to_owned()
            .map_err(|error| FallbackReason::of_step("duplicating the eventfd", &error))?;
        let size = |ring: u32| table_size(table, config.slots_max, ring);
        let rings = (0..config.rings).map(|ring| Ring::new(size(ring), config.rings, eventfd.as_fd()));
        let rings = rings.collect::<Result<Vec<_>, _>>()?;
        let mut uring = Uring::with(rings, (table, config.slots_max), eventfd, config.read_buffers);
        uring.probe_accept()?;
        uring.rings.iter_mut().for_each(Ring::be_quiet);
        Ok(uring)
    }

    fn with(rings: Vec<Ring>, (table, slots): (u32, u32), eventfd: OwnedFd, reads: usize) -> Uring {
        // SAFETY: all-zero bytes are a valid sockaddr_storage.
        let address = || Address { storage: unsafe { zeroed() }, length: 0 };
        Uring {
            rings,
            table,
            slots,
            eventfd,
            completed: Vec::new(),
            late: 0,
            slept: false,
            is_waker_watched: false,
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

    /// The tables' sizes and second descriptors of the rings, for other threads to post to.
    pub(crate) fn tables(&self) -> io::Result<Vec<Table>> {
        let table = |(ring, number): (&Ring, u32)| {
            let slots = table_size(self.table, self.slots, number);
            Ok(Table::new(slots, Some(ring.door_fd()?)))
        };
        self.rings.iter().zip(0..).map(table).collect()
    }

    /// The slot's place in its ring's table.
    fn fixed(&self, handle: Handle) -> Fixed {
        Fixed(handle.index % self.table)
    }

    fn ring_of(&mut self, handle: Handle) -> &mut Ring {
        // Slots are numbered by the rings that have them.
        &mut self.rings[(handle.index / self.table) as usize]
    }

    /// Tries an accept that must not wait: kernels that do not know the flag refuse it.
    fn probe_accept(&mut self) -> Result<(), FallbackReason> {
        let step = |error: io::Error| FallbackReason::of_step("probing ACCEPT", &error);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(step)?;
        self.prepare_accept(0, listener.as_raw_fd(), 0, Tag::plain(Kind::Ignore, 0, 0));
        // The completion is awaited here.
        let ring = &mut self.rings[0];
        let submitted = ring.enter(1);
        ring.borrowed -= 1;
        submitted.map_err(step)?;
        ring.take_completions(&mut self.completed);
        let result = self.completed.drain(..).next().map_or(0, |entry| entry.result());
        match -result {
            libc::EAGAIN => Ok(()),
            libc::EINVAL => Err(FallbackReason::Missing("ACCEPT that does not wait (Linux 6.10)")),
            code => Err(FallbackReason::Failed("probing ACCEPT", code)),
        }
    }
}

// Submitting and completing.

impl Uring {
    /// Submits what the ring has prepared, and deals with what has completed.
    fn turn(&mut self, core: &mut Core, ring: usize, want: u32) {
        if let Err(error) = self.rings[ring].enter(want) {
            match error.raw_os_error() {
                // Interrupted, short of memory, or completions must be taken first: the loop comes again.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                _ => give_up(&error),
            }
        }
        self.drain(core, ring);
    }

    /// Submits, and returns when nothing in the kernel refers to memory of ours.
    fn settle(&mut self, core: &mut Core) {
        for ring in 0..self.rings.len() {
            while self.rings[ring].borrowed > 0 {
                self.turn(core, ring, 1);
                self.late += u64::from(self.rings[ring].borrowed > 0);
            }
        }
    }

    fn drain(&mut self, core: &mut Core, ring: usize) {
        let mut completed = std::mem::take(&mut self.completed);
        self.rings[ring].take_completions(&mut completed);
        for entry in completed.drain(..) {
            self.dispatch(core, ring, Tag(entry.user_data()), entry.result(), entry.flags());
        }
        self.completed = completed;
    }

    fn dispatch(&mut self, core: &mut Core, ring: usize, tag: Tag, result: i32, flags: u32) {
        match tag.kind() {
            Kind::Ignore => {}
            Kind::PollIn => self.polled_in(core, tag.handle(), result, cqueue::more(flags)),
            Kind::PollOut => self.polled_out(core, tag.handle(), result),
            Kind::Receive => {
                self.rings[ring].borrowed -= 1;
                self.received(core, tag.buffer(), result, cqueue::sock_nonempty(flags));
            }
            Kind::Send => {
                self.rings[ring].borrowed -= 1;
                self.send_results[tag.handle().index as usize] = result;
            }
            Kind::Accept => {
                self.rings[ring].borrowed -= 1;
                self.accepted(core, (ring, tag.buffer()), tag.handle().index, result);
            }
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
                self.rings[ring].borrowed -= 1;
                self.adopt_result = result;
            }
            Kind::Arrived => self.arrived(core, ring, tag.token(), result),
            Kind::Wake => self.is_waker_watched &= cqueue::more(flags),
        }
    }

    /// Prepares an operation of a slot; its completion is counted.
    fn push_for(&mut self, core: &mut Core, handle: Handle, kind: Kind, entry: Entry) {
        if let Some(hot) = core.slab.get(handle) {
            hot.flags.operation_began();
            self.ring_of(handle).push(entry, Tag::new(kind, 0, handle));
        }
    }

    /// One operation of the slot is over. The last one lets a close or departure go on.
    fn completed_one(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        hot.flags.operation_ended();
        if hot.flags.has_operations() || !hot.flags.has(Flags::CANCELLED) {
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
                let cancel = opcode::AsyncCancel::new(poll.0).build();
                self.ring_of(handle).push(cancel, Tag::plain(Kind::Ignore, 0, 0));
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
        let entry = opcode::PollAdd::new(self.fixed(handle), mask).multi(true).build();
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
        let entry = opcode::PollAdd::new(self.fixed(handle), libc::POLLOUT as u32).build();
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
            // Reading finds out what it is. Not `out_failed`: sends that are being prepared may name the slot's tail.
            Err(_) => core.readable(handle, false, true),
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
            let place = self.fixed(handle);
            let read = self.reads[usize::from(number)].insert(Read { handle, buf, start });
            let space = &mut read.buf.space()[start..];
            let entry = opcode::Recv::new(place, space.as_mut_ptr(), space.len() as u32)
                .flags(libc::MSG_DONTWAIT)
                .build();
            // SAFETY: the buffer stays in `self.reads`, where only its completion takes it from.
            unsafe { self.ring_of(handle).push_borrowing(entry, Tag::new(Kind::Receive, number, handle)) };
            count += 1;
        }
        count
    }
}

// Connections coming in.

impl Uring {
    /// Prepares an accept into the table of `ring`.
    fn prepare_accept(&mut self, ring: usize, listener: RawFd, number: usize, tag: Tag) {
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
        unsafe { self.rings[ring].push_borrowing(entry, tag) };
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
        for range in &ranges {
            // SAFETY: all-zero bytes are a valid msghdr.
            let mut message: libc::msghdr = unsafe { zeroed() };
            message.msg_iovlen = range.len() as _;
            message.msg_iov = self.iovecs[range.clone()].as_mut_ptr();
            self.messages.push(message);
        }
        for (number, (job, range)) in jobs.iter().zip(ranges).enumerate() {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let socket = self.fixed(job.handle);
            let entry = match self.iovecs[range] {
                // Nearly always: a plain send spares the kernel the copy of a header and a list.
                [piece] => {
                    let (bytes, len) = (piece.iov_base.cast_const().cast(), piece.iov_len as u32);
                    opcode::Send::new(socket, bytes, len).flags(flags).build()
                }
                _ => {
                    let message = &raw const self.messages[number];
                    opcode::SendMsg::new(socket, message).flags(flags as u32).build()
                }
            };
            // SAFETY: `iovecs` and `messages` are not touched before the next round, and what they point to is as said
            // above.
            unsafe {
                self.ring_of(job.handle).push_borrowing(entry, Tag::plain(Kind::Send, 0, number as u32));
            };
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
        let number = self.listeners.len() as u32;
        self.listeners.push(Listener { id, number, fd, ready: true });
        self.commit(core);
        Ok(())
    }

    fn stop_listening(&mut self, core: &mut Core) {
        for listener in std::mem::take(&mut self.listeners) {
            let poll = Tag::plain(Kind::Listen, 0, listener.id);
            self.rings[0].push(opcode::AsyncCancel::new(poll.0).build(), Tag::plain(Kind::Ignore, 0, 0));
            // The poll must be gone before the descriptor, or it would keep the port open.
            self.commit(core);
        }
    }

    fn adopt(&mut self, core: &mut Core, fd: OwnedFd, table: u32) -> io::Result<Handle> {
        self.adopting[0] = fd.as_raw_fd();
        let entry = opcode::FilesUpdate::new(self.adopting.as_ptr(), 1).offset(INDEX_ALLOC).build();
        // SAFETY: the box lives as long as `self`, and is read after `settle`.
        unsafe { self.rings[table as usize].push_borrowing(entry, Tag::plain(Kind::Adopt, 0, 0)) };
        self.settle(core);
        // The result counts descriptors; the index stands where the descriptor was.
        if outcome(self.adopt_result)? != 1 {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let index = outcome(self.adopting[0])?;
        let index = self.slot_index(table as usize, index);
        self.occupy(core, index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENFILE))
    }

    fn reap(&mut self, core: &mut Core) {
        /// Deferred work that keeps coming is left to the next turn.
        const ROUNDS: usize = 8;
        for ring in 0..self.rings.len() {
            let mut rounds = 0;
            while rounds < ROUNDS && (self.rings[ring].needs_a_call() || self.rings[ring].has_prepared()) {
                self.turn(core, ring, 0);
                rounds += 1;
            }
            if rounds == 0 {
                self.drain(core, ring);
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
            let later = jobs.split_off(jobs.len().min(SENDS));
            self.send_round(core, &mut jobs);
            jobs.extend(later);
        }
    }

    fn shutdown_write(&mut self, core: &mut Core, handle: Handle) {
        let entry = opcode::Shutdown::new(self.fixed(handle), libc::SHUT_WR).build();
        self.push_for(core, handle, Kind::Shutdown, entry);
    }

    fn close(&mut self, core: &mut Core, handle: Handle) {
        core.drop_tail(handle);
        self.cancel_polls(core, handle);
        let Some(hot) = core.slab.get(handle) else { return };
        if hot.flags.has_operations() {
            return;
        }
        if hot.flags.has(Flags::ABORT) && hot.flags.raise(Flags::LINGER_SENT) {
            let value = (&raw const sys::LINGER_ZERO).cast();
            let length = size_of::<libc::linger>() as u32;
            let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
            // The value is a static: no memory of ours that could go away.
            let entry = opcode::SetSockOpt::new(self.fixed(handle), level, name, value, length).build();
            return self.push_for(core, handle, Kind::Linger, entry);
        }
        self.close_descriptor(core, handle);
    }

    fn leave(&mut self, core: &mut Core, handle: Handle) {
        let Some(how) = core.departure(handle) else { return };
        self.cancel_polls(core, handle);
        if core.slab.get(handle).is_none_or(|hot| hot.flags.has_operations()) {
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
        for ring in 0..self.rings.len() {
            while self.rings[ring].has_prepared() {
                self.turn(core, ring, 0);
            }
        }
    }

    fn arm_timer(&mut self, _core: &mut Core, deadline: Instant) {
        if self.timer_at.is_some_and(|armed| armed <= deadline) {
            return;
        }
        if self.timer_at.is_some() {
            let old = Tag::plain(Kind::Timer, 0, self.timer_id);
            self.rings[0].push(opcode::TimeoutRemove::new(old.0).build(), Tag::plain(Kind::Ignore, 0, 0));
        }
        self.timer_id = self.timer_id.wrapping_add(1);
        self.timer_at = Some(deadline);
        *self.timespec = Timespec::from(deadline.saturating_duration_since(Instant::now()));
        let entry = opcode::Timeout::new(&raw const *self.timespec).build();
        self.rings[0].push(entry, Tag::plain(Kind::Timer, 0, self.timer_id));
    }

    fn sleep(&mut self) -> bool {
        let [ring] = self.rings.as_mut_slice() else { return false };
        if !std::mem::replace(&mut self.is_waker_watched, true) {
            let eventfd = Fd(self.eventfd.as_raw_fd());
            let poll = opcode::PollAdd::new(eventfd, libc::POLLIN as u32).multi(true).build();
            ring.push(poll, Tag::plain(Kind::Wake, 0, 0));
        }
        match ring.enter(1) {
            Ok(()) => {}
            // Interrupted, or completions must be taken first.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(error) => give_up(&error),
        }
        true
    }

    fn before_sleep(&mut self) -> bool {
        self.rings.iter_mut().for_each(Ring::rouse_on_completion);
        // Between "signals are on" and the look for what came before: the kernel does the reverse.
        fence(Ordering::SeqCst);
        self.slept = self.rings.iter_mut().all(Ring::is_idle);
        self.slept
    }

    fn after_sleep(&mut self) {
        if std::mem::take(&mut self.slept) {
            sys::eventfd_clear(self.eventfd.as_fd());
        }
        self.rings.iter_mut().for_each(Ring::be_quiet);
    }

    fn late_completions(&self) -> u64 {
        self.late
    }

    fn wait_fd(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }
}

/// Slots of ring `number`: as many as all the rings before it, or what remains.
fn table_size(table: u32, slots: u32, number: u32) -> u32 {
    table.min(slots - number * table)
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

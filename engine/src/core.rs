//! What both backends share: slots, queues of work, output accounting, and the rules of a connection's life.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Instant;

use crate::buffers::{BufferPool, ReadBuf};
use crate::config::{ACCEPT_BACKOFF, Config, DriverInUse, READ_ROOM_MIN, TurnBudget};
use crate::door::Door;
use crate::event::{Cause, Event, Pressure};
use crate::output::{Job, Output, Piece, Refused, Segment, Source};
use crate::slab::Slab;
use crate::slot::{Flags, Handle, Hot, Leaving, NO_TURN, Slot};

/// One system interface. The calls come in the order of a turn: `reap`, `accept`, `read`, then the owner's
/// commands, then `send` and the rest, then `commit`.
pub(crate) trait Backend {
    /// Which one it is.
    fn driver(&self) -> DriverInUse;
    /// Starts to watch a listener; it is non-blocking.
    fn listen(&mut self, core: &mut Core, listener: std::os::fd::OwnedFd) -> io::Result<()>;
    /// Closes the listeners.
    fn stop_listening(&mut self, core: &mut Core);
    /// Takes a non-blocking socket in; the caller holds a reservation, also when this fails.
    fn adopt(&mut self, core: &mut Core, fd: std::os::fd::OwnedFd) -> io::Result<Handle>;
    /// Learns what is ready, without waiting.
    fn reap(&mut self, core: &mut Core);
    /// Accepts from listeners that are ready.
    fn accept(&mut self, core: &mut Core);
    /// True when `accept` has something to try.
    fn can_accept(&self) -> bool;
    /// Tries the listeners again after a pause.
    fn retry_accept(&mut self);
    /// Reads from slots that are ready.
    fn read(&mut self, core: &mut Core);
    /// Sends, one call per job and round; no borrowed byte is used after it returns.
    fn send(&mut self, core: &mut Core, jobs: Vec<Job>);
    /// Sends FIN.
    fn shutdown_write(&mut self, core: &mut Core, handle: Handle);
    /// Ends every operation of the slot, closes its socket and vacates it.
    fn close(&mut self, core: &mut Core, handle: Handle);
    /// Begins what `Cold::leaving` says; nothing is queued for the slot any more.
    fn leave(&mut self, core: &mut Core, handle: Handle);
    /// Undoes `leave` as far as it went, so that the slot is watched again.
    fn stay(&mut self, core: &mut Core, handle: Handle);
    /// Hands everything prepared to the kernel.
    fn commit(&mut self, core: &mut Core);
    /// Makes the wait end at `deadline`.
    fn arm_timer(&mut self, core: &mut Core, deadline: Instant);
    /// Last look before sleeping; false when there is something to reap.
    fn before_sleep(&mut self) -> bool;
    /// After sleeping.
    fn after_sleep(&mut self);
    /// How often a call returned while an operation it submitted still used memory of ours. Expected to stay 0.
    fn late_completions(&self) -> u64;
    /// A descriptor of its own that is readable when there is something to reap.
    fn wait_fd(&self) -> io::Result<std::os::fd::OwnedFd>;
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) slab: Slab,
    pub(crate) pool: BufferPool,
    pub(crate) out: Output,
    pub(crate) door: Door,
    pub(crate) budget: TurnBudget,
    events: VecDeque<(Option<Handle>, Event)>,
    ready: VecDeque<Handle>,
    writable: Vec<Handle>,
    /// Slots whose FIN, departure or close is due.
    pub(crate) fins: Vec<Handle>,
    pub(crate) leaving: Vec<Handle>,
    pub(crate) closing: Vec<Handle>,
    tail_bytes: usize,
    accept_after: Option<Instant>,
    pressed: bool,
    pieces: Vec<u8>,
}

impl Core {
    pub(crate) fn new(config: Config, door: Door) -> Core {
        Core {
            slab: Slab::new(config.slots_max),
            pool: BufferPool::new(config.read_buffer, config.read_buffers),
            out: Output::default(),
            budget: TurnBudget::new(&config),
            door,
            config,
            events: VecDeque::new(),
            ready: VecDeque::new(),
            writable: Vec::new(),
            fins: Vec::new(),
            leaving: Vec::new(),
            closing: Vec::new(),
            tail_bytes: 0,
            accept_after: None,
            pressed: false,
            pieces: Vec::new(),
        }
    }

    // Events.

    pub(crate) fn tell(&mut self, handle: Handle, event: Event) {
        self.events.push_back((Some(handle), event));
    }

    pub(crate) fn tell_all(&mut self, event: Event) {
        self.events.push_back((None, event));
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let (about, event) = self.events.pop_front()?;
        if let (Some(handle), Event::Accepted { .. } | Event::Arrived { .. }) = (about, &event) {
            if let Some(hot) = self.slab.get(handle) {
                hot.flags.clear(Flags::NEW);
            }
            self.wake_reader(handle);
        }
        Some(event)
    }

    /// Announces a connection; it is read from when the owner has taken the event.
    pub(crate) fn announce(&mut self, handle: Handle, event: Event) {
        if let Some(hot) = self.slab.get(handle) {
            hot.flags.set(Flags::NEW);
        }
        self.tell(handle, event);
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.events.is_empty()
            || (!self.ready.is_empty() && !self.pool.is_empty())
            || !self.writable.is_empty()
            || !self.fins.is_empty()
            || !self.leaving.is_empty()
            || !self.closing.is_empty()
            || !self.out.is_empty()
            || self.door.has_parcels()
    }

    // Accepting.

    /// A connection was taken from a listener, with a reservation.
    pub(crate) fn accepted(&mut self, handle: Handle, peer: SocketAddr) {
        self.announce(handle, Event::Accepted { slot: handle.slot(), peer });
    }

    /// Nobody waits to be accepted any more.
    pub(crate) fn backlog_empty(&mut self) {
        self.pressed = false;
    }

    /// Stops accepting for a while and says so once, until the backlog was empty in between.
    pub(crate) fn press(&mut self, of: Pressure) {
        self.accept_after = Some(Instant::now() + ACCEPT_BACKOFF);
        if !std::mem::replace(&mut self.pressed, true) {
            self.tell_all(Event::Pressure { of });
        }
    }

    /// Sorts an accept's error; true: go on with the next connection.
    pub(crate) fn accept_error(&mut self, error: io::Error) -> bool {
        if let Some(of) = Pressure::of(&error) {
            self.press(of);
            return false;
        }
        // accept(2), "Error handling": these belong to the connection that was lost, not to the listener.
        let passing = [
            libc::ECONNABORTED,
            libc::EINTR,
            libc::EPROTO,
            libc::ENETDOWN,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::ENONET,
            libc::EHOSTUNREACH,
            libc::EOPNOTSUPP,
            libc::ENETUNREACH,
            libc::EPERM,
            libc::ETIMEDOUT,
        ];
        if error.raw_os_error().is_some_and(|code| passing.contains(&code)) {
            return true;
        }
        self.accept_after = Some(Instant::now() + ACCEPT_BACKOFF);
        self.tell_all(Event::AcceptFailed { error });
        false
    }

    pub(crate) fn is_backing_off(&self) -> bool {
        self.accept_after.is_some()
    }

    pub(crate) fn accept_after(&self) -> Option<Instant> {
        self.accept_after
    }

    pub(crate) fn end_backoff(&mut self) {
        self.accept_after = None;
    }

    // Reading.

    /// The kernel says that there is something to read.
    pub(crate) fn readable(&mut self, handle: Handle, hangup: bool, error: bool) {
        let Some(hot) = self.slab.get(handle) else { return };
        let over = Flags::CLOSING | Flags::FAILED | Flags::REFUSED;
        if hot.flags.has(over) || (hot.flags.has(Flags::EOF) && !error) {
            return;
        }
        if hangup || error {
            hot.flags.set(Flags::HANGUP);
        }
        if hot.flags.has(Flags::PAUSED | Flags::LEAVING | Flags::NEW) {
            hot.flags.set(Flags::PENDING);
        } else if hot.flags.raise(Flags::READY) {
            self.ready.push_back(handle);
        }
    }

    /// The next slot to read from, with a buffer; bytes up to `start` of it are kept from before.
    pub(crate) fn start_read(&mut self) -> Option<(Handle, ReadBuf, usize)> {
        while let Some(&handle) = self.ready.front() {
            let Some(hot) = self.slab.get(handle) else {
                self.ready.pop_front();
                continue;
            };
            let unread = Flags::CLOSING | Flags::FAILED | Flags::REFUSED | Flags::PAUSED | Flags::LEAVING;
            if hot.flags.has(unread) {
                hot.flags.clear(Flags::READY);
                hot.flags.set(Flags::PENDING);
                self.ready.pop_front();
                continue;
            }
            let mut buf = self.pool.rent()?;
            if !self.budget.read() {
                return None;
            }
            self.ready.pop_front();
            hot.flags.clear(Flags::READY);
            let carry = hot.cold.as_mut().map(|cold| std::mem::take(&mut cold.carry)).unwrap_or_default();
            buf.space()[..carry.len()].copy_from_slice(&carry);
            return Some((handle, buf, carry.len()));
        }
        None
    }

    /// A read returned. `more`: the kernel knows that further bytes wait.
    pub(crate) fn finish_read(
        &mut self,
        handle: Handle,
        buf: ReadBuf,
        start: usize,
        result: io::Result<usize>,
        more: bool,
    ) {
        let size = self.pool.size();
        let Some(hot) = self.slab.get(handle) else { return };
        let failure = hot.failure;
        let received = match result {
            Ok(received) => received,
            Err(error) => {
                // The bytes in front of the read are those of a partial record: they wait on.
                if start > 0 {
                    hot.cold().carry = buf_head(buf, start);
                }
                return match error.kind() {
                    io::ErrorKind::Interrupted => self.readable(handle, false, false),
                    io::ErrorKind::WouldBlock => {
                        if let Some(cause) = failure {
                            self.end(handle, cause);
                        }
                    }
                    _ => self.end(handle, Cause::of(&error)),
                };
            }
        };
        if received == 0 {
            return self.end(handle, failure.unwrap_or(Cause::Eof));
        }
        let again = more || start + received == size || hot.flags.has(Flags::HANGUP) || failure.is_some();
        if again && hot.flags.raise(Flags::READY) {
            self.ready.push_back(handle);
        }
        self.deliver(handle, buf, start + received);
    }

    fn deliver(&mut self, handle: Handle, mut buf: ReadBuf, len: usize) {
        let Some(hot) = self.slab.get(handle) else { return };
        let transform = hot.cold.as_mut().and_then(|cold| cold.transform.take());
        let Some(mut transform) = transform else {
            buf.set_len(len);
            return self.tell(handle, Event::Data { slot: handle.slot(), buf });
        };
        let mut reply = Vec::new();
        let step = transform.inbound(&mut buf.space()[..len], &mut reply);
        if let Some(hot) = self.slab.get(handle) {
            hot.cold().transform = Some(transform);
        }
        if !reply.is_empty() {
            self.queue_wire(handle, &reply);
        }
        let room = buf.space().len() - READ_ROOM_MIN;
        match step {
            Ok(step)
                if step.plain <= step.consumed && step.consumed <= len && len - step.consumed <= room =>
            {
                if step.consumed < len
                    && let Some(hot) = self.slab.get(handle)
                {
                    hot.cold().carry = buf.space()[step.consumed..len].to_vec();
                }
                if step.plain > 0 {
                    buf.set_len(step.plain);
                    self.tell(handle, Event::Data { slot: handle.slot(), buf });
                }
            }
            _ => self.refuse_input(handle),
        }
    }

    /// The transform refused the peer's bytes: nothing is read any more, but its alert still leaves.
    fn refuse_input(&mut self, handle: Handle) {
        let Some(hot) = self.slab.get(handle) else { return };
        if hot.flags.raise(Flags::REFUSED) {
            let cause = Cause::Io(io::ErrorKind::InvalidData);
            self.tell(handle, Event::Ended { slot: handle.slot(), cause });
        }
    }

    /// Says once that input ended.
    fn end(&mut self, handle: Handle, cause: Cause) {
        let Some(hot) = self.slab.get(handle) else { return };
        let bit = if cause == Cause::Eof { Flags::EOF } else { Flags::FAILED };
        if hot.flags.has(Flags::FAILED) || !hot.flags.raise(bit) {
            return;
        }
        hot.flags.clear(Flags::HANGUP);
        if bit == Flags::FAILED && hot.failure.is_none() {
            self.drop_tail(handle);
        }
        self.tell(handle, Event::Ended { slot: handle.slot(), cause });
    }

    pub(crate) fn pause(&mut self, slot: Slot) {
        if let Some((_, hot)) = self.slab.open(slot) {
            hot.flags.set(Flags::PAUSED);
            if hot.flags.has(Flags::READY) {
                hot.flags.set(Flags::PENDING);
            }
        }
    }

    pub(crate) fn resume(&mut self, slot: Slot) {
        let Some((handle, hot)) = self.slab.open(slot) else { return };
        hot.flags.clear(Flags::PAUSED);
        self.wake_reader(handle);
    }

    /// Reads again what became readable while reading was off.
    pub(crate) fn wake_reader(&mut self, handle: Handle) {
        let Some(hot) = self.slab.get(handle) else { return };
        if hot.flags.has(Flags::PENDING) && !hot.flags.has(Flags::PAUSED | Flags::LEAVING | Flags::NEW) {
            hot.flags.clear(Flags::PENDING);
            if hot.flags.raise(Flags::READY) {
                self.ready.push_back(handle);
            }
        }
    }

    // Sending.

    pub(crate) fn send(&mut self, slot: Slot, segment: Segment) -> Result<(), Refused> {
        if !self.out.in_range(&segment) {
            return Err(Refused::OutOfRange);
        }
        let Some((handle, hot)) = self.slab.open(slot) else { return Err(Refused::Ended) };
        if hot.flags.has(Flags::FAILED | Flags::OUT_DEAD | Flags::FIN_WANTED | Flags::LEAVING) {
            return Err(Refused::Ended);
        }
        let len = segment.len();
        if len == 0 {
            return Ok(());
        }
        if hot.tail_bytes() + self.out.bytes(hot.turn) + len > self.config.slot_out_max {
            return Err(Refused::SlotFull);
        }
        if hot.flags.has(Flags::BLOCKED) {
            if self.tail_bytes + len > self.config.thread_out_max {
                return Err(Refused::ThreadFull);
            }
            self.push_to_tail(handle, &segment);
            return Ok(());
        }
        let piece = match segment {
            Segment::Arena(range) => Piece::Arena(range.start as usize..range.end as usize),
            Segment::Shared(bytes, range) => Piece::Shared(bytes, range.start as usize..range.end as usize),
        };
        hot.turn = self.out.push(handle, hot.turn, piece);
        Ok(())
    }

    fn push_to_tail(&mut self, handle: Handle, segment: &Segment) {
        let Some(hot) = self.slab.get(handle) else { return };
        let cold = hot.cold();
        let before = cold.tail.bytes();
        match (segment, &mut cold.transform) {
            (Segment::Arena(range), None) => {
                cold.tail.push_bytes(&self.out.arena[range.start as usize..range.end as usize]);
            }
            (Segment::Shared(bytes, range), None) => {
                cold.tail.push_shared(bytes, range.start as usize..range.end as usize);
            }
            (segment, Some(transform)) => {
                let plain = match segment {
                    Segment::Arena(range) => &self.out.arena[range.start as usize..range.end as usize],
                    Segment::Shared(bytes, range) => &bytes[range.start as usize..range.end as usize],
                };
                self.pieces.clear();
                transform.outbound(&[IoSlice::new(plain)], &mut self.pieces);
                cold.tail.push_bytes(&self.pieces);
            }
        }
        self.tail_bytes += cold.tail.bytes() - before;
    }

    /// Queues bytes that need no transform any more, behind what is queued.
    fn queue_wire(&mut self, handle: Handle, wire: &[u8]) {
        let Some(hot) = self.slab.get(handle) else { return };
        if hot.flags.has(Flags::FAILED | Flags::OUT_DEAD) || wire.is_empty() {
            return;
        }
        if hot.flags.has(Flags::BLOCKED) {
            hot.cold().tail.push_bytes(wire);
            self.tail_bytes += wire.len();
            return;
        }
        let turn = hot.turn;
        if turn != NO_TURN {
            self.seal(handle, turn);
        }
        let start = self.out.wire.len();
        self.out.wire.extend_from_slice(wire);
        let piece = Piece::Wire(start..self.out.wire.len());
        if let Some(hot) = self.slab.get(handle) {
            hot.turn = self.out.push(handle, turn, piece);
        }
    }

    /// Puts what a slot queued this turn through its transform.
    fn seal(&mut self, handle: Handle, turn: u32) {
        let Some(hot) = self.slab.get(handle) else { return };
        let Some(cold) = hot.cold.as_mut() else { return };
        let Some(transform) = cold.transform.as_mut() else { return };
        if self.out.is_wire(turn) {
            return;
        }
        let mut wire = std::mem::take(&mut self.out.wire);
        let start = wire.len();
        let mut plain = Vec::new();
        for piece in self.out.pieces(turn) {
            match piece {
                // Replies are queued in front of the owner's first send of a turn: sealed pieces come first.
                Piece::Wire(range) => wire.extend_from_within(range.clone()),
                piece => plain.push(IoSlice::new(self.out.slice(piece))),
            }
        }
        transform.outbound(&plain, &mut wire);
        let end = wire.len();
        self.out.wire = wire;
        self.out.replace(turn, start..end);
    }

    pub(crate) fn finish_writing(&mut self, slot: Slot) {
        let Some((handle, hot)) = self.slab.open(slot) else { return };
        if hot.flags.has(Flags::FIN_WANTED | Flags::FAILED | Flags::OUT_DEAD | Flags::LEAVING) {
            return;
        }
        if let Some(transform) = hot.cold.as_mut().and_then(|cold| cold.transform.as_mut()) {
            let mut last = Vec::new();
            transform.finish(&mut last);
            self.queue_wire(handle, &last);
        }
        if let Some(hot) = self.slab.get(handle) {
            hot.flags.set(Flags::FIN_WANTED);
            self.fins.push(handle);
        }
    }

    /// The kernel says that a blocked socket takes bytes again.
    pub(crate) fn writable(&mut self, handle: Handle) {
        let Some(hot) = self.slab.get(handle) else { return };
        if hot.flags.has(Flags::BLOCKED) && !hot.flags.has(Flags::CLOSING) && hot.flags.raise(Flags::WRITABLE)
        {
            self.writable.push(handle);
        }
    }

    /// What this flush has to send.
    pub(crate) fn jobs(&mut self) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.writable.len());
        for handle in std::mem::take(&mut self.writable) {
            let Some(hot) = self.slab.get(handle) else { continue };
            hot.flags.clear(Flags::WRITABLE);
            if hot.flags.has(Flags::BLOCKED) {
                jobs.push(Job { handle, source: Source::Tail, offset: 0, asked: 0 });
            }
        }
        let queued: Vec<(u32, Handle, usize)> = self.out.queued().collect();
        for (turn, handle, _) in queued {
            let Some(hot) = self.slab.get(handle) else { continue };
            hot.turn = NO_TURN;
            if hot.flags.has(Flags::FAILED | Flags::OUT_DEAD) {
                continue;
            }
            if hot.has_transform() {
                self.seal(handle, turn);
            }
            jobs.push(Job { handle, source: Source::Turn(turn), offset: 0, asked: 0 });
        }
        jobs
    }

    /// A send returned; true: there is more that could not go into one call.
    pub(crate) fn sent(&mut self, job: &mut Job, result: io::Result<usize>) -> bool {
        let count = match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.out_failed(job.handle, Cause::of(&error));
                return false;
            }
        };
        let took_all = count == job.asked;
        match job.source {
            Source::Tail => self.tail_sent(job.handle, count, took_all),
            Source::Turn(turn) => {
                job.offset += count;
                let left = self.out.bytes(turn).saturating_sub(job.offset);
                if left > 0 && !took_all {
                    self.keep_tail(job.handle, turn, job.offset);
                }
                left > 0 && took_all
            }
        }
    }

    fn tail_sent(&mut self, handle: Handle, count: usize, took_all: bool) -> bool {
        let Some(hot) = self.slab.get(handle) else { return false };
        let Some(cold) = hot.cold.as_mut() else { return false };
        cold.tail.advance(count);
        self.tail_bytes -= count;
        if !cold.tail.is_empty() {
            return took_all;
        }
        hot.flags.clear(Flags::BLOCKED | Flags::OVERFLOW);
        let (fin, leaving) = (hot.flags.has(Flags::FIN_WANTED), hot.flags.has(Flags::LEAVING));
        hot.trim();
        self.tell(handle, Event::Drained { slot: handle.slot() });
        if fin {
            self.fins.push(handle);
        }
        if leaving {
            self.leaving.push(handle);
        }
        false
    }

    /// Keeps what the socket did not take of a turn's output.
    fn keep_tail(&mut self, handle: Handle, turn: u32, offset: usize) {
        let Some(hot) = self.slab.get(handle) else { return };
        hot.flags.set(Flags::BLOCKED);
        let cold = hot.cold.get_or_insert_with(Box::default);
        let before = cold.tail.bytes();
        let out = &self.out;
        out.rest(turn, offset, |piece, range| match piece {
            Piece::Arena(_) => cold.tail.push_bytes(&out.arena[range]),
            Piece::Wire(_) => cold.tail.push_bytes(&out.wire[range]),
            Piece::Shared(bytes, _) => cold.tail.push_shared(bytes, range),
        });
        self.tail_bytes += cold.tail.bytes() - before;
        let over =
            self.tail_bytes > self.config.thread_out_max || cold.tail.bytes() > self.config.slot_out_max;
        if over && hot.flags.raise(Flags::OVERFLOW) {
            self.tell(handle, Event::Overflow { slot: handle.slot() });
        }
    }

    /// Sending is over. What the peer sent before is still read, then `Ended` follows with the cause.
    pub(crate) fn out_failed(&mut self, handle: Handle, cause: Cause) {
        self.drop_tail(handle);
        let Some(hot) = self.slab.get(handle) else { return };
        if !hot.flags.raise(Flags::OUT_DEAD) {
            return;
        }
        hot.failure = Some(cause);
        let read_first = !hot.flags.has(Flags::PAUSED | Flags::EOF | Flags::REFUSED);
        if hot.flags.has(Flags::LEAVING) {
            hot.flags.set(Flags::PENDING);
            self.leaving.push(handle);
        } else if read_first {
            if hot.flags.raise(Flags::READY) {
                self.ready.push_back(handle);
            }
        } else {
            self.end(handle, cause);
        }
    }

    pub(crate) fn drop_tail(&mut self, handle: Handle) {
        let Some(hot) = self.slab.get(handle) else { return };
        hot.flags.clear(Flags::BLOCKED | Flags::OVERFLOW);
        if let Some(cold) = hot.cold.as_mut() {
            self.tail_bytes -= cold.tail.clear();
        }
        hot.trim();
    }

    pub(crate) fn backlog(&self, slot: Slot) -> usize {
        self.slab.peek(slot).map_or(0, |hot| hot.tail_bytes() + self.out.bytes(hot.turn))
    }

    pub(crate) fn thread_backlog(&self) -> usize {
        self.tail_bytes
    }

    // Ending.

    /// The owner gives the slot back: no event of it any more. What this turn queued is offered to the socket once.
    pub(crate) fn give_back(&mut self, slot: Slot, abort: bool) {
        let Some((handle, hot)) = self.slab.open(slot) else { return };
        hot.flags.set(Flags::CLOSING);
        if abort {
            hot.flags.set(Flags::ABORT);
        }
        self.closing.push(handle);
        if !self.events.is_empty() {
            self.events.retain(|(about, _)| *about != Some(handle));
        }
    }

    /// The socket is closed or gone: the slot can be used again.
    pub(crate) fn vacate(&mut self, handle: Handle) {
        if self.slab.get(handle).is_none() {
            return;
        }
        self.drop_tail(handle);
        self.slab.remove(handle);
        self.door.release();
        if self.pressed {
            self.accept_after = Some(Instant::now());
        }
    }

    pub(crate) fn start_leaving(&mut self, slot: Slot, how: Leaving) {
        let Some((handle, hot)) = self.slab.open(slot) else { return };
        if hot.flags.has(Flags::FAILED | Flags::LEAVING | Flags::FIN_WANTED) {
            let error = io::Error::from(io::ErrorKind::NotConnected);
            return self.tell(handle, failed_to_leave(slot, &how, error));
        }
        hot.flags.set(Flags::LEAVING);
        hot.cold().leaving = Some(how);
        self.leaving.push(handle);
    }

    /// What `leave` needs: where to, once nothing is queued for the slot.
    pub(crate) fn departure(&mut self, handle: Handle) -> Option<Leaving> {
        let hot = self.slab.get(handle)?;
        if hot.flags.has(Flags::BLOCKED | Flags::CLOSING) || !hot.flags.has(Flags::LEAVING) {
            return None;
        }
        hot.cold.as_ref()?.leaving.clone()
    }

    /// The slot stays: tells why and reads again.
    pub(crate) fn stayed(&mut self, handle: Handle, error: io::Error) {
        let Some(hot) = self.slab.get(handle) else { return };
        hot.flags.clear(Flags::LEAVING);
        let how = hot.cold.as_mut().and_then(|cold| cold.leaving.take());
        hot.trim();
        if let Some(how) = how {
            self.tell(handle, failed_to_leave(handle.slot(), &how, error));
        }
        if let Some(hot) = self.slab.get(handle) {
            hot.flags.set(Flags::PENDING);
        }
        self.wake_reader(handle);
    }

    pub(crate) fn is_leaving_dead(&mut self, handle: Handle) -> bool {
        self.slab.get(handle).is_some_and(|hot: &mut Hot| hot.flags.has(Flags::OUT_DEAD))
    }
}

fn failed_to_leave(slot: Slot, how: &Leaving, error: io::Error) -> Event {
    match how {
        Leaving::Detach => Event::DetachFailed { slot, error },
        Leaving::Move { token, .. } => Event::MoveFailed { slot, token: *token, error },
    }
}

fn buf_head(mut buf: ReadBuf, len: usize) -> Vec<u8> {
    buf.space()[..len].to_vec()
}

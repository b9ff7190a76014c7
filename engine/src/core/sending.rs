//! From `send` to the socket: this turn's output, the tails, their bounds, and what a failed send means.

use std::io::{self, IoSlice};

use super::Core;
use crate::event::{Cause, Event};
use crate::output::{Job, Piece, Refused, Segment, Source};
use crate::slot::{Cold, Flags, Handle, NO_TURN, Slot};

/// Why a connection ends whose transform seals no more.
const UNSEALED: Cause = Cause::Io(io::ErrorKind::InvalidData);

impl Core {
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
        let Cold { tail, transform, carry, .. } = cold;
        let mut is_sealed = true;
        match (segment, transform) {
            (Segment::Arena(range), None) => {
                tail.push_bytes(&self.out.arena[range.start as usize..range.end as usize]);
            }
            (Segment::Shared(bytes, range), None) => {
                tail.push_shared(bytes, range.start as usize..range.end as usize);
            }
            (segment, Some(transform)) => {
                let plain = match segment {
                    Segment::Arena(range) => &self.out.arena[range.start as usize..range.end as usize],
                    Segment::Shared(bytes, range) => &bytes[range.start as usize..range.end as usize],
                };
                self.pieces.clear();
                is_sealed = transform.outbound(&[IoSlice::new(plain)], carry, &mut self.pieces).is_ok();
                tail.push_bytes(&self.pieces);
            }
        }
        self.tail_bytes += tail.bytes() - before;
        if !is_sealed {
            self.out_failed(handle, UNSEALED);
        }
    }

    /// Queues bytes that need no transform any more, behind what is queued.
    pub(super) fn queue_wire(&mut self, handle: Handle, wire: &[u8]) {
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

    /// The same as [`Self::seal`], for whatever a slot has queued this turn.
    pub(super) fn seal_queued(&mut self, handle: Handle) {
        let turn = self.slab.get(handle).map_or(NO_TURN, |hot| hot.turn);
        if turn != NO_TURN {
            self.seal(handle, turn);
        }
    }

    /// Puts what a slot queued this turn through its transform.
    fn seal(&mut self, handle: Handle, turn: u32) {
        let Some(hot) = self.slab.get(handle) else { return };
        let Some(cold) = hot.cold.as_mut() else { return };
        let Cold { transform: Some(transform), carry, .. } = &mut **cold else { return };
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
        let is_sealed = transform.outbound(&plain, carry, &mut wire).is_ok();
        let end = wire.len();
        self.out.wire = wire;
        self.out.replace(turn, start..end);
        if !is_sealed {
            self.out_failed(handle, UNSEALED);
        }
    }

    pub(crate) fn finish_writing(&mut self, slot: Slot) {
        let Some((handle, hot)) = self.slab.open(slot) else { return };
        if hot.flags.has(Flags::FIN_WANTED | Flags::FAILED | Flags::OUT_DEAD | Flags::LEAVING) {
            return;
        }
        self.queue_end(handle);
        if let Some(hot) = self.slab.get(handle) {
            hot.flags.set(Flags::FIN_WANTED);
            self.fins.push(handle);
        }
    }

    /// Queues what the transform says at the end, for a slot that is closed. A tail would be dropped, and the end be said before
    /// bytes that never come; what leaves is not ours to end.
    pub(super) fn say_end(&mut self, handle: Handle) {
        let silent = Flags::BLOCKED
            | Flags::FIN_WANTED
            | Flags::FAILED
            | Flags::OUT_DEAD
            | Flags::LEAVING
            | Flags::REFUSED
            | Flags::STEP_WAITS;
        if self.slab.get(handle).is_some_and(|hot| hot.has_transform() && !hot.flags.has(silent)) {
            self.queue_end(handle);
        }
    }

    fn queue_end(&mut self, handle: Handle) {
        // What is queued is sealed before the end is: the peer opens records in the order in which they were sealed.
        self.seal_queued(handle);
        let cold = self.slab.get(handle).and_then(|hot| hot.cold.as_mut());
        if let Some(Cold { transform: Some(transform), carry, .. }) = cold.map(|cold| &mut **cold) {
            let mut last = Vec::new();
            transform.finish(carry, &mut last);
            self.queue_wire(handle, &last);
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
        hot.cold().failure = Some(cause);
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
}

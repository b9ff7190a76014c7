//! From readiness to `Data`, through the transform where there is one, until input ends.

use std::io;

use super::Core;
use crate::buffers::ReadBuf;
use crate::config::READ_ROOM_MIN;
use crate::event::{Cause, Event};
use crate::slot::{Flags, Handle, Slot};
use crate::transform::Stage;

/// While one of these is set, what becomes readable waits in the socket.
const UNREAD: u32 = Flags::PAUSED | Flags::LEAVING | Flags::NEW | Flags::STEP_WAITS;

impl Core {
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
        if hot.flags.has(UNREAD) {
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
            if hot.flags.has(UNREAD | Flags::CLOSING | Flags::FAILED | Flags::REFUSED) {
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
        let failure = hot.failure();
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
        // What it answers is sealed while it reads, and has to leave behind what was queued before.
        self.seal_queued(handle);
        let Some(hot) = self.slab.get(handle) else { return };
        if !hot.has_transform() {
            buf.set_len(len);
            return self.tell(handle, Event::Data { slot: handle.slot(), buf });
        }
        if self.may_step_now(handle, &buf.space()[..len]) {
            self.transform(handle, buf, len);
        } else {
            self.let_step_wait(handle, buf.space()[..len].to_vec());
        }
    }

    /// Has the transform open what was received.
    pub(super) fn transform(&mut self, handle: Handle, mut buf: ReadBuf, len: usize) {
        let Some(hot) = self.slab.get(handle) else { return };
        let Some(mut transform) = hot.cold().transform.take() else { return };
        let was_opening = transform.stage() == Stage::Opening;
        let mut reply = Vec::new();
        let step = transform.inbound(&mut buf.space()[..len], &mut reply);
        let stage = transform.stage();
        if let Some(hot) = self.slab.get(handle) {
            hot.cold().transform = Some(transform);
        }
        if let (true, Stage::Open { is_resumed }) = (was_opening, stage) {
            self.tell(handle, Event::Opened { slot: handle.slot(), is_resumed });
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
                if step.is_end {
                    self.end(handle, Cause::Eof);
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
    pub(super) fn end(&mut self, handle: Handle, cause: Cause) {
        let Some(hot) = self.slab.get(handle) else { return };
        let bit = if cause == Cause::Eof { Flags::EOF } else { Flags::FAILED };
        if hot.flags.has(Flags::FAILED) || !hot.flags.raise(bit) {
            return;
        }
        hot.flags.clear(Flags::HANGUP);
        if bit == Flags::FAILED && hot.failure().is_none() {
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
        if hot.flags.has(Flags::PENDING) && !hot.flags.has(UNREAD) {
            hot.flags.clear(Flags::PENDING);
            if hot.flags.raise(Flags::READY) {
                self.ready.push_back(handle);
            }
        }
    }
}

fn buf_head(mut buf: ReadBuf, len: usize) -> Vec<u8> {
    buf.space()[..len].to_vec()
}

//! Sockets that come from listeners and from other engines.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Listener, Uring, outcome};
use crate::core::Core;
use crate::event::{Event, Pressure};
use crate::slot::{Flags, Handle};
use crate::sys;
use crate::tag::{Kind, Tag};

impl Listener {
    /// Accepts are about to be tried. A connection that comes after they found nobody, and before they are through, is told
    /// of among their outcomes, once: what it says must not be overwritten by theirs.
    fn begin_accepts(&mut self) {
        self.ready = false;
    }

    /// They are through; `is_empty` if they found nobody in the end.
    fn end_accepts(&mut self, is_empty: bool) {
        self.ready |= !is_empty;
    }
}

impl Uring {
    /// Tries `count` accepts in one call; false when the listener has to rest.
    pub(super) fn accept_some(&mut self, core: &mut Core, position: usize, count: usize) -> bool {
        let (fd, id) = (self.listeners[position].fd.as_raw_fd(), self.listeners[position].id);
        let mut tried = 0;
        while tried < count && core.budget.accept() {
            let Some(table) = core.door.reserve() else { break };
            self.prepare_accept(table as usize, fd, tried, Tag::plain(Kind::Accept, tried as u8, id));
            tried += 1;
        }
        self.accept_outcome = (0, false);
        self.listeners[position].begin_accepts();
        self.settle(core);
        let (taken, empty) = self.accept_outcome;
        let has_no_room = tried == 0 && core.door.free_slots() == 0;
        let is_empty = empty || (has_no_room && !sys::is_readable(self.listeners[position].fd.as_fd()));
        self.listeners[position].end_accepts(is_empty);
        if is_empty {
            core.backlog_empty();
        } else if has_no_room {
            core.press(Pressure::Slots);
        }
        !empty && taken == count
    }

    /// An accept into `ring`, the `number`th of its call, is through.
    pub(super) fn accepted(&mut self, core: &mut Core, (ring, number): (usize, usize), id: u32, result: i32) {
        match outcome(result) {
            Ok(index) => {
                let index = self.slot_index(ring, index);
                let peer = sys::socket_address(&self.addresses[number].storage);
                self.accept_outcome.0 += 1;
                let listener = self.listeners.iter().find(|listener| listener.id == id);
                let listener = listener.map_or(0, |listener| listener.number);
                match self.occupy(core, index) {
                    Some(handle) => core.accepted(handle, peer, listener),
                    None => core.door.release(ring as u32),
                }
            }
            Err(error) => {
                core.door.release(ring as u32);
                if error.kind() == io::ErrorKind::WouldBlock {
                    self.accept_outcome.1 = true;
                } else if core.accept_error(error) {
                    self.accept_outcome.0 += 1;
                }
            }
        }
    }

    /// The number of the slot at a place in the table of `ring`.
    pub(super) fn slot_index(&self, ring: usize, place: u32) -> u32 {
        ring as u32 * self.table + place
    }

    /// Takes the slot whose place the kernel has chosen, and watches it. `None`: the caller gives its reservation back.
    pub(super) fn occupy(&mut self, core: &mut Core, index: u32) -> Option<Handle> {
        if let Some(past) = core.slab.occupant(index)
            && core.slab.get(past).is_some_and(|hot| hot.flags.has(Flags::CLOSE_SENT))
        {
            // The number is free again in the kernel; only the completion of the close is still to come.
            core.vacate(past);
        }
        let handle = core.slab.insert_at(index);
        match handle {
            Some(handle) => self.poll_in(core, handle),
            None => {
                tracing::error!(index, "the kernel gave out a descriptor index that is in use");
            }
        }
        handle
    }

    pub(super) fn listener_ready(&mut self, id: u32, more: bool) {
        let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) else { return };
        listener.ready = true;
        if !more {
            let fd = listener.fd.as_raw_fd();
            self.watch_listener(fd, id);
        }
    }

    pub(super) fn watch_listener(&mut self, fd: RawFd, id: u32) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.rings[0].push(entry, Tag::plain(Kind::Listen, 0, id));
    }

    pub(super) fn arrived(&mut self, core: &mut Core, ring: usize, token: u64, result: i32) {
        match outcome(result) {
            Ok(index) => {
                let index = self.slot_index(ring, index);
                match self.occupy(core, index) {
                    Some(handle) => core.announce(handle, Event::Arrived { slot: handle.slot(), token }),
                    None => {
                        core.door.release(ring as u32);
                        let error = io::Error::from_raw_os_error(libc::ENFILE);
                        core.tell_all(Event::ArrivalFailed { token, error });
                    }
                }
            }
            Err(error) => {
                core.door.release(ring as u32);
                core.tell_all(Event::ArrivalFailed { token, error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_told_of_among_the_outcomes_of_accepts_is_not_forgotten() {
        let fd = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
        let mut listener = Listener { id: 1, number: 0, fd, ready: true };
        listener.begin_accepts();
        listener.end_accepts(true);
        assert!(!listener.ready, "nobody waits");
        for is_empty in [true, false] {
            listener.begin_accepts();
            // As `Uring::listener_ready` does when the completion comes.
            listener.ready = true;
            listener.end_accepts(is_empty);
            assert!(listener.ready);
        }
    }
}

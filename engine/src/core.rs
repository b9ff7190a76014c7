//! What both backends share: slots, queues of work, output accounting, and the rules of a connection's life.

mod reading;
mod sending;
mod steps;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use crate::buffers::BufferPool;
use crate::config::{ACCEPT_BACKOFF, Config, LIST_KEEP, TurnBudget};
use crate::door::Door;
use crate::event::{Event, Pressure};
use crate::output::Output;
use crate::slab::Slab;
use crate::slot::{Flags, Handle, Hot, Leaving, Slot};

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
    /// Slots whose transform has a costly step to take, in the order in which its bytes came.
    steps: VecDeque<Handle>,
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
            steps: VecDeque::new(),
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
            || ((!self.ready.is_empty() || !self.steps.is_empty()) && !self.pool.is_empty())
            || !self.writable.is_empty()
            || !self.fins.is_empty()
            || !self.leaving.is_empty()
            || !self.closing.is_empty()
            || !self.out.is_empty()
            || self.door.has_parcels()
    }

    // Accepting.

    /// A connection was taken from a listener, with a reservation.
    pub(crate) fn accepted(&mut self, handle: Handle, peer: SocketAddr, listener: u32) {
        self.announce(handle, Event::Accepted { slot: handle.slot(), peer, listener });
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

    // Ending.

    /// The owner gives the slot back: no event of it any more. What this turn queued is offered to the socket once, and behind
    /// it what the transform says at the end.
    pub(crate) fn give_back(&mut self, slot: Slot, abort: bool) {
        let Some((handle, _)) = self.slab.open(slot) else { return };
        if !abort {
            self.say_end(handle);
        }
        let Some(hot) = self.slab.get(handle) else { return };
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
        self.door.release(self.door.table_of(handle.index));
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
        // Nobody would take it where it goes.
        self.take_step(handle);
        let Some(hot) = self.slab.get(handle) else { return };
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

    /// Gives back what an unusual turn made the queues grow to.
    pub(crate) fn shrink_queues(&mut self) {
        if self.events.is_empty() {
            self.events.shrink_to(LIST_KEEP);
        }
        if self.ready.is_empty() {
            self.ready.shrink_to(LIST_KEEP);
        }
        if self.steps.is_empty() {
            self.steps.shrink_to(LIST_KEEP);
        }
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

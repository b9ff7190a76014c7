//! The backend of plain calls: edge-triggered epoll, and one system call per read, send and accept.
//!
//! A socket is registered once for all it can tell, so that nothing is re-armed: an edge for output comes only
//! after a send was cut short, since only then does the kernel note that someone waits for room.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::config::DriverInUse;
use crate::core::Core;
use crate::door::Parcel;
use crate::event::{Cause, Event, Pressure};
use crate::output::{Job, Source, gather};
use crate::slot::{Flags, Handle, Leaving};
use crate::sys;
use crate::waker::Waker;

const SOCKET_EVENTS: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Marks the tags of listeners; generations never reach it.
const LISTENER: u64 = 1 << 63;

const EVENTS_PER_CALL: usize = 512;

fn tag(handle: Handle) -> u64 {
    u64::from(handle.generation) << 32 | u64::from(handle.index)
}

fn untag(tag: u64) -> Handle {
    Handle { index: tag as u32, generation: (tag >> 32) as u32 }
}

struct Listener {
    fd: OwnedFd,
    ready: bool,
}

pub(crate) struct Epoll {
    epoll: OwnedFd,
    timer: OwnedFd,
    timer_at: Option<Instant>,
    listeners: Vec<Listener>,
    events: Vec<sys::EpollEvent>,
    /// How many of `events` the last sleep has brought.
    fetched: usize,
}

impl Epoll {
    pub(crate) fn new(waker: &Waker) -> io::Result<Epoll> {
        let epoll = sys::epoll_create()?;
        let timer = sys::timerfd()?;
        // Edges come with every signal, so neither counter needs to be read.
        sys::epoll_add(epoll.as_fd(), waker.eventfd(), libc::EPOLLIN | libc::EPOLLET, WAKE)?;
        sys::epoll_add(epoll.as_fd(), timer.as_fd(), libc::EPOLLIN | libc::EPOLLET, TIMER)?;
        let events = vec![sys::no_epoll_event(); EVENTS_PER_CALL];
        Ok(Epoll { epoll, timer, timer_at: None, listeners: Vec::new(), events, fetched: 0 })
    }

    fn dispatch(&mut self, core: &mut Core, mask: i32, about: u64) {
        match about {
            WAKE => {}
            TIMER => self.timer_at = None,
            about if about & LISTENER != 0 => {
                if let Some(listener) = self.listeners.get_mut((about & !LISTENER) as usize) {
                    listener.ready = true;
                }
            }
            about => {
                let error = mask & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
                let hangup = mask & libc::EPOLLRDHUP != 0;
                if error || hangup || mask & libc::EPOLLIN != 0 {
                    core.readable(untag(about), hangup, error);
                }
                if error || mask & libc::EPOLLOUT != 0 {
                    core.writable(untag(about));
                }
            }
        }
    }

    fn accept_one(&self, core: &mut Core, number: usize) -> Accepted {
        let Some(table) = core.door.reserve() else {
            if !sys::is_readable(self.listeners[number].fd.as_fd()) {
                return Accepted::None;
            }
            core.press(Pressure::Slots);
            return Accepted::Pause;
        };
        let taken = sys::accept(self.listeners[number].fd.as_fd())
            .and_then(|(fd, peer)| Ok((self.register(core, fd)?, peer)));
        match taken {
            Ok((handle, peer)) => {
                core.accepted(handle, peer, number as u32);
                Accepted::One
            }
            Err(error) => {
                core.door.release(table);
                if error.kind() == io::ErrorKind::WouldBlock {
                    Accepted::None
                } else if core.accept_error(error) {
                    Accepted::One
                } else {
                    Accepted::Pause
                }
            }
        }
    }

    fn register(&self, core: &mut Core, fd: OwnedFd) -> io::Result<Handle> {
        let Some(handle) = core.slab.insert() else { return Err(io::Error::from_raw_os_error(libc::ENFILE)) };
        if let Err(error) = sys::epoll_add(self.epoll.as_fd(), fd.as_fd(), SOCKET_EVENTS, tag(handle)) {
            core.slab.remove(handle);
            return Err(error);
        }
        if let Some(hot) = core.slab.get(handle) {
            hot.fd = Some(fd);
        }
        Ok(handle)
    }

    fn send_one(core: &mut Core, job: &mut Job) {
        loop {
            let Some(hot) = core.slab.get(job.handle) else { return };
            let (Some(fd), cold) = (hot.fd.as_ref(), hot.cold.as_ref()) else { return };
            // Nearly always there is one piece.
            let (mut first, mut pieces): (&[u8], Vec<IoSlice<'_>>) = (&[], Vec::new());
            let each = |piece| match (first.is_empty(), pieces.is_empty()) {
                (true, _) => first = piece,
                (false, true) => pieces.extend([IoSlice::new(first), IoSlice::new(piece)]),
                (false, false) => pieces.push(IoSlice::new(piece)),
            };
            job.asked = match job.source {
                Source::Tail => {
                    let Some(cold) = cold else { return };
                    gather(cold.tail.pieces(), 0, each)
                }
                Source::Turn(turn) => gather(core.out.slices(turn), job.offset, each),
            };
            let result = match pieces.as_slice() {
                [] => sys::send(fd.as_fd(), first),
                pieces => sys::send_vectored(fd.as_fd(), pieces),
            };
            if !core.sent(job, result) {
                return;
            }
        }
    }

    fn depart(&self, core: &mut Core, handle: Handle, mut how: Leaving) -> io::Result<()> {
        if let Leaving::Move { door, table, .. } = &mut how {
            if door.same_engine(&core.door) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            *table = door.reserve_for_move()?;
        }
        let Some(hot) = core.slab.get(handle) else { return Ok(()) };
        let Some(fd) = hot.fd.take() else { return Ok(()) };
        let carried = hot.take_transform();
        // A descriptor that is not registered cannot be deleted, and that is all that could fail.
        let _ = sys::epoll_delete(self.epoll.as_fd(), fd.as_fd());
        core.vacate(handle);
        match how {
            Leaving::Detach => core.tell_all(Event::Detached { slot: handle.slot(), fd, carried }),
            Leaving::Move { door, token, table } => {
                door.push(Parcel { fd, token, table });
                core.tell_all(Event::Departed { slot: handle.slot(), token, carried });
            }
        }
        Ok(())
    }
}

/// What one try to accept means for the listener.
enum Accepted {
    One,
    None,
    Pause,
}

impl Backend for Epoll {
    fn driver(&self) -> DriverInUse {
        DriverInUse::Epoll
    }

    fn listen(&mut self, _core: &mut Core, fd: OwnedFd) -> io::Result<()> {
        let about = LISTENER | self.listeners.len() as u64;
        sys::epoll_add(self.epoll.as_fd(), fd.as_fd(), libc::EPOLLIN | libc::EPOLLET, about)?;
        self.listeners.push(Listener { fd, ready: true });
        Ok(())
    }

    fn stop_listening(&mut self, _core: &mut Core) {
        self.listeners.clear();
    }

    fn adopt(&mut self, core: &mut Core, fd: OwnedFd, _table: u32) -> io::Result<Handle> {
        self.register(core, fd)
    }

    fn reap(&mut self, core: &mut Core) {
        let mut fetched = std::mem::take(&mut self.fetched);
        loop {
            let mut events = std::mem::take(&mut self.events);
            if fetched == 0 {
                fetched = sys::epoll_now(self.epoll.as_fd(), &mut events).unwrap_or(0);
            }
            for event in &events[..fetched] {
                self.dispatch(core, event.events as i32, event.u64);
            }
            self.events = events;
            if fetched < EVENTS_PER_CALL {
                return;
            }
            fetched = 0;
        }
    }

    fn accept(&mut self, core: &mut Core) {
        for number in 0..self.listeners.len() {
            while self.listeners[number].ready && !core.is_backing_off() && core.budget.accept() {
                match self.accept_one(core, number) {
                    Accepted::One => {}
                    Accepted::None => {
                        self.listeners[number].ready = false;
                        core.backlog_empty();
                    }
                    Accepted::Pause => return,
                }
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
        while let Some((handle, mut buf, start)) = core.start_read() {
            let result = match core.slab.get(handle).and_then(|hot| hot.fd.as_ref()) {
                Some(fd) => sys::receive(fd.as_fd(), &mut buf.space()[start..]),
                None => return,
            };
            core.finish_read(handle, buf, start, result, false);
        }
    }

    fn send(&mut self, core: &mut Core, jobs: Vec<Job>) {
        for mut job in jobs {
            Epoll::send_one(core, &mut job);
        }
    }

    fn shutdown_write(&mut self, core: &mut Core, handle: Handle) {
        let Some(fd) = core.slab.get(handle).and_then(|hot| hot.fd.as_ref()) else { return };
        if let Err(error) = sys::shutdown_write(fd.as_fd()) {
            core.out_failed(handle, Cause::of(&error));
        }
    }

    fn close(&mut self, core: &mut Core, handle: Handle) {
        let Some(hot) = core.slab.get(handle) else { return };
        if hot.flags.has(Flags::ABORT)
            && let Some(fd) = hot.fd.as_ref()
        {
            // Without it the close is a plain one.
            let _ = sys::set_linger_zero(fd.as_fd());
        }
        // Dropping the only descriptor of a socket takes it out of the epoll set and closes it.
        core.vacate(handle);
    }

    fn leave(&mut self, core: &mut Core, handle: Handle) {
        let Some(how) = core.departure(handle) else { return };
        if let Err(error) = self.depart(core, handle, how) {
            core.stayed(handle, error);
        }
    }

    fn stay(&mut self, _core: &mut Core, _handle: Handle) {}

    fn commit(&mut self, _core: &mut Core) {}

    fn arm_timer(&mut self, _core: &mut Core, deadline: Instant) {
        if self.timer_at.is_some_and(|armed| armed <= deadline) {
            return;
        }
        let delay = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        if sys::timerfd_set(self.timer.as_fd(), delay).is_ok() {
            self.timer_at = Some(deadline);
        }
    }

    fn sleep(&mut self) -> bool {
        // Interrupted, it has nothing: `reap` looks again.
        if self.fetched == 0 {
            self.fetched = sys::epoll_sleep(self.epoll.as_fd(), &mut self.events).unwrap_or(0);
        }
        true
    }

    fn before_sleep(&mut self) -> bool {
        true
    }

    fn after_sleep(&mut self) {}

    fn late_completions(&self) -> u64 {
        0
    }

    fn wait_fd(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }
}

//! Sockets of one thread: io_uring or epoll behind one narrow, event-driven interface.
//!
//! An [`Engine`] belongs to one data thread and does all its socket I/O. Connections are slots, not tasks: an idle
//! one costs 24 bytes here and one poll (or epoll entry) in the kernel; it has no buffer, no timer and no pending
//! receive.
//!
//! # A turn
//!
//! ```text
//! loop {
//!     engine.wait(deadline).await;            // sleeps only when nothing is due
//!     engine.poll();                          // reaps, accepts, reads: bounded work
//!     while let Some(event) = engine.next_event() {
//!         // state changes; writes to engine.arena(), engine.send(slot, segment)
//!     }
//!     engine.flush();                         // one call per connection, then FINs, moves, closes
//! }
//! ```
//!
//! # Rules worth naming
//!
//! - Bytes in the arena may be named by any number of `send`s until `flush` returns; then the arena is empty.
//! - Everything queued for a connection in a turn leaves in one call. What the kernel does not take becomes the
//!   slot's *tail*; while there is one the slot [is blocked](Engine::is_blocked), further sends queue behind it, and
//!   [`Event::Drained`] follows when it has left. Nothing is dropped silently: `send` refuses above the bounds in
//!   [`Config`], and a tail that passes the thread's bound is kept and told with [`Event::Overflow`].
//! - `close` sends FIN if everything received was read (else the kernel sends RST; to be sure, `shutdown_write`, read
//!   until [`Event::Ended`], then `close`). What was queued in the same turn is offered to the socket once before.
//! - Nothing is read from a connection before its owner has taken the event that announces it, so that a transform set
//!   then sees every byte.
//! - A slot is used again only after every kernel operation on it is over; queues hold generations besides.
//! - Nothing but `wait` is awaited, and its future must not be dropped before it is ready.
//! - A connection that moves ([`Engine::send_to`]) is not read any more; bytes already given out as `Data` belong to the
//!   owner, bytes in the socket travel with it. The owner sends its own state on a way of its own when
//!   [`Event::Departed`] comes; the target may see that before or after [`Event::Arrived`].
//!
//! # The runtime
//!
//! monoio hosts the engine ([`run`]). With one ring, or epoll, the engine sleeps in its own call, since nothing else on the
//! thread is to be awaited; with several rings monoio awaits readability of the eventfd that all of them signal.
//! The engine never uses monoio for sockets or timers, so the runtime stays replaceable.

mod backend;
mod buffers;
mod config;
mod core;
mod door;
mod epoll;
mod event;
mod fallback;
mod listen;
mod output;
mod runtime;
mod slab;
mod slot;
mod sys;
mod tag;
mod tail;
mod transform;
mod uring;
mod waker;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub use buffers::ReadBuf;
pub use config::{ACCEPT_BACKOFF, Config, Driver, DriverInUse, KeepAlive, RINGS_MAX};
pub use door::{Door, TOKEN_MAX};
pub use event::{Cause, Event, Pressure};
pub use fallback::FallbackReason;
pub use listen::listener;
pub use output::{Refused, Segment};
pub use runtime::{allowed_cores, pin_to_core, run};
pub use slot::Slot;
pub use transform::{Carried, Inbound, Stage, Transform, TransformError};
pub use waker::Waker;

use crate::backend::Backend;
use crate::core::Core;
use crate::door::Table;
use crate::runtime::Bed;
use crate::slot::{Flags, Leaving};

/// All socket I/O of one thread. See the crate's documentation for the order of calls.
pub struct Engine {
    core: Core,
    backend: Box<dyn Backend>,
    fallback: Option<FallbackReason>,
    waker: Waker,
    bed: Bed,
    /// A ring serves the thread that made it, and slots mean nothing elsewhere.
    not_send: PhantomData<*const ()>,
}

impl Engine {
    /// Makes the engine of the calling thread, which must be the one that uses it.
    ///
    /// # Errors
    /// When descriptors cannot be made, or [`Driver::Uring`] is asked for and not allowed.
    pub fn new(config: Config) -> io::Result<Engine> {
        let mut config = config.clamped();
        let waker = Waker::new()?;
        let mut fallback = None;
        if config.driver != Driver::Epoll {
            match uring::Uring::new(&mut config, &waker) {
                Ok(uring) => {
                    let tables = uring.tables()?;
                    return Ok(Engine::with(config, waker, Box::new(uring), tables, None));
                }
                Err(reason) if config.driver == Driver::Uring => return Err(io::Error::other(reason)),
                Err(reason) => fallback = Some(reason),
            }
        }
        let backend = Box::new(epoll::Epoll::new(&waker)?);
        let tables = vec![Table::new(config.slots_max, None)];
        Ok(Engine::with(config, waker, backend, tables, fallback))
    }

    fn with(
        config: Config,
        waker: Waker,
        backend: Box<dyn Backend>,
        tables: Vec<Table>,
        fallback: Option<FallbackReason>,
    ) -> Engine {
        let door = Door::new(tables, waker.clone());
        let core = Core::new(config, door);
        Engine { core, backend, fallback, waker, bed: Bed::default(), not_send: PhantomData }
    }

    /// The backend in use.
    #[must_use]
    pub fn driver(&self) -> DriverInUse {
        self.backend.driver()
    }

    /// Why [`Driver::Auto`] chose epoll.
    #[must_use]
    pub fn fallback_reason(&self) -> Option<&FallbackReason> {
        self.fallback.as_ref()
    }

    /// Accepts from the listener, as one of several. Sets on it what connections inherit: no delay, keep-alive, the
    /// limit for unacknowledged data.
    ///
    /// # Errors
    /// When an option cannot be set or the listener cannot be watched.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let fd = OwnedFd::from(listener);
        sys::set_nonblocking(fd.as_fd())?;
        set_inherited(fd.as_fd(), &self.core.config)?;
        self.backend.listen(&mut self.core, fd)
    }

    /// Whether connections may wait to be accepted: closing the listeners now would cut them off.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.backend.can_accept()
    }

    /// Closes the listeners. There may be others later.
    pub fn stop_listening(&mut self) {
        self.backend.stop_listening(&mut self.core);
        self.backend.commit(&mut self.core);
    }

    /// Takes a connected socket in, for the client role and for tests. Sets it non-blocking and, on TCP, without delay.
    ///
    /// # Errors
    /// ENFILE when all slots are taken, else the kernel's error.
    pub fn adopt(&mut self, fd: OwnedFd, _peer: SocketAddr) -> io::Result<Slot> {
        sys::set_nonblocking(fd.as_fd())?;
        // Sockets of other families have no such option.
        let _ = sys::set_int(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        let Some(table) = self.core.door.reserve() else {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        };
        match self.backend.adopt(&mut self.core, fd, table) {
            Ok(handle) => Ok(handle.slot()),
            Err(error) => {
                self.core.door.release(table);
                Err(error)
            }
        }
    }

    /// A handle that wakes this thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The way in for connections of other threads.
    #[must_use]
    pub fn door(&self) -> Door {
        self.core.door.clone()
    }

    /// Rings of the thread: none on epoll.
    #[must_use]
    pub fn rings(&self) -> u32 {
        match self.driver() {
            DriverInUse::Uring => self.core.config.rings,
            DriverInUse::Epoll => 0,
        }
    }

    /// Connections that the thread can hold.
    #[must_use]
    pub fn slots_max(&self) -> u32 {
        self.core.config.slots_max
    }

    /// Open connections, those being closed included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.core.slab.used()
    }

    /// How often io_uring still used our memory when the call that submitted an operation returned; the engine then waits
    /// for it. Non-blocking operations complete as they are submitted, so this stays 0: watch it.
    #[must_use]
    pub fn late_completions(&self) -> u64 {
        self.backend.late_completions()
    }

    /// Heap bytes of the slot pages.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        self.core.slab.page_bytes()
    }

    /// Returns when there is something to do, at the deadline, or when woken; at once if anything is due. It may return
    /// without a cause.
    pub async fn wait(&mut self, deadline: Option<Instant>) {
        // What was prepared since the last flush goes first: its completions may end a timer that is relied on below.
        self.backend.commit(&mut self.core);
        if self.is_due() {
            self.waker.rouse();
            return;
        }
        let own = [self.core.accept_after(), self.core.pool.unused_until()];
        let deadline = own.into_iter().chain([deadline]).flatten().min();
        if let Some(deadline) = deadline {
            if deadline <= Instant::now() {
                self.waker.rouse();
                return;
            }
            self.backend.arm_timer(&mut self.core, deadline);
        }
        self.backend.commit(&mut self.core);
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // Its timer may have fired while it was submitted: then nothing is left that would end a sleep.
            self.waker.rouse();
            return;
        }
        // `commit` has taken completions: also that a listener became ready, which nothing tells again.
        let may_sleep = self.waker.doze() && !self.is_due();
        if may_sleep && !self.backend.sleep() && self.backend.before_sleep() {
            self.bed.sleep(&*self.backend).await;
        }
        self.backend.after_sleep();
        self.waker.rouse();
    }

    /// There is something to do without sleeping.
    fn is_due(&self) -> bool {
        self.core.has_work() || (self.backend.can_accept() && !self.core.is_backing_off())
    }

    /// Learns what happened and reads, within the turn's budget. Events are then there to take.
    pub fn poll(&mut self) {
        self.core.budget = config::TurnBudget::new(&self.core.config);
        self.core.shrink_queues();
        match self.core.slab.used() {
            0 => self.core.pool.unused(Instant::now()),
            _ => self.core.pool.used(),
        }
        self.progress();
        self.core.take_steps();
        self.backend.reap(&mut self.core);
        if self.core.accept_after().is_some_and(|at| at <= Instant::now()) {
            self.core.end_backoff();
            self.backend.retry_accept();
        }
        self.take_parcels();
        self.backend.accept(&mut self.core);
        self.backend.read(&mut self.core);
        self.progress();
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.core.next_event()
    }

    /// Gives a read buffer back. Dropping it does the same.
    pub fn recycle(&mut self, buf: ReadBuf) {
        drop(buf);
    }

    /// Where this turn's output is built: append, then name the range in `send`.
    pub fn arena(&mut self) -> &mut Vec<u8> {
        &mut self.core.out.arena
    }

    /// Queues output behind what the slot has queued.
    ///
    /// # Errors
    /// [`Refused`]: nothing of the segment was taken.
    pub fn send(&mut self, slot: Slot, segment: Segment) -> Result<(), Refused> {
        self.core.send(slot, segment)
    }

    /// True while a tail waits for the socket: only small control frames should still be queued.
    #[must_use]
    pub fn is_blocked(&self, slot: Slot) -> bool {
        self.core.slab.peek(slot).is_some_and(|hot| hot.flags.has(Flags::BLOCKED))
    }

    /// Bytes waiting for the slot: its tail and what this turn queued.
    #[must_use]
    pub fn backlog(&self, slot: Slot) -> usize {
        self.core.backlog(slot)
    }

    /// Bytes in the tails of all slots.
    #[must_use]
    pub fn thread_backlog(&self) -> usize {
        self.core.thread_backlog()
    }

    /// Sends what the turn queued, one call per connection; then FINs, moves and closes that are due. The arena is empty
    /// afterwards.
    pub fn flush(&mut self) {
        let jobs = self.core.jobs();
        if !jobs.is_empty() {
            self.backend.send(&mut self.core, jobs);
        }
        self.core.out.clear();
        self.progress();
        self.backend.commit(&mut self.core);
    }

    /// Gives out no more data of the slot until `resume_read`. What was read before still comes.
    pub fn pause_read(&mut self, slot: Slot) {
        self.core.pause(slot);
    }

    /// Reads again.
    pub fn resume_read(&mut self, slot: Slot) {
        self.core.resume(slot);
    }

    /// Sends FIN when everything queued has left. Later sends are refused; reading goes on.
    pub fn shutdown_write(&mut self, slot: Slot) {
        self.core.finish_writing(slot);
    }

    /// Closes the connection and gives the slot back. What this turn queued is offered to the socket once, and behind it what
    /// the transform says at the end; a tail is dropped. No event of the slot follows.
    pub fn close(&mut self, slot: Slot) {
        self.core.give_back(slot, false);
    }

    /// As `close`, with RST where the kernel allows it.
    pub fn abort(&mut self, slot: Slot) {
        self.core.give_back(slot, true);
    }

    /// Takes the socket out of the engine once everything queued has left: [`Event::Detached`].
    pub fn detach(&mut self, slot: Slot) {
        self.core.start_leaving(slot, Leaving::Detach);
    }

    /// Moves the connection to another thread's engine once everything queued has left: [`Event::Departed`] or
    /// [`Event::MoveFailed`]. A transform comes with `Departed`, and goes to the other thread on another way. `token` is
    /// below [`TOKEN_MAX`].
    pub fn send_to(&mut self, slot: Slot, target: &Door, token: u64) {
        if token >= TOKEN_MAX {
            if let Some((handle, _)) = self.core.slab.open(slot) {
                let error = io::ErrorKind::InvalidInput.into();
                self.core.tell(handle, Event::MoveFailed { slot, token, error });
            }
            return;
        }
        self.core.start_leaving(slot, Leaving::Move { door: target.clone(), token, table: 0 });
    }

    /// Puts a transform between the socket and the owner. Bytes read or sent before are not touched.
    pub fn set_transform(&mut self, slot: Slot, transform: Box<dyn Transform>) {
        if let Some((_, hot)) = self.core.slab.open(slot) {
            hot.cold().transform = Some(transform);
        }
    }

    /// How far the slot's transform has come; `None` if there is none.
    #[must_use]
    pub fn stage(&self, slot: Slot) -> Option<Stage> {
        self.core.stage(slot)
    }

    /// Connections whose transform waits for its share of a turn, some of which may be closed already.
    #[must_use]
    pub fn steps_waiting(&self) -> usize {
        self.core.steps_waiting()
    }

    /// Gives an arrived connection the transform that it had on its thread before. Nothing may have been read since.
    pub fn restore_transform(&mut self, slot: Slot, carried: Carried) {
        if let Some((_, hot)) = self.core.slab.open(slot) {
            let cold = hot.cold();
            cold.transform = Some(carried.transform);
            cold.carry = carried.wire;
        }
    }

    /// Does what became possible: FINs, departures, closes.
    fn progress(&mut self) {
        for handle in std::mem::take(&mut self.core.fins) {
            let Some(hot) = self.core.slab.get(handle) else { continue };
            let waits = hot.flags.has(Flags::BLOCKED | Flags::OUT_DEAD) || hot.turn != slot::NO_TURN;
            if waits {
                if hot.turn != slot::NO_TURN {
                    self.core.fins.push(handle);
                }
                continue;
            }
            if hot.flags.raise(Flags::FIN_SENT) {
                self.backend.shutdown_write(&mut self.core, handle);
            }
        }
        for handle in std::mem::take(&mut self.core.leaving) {
            if self.core.is_leaving_dead(handle) {
                self.backend.stay(&mut self.core, handle);
                self.core.stayed(handle, io::ErrorKind::ConnectionReset.into());
            } else if self.core.slab.get(handle).is_some_and(|hot| hot.turn != slot::NO_TURN) {
                self.core.leaving.push(handle);
            } else {
                self.backend.leave(&mut self.core, handle);
            }
        }
        for handle in std::mem::take(&mut self.core.closing) {
            if self.core.slab.get(handle).is_some_and(|hot| hot.turn != slot::NO_TURN) {
                self.core.closing.push(handle);
            } else {
                self.backend.close(&mut self.core, handle);
            }
        }
    }

    /// Takes in sockets other threads left at the door; each has a reservation.
    fn take_parcels(&mut self) {
        while let Some(parcel) = self.core.door.pop() {
            let token = parcel.token;
            match self.backend.adopt(&mut self.core, parcel.fd, parcel.table) {
                Ok(handle) => self.core.announce(handle, Event::Arrived { slot: handle.slot(), token }),
                Err(error) => {
                    self.core.door.release(parcel.table);
                    self.core.tell_all(Event::ArrivalFailed { token, error });
                }
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.core.door.shut();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("driver", &self.driver())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Options accepted sockets take over from their listener.
fn set_inherited(listener: BorrowedFd<'_>, config: &Config) -> io::Result<()> {
    let seconds = |time: Duration| libc::c_int::try_from(time.as_secs().max(1)).unwrap_or(libc::c_int::MAX);
    let millis = libc::c_int::try_from(config.user_timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    let keep_alive = config.keep_alive;
    sys::set_int(listener, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    sys::set_int(listener, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    sys::set_int(listener, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(keep_alive.idle))?;
    sys::set_int(listener, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(keep_alive.interval))?;
    let probes = libc::c_int::try_from(keep_alive.probes).unwrap_or(libc::c_int::MAX);
    sys::set_int(listener, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, probes)?;
    sys::set_int(listener, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis)
}

//! What a system interface has to do for the engine.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::config::DriverInUse;
use crate::core::Core;
use crate::output::Job;
use crate::slot::Handle;

/// One system interface. The calls come in the order of a turn: `reap`, `accept`, `read`, then the owner's
/// commands, then `send` and the rest, then `commit`.
pub(crate) trait Backend {
    /// Which one it is.
    fn driver(&self) -> DriverInUse;
    /// Starts to watch a listener; it is non-blocking.
    fn listen(&mut self, core: &mut Core, listener: OwnedFd) -> io::Result<()>;
    /// Closes the listeners.
    fn stop_listening(&mut self, core: &mut Core);
    /// Takes a non-blocking socket in; the caller holds a reservation in the table, also when this fails.
    fn adopt(&mut self, core: &mut Core, fd: OwnedFd, table: u32) -> io::Result<Handle>;
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
    /// Sleeps in a call of its own until there is something to reap, or the waker's eventfd is signalled. False: it cannot, and
    /// `wait_fd` is to be awaited.
    fn sleep(&mut self) -> bool;
    /// Last look before `wait_fd` is awaited; false when there is something to reap.
    fn before_sleep(&mut self) -> bool;
    /// After sleeping.
    fn after_sleep(&mut self);
    /// How often a call returned while an operation it submitted still used memory of ours. Expected to stay 0.
    fn late_completions(&self) -> u64;
    /// A descriptor of its own that is readable when there is something to reap.
    fn wait_fd(&self) -> io::Result<OwnedFd>;
}

//! The leases of a node, as its threads go by them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinwire_cluster::{Gate, Lease, Standing};
use tokio::sync::Notify;

/// A gate for each registry, in the order of the license regions' numbers. Threads that read and write look at them before each turn
/// and before each flush.
#[derive(Debug)]
pub(crate) struct Gates {
    /// Zero of the clock.
    epoch: Instant,
    gates: Box<[Gate]>,
    lock: Mutex<()>,
    /// Told of each lease that is published.
    published: Condvar,
    /// The node ends: nobody sleeps here any more.
    is_stopping: AtomicBool,
    /// The region's sessions have answered.
    are_sessions_reached: AtomicBool,
    /// The same for the thread of the sessions, which waits for other things, too.
    changed: Notify,
}

/// A thread that waits looks again after so long, whatever it is told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Gates {
    /// All closed, at most 64. `epoch` is zero of every thread's clock.
    pub(crate) fn new(registries: usize, epoch: Instant) -> Self {
        let gates = std::iter::repeat_with(Gate::default).take(registries).collect();
        let (published, changed) = (Condvar::new(), Notify::new());
        let (is_stopping, are_sessions_reached) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { epoch, gates, lock: Mutex::new(()), published, is_stopping, are_sessions_reached, changed }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// When it is so many microseconds, for timers.
    pub(crate) fn at(&self, us: u64) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_micros(us))
    }

    /// What may be done now.
    fn look(&self) -> Look {
        let now_us = self.now_us();
        let mut look = Look::default();
        for (license, gate) in self.gates.iter().enumerate() {
            match gate.check(now_us) {
                Standing::Valid => {}
                Standing::Adrift => look.adrift |= 1 << license,
                Standing::Unchecked => look.unchecked |= 1 << license,
            }
        }
        look
    }

    /// License regions, a bit for each number, whose lease nobody has looked at since it ran out.
    pub(crate) fn unchecked(&self) -> u64 {
        self.look().unchecked
    }

    /// License regions, a bit for each number, for whose documents nothing may be written now.
    pub(crate) fn lapsed(&self) -> u64 {
        let Look { adrift, unchecked } = self.look();
        adrift | unchecked
    }

    /// The region's sessions answer, for the first time or again.
    pub(crate) fn note_sessions(&self) {
        self.are_sessions_reached.store(true, Ordering::Relaxed);
    }

    /// Whether they ever have.
    pub(crate) fn are_sessions_reached(&self) -> bool {
        self.are_sessions_reached.load(Ordering::Relaxed)
    }

    /// Publishes what a registry's lease came to.
    pub(crate) fn publish(&self, registry: usize, lease: Lease) {
        let Some(gate) = self.gates.get(registry) else { return };
        // Within the lock: else a thread that has just looked would miss it and sleep.
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        gate.publish(lease);
        self.published.notify_all();
        self.changed.notify_one();
    }

    /// Waits for the next lease that is published, or one that was since the last call. For one thread.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The node ends: whoever sleeps is woken, and closes its connections.
    pub(crate) fn stop(&self) {
        // Within the lock, as in [`Self::publish`].
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_stopping.store(true, Ordering::Release);
        self.published.notify_all();
    }

    /// License regions that are adrift, once every lease has been looked at: the calling thread sleeps meanwhile, whatever its
    /// sockets and mailbox say, and no frame of any document leaves. A registry answers or fails to answer within bounded time, and
    /// the thread that asks it publishes what that means. While the node ends nobody waits for that: nothing is acknowledged or
    /// stored then.
    pub(crate) fn pass(&self) -> u64 {
        let Look { adrift, unchecked: 0 } = self.look() else { return self.sleep() };
        adrift
    }

    #[cold]
    fn sleep(&self) -> u64 {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Look { adrift, unchecked } = self.look();
            if unchecked == 0 {
                return adrift;
            }
            if self.is_stopping.load(Ordering::Acquire) {
                return adrift | unchecked;
            }
            let woken = self.published.wait_timeout(held, LOOK_AGAIN);
            held = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// License regions whose documents may not be served as always: a bit for each number.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    adrift: u64,
    unchecked: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn whoever_waits_goes_on_as_soon_as_every_registry_has_been_looked_at() {
        let gates = Arc::new(Gates::new(2, Instant::now()));
        gates.publish(0, Lease::Valid { until_us: u64::MAX >> 1 });
        let waiting = Arc::clone(&gates);
        let waiter = std::thread::spawn(move || waiting.pass());
        assert_eq!((gates.unchecked(), gates.lapsed()), (2, 2));
        gates.publish(1, Lease::Adrift { until_us: u64::MAX >> 2 });
        assert_eq!(waiter.join().unwrap(), 2, "the first is not touched by that");
        assert_eq!((gates.unchecked(), gates.lapsed()), (0, 2));
        gates.publish(1, Lease::Valid { until_us: u64::MAX >> 2 });
        assert_eq!((gates.pass(), gates.lapsed()), (0, 0));
    }

    #[test]
    fn nobody_waits_any_more_once_the_node_ends() {
        let gates = Arc::new(Gates::new(1, Instant::now()));
        let waiting = Arc::clone(&gates);
        let waiter = std::thread::spawn(move || waiting.pass());
        gates.stop();
        assert_eq!(waiter.join().unwrap(), 1);
        assert_eq!(gates.lapsed(), 1, "others store nothing");
        assert_eq!(gates.pass(), 1);
    }
}

//! A node that runs short of memory takes no new clients until it has some again: those that are there are served on, which an
//! end by the kernel would not do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::doctor::Host;
use crate::shedding::{Cause, Health};

/// How often memory is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Of the limit, below which new clients are taken again: a node at its limit would go to and fro.
const RELIEF_PERCENT: u64 = 95;
/// Of what the host or the cgroup has, where nothing else is configured.
const DEFAULT_PERCENT: u64 = 80;

/// Whether the node is short of memory, for any thread to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shortage(Arc<Memory>);

#[derive(Debug, Default)]
struct Memory {
    is_short: AtomicBool,
    /// Of what may be used, in thousandths.
    share: AtomicU32,
}

impl Shortage {
    pub(crate) fn is_now(&self) -> bool {
        self.0.is_short.load(Ordering::Relaxed)
    }

    /// How much of the memory that may be used is, from 0 to 1 and a little beyond; 0 where nobody knows.
    pub(crate) fn share(&self) -> f64 {
        f64::from(self.0.share.load(Ordering::Relaxed)) / 1000.0
    }
}

/// The thread that looks. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic but read files.
            let _ = thread.join();
        }
    }
}

/// Starts the thread. `max_memory` is the most that the process's memory may be before it takes no new clients, 0 for a part of
/// what there is.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn watch(max_memory: u64, health: Arc<Health>) -> io::Result<(Shortage, Watch)> {
    let limit = match max_memory {
        0 => Host::here_without_trial().memory().map(|(bytes, _)| bytes / 100 * DEFAULT_PERCENT),
        set => Some(set),
    };
    let shortage = Shortage::default();
    let Some(limit) = limit else {
        tracing::warn!(
            "the host's memory cannot be read: set max_memory to refuse clients before it is used up"
        );
        return Ok((shortage, Watch { stop: None, thread: None }));
    };
    let (stop, stopping) = channel::<()>();
    let mut gauge = Gauge { limit, health, shortage: shortage.clone() };
    let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
        while stopping.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            if let Some(used) = used() {
                gauge.note(used);
            }
        }
    })?;
    Ok((shortage, Watch { stop: Some(stop), thread: Some(thread) }))
}

/// Bytes of the process's own memory: heap and stacks.
fn used() -> Option<u64> {
    // `man 5 proc_pid_statm`: pages of all, resident, of that shared.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: Vec<u64> = statm.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let own = pages.get(1)?.saturating_sub(*pages.get(2)?);
    Some(own * rustix::param::page_size() as u64)
}

struct Gauge {
    limit: u64,
    health: Arc<Health>,
    shortage: Shortage,
}

impl Gauge {
    fn note(&mut self, used: u64) {
        let share = used.saturating_mul(1000) / self.limit.max(1);
        self.shortage.0.share.store(u32::try_from(share).unwrap_or(u32::MAX), Ordering::Relaxed);
        let (used_mib, limit_mib) = (used >> 20, self.limit >> 20);
        let is_short = self.shortage.is_now();
        if !is_short && used >= self.limit {
            self.change(true);
            tracing::warn!(used_mib, limit_mib, "short of memory (max_memory): new clients are refused");
        } else if is_short && used < self.limit / 100 * RELIEF_PERCENT {
            self.change(false);
            tracing::info!(used_mib, limit_mib, "there is memory again: new clients are taken");
        }
    }

    fn change(&self, is_short: bool) {
        self.shortage.0.is_short.store(is_short, Ordering::Relaxed);
        let _ = &self.health;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_shed::State;

    #[test]
    fn a_shortage_begins_at_the_limit_and_ends_a_little_below() {
        let health = Arc::new(Health::default());
        let mut gauge = Gauge { limit: 1_000, health: Arc::clone(&health), shortage: Shortage::default() };
        let mut after = |used| {
            gauge.note(used);
            (gauge.shortage.is_now(), health.status())
        };
        assert_eq!(after(999), (false, Status::Healthy));
        assert_eq!(after(1_000), (true, Status::Overloaded));
        assert_eq!(after(960), (true, Status::Overloaded));
        assert_eq!(after(900), (false, Status::Healthy));
    }

    #[test]
    fn a_node_that_drains_goes_on_draining() {
        let health = Arc::new(Health::default());
        health.set(Status::Draining);
        let mut gauge = Gauge { limit: 1_000, health: Arc::clone(&health), shortage: Shortage::default() };
        gauge.note(2_000);
        gauge.note(0);
        assert_eq!(health.status(), Status::Draining);
    }

    #[test]
    fn this_process_uses_some() {
        assert!((1 << 18..1 << 40).contains(&used().unwrap()));
    }
}

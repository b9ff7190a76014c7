//! The server's process while a run goes on, where it is on this machine.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::procfs;
use crate::results::{Memory, ServerSample, ServerUse, Tally};

/// Memory is looked at when nothing has changed for so long.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// Readings of the server's process.
pub(crate) struct ServerWatch {
    pid: u32,
    before: Memory,
    at_half: Option<(u64, Memory)>,
    with_all: Memory,
    opened: u64,
    cpu_at_start: Duration,
    cpu_at_end: Duration,
    last_cpu: Duration,
    was_loading: bool,
}

impl ServerWatch {
    pub(crate) fn new(pid: u32) -> Result<Self> {
        let before = procfs::memory(pid)?;
        let cpu = procfs::process_time(pid)?;
        Ok(Self {
            pid,
            before,
            at_half: None,
            with_all: before,
            opened: 0,
            cpu_at_start: cpu,
            cpu_at_end: cpu,
            last_cpu: cpu,
            was_loading: true,
        })
    }

    /// Half of the connections stand, and nothing moves.
    pub(crate) fn look_at_half(&mut self, open: u64) -> Result<()> {
        self.at_half = Some((open, procfs::memory(self.pid)?));
        Ok(())
    }

    /// A second is over.
    pub(crate) fn sample(&mut self) -> Option<ServerSample> {
        let cpu = procfs::process_time(self.pid).ok()?;
        let spent = cpu.saturating_sub(std::mem::replace(&mut self.last_cpu, cpu));
        Some(ServerSample { cpu_seconds: spent.as_secs_f64(), resident: procfs::resident(self.pid) })
    }

    /// Looks while the load goes on; what is counted begins at `measure_from`.
    pub(crate) fn look(&mut self, measure_from: Instant, is_loading: bool, open: u64) {
        if Instant::now() < measure_from {
            self.cpu_at_start = procfs::process_time(self.pid).unwrap_or_default();
        }
        if is_loading {
            // The last reading while all stand: pings and idle frames are behind them.
            self.with_all = procfs::memory(self.pid).unwrap_or(self.with_all);
            self.opened = open.max(self.opened);
        }
        if self.was_loading && !is_loading {
            self.cpu_at_end = procfs::process_time(self.pid).unwrap_or_default();
        }
        self.was_loading = is_loading;
    }

    pub(crate) fn finish(self, total: &Tally) -> ServerUse {
        let cpu_seconds = self.cpu_at_end.saturating_sub(self.cpu_at_start).as_secs_f64();
        let each = |count: u64| (count > 0).then(|| cpu_seconds * 1e6 / count as f64);
        let slope = self.at_half.filter(|(open, _)| self.opened > *open).map(|(open, half)| {
            (self.with_all.anonymous as f64 - half.anonymous as f64) / (self.opened - open) as f64
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "the main thread; a server gives memory back in its own time, without an event"
        )]
        std::thread::sleep(SETTLE);
        ServerUse {
            pid: self.pid,
            cpu_seconds,
            cpu_us_per_delivery: each(total.received),
            cpu_us_per_send: each(total.sent),
            memory_before: self.before,
            memory_with_all: self.with_all,
            memory_after: procfs::memory(self.pid).ok(),
            user_bytes_per_connection: slope,
        }
    }
}

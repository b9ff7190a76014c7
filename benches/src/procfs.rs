//! What the kernel says about a process: its memory, the time its threads used, and what the kernel holds itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A process's user-space memory in bytes (`/proc/PID/smaps_rollup`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything resident, shared libraries and the program included.
    pub rss: u64,
    /// Written pages that no other process shares.
    pub private_dirty: u64,
    /// Heap and stacks: memory with no file behind it. This is what connections cost.
    pub anonymous: u64,
    /// Part of `anonymous` that the allocator gave back and the kernel has not taken yet.
    pub lazy_free: u64,
    /// Part of `anonymous` in transparent huge pages: such memory comes and goes 2 MiB at a time.
    pub huge: u64,
}

impl Memory {
    /// Reads it now.
    ///
    /// # Errors
    /// The process is gone, or not ours.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        Ok(Self::parse(&fs::read_to_string(&path).with_context(|| path)?))
    }

    fn parse(rollup: &str) -> Self {
        let field = |name: &str| {
            let value = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Self {
            rss: field("Rss"),
            private_dirty: field("Private_Dirty"),
            anonymous: field("Anonymous"),
            lazy_free: field("LazyFree"),
            huge: field("AnonHugePages"),
        }
    }

    /// For a result file.
    #[must_use]
    pub fn to_json(self) -> Value {
        let Self { rss, private_dirty, anonymous, lazy_free, huge } = self;
        json!({
            "rss": rss,
            "private_dirty": private_dirty,
            "anonymous": anonymous,
            "lazy_free": lazy_free,
            "huge": huge,
        })
    }
}

/// Processor time of some threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Time on a processor, to the nanosecond.
    pub total: Duration,
    /// Clock ticks in user space and in the kernel: how the total splits.
    user_ticks: u64,
    kernel_ticks: u64,
}

impl Cpu {
    /// The time between two readings.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            kernel_ticks: self.kernel_ticks.saturating_sub(before.kernel_ticks),
        }
    }

    /// Share of the total that was spent in user space; none where the kernel has not counted a tick.
    #[must_use]
    pub fn user_share(self) -> Option<f64> {
        let ticks = self.user_ticks + self.kernel_ticks;
        (ticks > 0).then(|| self.user_ticks as f64 / ticks as f64)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            user_ticks: self.user_ticks + other.user_ticks,
            kernel_ticks: self.kernel_ticks + other.kernel_ticks,
        }
    }
}

/// Processor time of a process: of the threads whose names begin with `prefix`, and of all.
///
/// # Errors
/// The process is gone.
pub fn cpu(pid: u32, prefix: &str) -> Result<(Cpu, Cpu)> {
    let (mut named, mut all) = (Cpu::default(), Cpu::default());
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let stat = fs::read_to_string(path.join("stat"))?;
        let used = thread_cpu(&stat, &fs::read_to_string(path.join("schedstat"))?)
            .with_context(|| format!("stat line {stat:?}"))?;
        all = all.plus(used);
        if fs::read_to_string(path.join("comm"))?.starts_with(prefix) {
            named = named.plus(used);
        }
    }
    Ok((named, all))
}

/// Processor time of the calling thread.
///
/// # Errors
/// The system does not tell.
pub fn own_thread() -> Result<Cpu> {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/{file}"));
    thread_cpu(&read("stat")?, &read("schedstat")?).context("our own stat line")
}

/// Processor time of a process, user and kernel, of all its threads: those that have ended are in it.
///
/// # Errors
/// The process is gone.
pub fn process_time(pid: u32) -> Result<Duration> {
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))
        .with_context(|| format!("no process {pid}"))?;
    Ok(clock.now().with_context(|| format!("no process {pid}"))?.into())
}

/// Descriptors that a process has open; slots of an io_uring's table are not among them.
///
/// # Errors
/// The process is gone, or not ours.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("no process {pid}"))?.count())
}

/// proc(5): after the name in parentheses, user time and kernel time are the fields 12 and 13.
fn thread_cpu(stat: &str, schedstat: &str) -> Option<Cpu> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(Cpu {
        user_ticks: fields.next()?.parse().ok()?,
        kernel_ticks: fields.next()?.parse().ok()?,
        total: Duration::from_nanos(schedstat.split_whitespace().next()?.parse().ok()?),
    })
}

/// Bytes in use of each of the kernel's slab caches, where we may read them (as root).
#[must_use]
pub fn slabs() -> Option<BTreeMap<String, u64>> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let slab = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let active: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        Some((name, active * size))
    };
    Some(text.lines().skip(2).filter_map(slab).collect())
}

/// What a measurement ran on, for its result file.
#[must_use]
pub fn machine() -> Vec<(String, String)> {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let load = file("/proc/loadavg");
    vec![
        ("processor".into(), format!("{processors} x {}", value(&cpuinfo, "model name"))),
        ("memory".into(), value(&file("/proc/meminfo"), "MemTotal")),
        ("kernel".into(), file("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load before".into(), load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_is_read_by_exact_field_names() {
        let rollup = "5-7 ---p 0 00:00 0 [rollup]\nRss:   100 kB\nPss_Anon:  9 kB\nPrivate_Dirty: 40 kB\nAnonymous:   64 kB\n";
        let expected =
            Memory { rss: 102_400, private_dirty: 40_960, anonymous: 65_536, lazy_free: 0, huge: 0 };
        assert_eq!(Memory::parse(rollup), expected);
    }

    #[test]
    fn our_own_memory_and_time_can_be_read() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.anonymous > 0 && memory.rss >= memory.anonymous);
        let (_, all) = cpu(std::process::id(), "").unwrap();
        assert!(all.total > Duration::ZERO);
    }

    #[test]
    fn a_processs_time_keeps_that_of_ended_threads() {
        let before = process_time(std::process::id()).unwrap();
        let spent = std::thread::spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            let (_, all) = cpu(std::process::id(), "").unwrap();
            all.total
        });
        assert!(spent.join().unwrap() > Duration::ZERO);
        assert!(process_time(std::process::id()).unwrap() > before);
        assert!(process_time(u32::MAX).is_err());
        assert!(descriptors(std::process::id()).unwrap() > 2);
    }

    #[test]
    fn a_threads_name_may_hold_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 321 123 0 0 20";
        let cpu = thread_cpu(stat, "5000 6 7\n").unwrap();
        assert_eq!((cpu.user_ticks, cpu.kernel_ticks, cpu.total.as_nanos()), (321, 123, 5000));
        assert!(thread_cpu("7 (a) S 1", "").is_none());
    }
}

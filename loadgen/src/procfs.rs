//! What the kernel says about threads, processes and TCP, for the verdict and the server's use.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::results::Memory;

/// Processor time of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTime {
    /// On a processor.
    pub(crate) ran: Duration,
    /// Ready to run, and not running.
    pub(crate) waited: Duration,
}

/// The calling thread's, since it began (`schedstat`); zero where the kernel does not count.
pub(crate) fn own_thread_time() -> ThreadTime {
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| parse_schedstat(&text))
        .unwrap_or_default()
}

fn parse_schedstat(text: &str) -> Option<ThreadTime> {
    let mut fields = text.split_whitespace().map(str::parse);
    let (ran, waited) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(ThreadTime { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
}

/// Processor time of all threads of a process that live now, user and kernel.
///
/// # Errors
/// The process is gone.
pub(crate) fn process_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).with_context(|| format!("no process {pid}"))?;
    let mut total = Duration::ZERO;
    for task in tasks {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        total += parse_schedstat(&text).unwrap_or_default().ran;
    }
    Ok(total)
}

/// Memory of a process, and the kernel's on the whole machine.
///
/// # Errors
/// The process is gone, or not ours to look at.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("memory of process {pid}"))?;
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Ok(Memory {
        anonymous: kib(&rollup, "Anonymous"),
        resident: kib(&rollup, "Rss"),
        kernel_slab: kib(&machine, "Slab"),
    })
}

/// Resident bytes of a process, cheaply (`statm`); 0 if it is gone.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib(&text, "VmRSS")
}

/// Most that this process was resident with.
pub(crate) fn own_peak() -> u64 {
    kib(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM")
}

/// The value of a line `name:  123 kB`, in bytes; 0 if there is none.
fn kib(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// TCP segments this machine sent again since it started.
pub(crate) fn retransmits() -> u64 {
    parse_retransmits(&fs::read_to_string("/proc/net/snmp").unwrap_or_default()).unwrap_or(0)
}

fn parse_retransmits(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let at = lines.next()?.split_whitespace().position(|name| name == "RetransSegs")?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_exact_names() {
        let text = "Tcp: RtoAlgorithm RetransSegs InErrs\nTcp: 1 42 0\nUdp: x\n";
        assert_eq!(parse_retransmits(text), Some(42));
        assert_eq!(kib("VmRSSX:  1 kB\nVmRSS:\t  12 kB\n", "VmRSS"), 12 * 1024);
        assert_eq!(parse_schedstat("5 7 1").unwrap().waited, Duration::from_nanos(7));
    }

    #[test]
    fn our_own_figures_can_be_read_and_a_missing_process_is_named() {
        assert!(own_peak() > 0 && resident(std::process::id()) > 0);
        assert!(process_time(std::process::id()).unwrap() > Duration::ZERO);
        assert!(process_time(u32::MAX).unwrap_err().to_string().contains("4294967295"));
    }
}

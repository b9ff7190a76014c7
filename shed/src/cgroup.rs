//! What a process may use and uses, from the kernel's files: cgroup v2, v1, or neither. Text goes in; who reads it has the paths.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`, `proc(5)`, `proc_pid_statm(5)`.

/// A limit of cgroup v1 that is none: a page-aligned maximum of a signed 64 bit number.
const V1_UNLIMITED: u64 = 1 << 62;
/// Of `USER_HZ`: microseconds of a tick in `/proc/stat`. Fixed at 100 a second on all architectures that Linux has today.
const TICK_US: u64 = 10_000;

/// The path of this process's group below the mount of a controller, without the slash at its beginning. Of v2 with
/// `controller` empty. `/proc/self/cgroup`.
#[must_use]
pub fn path<'a>(memberships: &'a str, controller: &str) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match controller {
            "" => controllers.is_empty(),
            named => controllers.split(',').any(|one| one == named),
        };
        is_it.then(|| path.trim_start_matches('/'))
    })
}

/// Bytes of `memory.max` (v2) or `memory.limit_in_bytes` (v1); `None` if there is no limit.
#[must_use]
pub fn memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < V1_UNLIMITED)
}

/// Bytes in use that cannot simply be taken back: all of the group's without its page cache that is not in active use and the
/// kernel's caches. `current` is `memory.current` (v2) or `memory.usage_in_bytes` (v1), `stat` the text of `memory.stat`. What
/// the kernel holds for sockets is in there.
#[must_use]
pub fn memory_used(current: &str, stat: &str) -> Option<u64> {
    let current: u64 = current.trim().parse().ok()?;
    // v1 has the sum over groups below under another name, and tells no reclaimable slabs.
    let inactive = field(stat, "total_inactive_file").or_else(|| field(stat, "inactive_file")).unwrap_or(0);
    let slabs = field(stat, "slab_reclaimable").unwrap_or(0);
    Some(current.saturating_sub(inactive.saturating_add(slabs)))
}

/// Cores of `cpu.max` (v2: `QUOTA PERIOD`, in microseconds); `None` if there is no limit.
#[must_use]
pub fn cores_v2(cpu_max: &str) -> Option<f64> {
    let mut numbers = cpu_max.split_whitespace();
    let quota: u64 = numbers.next()?.parse().ok()?;
    let period: u64 = numbers.next()?.parse().ok()?;
    cores(quota, period)
}

/// Cores of `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1); `None` if there is no limit, which is -1.
#[must_use]
pub fn cores_v1(quota_us: &str, period_us: &str) -> Option<f64> {
    cores(quota_us.trim().parse().ok()?, period_us.trim().parse().ok()?)
}

fn cores(quota: u64, period: u64) -> Option<f64> {
    (period > 0 && quota > 0).then(|| quota as f64 / period as f64)
}

/// Microseconds of processor time of `cpu.stat` (v2).
#[must_use]
pub fn cpu_used_v2(cpu_stat: &str) -> Option<u64> {
    field(cpu_stat, "usage_usec")
}

/// Microseconds of processor time of `cpuacct.usage` (v1), which has nanoseconds.
#[must_use]
pub fn cpu_used_v1(usage: &str) -> Option<u64> {
    usage.trim().parse::<u64>().ok().map(|nanoseconds| nanoseconds / 1_000)
}

/// Microseconds of processor time of the whole host, over all cores: `/proc/stat`, without idle, waiting for I/O (io_uring's
/// sleep counts as that), and what is counted twice (guests).
#[must_use]
pub fn cpu_used_host(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal) * TICK_US)
}

/// Cores of the host: `/proc/stat`.
#[must_use]
pub fn host_cores(stat: &str) -> usize {
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(is_core).count()
}

/// Cores that a process may run on: `Cpus_allowed_list` of `/proc/PID/status`, as in `0-3,8`.
#[must_use]
pub fn cores_allowed(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let cores = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.split(',').map(cores).sum()
}

/// Microseconds of processor time of one process: `/proc/PID/stat`.
#[must_use]
pub fn cpu_used_process(stat: &str) -> Option<u64> {
    // The name, in parentheses, may have anything in it. Behind it stands the third field; these are the 14th and the 15th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map_while(|number| number.parse::<u64>().ok());
    Some((ticks.next()? + ticks.next()?) * TICK_US)
}

/// Bytes of one process's own memory, heap and stacks: `/proc/PID/statm`, which has pages of all, resident, of that shared.
#[must_use]
pub fn memory_of_process(statm: &str, page: u64) -> Option<u64> {
    let pages: Vec<u64> = statm.split_whitespace().map_while(|number| number.parse().ok()).collect();
    Some(pages.get(1)?.saturating_sub(*pages.get(2)?) * page)
}

/// Bytes of all memory, and of what can still be had: `/proc/meminfo`.
#[must_use]
pub fn host_memory(meminfo: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((kib("MemTotal")? << 10, kib("MemAvailable")? << 10))
}

/// Bytes that the kernel holds for sockets of a group: of `memory.stat` (v2).
#[must_use]
pub fn socket_memory(stat: &str) -> Option<u64> {
    field(stat, "sock")
}

/// A `NAME NUMBER` line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "5:memory:/kube/pod1\n3:cpu,cpuacct:/kube/pod2\n1:name=systemd:/x\n0::/init.scope\n";

    #[test]
    fn cores_of_a_list_are_counted_and_anything_else_is_none() {
        let allowed =
            |list: &str| cores_allowed(&format!("Cpus_allowed:\tff\nCpus_allowed_list:\t{list}\nMems:\t0\n"));
        assert_eq!((allowed("0"), allowed("0-3,8"), allowed("2-2")), (Some(1), Some(5), Some(1)));
        assert_eq!(
            (allowed(""), allowed("3-1"), allowed("x"), cores_allowed("Name:\tnode\n")),
            (None, None, None, None)
        );
    }

    #[test]
    fn each_controller_has_its_group() {
        assert_eq!(path(HYBRID, "memory"), Some("kube/pod1"));
        assert_eq!(path(HYBRID, "cpuacct"), Some("kube/pod2"));
        assert_eq!(path(HYBRID, ""), Some("init.scope"));
        assert_eq!((path(HYBRID, "pids"), path("nonsense", "")), (None, None));
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!((memory_limit("max\n"), memory_limit("9223372036854771712\n")), (None, None));
        assert_eq!(memory_limit("1073741824\n"), Some(1 << 30));
        assert_eq!((cores_v2("max 100000\n"), cores_v1("-1\n", "100000\n")), (None, None));
        assert_eq!((cores_v2("150000 100000\n"), cores_v1("50000\n", "100000\n")), (Some(1.5), Some(0.5)));
    }

    #[test]
    fn caches_that_can_be_taken_back_are_not_used() {
        let v2 = "anon 100\nfile 900\ninactive_file 700\nslab_reclaimable 50\nsock 40\n";
        assert_eq!(memory_used("1000\n", v2), Some(250));
        let v1 = "cache 900\ninactive_file 1\ntotal_inactive_file 600\n";
        assert_eq!(memory_used("1000\n", v1), Some(400));
        assert_eq!((memory_used("10\n", "inactive_file 700\n"), memory_used("?", v2)), (Some(0), None));
    }

    #[test]
    fn processor_time_is_in_microseconds() {
        assert_eq!(cpu_used_v2("usage_usec 1234\nuser_usec 1000\n"), Some(1_234));
        assert_eq!(cpu_used_v1("5000000\n"), Some(5_000));
        let stat = "cpu  10 1 5 1000 50 2 3 1 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(cpu_used_host(stat), Some((10 + 1 + 5 + 2 + 3 + 1) * 10_000));
        assert_eq!((cpu_used_host("cpu  10 1\n"), host_cores(stat), host_cores("")), (None, 1, 0));
        let process = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 25 17 0 0 20 0 4 0 1 1 1";
        assert_eq!((cpu_used_process(process), cpu_used_process("7 (x) S 1")), (Some(42 * 10_000), None));
    }

    #[test]
    fn the_host_tells_memory_and_what_sockets_have() {
        let meminfo = "MemTotal:       2000 kB\nMemFree:  1 kB\nMemAvailable:   500 kB\n";
        assert_eq!(host_memory(meminfo), Some((2_000 << 10, 500 << 10)));
        assert_eq!(host_memory("MemTotal: 1 kB\n"), None);
        assert_eq!((socket_memory("anon 1\nsock 40\n"), socket_memory("anon 1\n")), (Some(40), None));
        assert_eq!(
            (memory_of_process("90 50 20 1 0 1 0", 4096), memory_of_process("90", 1)),
            (Some(30 * 4096), None)
        );
    }
}

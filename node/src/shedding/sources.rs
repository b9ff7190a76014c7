//! What a node uses and may use, read of the host: cgroups of version 2 and 1, else the host as a whole. Files are read below a
//! root, so that tests can make hosts up; of the real host what sysinfo knows is asked of it. All of it is optional.

use std::fs;
use std::path::PathBuf;

use pinwire_shed::{CpuMeter, Part, cgroup};
use sysinfo::{MemoryRefreshKind, System};

use crate::config::Measured;

/// Over what time processor load is smoothed.
const TAU_US: u64 = 5_000_000;
/// Groups above a process that are looked at.
const DEPTH_MAX: usize = 32;

/// The host as the node sees it.
#[derive(Debug)]
pub(crate) struct Sources {
    root: PathBuf,
    /// The real host; `None` where files are made up.
    host: Option<System>,
    page: u64,
    /// For each group with a quota, the host, and the node's own.
    meters: Vec<CpuMeter>,
}

/// What is to be measured, and against which limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) measured: Measured,
    /// Bytes that the process may use besides; 0 for no such limit.
    pub(crate) max_memory: u64,
    /// Hundredths of a core that it may use besides; 0 for no such limit.
    pub(crate) max_cpu: u32,
}

/// Processor time that was used since some beginning, and how many cores may be.
type Cpu = (u64, f64);

impl Sources {
    /// Below `root`, which is `/` for the real host.
    pub(crate) fn new(root: PathBuf) -> Self {
        let host = (root.as_os_str() == "/").then(System::new).and_then(Result::ok);
        Self { root, host, page: rustix::param::page_size() as u64, meters: Vec::new() }
    }

    /// The memory that the node may use, by the limit that is nearest; `None` where nobody says.
    pub(crate) fn memory(&mut self, wanted: &Wanted) -> Option<Part> {
        if !wanted.measured.memory {
            return None;
        }
        let mut parts = self.memory_of_groups();
        let host = self.memory_of_host();
        // A limit above what there is does not hold.
        let is_real = |part: &Part| host.is_none_or(|host| part.limit <= host.limit);
        if parts.is_empty() || !parts.iter().all(is_real) {
            parts.retain(is_real);
            parts.extend(host);
        }
        if wanted.max_memory > 0 {
            parts.extend(self.memory_of_process().map(|used| Part { used, limit: wanted.max_memory }));
        }
        parts.into_iter().max_by(|one, other| one.share().total_cmp(&other.share()))
    }

    /// The share of the processor time that the node may use, by the limit that is nearest; `None` where nobody says, and at first.
    pub(crate) fn cpu(&mut self, now_us: u64, wanted: &Wanted) -> Option<f64> {
        if !wanted.measured.cpu {
            return None;
        }
        let mut all = self.cpu_of_groups();
        let host = self.cpu_of_host();
        // A quota above what there is does not hold.
        let is_real = |(_, cores): &Cpu| host.is_none_or(|(_, of_host)| *cores <= of_host);
        if all.is_empty() || !all.iter().all(is_real) {
            all.retain(is_real);
            all.extend(host);
        }
        // Cores that it is bound to, of more: of what others do on them nobody tells.
        let status = self.read("proc/self/status");
        let bound = status.and_then(|status| cgroup::cores_allowed(&status)).map(|cores| cores as f64);
        let bound = bound.filter(|bound| host.is_some_and(|(_, of_host)| *bound < of_host));
        let by_hand = Some(f64::from(wanted.max_cpu) / 100.0).filter(|cores| *cores > 0.0);
        let own = bound.into_iter().chain(by_hand).reduce(f64::min);
        if let Some(cores) = own {
            let used_us = self.read("proc/self/stat").and_then(|stat| cgroup::cpu_used_process(&stat));
            all.extend(used_us.map(|used_us| (used_us, cores)));
        }
        // Another group has another counter: what was smoothed is of no use then.
        if all.len() != self.meters.len() {
            self.meters = vec![CpuMeter::new(TAU_US); all.len()];
        }
        let shares = self.meters.iter_mut().zip(all);
        let shares = shares.filter_map(|(meter, (used_us, cores))| meter.note(now_us, used_us, cores));
        shares.reduce(f64::max)
    }

    fn memory_of_groups(&self) -> Vec<Part> {
        let v2 = self.groups("", "sys/fs/cgroup").into_iter().filter_map(|group| {
            let limit = cgroup::memory_limit(&self.read(&format!("{group}/memory.max"))?)?;
            let (current, stat) = (format!("{group}/memory.current"), format!("{group}/memory.stat"));
            let used = cgroup::memory_used(&self.read(&current)?, &self.read(&stat).unwrap_or_default())?;
            Some(Part { used, limit })
        });
        let v1 = self.groups("memory", "sys/fs/cgroup/memory").into_iter().filter_map(|group| {
            let limit = cgroup::memory_limit(&self.read(&format!("{group}/memory.limit_in_bytes"))?)?;
            let (usage, stat) = (format!("{group}/memory.usage_in_bytes"), format!("{group}/memory.stat"));
            let used = cgroup::memory_used(&self.read(&usage)?, &self.read(&stat).unwrap_or_default())?;
            // Version 1 counts sockets apart, where it counts them at all.
            let sockets = self.number(&format!("{group}/memory.kmem.tcp.usage_in_bytes")).unwrap_or(0);
            Some(Part { used: used.saturating_add(sockets), limit })
        });
        v2.chain(v1).collect()
    }

    fn memory_of_host(&mut self) -> Option<Part> {
        let of_library = self.host.as_mut().and_then(|host| {
            host.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            Some((host.total_memory(), host.available_memory())).filter(|(total, _)| *total > 0)
        });
        let of_file = || cgroup::host_memory(&self.read("proc/meminfo")?);
        let (total, available) = of_library.or_else(of_file)?;
        Some(Part { used: total.saturating_sub(available), limit: total })
    }

    /// Its own, and what the kernel holds for sockets of its group, where it has one to itself.
    fn memory_of_process(&self) -> Option<u64> {
        let own = cgroup::memory_of_process(&self.read("proc/self/statm")?, self.page)?;
        Some(own.saturating_add(self.sockets_of_group().unwrap_or(0)))
    }

    fn sockets_of_group(&self) -> Option<u64> {
        // The last of a group's folders is the mount point: that of everybody.
        let nearest =
            |controller, mount| self.groups(controller, mount).into_iter().rev().skip(1).next_back();
        let v2 = || {
            let group = nearest("", "sys/fs/cgroup")?;
            cgroup::socket_memory(&self.read(&format!("{group}/memory.stat"))?)
        };
        let group = nearest("memory", "sys/fs/cgroup/memory");
        v2().or_else(|| self.number(&format!("{}/memory.kmem.tcp.usage_in_bytes", group?)))
    }

    fn cpu_of_groups(&self) -> Vec<Cpu> {
        let v2 = self.groups("", "sys/fs/cgroup").into_iter().filter_map(|group| {
            let cores = cgroup::cores_v2(&self.read(&format!("{group}/cpu.max"))?)?;
            Some((cgroup::cpu_used_v2(&self.read(&format!("{group}/cpu.stat"))?)?, cores))
        });
        // Two controllers, which may be in different groups: the quota's group is looked for in both.
        let v1 = self.groups("cpu", "sys/fs/cgroup/cpu").into_iter().filter_map(|group| {
            let (quota, period) = (format!("{group}/cpu.cfs_quota_us"), format!("{group}/cpu.cfs_period_us"));
            let cores = cgroup::cores_v1(&self.read(&quota)?, &self.read(&period)?)?;
            let usage = group.replacen("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpuacct", 1);
            Some((cgroup::cpu_used_v1(&self.read(&format!("{usage}/cpuacct.usage"))?)?, cores))
        });
        v2.chain(v1).collect()
    }

    fn cpu_of_host(&self) -> Option<Cpu> {
        let stat = self.read("proc/stat")?;
        let cores = cgroup::host_cores(&stat);
        Some((cgroup::cpu_used_host(&stat)?, cores as f64)).filter(|_| cores > 0)
    }

    /// Folders of this process's group and of those above it, the nearest first; those of a hierarchy's mount point where a
    /// container sees no more of it.
    fn groups(&self, controller: &str, mount: &str) -> Vec<String> {
        let memberships = self.read("proc/self/cgroup").unwrap_or_default();
        let Some(path) = cgroup::path(&memberships, controller) else { return Vec::new() };
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        parts.truncate(DEPTH_MAX);
        let below = (1..=parts.len()).rev().map(|depth| format!("{mount}/{}", parts[..depth].join("/")));
        below.chain([mount.to_owned()]).collect()
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ALL: Measured = Measured { memory: true, cpu: true };
    const WANTED: Wanted = Wanted { measured: ALL, max_memory: 0, max_cpu: 0 };
    const MEMINFO: &str = "MemTotal: 1000 kB\nMemAvailable: 400 kB\n";
    const STAT: &str = "cpu  100 0 0 0 0 0 0 0 0 0\ncpu0 1 0\ncpu1 1 0\n";

    /// A host of these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
        let root = tempfile::tempdir().unwrap();
        files.iter().for_each(|(path, text)| write(root.path(), path, text));
        let sources = Sources::new(root.path().to_owned());
        (root, sources)
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn part(used: u64, limit: u64) -> Option<Part> {
        Some(Part { used, limit })
    }

    #[test]
    fn without_a_group_the_host_counts_and_without_files_nothing_is_known() {
        let (_root, mut sources) = host(&[("proc/meminfo", MEMINFO)]);
        assert_eq!(sources.memory(&WANTED), part(600 << 10, 1000 << 10));
        let (_root, mut sources) = host(&[]);
        assert_eq!((sources.memory(&WANTED), sources.cpu(0, &WANTED)), (None, None));
    }

    #[test]
    fn the_nearest_limit_of_version_2_counts_wherever_it_stands() {
        let (root, mut sources) = host(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/kube/pod\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "max\n"),
            ("sys/fs/cgroup/kube/pod/memory.current", "100\n"),
            ("sys/fs/cgroup/kube/memory.max", "1000\n"),
            ("sys/fs/cgroup/kube/memory.current", "900\n"),
            ("sys/fs/cgroup/kube/memory.stat", "inactive_file 150\nslab_reclaimable 50\n"),
        ]);
        assert_eq!(sources.memory(&WANTED), part(700, 1000));
        write(root.path(), "sys/fs/cgroup/kube/pod/memory.max", "110\n");
        assert_eq!(sources.memory(&WANTED), part(100, 110));
    }

    #[test]
    fn version_1_counts_sockets_and_a_container_sees_its_mount_alone() {
        let (_root, mut sources) = host(&[
            ("proc/self/cgroup", "4:memory:/docker/x\n2:cpuacct:/docker/x\n1:cpu:/docker/x\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 700\n"),
            ("sys/fs/cgroup/memory/memory.kmem.tcp.usage_in_bytes", "200\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n"),
        ]);
        assert_eq!(sources.memory(&WANTED), part(1_000, 2_000));
        sources.cpu(0, &WANTED);
        write(&sources.root, "sys/fs/cgroup/cpuacct/cpuacct.usage", "2500000000\n");
        let share = sources.cpu(TAU_US, &WANTED).unwrap();
        assert!((share - 1.0).abs() < 1e-9, "all of half a core: {share}");
    }

    #[test]
    fn limits_set_by_hand_count_besides() {
        let (root, mut sources) = host(&[
            ("proc/meminfo", MEMINFO),
            ("proc/stat", STAT),
            ("proc/self/statm", "90 30 10 1 0 1 0"),
            ("proc/self/cgroup", "0::/pinwire.service\n"),
            ("sys/fs/cgroup/pinwire.service/memory.stat", "anon 1\nsock 5\n"),
            ("proc/self/stat", "7 (node) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20"),
        ]);
        let page = sources.page;
        let own = Wanted { max_memory: 21 * page, max_cpu: 50, ..WANTED };
        assert_eq!(sources.memory(&own), part(20 * page + 5, 21 * page));
        let plenty = Wanted { max_memory: 1 << 40, ..WANTED };
        assert_eq!(sources.memory(&plenty), part(600 << 10, 1000 << 10), "the host is fuller");
        sources.cpu(0, &own);
        write(root.path(), "proc/stat", &STAT.replace("cpu  100", "cpu  350"));
        write(root.path(), "proc/self/stat", "7 (node) S 1 7 7 0 -1 4194560 1 0 0 0 100 100 0 0 20");
        let share = sources.cpu(TAU_US, &own).unwrap();
        assert!((share - 0.8).abs() < 1e-9, "2 s of half a core, against 2.5 of the host's two: {share}");
    }

    #[test]
    fn limits_above_what_the_host_has_do_not_hold() {
        let (root, mut sources) = host(&[
            ("proc/meminfo", MEMINFO),
            ("proc/stat", STAT),
            ("proc/self/cgroup", "0::/pinwire.service\n"),
            ("sys/fs/cgroup/pinwire.service/memory.max", "9000000\n"),
            ("sys/fs/cgroup/pinwire.service/memory.current", "500000\n"),
            ("sys/fs/cgroup/pinwire.service/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/pinwire.service/cpu.stat", "usage_usec 0\n"),
        ]);
        assert_eq!(sources.memory(&WANTED), part(600 << 10, 1000 << 10));
        sources.cpu(0, &WANTED);
        write(root.path(), "proc/stat", &STAT.replace("cpu  100", "cpu  1100"));
        write(root.path(), "sys/fs/cgroup/pinwire.service/cpu.stat", "usage_usec 10000000\n");
        let share = sources.cpu(TAU_US, &WANTED).unwrap();
        assert!((share - 1.0).abs() < 1e-9, "both of the two cores there are: {share}");
    }

    #[test]
    fn a_process_that_is_bound_to_few_cores_is_measured_by_them() {
        let stat = |ticks| format!("7 (node) S 1 7 7 0 -1 4194560 1 0 0 0 {ticks} 0 0 0 20");
        let (root, mut sources) = host(&[
            ("proc/stat", STAT),
            ("proc/self/status", "Name:\tnode\nCpus_allowed:\t2\nCpus_allowed_list:\t1\n"),
            ("proc/self/stat", &stat(0)),
        ]);
        sources.cpu(0, &WANTED);
        write(root.path(), "proc/self/stat", &stat(500));
        write(root.path(), "proc/stat", &STAT.replace("cpu  100", "cpu  600"));
        let share = sources.cpu(TAU_US, &WANTED).unwrap();
        assert!((share - 1.0).abs() < 1e-9, "all of one core, half of the host: {share}");
    }

    #[test]
    fn what_does_not_count_is_not_measured() {
        let (_root, mut sources) = host(&[("proc/meminfo", MEMINFO), ("proc/stat", STAT)]);
        let measured = Measured { memory: false, cpu: false };
        let nothing = Wanted { measured, ..WANTED };
        sources.cpu(0, &nothing);
        assert_eq!((sources.memory(&nothing), sources.cpu(1, &nothing)), (None, None));
    }

    #[test]
    fn the_library_and_the_kernel_tell_the_same_of_this_host() {
        let mut here = Sources::new("/".into());
        let total = here.memory_of_host().unwrap().limit;
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        assert_eq!(total, cgroup::host_memory(&meminfo).unwrap().0);
        assert!(here.cpu_of_host().is_some() && here.memory_of_process().is_some());
    }
}

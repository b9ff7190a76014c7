//! What is read of the host, below a root of files so that tests can make hosts up.

use std::fs;
use std::path::PathBuf;

use pinwire_engine::{Config, DriverInUse, Engine};

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// Cores that the process may run on.
    pub(super) cores: usize,
    /// Soft and hard limit of file descriptors; `None` is unlimited.
    pub(super) files: (Option<u64>, Option<u64>),
    /// `None` if io_uring works, else why not.
    pub(super) no_uring: Option<String>,
}

impl Host {
    /// This one. io_uring is tried out.
    #[must_use]
    pub fn here() -> Self {
        Self { no_uring: uring_refused(), ..Self::here_without_trial() }
    }

    /// This one; io_uring is believed to work.
    pub(crate) fn here_without_trial() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            root: PathBuf::from("/"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            files: (limit.current, limit.maximum),
            no_uring: None,
        }
    }

    /// Bytes of memory that the process may have, and whether a cgroup says so; `None` if that cannot be read.
    pub(crate) fn memory(&self) -> Option<(u64, bool)> {
        let of_group = self.cgroup("memory.max").iter().filter_map(|value| value.parse::<u64>().ok()).min();
        let meminfo = self.read("proc/meminfo")?;
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let total = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10;
        Some(of_group.filter(|limit| *limit < total).map_or((total, false), |limit| (limit, true)))
    }

    /// One made up: files below `root` stand for the system's.
    #[cfg(test)]
    pub(super) fn made_up(root: PathBuf) -> Self {
        Self { root, cores: 4, files: (Some(1 << 20), Some(1 << 20)), no_uring: None }
    }

    /// A file's text without the space around it; `None` if it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file's one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Numbers of a file, separated by space.
    pub(super) fn numbers(&self, path: &str) -> Vec<u64> {
        let text = self.read(path).unwrap_or_default();
        text.split_whitespace().map_while(|number| number.parse().ok()).collect()
    }

    /// Values of this process's cgroup (version 2) and of those above it, the nearest first.
    pub(super) fn cgroup(&self, file: &str) -> Vec<String> {
        let memberships = self.read("proc/self/cgroup").unwrap_or_default();
        let Some(path) = memberships.lines().find_map(|line| line.strip_prefix("0::/")) else {
            return Vec::new();
        };
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut values = Vec::new();
        loop {
            let directory = parts.join("/");
            values.extend(self.read(&format!("sys/fs/cgroup/{directory}/{file}")));
            if parts.pop().is_none() {
                return values;
            }
        }
    }
}

/// Tries io_uring out: `None` if it works, else why not.
pub(crate) fn uring_refused() -> Option<String> {
    let few = Config { slots_max: 8, ..Config::default() };
    match Engine::new(few) {
        Ok(engine) if engine.driver() == DriverInUse::Uring => None,
        Ok(engine) => {
            Some(engine.fallback_reason().map_or_else(|| "unknown".to_owned(), ToString::to_string))
        }
        Err(error) => Some(error.to_string()),
    }
}

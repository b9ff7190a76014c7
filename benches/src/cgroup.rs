//! A control group of its own for a server under pressure: limits of memory and processor time that hold for it and for what is
//! started beside it. Version 2 where that has the controllers, else version 1. It takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::pause;

const ROOT: &str = "/sys/fs/cgroup";
/// A hundred milliseconds, in which a quota of processor time is given.
const PERIOD_US: u64 = 100_000;
/// For what was in it to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The group; it goes with its handle, once no process is in it.
#[derive(Debug)]
pub struct Group {
    is_v2: bool,
    memory: PathBuf,
    cpu: PathBuf,
    /// Where processor time is counted: in version 1 a hierarchy of its own, unless it is mounted together with the quotas.
    usage: PathBuf,
}

impl Group {
    /// An empty group without limits.
    ///
    /// # Errors
    /// The system does not let us, or has no such thing.
    pub fn new(name: &str) -> Result<Self> {
        let root = Path::new(ROOT);
        let is_v2 = root.join("cgroup.controllers").exists();
        let group = if is_v2 {
            let path = root.join(name);
            Self { is_v2, memory: path.clone(), cpu: path.clone(), usage: path }
        } else {
            let of = |controller| root.join(controller).join(name);
            Self { is_v2, memory: of("memory"), cpu: of("cpu"), usage: of("cpuacct") }
        };
        for path in group.paths() {
            fs::create_dir_all(path)
                .with_context(|| format!("{} cannot be made; it takes root", path.display()))?;
        }
        if is_v2 {
            // Where they are on already, this changes nothing.
            fs::write(root.join("cgroup.subtree_control"), "+memory +cpu")
                .context("the controllers of memory and cpu")?;
        }
        Ok(group)
    }

    fn paths(&self) -> Vec<&Path> {
        if self.is_v2 { vec![&self.memory] } else { vec![&self.memory, &self.cpu, &self.usage] }
    }

    /// A command that runs another one within the group.
    #[must_use]
    pub fn wrap(&self, command: &[String]) -> Vec<String> {
        let files = self
            .paths()
            .iter()
            .map(|path| format!("echo $$ > {}/cgroup.procs; ", path.display()))
            .collect::<String>();
        let shell = ["sh".to_owned(), "-c".to_owned(), format!("{files}exec \"$0\" \"$@\"")];
        shell.into_iter().chain(command.iter().cloned()).collect()
    }

    /// Bytes that its processes may have.
    ///
    /// # Errors
    /// They have more already.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        let name = if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.memory.join(name), bytes.to_string()).context("the limit of memory")
    }

    /// Processors that they may keep busy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn limit_cpu(&self, cores: f64) -> Result<()> {
        let quota = (PERIOD_US as f64 * cores) as u64;
        let (name, text) = if self.is_v2 {
            ("cpu.max", format!("{quota} {PERIOD_US}"))
        } else {
            ("cpu.cfs_quota_us", quota.to_string())
        };
        fs::write(self.cpu.join(name), text).context("the limit of processor time")
    }

    /// Bytes that its processes have, the kernel's share and caches of files included.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn memory(&self) -> Result<u64> {
        let name = if self.is_v2 { "memory.current" } else { "memory.usage_in_bytes" };
        Ok(fs::read_to_string(self.memory.join(name))?.trim().parse()?)
    }

    /// Waits until nobody is in it.
    ///
    /// # Errors
    /// Somebody stays.
    pub fn wait_until_empty(&self) -> Result<()> {
        let asked = Instant::now();
        while !fs::read_to_string(self.memory.join("cgroup.procs"))?.trim().is_empty() {
            ensure!(asked.elapsed() < PATIENCE, "a process stays in {}", self.memory.display());
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.wait_until_empty();
        for path in self.paths() {
            let _ = fs::remove_dir(path);
        }
    }
}

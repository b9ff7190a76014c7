//! What a result depends on and nobody remembers later: recorded by every run, by itself.

use std::collections::BTreeMap;
use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine and the program.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// `uname -sr`.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Load average over the minute before.
    pub load_before: f64,
    /// Settings of the kernel that bear on sockets, by name; those that could not be read are absent.
    pub sysctls: BTreeMap<String, String>,
    /// Descriptors this process may have.
    pub descriptors: u64,
    /// This program's version, and the commit it was built from if it was built in a checkout.
    pub generator: String,
    /// What the server said of itself (`Server` header of the upgrade's answer), if anything.
    pub server: Option<String>,
}

/// Settings of the kernel that bear on many sockets.
const SYSCTLS: [&str; 12] = [
    "fs/file-max",
    "fs/nr_open",
    "kernel/io_uring_disabled",
    "net/core/netdev_max_backlog",
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_max_orphans",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
];

/// This program's version, and the commit it was built from if that is known.
#[must_use]
pub fn program() -> String {
    match option_env!("PINWIRE_COMMIT") {
        Some(commit) => format!("pinwire-loadgen {} ({commit})", env!("CARGO_PKG_VERSION")),
        None => format!("pinwire-loadgen {}", env!("CARGO_PKG_VERSION")),
    }
}

impl Environment {
    /// Reads it now. What cannot be read is left empty: a run does not fail for it.
    #[must_use]
    pub fn record() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = line(&file("/proc/meminfo"), "MemTotal");
        let descriptors = file("/proc/self/limits");
        let descriptors = descriptors.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: line(&file("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
            load_before: file("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            sysctls: SYSCTLS
                .iter()
                .filter_map(|name| {
                    let value = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
                    let words: Vec<&str> = value.split_whitespace().collect();
                    Some((name.replace('/', "."), words.join(" ")))
                })
                .collect(),
            descriptors: descriptors
                .and_then(|limits| limits.split_whitespace().next()?.parse().ok())
                .unwrap_or(0),
            generator: program(),
            server: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn this_machine_has_a_kernel_cores_memory_and_descriptors() {
        let here = Environment::record();
        assert!(!here.kernel.is_empty() && here.cores > 0 && here.memory > 0 && here.descriptors > 0);
        assert!(here.sysctls.contains_key("net.ipv4.ip_local_port_range"));
    }
}

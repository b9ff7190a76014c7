//! The table `shedding`: when a node takes no new clients.

use std::path::PathBuf;
use std::time::Duration;

use super::sources::Written;

/// When a node takes no new clients, and how many at a time else.
#[derive(Clone, Debug, PartialEq)]
pub struct Shedding {
    /// Share of occupancy from which on new clients are for other nodes.
    pub high: f64,
    /// Below it they are taken again.
    pub low: f64,
    /// For how long it has to be below.
    pub dwell: Duration,
    /// Of the region's living nodes, so many thousandths stay in DNS, and one at least.
    pub keep: u32,
    /// What counts.
    pub measured: Measured,
    /// Bytes that the process may use at most, besides the limits of its cgroup or host; 0 for no such limit.
    pub max_memory: u64,
    /// The same of processor time, in hundredths of a core.
    pub max_cpu: u32,
    /// Handshakes that the node lets in a second; 0: [`BUDGET_PER_THREAD`] for each data thread.
    pub budget: u32,
    /// The same of all nodes of the region together; 0 for no such limit.
    pub region_budget: u32,
    /// Where the host's files are.
    pub root: PathBuf,
}

/// What counts as occupancy besides connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Memory.
    pub memory: bool,
    /// Processor time.
    pub cpu: bool,
}

/// Handshakes a second of a data thread: half of what one was measured to serve with the tokens that cost most, so that those who
/// are there are served on. See docs/performance.md.
pub const BUDGET_PER_THREAD: u32 = 6_000;
/// Half of what one Redis was measured to claim in a second: most handshakes after a node was lost open a document there.
const REGION_BUDGET: u32 = 20_000;

impl Default for Shedding {
    fn default() -> Self {
        Self {
            high: 0.8,
            low: 0.7,
            dwell: Duration::from_secs(10),
            keep: 0,
            measured: Measured { memory: true, cpu: true },
            max_memory: 0,
            max_cpu: 0,
            budget: 0,
            region_budget: REGION_BUDGET,
            root: PathBuf::from("/"),
        }
    }
}

/// What `shedding.resources` may name.
const RESOURCES: [&str; 2] = ["memory", "cpu"];

/// As it is written down: percent, and words.
#[derive(Clone, Debug)]
pub(super) struct SheddingKeys {
    pub(super) high_water: u32,
    pub(super) low_water: u32,
    pub(super) dwell: Duration,
    pub(super) keep: u32,
    pub(super) resources: Vec<String>,
    pub(super) max_memory: usize,
    pub(super) max_cpu: u32,
    pub(super) budget: u32,
    pub(super) region_budget: u32,
    pub(super) host_root: String,
}

impl Default for SheddingKeys {
    fn default() -> Self {
        let Shedding { dwell, region_budget, .. } = Shedding::default();
        Self {
            high_water: 80,
            low_water: 70,
            dwell,
            keep: 0,
            resources: RESOURCES.map(str::to_owned).to_vec(),
            max_memory: 0,
            max_cpu: 0,
            budget: 0,
            region_budget,
            host_root: "/".to_owned(),
        }
    }
}

pub(super) fn resolve(written: &mut Written) -> Shedding {
    let keys = written.draft.shedding.clone();
    if keys.low_water >= keys.high_water && !written.is_wrong(&["shedding.high_water", "shedding.low_water"])
    {
        let what = format!(
            "is {}, not below shedding.high_water ({}): a node would come and go",
            keys.low_water, keys.high_water
        );
        written.wrong("shedding.low_water", what);
    }
    for resource in keys.resources.iter().filter(|resource| !RESOURCES.contains(&resource.as_str())) {
        let what = format!("`{resource}` is none of {}", RESOURCES.join(", "));
        written.wrong("shedding.resources", what);
    }
    if keys.budget > 0 && keys.region_budget > 0 && keys.budget > keys.region_budget {
        let what = format!("is more than shedding.region_budget ({})", keys.region_budget);
        written.doubtful("shedding.budget", what);
    }
    let is_measured = |name: &str| keys.resources.iter().any(|resource| resource == name);
    for (key, resource, is_set) in [
        ("shedding.max_memory", "memory", keys.max_memory > 0),
        ("shedding.max_cpu", "cpu", keys.max_cpu > 0),
    ] {
        if is_set && !is_measured(resource) {
            written.doubtful(key, format!("is of no use while shedding.resources has no \"{resource}\""));
        }
    }
    let share = |percent: u32| f64::from(percent) / 100.0;
    Shedding {
        high: share(keys.high_water),
        low: share(keys.low_water),
        dwell: keys.dwell,
        keep: keys.keep * 10,
        measured: Measured { memory: is_measured("memory"), cpu: is_measured("cpu") },
        max_memory: keys.max_memory as u64,
        max_cpu: keys.max_cpu,
        budget: keys.budget,
        region_budget: keys.region_budget,
        root: PathBuf::from(keys.host_root),
    }
}

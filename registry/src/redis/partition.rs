//! Apps by partitions: what has to be in one slot of a Cluster.

use crate::AppName;

/// Partitions of a Cluster. The number is part of the keys' schema: it never changes for `pinwire:1`.
const CLUSTER: u32 = 16;

/// Everything of an app is in one partition, and every partition has the leases of all nodes: a script finds all it needs in
/// its own. Where there is one server there is one partition.
pub(super) struct Partitions {
    prefixes: Vec<String>,
}

impl Partitions {
    pub(super) fn new(is_cluster: bool) -> Self {
        let count = if is_cluster { CLUSTER } else { 1 };
        Self { prefixes: (0..count).map(|index| format!("pinwire:1:{{apps-{index:02}}}")).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    pub(super) fn prefix(&self, index: usize) -> &str {
        &self.prefixes[index]
    }

    /// By FNV-1a of the app's name: part of the schema as well.
    pub(super) fn of(&self, app: &AppName) -> usize {
        let hash = app
            .0
            .bytes()
            .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash as usize) % self.prefixes.len()
    }
}

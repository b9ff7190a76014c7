//! Apps by partitions: what has to be in one slot of a Cluster.

use crate::AppName;
use pinwire_redis::{Invocation, Script};

/// Partitions of a Cluster. The number is part of the keys' schema: it never changes for `pinwire:1`.
const CLUSTER: u32 = 16;

/// Everything of an app is in one partition, and every partition has the leases of all nodes: a script finds all it needs in
/// its own. Where there is one server there is one partition.
pub(super) struct Partitions {
    prefixes: Vec<String>,
    is_cluster: bool,
}

impl Partitions {
    pub(super) fn new(is_cluster: bool) -> Self {
        let count = if is_cluster { CLUSTER } else { 1 };
        let prefixes = (0..count).map(|index| format!("pinwire:1:{{apps-{index:02}}}")).collect();
        Self { prefixes, is_cluster }
    }

    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// A script that runs in a partition. In a Cluster it names a key that never exists, beside its prefix, which does not
    /// either: so a slot that is on its way to another server refuses it (TRYAGAIN) rather than run it there on those of
    /// the keys that came already.
    pub(super) fn run<'script>(&self, script: &'script Script, index: usize) -> Invocation<'script> {
        let prefix = &self.prefixes[index];
        let invocation = script.on(prefix);
        if self.is_cluster { invocation.key(format!("{prefix}:never")) } else { invocation }
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

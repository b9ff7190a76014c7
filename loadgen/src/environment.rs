//! What a result depends on and nobody remembers later: recorded by every run, by itself.

use std::collections::BTreeMap;

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

//! Names, as the registry keeps them.

use std::fmt;
use std::sync::Arc;

/// A WebSocket region, as in `eu-central-1`.
pub type Region = Arc<str>;

/// An app: `{tenant}::{app}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(pub Arc<str>);

/// A document in the whole system: an app and a name within it. Written `{tenant}::{app}::{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName {
    /// Whose it is.
    pub app: AppName,
    /// The name within the app.
    pub name: Box<str>,
}

impl fmt::Display for AppName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}::{}", self.app, self.name)
    }
}

/// One life of a node's process. A process that starts again is another node, and so is one that let its lease run out and
/// was given up: it inherits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Where it serves.
    pub region: Region,
    /// As operators know it, as in `eu-1a`: the same after a restart.
    pub name: Arc<str>,
    /// Random: tells its lives apart.
    pub life: u64,
}

impl fmt::Display for Node {
    /// `{region}/{name}/{life in hexadecimal}`, which is also how keys and messages spell it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{:016x}", self.region, self.name, self.life)
    }
}

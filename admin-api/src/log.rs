//! The last lines of a node's log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// The oldest first.
    pub lines: Vec<LogLine>,
    /// The parameter `since` that gives what comes after these.
    pub next: u64,
    /// Lines after `since` that are not kept any more.
    pub lost: u64,
}

/// A line of the log of the node's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Counts from 1 since the process's start.
    pub sequence: u64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// How much it matters.
    pub level: LogLevel,
    /// The module that says it.
    pub target: String,
    /// What it says, then `field=value`. Longer ones are cut off.
    pub text: String,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something is to be looked at.
    Warn,
    /// What operators want to know.
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

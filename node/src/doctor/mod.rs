//! `doctor`: does this host let a node hold what it is configured for? Every check has a code that does not change, says what
//! it found, and what to do about it.
//!
//! | module | concern |
//! | --- | --- |
//! | `host` | what is read of the host |
//! | `checks` | what it is measured by |
//! | `jwks` | keys by URL: whether they can be fetched |
//! | `cluster` | what several nodes share: Redis, other nodes, other regions |

mod checks;
mod cluster;
mod host;
mod jwks;

use std::fmt;

use serde::Serialize;

pub use checks::{Wanted, certificates, examine};
pub use cluster::examine_cluster;
pub use host::Host;
pub(crate) use host::uring_refused;
pub use jwks::examine_jwks;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing to do.
    Good,
    /// It works, but less well or not for as many connections.
    Warn,
    /// A node does not start like this, or fails under load.
    Fail,
    /// It cannot be told here.
    Skip,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's code: also the heading under which `docs/doctor.md` explains it.
    pub code: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What there is.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// Where the check is explained.
    #[must_use]
    pub fn page(&self) -> String {
        format!("docs/doctor.md#{}", self.code)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Good => "good",
            Outcome::Warn => "WARN",
            Outcome::Fail => "FAIL",
            Outcome::Skip => "skip",
        };
        write!(f, "{outcome}  {:<14} {}", self.code, self.found)?;
        if let Some(mend) = &self.mend {
            write!(f, "\n      mend: {mend}\n      more: {}", self.page())?;
        }
        Ok(())
    }
}

/// The exit status that all findings come to: 0 good, 1 warnings, 2 failures.
#[must_use]
pub fn exit_status(findings: &[Finding]) -> u8 {
    let worst = |outcome| findings.iter().any(|finding| finding.outcome == outcome);
    match (worst(Outcome::Fail), worst(Outcome::Warn)) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

#[cfg(test)]
mod tests;

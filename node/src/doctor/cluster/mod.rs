//! Checks of what several nodes share: each Redis that the configuration names, other nodes, other regions. Everything is asked
//! at the same time, and every wait is bounded.
//!
//! | module | concern |
//! | --- | --- |
//! | `stores` | a registry, or the region's sessions: their servers, one after the other |
//! | `server` | one server: version, memory, disk, replicas |
//! | `rights` | what its user may do |
//! | `sentinels` | who names the master, and how long a fail-over takes |
//! | `slots` | whether a Cluster has all its slots |
//! | `others` | nodes by their links, regions by their `/health` |

mod others;
mod rights;
mod sentinels;
mod server;
mod slots;
mod stores;

use std::io;

use futures_util::future::join_all;

use super::{Finding, Outcome};
use crate::config::{Config, Problem, RegistryKind};
use stores::Store;

/// A finding for each thing that nodes share; nothing for a node that is alone. `warnings` are those of the configuration.
#[must_use]
pub fn examine_cluster(config: &Config, warnings: &[Problem]) -> Vec<Finding> {
    match runtime() {
        Ok(runtime) => {
            let findings = runtime.block_on(examine(config, warnings));
            // A name that is being looked up would be waited for.
            runtime.shutdown_background();
            findings
        }
        Err(error) => vec![finding("redis", Outcome::Skip, format!("nothing can be asked: {error}"))],
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}

async fn examine(config: &Config, warnings: &[Problem]) -> Vec<Finding> {
    let mut stores = Vec::new();
    if let RegistryKind::Redis(licenses) = &config.cluster.registry {
        stores.extend(licenses.iter().map(|license| Store::registry(license, config.cluster.lease)));
    }
    stores.extend(config.cluster.session.iter().map(Store::sessions));
    let doubts = warnings.iter().filter(|doubt| is_shared(&doubt.key)).map(|doubt| {
        let key = if doubt.key.starts_with("regions") { "regions" } else { "cluster" };
        finding(key, Outcome::Warn, doubt.to_string())
    });
    let mut findings: Vec<Finding> = doubts.collect();
    let (found, others) = tokio::join!(join_all(stores.iter().map(Store::examine)), others::examine(config));
    findings.extend(found.into_iter().flatten());
    findings.extend(others);
    findings
}

fn is_shared(key: &str) -> bool {
    key.starts_with("cluster.") || key.starts_with("regions")
}

fn finding(code: &'static str, outcome: Outcome, found: impl Into<String>) -> Finding {
    Finding { code, outcome, found: found.into(), mend: None }
}

/// What was found of one of several that are alike.
#[derive(Clone, Debug)]
struct Note {
    /// Which of them.
    which: String,
    outcome: Outcome,
    found: String,
    mend: Option<String>,
}

impl Note {
    fn good(which: &(impl ToString + ?Sized), found: impl Into<String>) -> Self {
        Self { which: which.to_string(), outcome: Outcome::Good, found: found.into(), mend: None }
    }

    fn bad(
        outcome: Outcome,
        which: &(impl ToString + ?Sized),
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { which: which.to_string(), outcome, found: found.into(), mend: Some(mend.into()) }
    }
}

/// One finding of all: what is wrong of each that is not good, or what there is of all. `None` without any.
fn summed(code: &'static str, whose: &str, notes: &[Note]) -> Option<Finding> {
    let worst = notes.iter().map(|note| rank(note.outcome)).max()?;
    let told: Vec<&Note> = notes.iter().filter(|note| worst == 0 || rank(note.outcome) > 0).collect();
    let outcome = told.iter().find(|note| rank(note.outcome) == worst)?.outcome;
    let found: Vec<String> = told.iter().map(|note| format!("{} {}", note.which, note.found)).collect();
    let mut mends: Vec<&str> = told.iter().filter_map(|note| note.mend.as_deref()).collect();
    mends.dedup();
    let mend = (!mends.is_empty()).then(|| mends.join("; "));
    Some(Finding { code, outcome, found: format!("{whose}: {}", found.join("; ")), mend })
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Good => 0,
        Outcome::Skip => 1,
        Outcome::Warn => 2,
        Outcome::Fail => 3,
    }
}

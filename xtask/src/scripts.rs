//! Test files of `node --test`: run against the release node, and counted.

use crate::shell::{command, root, status_within, target_dir};
use crate::tally::Tally;
use crate::unit;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A run of test files. Without names among the arguments of `command` it takes all of the directory.
pub(crate) struct Scripts {
    pub(crate) command: Command,
    directory: &'static str,
    report: PathBuf,
}

impl Scripts {
    /// Those in `directory`, `concurrency` files at a time; the report is kept as `name`.tap.
    pub(crate) fn new(directory: &'static str, name: &str, concurrency: u32) -> Self {
        let report = target_dir().join(format!("{name}.tap"));
        let mut command = command("node");
        command
            .current_dir(root().join(directory))
            .arg("--test")
            .arg(format!("--test-concurrency={concurrency}"))
            .args(["--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=tap"])
            .arg(format!("--test-reporter-destination={}", report.display()))
            .env("PINWIRE_NODE", unit::release_binary("pinwire-node"));
        Self { command, directory, report }
    }

    /// Runs them; beyond `limit` they hang.
    pub(crate) fn run(mut self, limit: Duration) -> Result<Tally> {
        let _ = fs::remove_file(&self.report);
        let status = status_within(&mut self.command, limit)?;
        let report =
            fs::read_to_string(&self.report).with_context(|| format!("the report of {}", self.directory))?;
        let tally =
            read_tap(&report).with_context(|| format!("the report of {} has no totals", self.directory))?;
        if tally == Tally::default() || (!status.success() && tally.failed == 0) {
            bail!("the tests of {} ended with {status}, {tally}", self.directory);
        }
        Ok(tally)
    }
}

/// The totals at the end of a TAP report of `node --test`. A skipped or unfinished test counts as failed.
fn read_tap(report: &str) -> Option<Tally> {
    let total = |name: &str| -> Option<u64> {
        report.lines().rev().find_map(|line| line.strip_prefix(&format!("# {name} ")))?.trim().parse().ok()
    };
    let passed = total("pass")?;
    let failed = total("fail")? + total("cancelled")? + total("skipped")? + total("todo")?;
    Some(Tally { passed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_scripts_count_as_failed() {
        let report = "ok 1 - one\n1..4\n# tests 4\n# suites 0\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0\n";
        assert_eq!(read_tap(report), Some(Tally { passed: 2, failed: 2 }));
        assert_eq!(read_tap("1..0\n"), None);
    }
}

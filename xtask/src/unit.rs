//! Tests that cargo runs by itself, and the release build that the rigs use.

use crate::shell::{cargo, run as run_command, status, target_dir};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// nextest's exit status when tests ran and some failed.
const NEXTEST_TESTS_FAILED: i32 = 100;

/// Unit, property and integration tests, then doctests.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let mut tally = nextest(args)?;
    if tally.failed == 0 {
        tally += doctests()?;
    }
    Ok(tally)
}

/// What is built together, whatever of it is needed: other packages would mean other features of what they depend on, and all of that
/// anew.
const PACKAGES: [&str; 8] =
    ["-p", "pinwire-node", "-p", "pinwire-loadgen", "-p", "pinwire-admin", "-p", "pinwire-benches"];

/// Release build of what the rigs run.
pub(crate) fn build(_args: &[String]) -> Result<Tally> {
    // Not the measuring commands: nothing here runs them, and each takes a minute to link.
    let programs = ["pinwire-node", "pinwire-loadgen", "pinwire-admin", "pinwire-bench-server"];
    let binaries = programs.iter().flat_map(|program| ["--bin", program]);
    run_command(cargo(["build", "--release", "--quiet"]).args(PACKAGES).args(binaries))?;
    Ok(Tally::default())
}

/// Builds one of these programs, unless it is there: the same one.
pub(crate) fn build_program(name: &str, is_release: bool) -> Result<PathBuf> {
    let mut build = cargo(["build", "--quiet"]);
    if is_release {
        build.arg("--release");
    }
    run_command(build.args(PACKAGES).args(["--bin", name]))?;
    Ok(target_dir().join(if is_release { "release" } else { "debug" }).join(name))
}

/// A program of the release build.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

fn nextest(args: &[String]) -> Result<Tally> {
    let report = target_dir().join("nextest/default/junit.xml");
    let _ = fs::remove_file(&report);
    let status =
        status(cargo(["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"]).args(args))?;
    if !status.success() && status.code() != Some(NEXTEST_TESTS_FAILED) {
        bail!("nextest ended with {status}");
    }
    let report = fs::read_to_string(&report).context("nextest's report")?;
    let tally = read_junit(&report).context("nextest's report has no totals")?;
    if tally == Tally::default() {
        bail!("no test ran");
    }
    Ok(tally)
}

/// The totals of a JUnit report: attributes of the `testsuites` element.
pub(crate) fn read_junit(report: &str) -> Option<Tally> {
    let element = report.split_once("<testsuites ")?.1.split_once('>')?.0;
    let attribute = |name: &str| -> Option<u64> {
        element.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.parse().ok()
    };
    let failed = attribute("failures")? + attribute("errors")?;
    Some(Tally { passed: attribute("tests")?.checked_sub(failed)?, failed })
}

fn doctests() -> Result<Tally> {
    let output = cargo(["test", "--doc", "--workspace", "--quiet", "--no-fail-fast"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the doctests")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tally = read_libtest(&text);
    if !output.status.success() {
        print!("{text}");
        if tally.failed == 0 {
            bail!("doctests ended with {}", output.status);
        }
    }
    Ok(tally)
}

/// Sums the `test result:` lines that libtest prints.
fn read_libtest(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let count = |what: &str| -> u64 {
            let number = line.split_once(what).and_then(|(before, _)| before.split_whitespace().last());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        tally += Tally { passed: count(" passed"), failed: count(" failed") };
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_totals_count_errors_as_failures() {
        let report = r#"<?xml version="1.0"?><testsuites name="nextest-run" tests="12" failures="2" errors="1" time="1">"#;
        assert_eq!(read_junit(report), Some(Tally { passed: 9, failed: 3 }));
        assert_eq!(read_junit("<testsuites >"), None);
    }

    #[test]
    fn libtest_results_are_summed() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored";
        assert_eq!(read_libtest(output), Tally { passed: 4, failed: 2 });
    }
}

//! A short, bounded run of every fuzz target from the kept corpus.
//!
//! The targets are libFuzzer programs. They are built as cargo-fuzz builds them without a sanitizer, which a stable compiler
//! can do; cargo-fuzz itself (`cd tests/fuzz && cargo fuzz run -s none TARGET`) works on the same files for longer hunts.

use crate::pool;
use crate::shell::{cargo, command, root, run as run_command, stdout, target_dir, wait_within};
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Per target, in `cargo xtask test`.
const SECONDS: u64 = 10;
/// A single input may take this long.
const INPUT_SECONDS: u64 = 5;
const MEMORY_MIB: u64 = 1024;

/// Coverage instrumentation for libFuzzer, as cargo-fuzz passes it.
const INSTRUMENT: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Ccodegen-units=1";

pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let (seconds, chosen) = parse(args)?;
    let mut targets = targets()?;
    if !chosen.is_empty() {
        targets.retain(|target| chosen.contains(target));
    }
    if targets.is_empty() {
        bail!("no such fuzz target");
    }
    let programs = build()?;
    pool::in_parallel(targets, pool::cores(), |target| {
        let mut tally = Tally::default();
        tally.record(fuzz(&programs, &target, seconds)?);
        Ok(tally)
    })
}

fn parse(args: &[String]) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut chosen) = (SECONDS, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            seconds = args.next().context("--seconds needs a value")?.parse().context("--seconds")?;
        } else {
            chosen.push(arg.clone());
        }
    }
    Ok((seconds, chosen))
}

/// Names of the fuzz targets, from their manifest.
fn targets() -> Result<Vec<String>> {
    let manifest =
        ["metadata", "--no-deps", "--format-version=1", "--manifest-path", "tests/fuzz/Cargo.toml"];
    let metadata: serde_json::Value = serde_json::from_str(&stdout(&mut cargo(manifest))?)?;
    let listed = metadata["packages"][0]["targets"].as_array().context("targets of tests/fuzz")?;
    let is_bin = |target: &&serde_json::Value| target["kind"][0] == "bin";
    Ok(listed.iter().filter(is_bin).filter_map(|target| target["name"].as_str()).map(str::to_owned).collect())
}

/// Builds every target; gives the directory the programs are in.
fn build() -> Result<PathBuf> {
    let version = stdout(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("host of rustc")?;
    let dir = target_dir().join("fuzz");
    // With `--target` the flags do not reach build scripts, which have no fuzzer to link to.
    let mut build = cargo([
        "build",
        "--release",
        "--quiet",
        "--manifest-path",
        "tests/fuzz/Cargo.toml",
        "--target",
        host,
    ]);
    build.env("RUSTFLAGS", INSTRUMENT).env("CARGO_TARGET_DIR", &dir);
    run_command(&mut build)?;
    Ok(dir.join(host).join("release"))
}

/// True where `target` found nothing in `seconds`.
fn fuzz(programs: &Path, target: &str, seconds: u64) -> Result<bool> {
    let scratch = target_dir().join("fuzz-runs").join(target);
    let (fresh, artifacts) = (scratch.join("corpus"), scratch.join("artifacts"));
    fs::create_dir_all(&fresh)?;
    fs::create_dir_all(&artifacts)?;
    let log = scratch.join("log");

    let mut fuzzer = command(programs.join(target));
    // libFuzzer writes to the first directory and only reads the others: the kept corpus changes by hand alone.
    fuzzer.arg(&fresh);
    let kept = root().join("tests/fuzz/corpus").join(target);
    if kept.is_dir() {
        fuzzer.arg(kept);
    }
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let mut child = fuzzer.spawn().with_context(|| format!("cannot run fuzz target {target}"))?;
    let ended = wait_within(&mut child, Duration::from_secs(seconds * 2 + 60))?;

    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let executed = executed_units(&text).unwrap_or(0);
    let passed = ended.is_some_and(|status| status.success()) && executed > 0;
    println!("{} {target}: {executed} inputs", if passed { "ok" } else { "FAILED" });
    if !passed {
        let tail: Vec<&str> = text.lines().rev().take(40).collect();
        println!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        println!("inputs at fault are kept in {}", artifacts.display());
    }
    Ok(passed)
}

fn executed_units(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()
}

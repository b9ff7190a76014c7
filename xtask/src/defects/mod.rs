//! Planted defects: proof that tests fail where the code is wrong.
//!
//! Each file `tests/defects/NAME.defect` names a place, a wrong version of it, and the test that must notice:
//!
//! ```text
//! # Why this matters (any number of lines).
//! file: shard/src/document/awareness.rs
//! test: -p pinwire-shard tombstone_keeps_the_clock
//! --- from
//! let clock = entry.clock;
//! --- to
//! let clock = entry.clock + 1;
//! ```
//!
//! `test:` takes `-p PACKAGE [--lib | --test NAME] [PART OF A TEST'S NAME]`. The text after `--- from` must occur exactly once
//! in the file, within the body of a function. All defects are planted in one copy of the checkout, which is built once.

mod entry;
mod plant;

use crate::pool;
use crate::shell::{cargo, command, project_files, root, run as run_command, stdout, target_dir};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use entry::{Check, Defect};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// nextest's exit status when tests ran and some failed.
const NEXTEST_TESTS_FAILED: i32 = 100;
/// What a whole run takes up to 50 s for is done in few: it has been done in full by the stage `unit`.
const SIMULATIONS: (&str, &str) = ("PINWIRE_SIM_SEEDS", "60");
/// Large crates of whose tests none is in need of speed: optimised, they would take most of the build.
const PLAIN: &[&str] = &["pinwire-node", "pinwire-loadgen"];
/// Tests that judge a load generator by its own lateness: they have the machine to themselves, or would fail for another's load.
const ALONE: &str = "faults";

/// What a check said of the built tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
}

pub(crate) fn run(names: &[String]) -> Result<Tally> {
    let defects = entry::read_all(names)?;
    let tree = copy_tree(&defects)?;
    seed_build_dir()?;
    let built = Built::build(tree, &defects)?;

    // A test that fails anyway would prove nothing.
    let checks: BTreeSet<&Check> = defects.iter().map(|defect| &defect.check).collect();
    let all: Vec<String> = checks.iter().map(|check| format!("({})", check.filter())).collect();
    let start = Instant::now();
    ensure!(built.check(&all.join(" | "), None)? == Verdict::Good, "a test fails without a defect");
    println!("passed   without a defect ({:.1} s)", start.elapsed().as_secs_f64());

    let is_alone = |defect: &&Defect| defect.check.test.as_deref() == Some(ALONE);
    let (alone, others): (Vec<&Defect>, Vec<&Defect>) = defects.iter().partition(is_alone);
    let mut tally = pool::in_parallel(others, pool::cores(), |defect| built.judge(defect))?;
    tally += pool::in_parallel(alone, 1, |defect| built.judge(defect))?;
    Ok(tally)
}

/// A copy of the checkout with the defects. Files that did not change keep their time stamps, so that cargo builds little.
fn copy_tree(defects: &[Defect]) -> Result<PathBuf> {
    let mut places: BTreeMap<&str, Vec<&Defect>> = BTreeMap::new();
    for defect in defects {
        places.entry(&defect.file).or_default().push(defect);
    }
    let tree = target_dir().join("defects");
    let files = project_files()?;
    remove_others(&tree, &files.iter().map(|file| tree.join(file)).collect())?;
    for file in files {
        let copy = tree.join(&file);
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut content = fs::read(root().join(&file))?;
        if let Some(defects) = file.to_str().and_then(|file| places.remove(file)) {
            let text = String::from_utf8(content).with_context(|| file.display().to_string())?;
            content = plant::plant(&text, &defects).with_context(|| file.display().to_string())?.into_bytes();
        }
        write_if_changed(&copy, &content)?;
    }
    match places.into_iter().next() {
        Some((file, defects)) => bail!("defect {}: no file {file}", defects[0].name),
        None => Ok(tree),
    }
}

/// What an earlier copy had and the checkout has no more: two files for one module would not build.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content)?;
    }
    Ok(())
}

/// Never the checkout's own target directory: cargo would take what it built from a defective copy for the checkout's.
fn build_dir() -> PathBuf {
    target_dir().join("defects-build")
}

/// Starts from the dependencies the checkout has built, which the copy shares; its own crates are built anew.
fn seed_build_dir() -> Result<()> {
    let (built, seeded) = (target_dir().join("debug"), build_dir().join("debug"));
    if seeded.exists() || !built.exists() {
        return Ok(());
    }
    fs::create_dir_all(&seeded)?;
    for part in [".fingerprint", "build", "deps"] {
        let mut copy = command("cp");
        run_command(copy.args(["--archive", "--reflink=auto"]).arg(built.join(part)).arg(&seeded))?;
    }
    Ok(())
}

/// The test binaries of the tree with the defects.
struct Built {
    tree: PathBuf,
    /// For nextest, so that it runs binaries without asking cargo for each check.
    binaries: PathBuf,
    metadata: PathBuf,
}

impl Built {
    fn build(tree: PathBuf, defects: &[Defect]) -> Result<Self> {
        let start = Instant::now();
        let built = Self {
            tree,
            binaries: build_dir().join("binaries.json"),
            metadata: build_dir().join("metadata.json"),
        };
        let selected = selection(defects);
        let mut list = built.cargo(["nextest", "list", "--cargo-quiet", "--list-type=binaries-only"]);
        list.arg("--message-format=json").args(selected);
        for package in PLAIN {
            list.arg(format!("--config=profile.dev.package.{package}.opt-level=0"));
        }
        fs::write(&built.binaries, stdout(&mut list).context("the tree with the defects")?)?;
        let metadata = stdout(&mut built.cargo(["metadata", "--format-version=1"]))?;
        fs::write(&built.metadata, metadata)?;
        println!("built    with {} defects ({:.1} s)", defects.len(), start.elapsed().as_secs_f64());
        Ok(built)
    }

    fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut cargo = cargo(args);
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", build_dir());
        // Nobody debugs them, and nothing is built twice.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
        cargo
    }

    /// Runs the defect's check, and says whether it was noticed.
    fn judge(&self, defect: &Defect) -> Result<Tally> {
        let start = Instant::now();
        let verdict = self.check(&defect.check.filter(), Some(&defect.name));
        let is_noticed = verdict.with_context(|| format!("defect {}", defect.name))? == Verdict::Bad;
        let result = if is_noticed { "noticed " } else { "SURVIVED" };
        println!("{result} {} ({:.1} s)", defect.name, start.elapsed().as_secs_f64());
        let mut tally = Tally::default();
        tally.record(is_noticed);
        Ok(tally)
    }

    /// Runs the tests that `filter` selects with one defect or none. Anything but a verdict is an error.
    fn check(&self, filter: &str, defect: Option<&str>) -> Result<Verdict> {
        let mut nextest = self.cargo(["nextest", "run", "--no-tests=fail", "--show-progress=none"]);
        nextest.arg("--binaries-metadata").arg(&self.binaries).arg("--cargo-metadata").arg(&self.metadata);
        nextest.args(["--status-level=fail", "--final-status-level=none", "-E", filter]);
        nextest.env(SIMULATIONS.0, SIMULATIONS.1);
        match defect {
            Some(name) => nextest.arg("--failure-output=never").env(plant::VARIABLE, name),
            None => nextest.arg("--failure-output=immediate").env_remove(plant::VARIABLE),
        };
        let output = nextest.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(Verdict::Good),
            Some(NEXTEST_TESTS_FAILED) => {
                if defect.is_none() {
                    println!("{said}");
                }
                Ok(Verdict::Bad)
            }
            _ => bail!("nextest -E '{filter}' ended with {}: {said}", output.status),
        }
    }
}

/// What cargo has to build for the checks.
fn selection(defects: &[Defect]) -> BTreeSet<String> {
    let checks = defects.iter().map(|defect| &defect.check);
    checks
        .flat_map(|check| {
            let binary = check.test.as_ref().map_or("--lib".to_owned(), |test| format!("--test={test}"));
            [format!("--package={}", check.package), binary]
        })
        .collect()
}

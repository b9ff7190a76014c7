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
//! `test:` takes arguments of `cargo nextest run`; `clients: FILE PATTERN` runs tests of that name in `tests/clients/FILE`
//! against the defective node instead. The text after `--- from` must occur exactly once in the file.

use crate::shell::{cargo, command, project_files, root, run as run_command, status_within, target_dir};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// nextest's exit status when tests ran and some failed.
const NEXTEST_TESTS_FAILED: i32 = 100;
const CLIENTS_LIMIT: Duration = Duration::from_secs(180);
/// Says that the tests are known to pass without a defect.
pub(crate) const TESTS_PASS: &str = "--tests-pass";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    Nextest(Vec<String>),
    Clients { file: String, pattern: String },
}

#[derive(Debug, PartialEq, Eq)]
struct Defect {
    file: String,
    check: Check,
    from: String,
    to: String,
}

/// What a check said of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
}

pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let (options, names): (Vec<String>, Vec<String>) =
        args.iter().cloned().partition(|arg| arg.starts_with('-'));
    ensure!(options.iter().all(|option| option == TESTS_PASS), "the only option is {TESTS_PASS}");
    let defects = read_all(&names)?;
    let tree = copy_tree()?;
    seed_build_dir()?;

    // A test that fails anyway would prove nothing; one that does not exist is an error of its check.
    if options.is_empty() {
        let checks: BTreeSet<Check> = defects.iter().map(|(_, defect)| defect.check.clone()).collect();
        for check in &checks {
            let verdict = check.run(&tree)?;
            ensure!(verdict == Verdict::Good, "{check:?} fails without a defect");
        }
    }

    let mut tally = Tally::default();
    for (name, defect) in &defects {
        let noticed = plant(&tree, defect).with_context(|| format!("defect {name}"))? == Verdict::Bad;
        println!("{} {name}", if noticed { "noticed " } else { "SURVIVED" });
        tally.record(noticed);
    }
    Ok(tally)
}

fn read_all(chosen: &[String]) -> Result<Vec<(String, Defect)>> {
    let mut defects = Vec::new();
    let dir = root().join("tests/defects");
    for entry in fs::read_dir(&dir).context("tests/defects")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = chosen.is_empty() || chosen.contains(&name);
        if wanted && path.extension().is_some_and(|extension| extension == "defect") {
            let defect = parse(&fs::read_to_string(&path)?).with_context(|| format!("defect {name}"))?;
            defects.push((name, defect));
        }
    }
    ensure!(!defects.is_empty(), "no defect to plant");
    defects.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(defects)
}

fn parse(text: &str) -> Result<Defect> {
    let (head, body) = text.split_once("--- from\n").context("no `--- from` line")?;
    let (from, to) = body.split_once("--- to\n").context("no `--- to` line")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let check = match (field("test:"), field("clients:")) {
        (Some(args), None) => Check::Nextest(args.split_whitespace().map(str::to_owned).collect()),
        (None, Some(args)) => {
            let (file, pattern) = args.split_once(' ').context("`clients:` needs a file and a pattern")?;
            Check::Clients { file: file.to_owned(), pattern: pattern.trim().to_owned() }
        }
        _ => bail!("one of `test:` and `clients:` is needed"),
    };
    ensure!(!from.trim().is_empty() && from != to, "nothing would change");
    let file = field("file:").context("no `file:` line")?.to_owned();
    Ok(Defect { file, check, from: from.to_owned(), to: to.to_owned() })
}

/// A copy of the checkout. Files that did not change keep their time stamps, so that cargo builds little.
fn copy_tree() -> Result<PathBuf> {
    let tree = target_dir().join("defects");
    for file in project_files()? {
        let copy = tree.join(&file);
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent)?;
        }
        write_if_changed(&copy, &fs::read(root().join(&file))?)?;
    }
    let (modules, link) =
        (root().join("tests/clients/node_modules"), tree.join("tests/clients/node_modules"));
    if modules.exists() && !link.exists() {
        std::os::unix::fs::symlink(modules, link)?;
    }
    Ok(tree)
}

fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content)?;
    }
    Ok(())
}

/// Plants the defect, runs its check, and mends the tree again.
fn plant(tree: &Path, defect: &Defect) -> Result<Verdict> {
    let path = tree.join(&defect.file);
    let whole = fs::read_to_string(&path).with_context(|| format!("cannot read {}", defect.file))?;
    let found = whole.matches(&defect.from).count();
    ensure!(found == 1, "its `from` text occurs {found} times in {}; it must occur once", defect.file);
    fs::write(&path, whole.replacen(&defect.from, &defect.to, 1))?;
    let verdict = defect.check.run(tree);
    // Also when the check could not run: the next defect needs a whole tree.
    fs::write(&path, whole)?;
    verdict
}

impl Check {
    /// Runs the check on `tree`. Anything but a verdict, such as a build that fails, is an error.
    fn run(&self, tree: &Path) -> Result<Verdict> {
        match self {
            Self::Nextest(args) => nextest(tree, args),
            Self::Clients { file, pattern } => clients(tree, file, pattern),
        }
    }
}

fn nextest(tree: &Path, args: &[String]) -> Result<Verdict> {
    let quiet = [
        "nextest",
        "run",
        "--cargo-quiet",
        "--status-level=none",
        "--final-status-level=none",
        "--no-tests=fail",
    ];
    let mut nextest = cargo(quiet);
    nextest.args(["--failure-output=never", "--show-progress=none"]).args(args);
    let output = nextest.current_dir(tree).env("CARGO_TARGET_DIR", build_dir()).output()?;
    match output.status.code() {
        Some(0) => Ok(Verdict::Good),
        Some(NEXTEST_TESTS_FAILED) => Ok(Verdict::Bad),
        _ => bail!(
            "nextest {args:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

fn clients(tree: &Path, file: &str, pattern: &str) -> Result<Verdict> {
    let mut build = cargo(["build", "--quiet", "-p", "pinwire-node", "--bin", "pinwire-node"]);
    run_command(build.current_dir(tree).env("CARGO_TARGET_DIR", build_dir()))?;

    let report = build_dir().join("clients.tap");
    let mut node = command("node");
    node.current_dir(tree.join("tests/clients"))
        .args(["--test", "--test-reporter=tap"])
        .arg(format!("--test-reporter-destination={}", report.display()))
        .arg(format!("--test-name-pattern={pattern}"))
        .arg(file)
        .env("PINWIRE_NODE", build_dir().join("debug/pinwire-node"));
    status_within(&mut node, CLIENTS_LIMIT)?;
    let report = fs::read_to_string(&report)?;
    let ran = |result: &str| report.lines().any(|line| line.starts_with(result) && !line.contains("# SKIP"));
    match (ran("ok "), ran("not ok ")) {
        (_, true) => Ok(Verdict::Bad),
        (true, false) => Ok(Verdict::Good),
        (false, false) => bail!("no test of {file} is called `{pattern}`"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str =
        "# Why.\nfile: shard/src/a.rs\ntest: -p pinwire-shard name\n--- from\none\n--- to\ntwo\n";

    #[test]
    fn an_entry_names_file_test_and_change() {
        let defect = parse(ENTRY).unwrap();
        assert_eq!(defect.file, "shard/src/a.rs");
        assert_eq!(defect.check, Check::Nextest(["-p", "pinwire-shard", "name"].map(str::to_owned).to_vec()));
        assert_eq!((defect.from.as_str(), defect.to.as_str()), ("one\n", "two\n"));
    }

    #[test]
    fn an_entry_that_changes_nothing_is_refused() {
        assert!(parse(&ENTRY.replace("two", "one")).is_err());
        assert!(parse(&ENTRY.replace("test:", "taste:")).is_err());
        assert!(parse(&ENTRY.replace("--- to", "--- too")).is_err());
    }

    #[test]
    fn a_client_check_has_a_file_and_a_pattern() {
        let entry =
            ENTRY.replace("test: -p pinwire-shard name", "clients: sync.test.js edits flow both ways");
        let pattern = "edits flow both ways".to_owned();
        assert_eq!(parse(&entry).unwrap().check, Check::Clients { file: "sync.test.js".to_owned(), pattern });
    }
}

//! What a reader would complain about, found by machines first.

use crate::shell::{cargo, run as run_command};
use crate::tally::Tally;
use crate::tidy;
use anyhow::{Context, Result};

pub(crate) fn run(args: &[String]) -> Result<Tally> {
    run_command(&mut cargo(["fmt", "--all", "--check"])).context("formatting; `cargo fmt --all` mends it")?;
    run_command(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    let tally = tidy::run(args)?;
    deny()?;
    Ok(tally)
}

fn deny() -> Result<()> {
    run_command(&mut cargo(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    // The advisory database is a git repository that not every build machine can reach; CI that can runs it as well.
    if std::env::var_os("PINWIRE_ADVISORIES").is_some() {
        run_command(&mut cargo(["deny", "--log-level", "error", "check", "advisories"]))?;
    }
    Ok(())
}

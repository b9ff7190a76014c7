//! Instructions that a piece of code takes, by valgrind: the same on a busy machine as on an idle one.
//!
//! A measuring program runs itself twice under valgrind, with `n` and with `2 n` rounds of one case. What start-up and
//! preparation take is in both, so the difference, divided by `n`, is what one round takes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `area/what`, stable: figures are kept under it.
    pub name: &'static str,
    /// Rounds of the shorter run. Enough that a round's share of what varies with the machine vanishes.
    pub rounds: u32,
    /// Prepares, then does so many rounds. Nothing may depend on the clock or on chance.
    pub run: fn(u32),
}

/// Instructions that one round of a case takes. `run_case` makes the argument list by which this program runs the case of
/// that name for that many rounds and does nothing else.
///
/// # Errors
/// No valgrind, or the case failed.
pub fn per_round(case: &Case, run_case: impl Fn(&str, u32) -> Vec<String>) -> Result<f64> {
    let short = count(&run_case(case.name, case.rounds)).with_context(|| case.name)?;
    let long = count(&run_case(case.name, 2 * case.rounds)).with_context(|| case.name)?;
    let difference = long.checked_sub(short).filter(|difference| *difference > 0);
    let difference = difference.with_context(|| {
        format!("{}: twice the rounds took no more: its work was optimised away", case.name)
    })?;
    Ok(difference as f64 / f64::from(case.rounds))
}

/// Instructions of a whole run of this program.
fn count(args: &[String]) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args(args)
        // The environment lies on the stack: with it, alignment would change from caller to caller.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Giving memory back goes by the clock.
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .stdin(Stdio::null())
        .output()
        .context("cannot run valgrind; `cargo xtask setup` installs it")?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the run under valgrind ended with {}: {report}", output.status);
    }
    instructions(&report).with_context(|| format!("valgrind did not say how many instructions: {report}"))
}

/// The total of cachegrind's summary: `==1== I   refs:      1,234,567`, `I refs:` in newer versions.
#[must_use]
pub fn instructions(report: &str) -> Option<u64> {
    report.lines().find_map(|line| {
        let (label, number) = line.split_once("refs:")?;
        let is_total = label.split_whitespace().next_back() == Some("I");
        if is_total { number.trim().replace(',', "").parse().ok() } else { None }
    })
}

/// Wall time of one round, in nanoseconds: the least of several tries, so that what else runs shows little. Only for
/// orientation.
#[must_use]
pub fn nanoseconds(case: &Case) -> f64 {
    const TRIES: usize = 5;
    const FACTOR: u32 = 4;
    let least = |rounds: u32| {
        let time = |_| {
            let start = Instant::now();
            (case.run)(rounds);
            start.elapsed()
        };
        (0..TRIES).map(time).min().unwrap_or(Duration::ZERO)
    };
    let (short, long) = (least(case.rounds), least(FACTOR * case.rounds));
    long.saturating_sub(short).as_nanos() as f64 / f64::from((FACTOR - 1) * case.rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_either_form_of_the_summary() {
        assert_eq!(instructions("==1== \n==1== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(instructions("==12== I refs:        89\n"), Some(89));
        assert_eq!(instructions("==1== I   refs:      5\n==1== D   refs:      9\n"), Some(5));
        assert_eq!(instructions("==1== D   refs:      9\n==1== LLi misses:  1\n"), None);
    }
}

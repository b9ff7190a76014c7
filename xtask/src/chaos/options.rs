//! What is asked for: `[SCENARIO...] [--clients N] [--seconds N] [--json] [--page]`.

use super::scenarios::{SCENARIOS, Scenario};
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// Clients of a stage of `cargo xtask test`.
const CLIENTS: u32 = 200;
/// Writing before, between and after what goes wrong, in such a stage.
const HOLD: Duration = Duration::from_secs(2);
/// From here on a run is a long one: leases and graces are the usual ones, and nothing runs beside it.
const LONG_FROM: u32 = 1_000;
const LONG_HOLD: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenarios: Vec<&'static Scenario>,
    pub(super) plan: Plan,
    pub(super) is_json: bool,
    /// A page for `benches/results` is written.
    pub(super) is_page: bool,
}

/// How large and how long a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) clients: u32,
    /// How long clients write before, between and after what goes wrong.
    pub(super) hold: Duration,
    /// As it is in the field: the usual lease and grace.
    pub(super) is_long: bool,
}

impl Options {
    pub(super) fn parse(args: &[String]) -> Result<Self> {
        let (mut names, mut clients, mut seconds) = (Vec::new(), CLIENTS, None);
        let (mut is_json, mut is_page) = (false, false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--clients" => clients = value()?.parse().context("--clients")?,
                "--seconds" => seconds = Some(value()?.parse().context("--seconds")?),
                "--json" => is_json = true,
                "--page" => is_page = true,
                name if name.starts_with('-') => {
                    bail!("chaos: what is {name}? `cargo xtask help` shows what there is")
                }
                name => names.push(name.to_owned()),
            }
        }
        ensure!((20..=10_000).contains(&clients), "--clients: from 20 to 10000");
        let is_long = clients >= LONG_FROM;
        let usual = if is_long { LONG_HOLD } else { HOLD };
        let hold = seconds.map_or(usual, Duration::from_secs);
        let plan = Plan { clients, hold, is_long };
        Ok(Self { scenarios: find(&names)?, plan, is_json, is_page })
    }
}

fn find(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let known = || SCENARIOS.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    let one = |name: &String| {
        let found = SCENARIOS.iter().find(|one| one.name == name);
        found.with_context(|| format!("no scenario `{name}`; there are {}", known()))
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_names_all_scenarios_run_and_many_clients_make_a_long_run() {
        let options = parse("").unwrap();
        assert_eq!((options.scenarios.len(), options.plan.is_long), (SCENARIOS.len(), false));
        let options = parse("kill race --clients 10000 --page").unwrap();
        assert_eq!((options.scenarios.len(), options.plan.is_long, options.is_page), (2, true, true));
        assert_eq!(parse("--seconds 5").unwrap().plan.hold, Duration::from_secs(5));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for wrong in ["nothing", "--what", "--clients 1", "--clients", "--clients 100000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

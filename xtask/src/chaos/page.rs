//! A page for `benches/results`.

use super::options::Options;
use super::outcome::Outcome;
use super::scenarios::SCENARIOS;
use crate::shell::{command, root, stdout};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// Writes it; its path.
pub(super) fn write(options: &Options, outcomes: &[Outcome]) -> Result<PathBuf> {
    let date = stdout(command("date").args(["--utc", "+%Y-%m-%d-%H%M%S"]))?;
    let path = root().join(format!("benches/results/{}-chaos.md", date.trim()));
    fs::write(&path, text(options, outcomes)?).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn text(options: &Options, outcomes: &[Outcome]) -> Result<String> {
    let names: Vec<&str> = options.scenarios.iter().map(|scenario| scenario.name).collect();
    let names = if names.len() == SCENARIOS.len() { String::new() } else { names.join(" ") + " " };
    let plan = &options.plan;
    let mut text = format!(
        "# Chaos\n\n`cargo xtask chaos {names}--clients {} --seconds {} --page`, source {}: real processes on one machine, two regions with two nodes \
         each (`relay-stop`: one), a Redis for each region and one for the registry (with a replica each and three sentinels, unless a row needs it otherwise), \
         {}. The load generator runs beside them and checks every edit: half of the clients speak Hocuspocus, two a document, and \
         are told what is acknowledged; the others are y-websocket clients, five a document. All come back when they lose a connection, \
         as stock clients do, and send what the server lacks.\n\n{}\n\n",
        plan.clients,
        plan.hold.as_secs(),
        revision()?,
        if plan.is_long { "leases of 20 s, graces of 10 s" } else { "leases of 6 s, graces of 3 s" },
        machine()?
    );
    text += "*Faults* are edits lost, duplicated, reordered or corrupted, and clients that end with other content than the rest. *Brought* are edits \
             that were acknowledged, were not there when their writer came back, and were brought again by it: a fault too, but where docs/regions.md \
             says that what was acknowledged is out of reach or gone (`partition`, `stop`, these with `relay-`, and `region-restart`). *Absent* clients are not back in the end. *Back after* is from \
             the loss of a connection until its client was synced again, wherever; of the two loads the greater.\n\n\
             | scenario | clients | edits | deliveries checked | faults | brought | absent | connections lost | redirects | back after p50 | p99 | max |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for outcome in outcomes {
        let [p50, p99, max] = outcome.recover_ms.map(|ms| match ms {
            0.0 => "-".to_owned(),
            _ => format!("{:.1} s", ms / 1e3),
        });
        text += &format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {p50} | {p99} | {max} |\n",
            outcome.scenario,
            outcome.clients,
            outcome.edits,
            outcome.checked,
            outcome.faults,
            outcome.brought,
            outcome.absent,
            outcome.lost,
            outcome.redirected
        );
    }
    for outcome in outcomes {
        let scenario = SCENARIOS.iter().find(|one| one.name == outcome.scenario);
        text += &format!("\n`{}`: {}.\n\n", outcome.scenario, scenario.map_or("", |one| one.what));
        for note in &outcome.notes {
            text += &format!("- {note}\n");
        }
        for problem in &outcome.problems {
            text += &format!("- **problem**: {problem}\n");
        }
    }
    Ok(text)
}

/// The commit that is checked out, and whether something was changed since.
fn revision() -> Result<String> {
    let commit = stdout(command("git").args(["rev-parse", "--short", "HEAD"]))?;
    let is_changed = !stdout(command("git").args(["status", "--porcelain"]))?.trim().is_empty();
    Ok(format!("{}{}", commit.trim(), if is_changed { " with changes" } else { "" }))
}

/// What it ran on.
fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |it| it.1);
    let cores = std::thread::available_parallelism()?;
    let kernel = stdout(command("uname").arg("-r"))?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(format!(
        "{cores} processors ({model}), {} GiB, Linux {}, Redis 7.0, everything on the same machine.",
        kib.unwrap_or(0) >> 20,
        kernel.trim()
    ))
}

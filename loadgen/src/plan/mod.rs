//! `plan`: what hosts need for so many connections, computed from measured coefficients.
//!
//! `coefficients` reads the one file of figures, `needs` computes, `text` tells.

mod coefficients;
mod needs;
mod text;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::plan::coefficients::Coefficients;
use crate::plan::needs::Needs;

/// Flags of `plan`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PlanArgs {
    /// Connections over all hosts: 250000, 250k or 1M.
    #[arg(long, short = 'c', value_parser = count)]
    pub connections: u64,
    /// Members of a document.
    #[arg(long, default_value_t = 10)]
    pub members: u64,
    /// Updates a second of each document.
    #[arg(long, default_value_t = 0.0)]
    pub updates_per_second_per_document: f64,
    /// Bytes of an update; a typed character takes about 21.
    #[arg(long, default_value_t = 21)]
    pub update_bytes: u64,
    /// Bytes of each client's awareness state; 0 is none.
    #[arg(long, default_value_t = 0)]
    pub awareness_bytes: u64,
    /// Changes a second of each client's awareness state, as cursors make them, beside renewals.
    #[arg(long, default_value_t = 0.0)]
    pub awareness_rate: f64,
    /// Bytes of a document's content, compacted.
    #[arg(long, default_value_t = 0)]
    pub document_bytes: u64,
    /// Connections that come anew each second, over all hosts.
    #[arg(long, default_value_t = 0.0)]
    pub rate_of_reconnects: f64,
    /// Milliseconds from a host to its clients and back.
    #[arg(long, default_value_t = 50.0)]
    pub rtt_ms: f64,
    /// Speed of a core, by that of the machine that was measured.
    #[arg(long, default_value_t = 1.0)]
    pub core_speed: f64,
    /// Share of a core that is to be used at most.
    #[arg(long, default_value_t = 0.6)]
    pub core_use: f64,
    /// Hosts that share the connections; each is planned to carry its part of what one that fails leaves, too.
    #[arg(long, default_value_t = 1)]
    pub hosts: u64,
    /// As JSON.
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Plan {
    asked: PlanArgs,
    /// Of one host while all hosts are there.
    host: Needs,
    /// Of one host after another has failed, where there are several.
    host_after_a_failure: Option<Needs>,
    /// What is not certain about it.
    limits: Vec<String>,
    coefficients: Coefficients,
}

/// The plan, as text or JSON.
///
/// # Errors
/// A flag out of its range.
pub fn plan(args: &PlanArgs) -> Result<String> {
    ensure!(args.connections > 0 && args.members > 0 && args.hosts > 0, "nothing to plan for");
    ensure!(args.core_speed > 0.0, "--core-speed is above 0");
    ensure!(args.core_use > 0.0 && args.core_use <= 1.0, "--core-use is above 0 and at most 1");
    let rates =
        [args.updates_per_second_per_document, args.awareness_rate, args.rate_of_reconnects, args.rtt_ms];
    ensure!(rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0), "a rate is below 0");
    let coefficients = Coefficients::read()?;
    let host = Needs::of(args, args.hosts, &coefficients);
    let after = (args.hosts > 1).then(|| Needs::of(args, args.hosts - 1, &coefficients));
    let limits = needs::limits(args, after.as_ref().unwrap_or(&host));
    let plan = Plan { asked: args.clone(), host, host_after_a_failure: after, limits, coefficients };
    if args.json {
        return Ok(serde_json::to_string_pretty(&plan)? + "\n");
    }
    Ok(text::render(&plan))
}

/// `250000`, `250k`, `1M`, `1.5M`.
fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.trim().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text.trim()[..at], 1e6),
        _ => (text.trim(), 1.0),
    };
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok((value * unit).round() as u64),
        _ => Err(format!("`{text}` is no count; write it as 250000, 250k or 1M")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_with_their_units() {
        assert_eq!(count("250000"), Ok(250_000));
        assert_eq!((count("250k"), count("1.5M")), (Ok(250_000), Ok(1_500_000)));
        assert!(count("many").unwrap_err().contains("`many`"));
        assert!(count("-1").is_err());
    }
}

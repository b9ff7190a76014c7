//! What is asked for: `[--regions N] [--nodes N] [--relay] [--lanes] [--silence MS] [--set KEY=VALUE] [--debug] [--json] [-- COMMAND]`.

use super::site::Site;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names that regions are given, in this order.
const REGIONS: [&str; 6] =
    ["eu-central-1", "us-east-1", "ap-south-1", "us-west-2", "eu-west-1", "ap-northeast-1"];

/// What keeps sessions and pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Masters with a replica each, watched by sentinels.
    Watched,
    /// A server each, behind a [`Lane`](super::Lane) that can be made slow.
    Lanes,
    /// A server each.
    Bare,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    regions: usize,
    /// In each region.
    pub(crate) nodes: usize,
    pub(crate) layout: Layout,
    /// Where regions and the registry are that are not on loopback, by name.
    pub(crate) sites: BTreeMap<String, Site>,
    /// Regions can be cut off: what leads to them and out of them are lanes, too.
    pub(crate) has_borders: bool,
    /// Nodes carry sessions to other regions instead of redirecting.
    pub(crate) is_relay: bool,
    /// A master that is silent for so long is replaced.
    pub(crate) silence: Duration,
    /// Settings of all nodes, `KEY=VALUE`.
    pub(crate) settings: Vec<String>,
    /// The nodes are those of a development build.
    pub(crate) is_debug: bool,
    pub(crate) is_json: bool,
    /// Runs beside the cluster, which ends with it.
    pub(crate) command: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            regions: 2,
            nodes: 2,
            layout: Layout::Watched,
            sites: BTreeMap::new(),
            has_borders: false,
            is_relay: false,
            silence: Duration::from_secs(2),
            settings: Vec::new(),
            is_debug: false,
            is_json: false,
            command: Vec::new(),
        }
    }
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--regions" => options.regions = value()?.parse().context("--regions")?,
                "--nodes" => options.nodes = value()?.parse().context("--nodes")?,
                "--silence" => {
                    options.silence = Duration::from_millis(value()?.parse().context("--silence")?);
                }
                "--set" => options.settings.push(value()?.clone()),
                "--relay" => options.is_relay = true,
                "--lanes" => (options.layout, options.has_borders) = (Layout::Lanes, true),
                "--debug" => options.is_debug = true,
                "--json" => options.is_json = true,
                "--" => {
                    options.command = args.by_ref().cloned().collect();
                    ensure!(!options.command.is_empty(), "a command is missing after `--`");
                }
                other => bail!("cluster: what is {other}? `cargo xtask help` shows what there is"),
            }
        }
        ensure!((1..=REGIONS.len()).contains(&options.regions), "--regions: from 1 to {}", REGIONS.len());
        ensure!((1..=16).contains(&options.nodes), "--nodes: from 1 to 16");
        Ok(options)
    }

    /// Where a region is, or the registry.
    pub(crate) fn site(&self, name: &str) -> Site {
        self.sites.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn region_names(&self) -> Vec<String> {
        REGIONS[..self.regions].iter().map(|name| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_stands_behind_the_dashes_is_the_command() {
        let options = parse("--regions 3 --json -- run --json me").unwrap();
        assert_eq!((options.region_names().len(), options.nodes, options.is_json), (3, 2, true));
        assert_eq!(options.command, ["run", "--json", "me"]);
        assert_eq!((options.layout, options.has_borders), (Layout::Watched, false));
    }

    #[test]
    fn with_lanes_servers_can_be_slow_and_regions_be_cut_off() {
        let options = parse("--lanes --relay").unwrap();
        assert_eq!((options.layout, options.has_borders, options.is_relay), (Layout::Lanes, true, true));
    }

    #[test]
    fn what_makes_no_cluster_is_refused() {
        for wrong in ["--regions 0", "--regions 7", "--nodes 0", "--nodes", "--what", "--"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

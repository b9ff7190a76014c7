//! What keeps sessions and pins: a server for the registry, and one for each region.

use super::REGISTRY;
use super::lane::Lane;
use super::options::{Layout, Options};
use super::redis::{Master, Sentinels};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// The registry's server first, then those of the regions in their order.
#[derive(Debug)]
pub(crate) struct Stores {
    sentinels: Option<Sentinels>,
    lanes: Vec<Lane>,
    pub(crate) masters: Vec<Master>,
}

impl Stores {
    pub(super) fn start(options: &Options, folder: &Path) -> Result<Self> {
        let regions = options.region_names();
        let is_watched = options.layout == Layout::Watched;
        let mut masters = Vec::new();
        for name in std::iter::once(REGISTRY).chain(regions.iter().map(String::as_str)) {
            masters.push(Master::start(name, &options.site(name), is_watched, folder)?);
        }
        let sentinels = match is_watched {
            true => Some(Sentinels::start(&masters, options.silence, folder)?),
            false => None,
        };
        let mut lanes = Vec::new();
        if options.layout == Layout::Lanes {
            for master in &masters {
                let (host, port) = master.address();
                lanes.push(Lane::start(host, port)?);
            }
        }
        Ok(Self { sentinels, lanes, masters })
    }

    /// Where nodes find the registry's server, or a region's.
    pub(super) fn url(&self, name: &str) -> String {
        if let Some(sentinels) = &self.sentinels {
            return sentinels.url(name);
        }
        let Some(at) = self.masters.iter().position(|master| master.name == name) else {
            return String::new();
        };
        let (host, port) = self.masters[at].address();
        let port = self.lanes.get(at).map_or(port, Lane::port);
        format!("redis://{host}:{port}")
    }

    /// Host and port of the registry, where that is one server.
    pub(super) fn registry(&self) -> (&str, u16) {
        let (host, port) = self.masters[0].address();
        (host, self.lanes.first().map_or(port, Lane::port))
    }

    /// The server of the registry or of a region.
    pub(crate) fn master(&mut self, name: &str) -> Result<&mut Master> {
        let master = self.masters.iter_mut().find(|master| master.name == name);
        master.with_context(|| format!("there is no server of {name}"))
    }

    /// The way to it.
    pub(crate) fn lane(&self, name: &str) -> Result<&Lane> {
        let at = self.masters.iter().position(|master| master.name == name);
        let lane = at.and_then(|at| self.lanes.get(at));
        lane.with_context(|| format!("there is no lane to {name}"))
    }

    pub(super) fn describe_sentinels(&self) -> Value {
        self.sentinels.as_ref().map(Sentinels::describe).unwrap_or_default()
    }
}

//! Which region has which documents, and what its store has of them.

use super::rig::Rig;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Documents of a session store, each with the number of batches that were appended.
const HEADS: &str = "local said = {} for _, key in ipairs(redis.call('KEYS', '*:doc:*')) do \
                     said[#said + 1] = key .. ' ' .. redis.call('HGET', key, 'seq') end return table.concat(said, '\\n')";

impl Rig<'_> {
    /// Documents whose names begin so, by region, in order.
    pub(super) fn owners(&self, prefix: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pin in self.pins()? {
            let name = text(&pin["name"]);
            if name.starts_with(prefix) {
                owners.entry(text(&pin["region"])).or_default().push(name);
            }
        }
        // Those of different apps, too.
        owners.values_mut().for_each(|documents| documents.sort_unstable());
        Ok(owners)
    }

    /// The region that has most of the documents whose clients are told what is acknowledged, and these. Which one that is, is
    /// decided by who comes first: a region may have none.
    pub(super) fn busiest(&self) -> Result<(String, Vec<String>)> {
        let owners = self.owners("hocuspocus-")?;
        owners.into_iter().max_by_key(|(_, documents)| documents.len()).context("nothing is pinned")
    }

    /// A region's nodes, by their numbers. Redirects name the last: it registered last.
    pub(super) fn nodes_of(&self, region: &str) -> Vec<usize> {
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.region == region).map(|(at, _)| at).collect()
    }

    /// A node of a region that has documents alone: that which redirects name.
    pub(super) fn lonely(&self, region: &str) -> Result<usize> {
        self.nodes_of(region).pop().context("a node")
    }

    /// Documents that a region's store has, with the number of batches of each.
    pub(super) fn batches(&mut self, region: &str) -> Result<BTreeMap<String, u64>> {
        let said = self.cluster.stores.master(region)?.eval_first(HEADS)?;
        let head = |line: &str| {
            let (key, batches) = line.rsplit_once(' ')?;
            Some((key.rsplit('/').next()?.to_owned(), batches.trim().parse().ok()?))
        };
        let heads: BTreeMap<String, u64> = said.lines().filter_map(head).collect();
        ensure!(!heads.is_empty(), "the store of {region} has no document: {said}");
        Ok(heads)
    }

    /// Waits until a region's store has been given as many batches of these documents as there are documents, and writers know that.
    pub(super) fn wait_until_acknowledged(&mut self, region: &str, documents: &[String]) -> Result<()> {
        self.wait("edits are acknowledged", self.plan.hold, |rig| {
            let batches = rig.batches(region)?;
            let stored: u64 = documents.iter().filter_map(|document| batches.get(document)).sum();
            ensure!(stored >= documents.len() as u64, "{stored} of {} documents", documents.len());
            Ok(true)
        })?;
        self.hold()
    }
}

//! What nodes may admit of an app's limit.
//!
//! A node may admit as many connections as its share, without asking. Its share falls only with an answer to itself, since until
//! then it admits by the old one; so what others gain, they gain after that. The sum of what was told never passes the
//! limit, but where nodes have more connections already than the limit allows (it was lowered).
//!
//! Shares are fair: the level is the highest for which everybody gets what it wants up to the level, or what it has if that is
//! more. What rounding leaves goes to who asks first.

use crate::Node;
use std::collections::BTreeMap;

/// What a node uses, and what it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) connections: u32,
    pub(super) wanted: u32,
    pub(super) share: u32,
}

/// What all nodes use of an app.
#[derive(Debug, Default)]
pub(super) struct Uses {
    nodes: BTreeMap<Node, Used>,
    limit: u32,
}

/// A share that was allotted, and whose is to be seen through next.
pub(super) struct Allotted {
    pub(super) share: u32,
    pub(super) turn: Vec<Node>,
}

impl Uses {
    pub(super) fn connections(&self) -> u32 {
        self.nodes.values().fold(0, |sum, used| sum.saturating_add(used.connections))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.keys()
    }

    pub(super) fn share(&self, node: &Node) -> Option<u32> {
        self.nodes.get(node).map(|used| used.share)
    }

    pub(super) fn remove(&mut self, node: &Node) {
        self.nodes.remove(node);
    }

    /// What a node says. Its share stays what it was.
    pub(super) fn tell(&mut self, node: &Node, used: Used, limit: u32) {
        self.limit = limit;
        if used.wanted == 0 {
            self.nodes.remove(node);
        } else {
            let share = self.share(node).unwrap_or(0);
            self.nodes.insert(node.clone(), Used { share, ..used });
        }
    }

    pub(super) fn allot(&mut self, node: &Node) -> Allotted {
        let level = self.level();
        let fair = |used: &Used| u64::from(used.connections.max(used.wanted.min(level)));
        let limit = u64::from(self.limit);
        let spare = limit.saturating_sub(self.nodes.values().map(fair).sum());
        let others = self.nodes.iter().filter(|(other, _)| *other != node);
        let told: u64 = others.clone().map(|(_, used)| u64::from(used.share.max(used.connections))).sum();
        let mut turn: Vec<Node> = others
            .filter(|(_, used)| {
                u64::from(used.share) > fair(used) + spare || u64::from(used.share) < fair(used)
            })
            .map(|(other, _)| other.clone())
            .collect();
        let Some(used) = self.nodes.get(node).copied() else { return Allotted { share: 0, turn } };
        let fits = u64::from(used.wanted).min(fair(&used) + spare).min(limit.saturating_sub(told));
        let share = u32::try_from(fits).unwrap_or(u32::MAX).max(used.connections);
        if u64::from(share) < fair(&used) {
            turn.push(node.clone());
        }
        self.nodes.insert(node.clone(), Used { share, ..used });
        Allotted { share, turn }
    }

    /// The highest level at which all fair shares fit the limit.
    fn level(&self) -> u32 {
        let fits = |level: u32| {
            let fair =
                self.nodes.values().map(|used| u64::from(used.connections.max(used.wanted.min(level))));
            fair.sum::<u64>() <= u64::from(self.limit)
        };
        let highest = self.nodes.values().map(|used| used.wanted).max().unwrap_or(0);
        if fits(highest) {
            return highest;
        }
        // `low` fits, or nothing does; `high` does not.
        let (mut low, mut high) = (0, highest);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        low
    }
}

//! What goes wrong, one file each.

mod failover;
mod flood;
mod kill;
mod partition;
mod race;
mod restart;
mod slow;
mod stop;

use super::rig::Rig;
use crate::cluster::Layout;
use anyhow::Result;
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// For pages.
    pub(super) what: &'static str,
    pub(super) layout: Layout,
    /// A master that is silent for so long is replaced.
    pub(super) silence: Duration,
    /// The registry loses what it was told last, or everything.
    pub(super) is_forgetful: bool,
    /// The last region has a network of its own.
    pub(super) is_split: bool,
    /// Nodes carry sessions to other regions instead of redirecting.
    pub(super) is_relay: bool,
    /// In each region.
    pub(super) nodes: usize,
    pub(super) run: fn(&mut Rig) -> Result<()>,
}

const SOON: Duration = Duration::from_secs(1);
/// Longer than a server takes to start again.
const LATE: Duration = Duration::from_secs(10);

const fn scenario(
    name: &'static str,
    layout: Layout,
    silence: Duration,
    run: fn(&mut Rig) -> Result<()>,
    what: &'static str,
) -> Scenario {
    let (is_forgetful, is_split, is_relay, nodes) = (false, false, false, 2);
    Scenario { name, what, layout, silence, is_forgetful, is_split, is_relay, nodes, run }
}

/// The longest first: they run side by side.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        is_split: true,
        is_relay: true,
        ..scenario(
            "relay-partition",
            Layout::Bare,
            SOON,
            partition::run,
            "the same with sessions carried between the regions: links break, and clients are carried again where the document is then",
        )
    },
    Scenario {
        is_relay: true,
        nodes: 1,
        ..scenario(
            "relay-stop",
            Layout::Watched,
            SOON,
            stop::run,
            "the only node of a region is stopped (SIGSTOP) for longer than its lease while sessions are carried to it and from it, and goes on",
        )
    },
    Scenario {
        is_relay: true,
        ..scenario(
            "relay-kill",
            Layout::Watched,
            SOON,
            kill::run,
            "a node of each region is killed (SIGKILL) while sessions are carried to it and from it, and started again",
        )
    },
    Scenario {
        is_split: true,
        ..scenario(
            "partition",
            Layout::Bare,
            SOON,
            partition::run,
            "a region is cut off from the world (network namespaces), its clients go elsewhere, and it comes back",
        )
    },
    scenario(
        "stop",
        Layout::Watched,
        SOON,
        stop::run,
        "a node is stopped (SIGSTOP) for longer than its lease, and goes on",
    ),
    scenario(
        "kill",
        Layout::Watched,
        SOON,
        kill::run,
        "a node of each region is killed (SIGKILL), and started again",
    ),
    scenario(
        "session-failover",
        Layout::Watched,
        SOON,
        failover::session,
        "the master of a region's sessions is killed; then a node of that region",
    ),
    Scenario {
        is_forgetful: true,
        ..scenario(
            "registry-failover",
            Layout::Watched,
            SOON,
            failover::registry,
            "the master of the registry is killed; then new documents are opened",
        )
    },
    scenario(
        "session-restart",
        Layout::Watched,
        LATE,
        restart::session,
        "the server of a region's sessions starts again with nothing; then a node is killed",
    ),
    scenario(
        "region-restart",
        Layout::Watched,
        LATE,
        restart::region,
        "all nodes of a region and the server of its sessions are killed, and start again with nothing",
    ),
    Scenario {
        is_forgetful: true,
        ..scenario(
            "registry-restart",
            Layout::Watched,
            LATE,
            restart::registry,
            "the registry's server starts again with nothing",
        )
    },
    scenario(
        "slow",
        Layout::Lanes,
        SOON,
        slow::run,
        "answers of the regions' servers, of the registry's, and of both arrive 500 ms later",
    ),
    scenario(
        "flood",
        Layout::Lanes,
        SOON,
        flood::run,
        "every node is asked /discovery as fast as it goes, while the registry is 500 ms away",
    ),
    scenario(
        "race",
        Layout::Watched,
        SOON,
        race::run,
        "all clients dial 4 nodes in 2 regions at once, ten to each idle document",
    ),
];

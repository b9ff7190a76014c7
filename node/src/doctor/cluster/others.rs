//! Nodes by their links, regions by their `/health`.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use pinwire_registry::NodeView;

use super::stores::Store;
use super::{Finding, Note, Outcome, finding, summed};
use crate::config::{Config, Peer, RegistryKind};
use crate::peer::knock;
use crate::regions::{Catalogue, look_once};

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let (regions, nodes) = tokio::join!(regions(config), nodes(config));
    [regions, nodes].into_iter().flatten().collect()
}

async fn regions(config: &Config) -> Option<Finding> {
    let catalogue = Catalogue::new(&config.region.name, "", &config.regions);
    let seen = match look_once(&catalogue, &config.cluster).await {
        Ok(seen) => seen,
        Err(error) => {
            return Some(finding("regions", Outcome::Skip, format!("no region can be asked: {error}")));
        }
    };
    let mend = "its url in [[regions]], its nodes, or status = \"maintenance\" if it is down on purpose";
    let notes: Vec<Note> = seen
        .into_iter()
        .map(|(name, seen)| match seen {
            Ok((took, "healthy")) => {
                Note::good(&name, format!("is healthy, {:.1} ms from here", took.as_secs_f64() * 1000.0))
            }
            Ok((_, word)) => Note::bad(Outcome::Warn, &name, format!("says that it is {word}"), mend),
            Err(reason) => {
                Note::bad(Outcome::Warn, &name, format!("does not answer /health: {reason}"), mend)
            }
        })
        .collect();
    summed("regions", "other regions", &notes)
}

/// Other nodes with the address of their links, as registries know them.
async fn nodes(config: &Config) -> Option<Finding> {
    let peer = config.cluster.peer.as_ref()?;
    let RegistryKind::Redis(licenses) = &config.cluster.registry else { return None };
    let stores: Vec<Store> =
        licenses.iter().map(|license| Store::registry(license, config.cluster.lease)).collect();
    let known = join_all(stores.iter().map(Store::nodes)).await;
    let mut others = BTreeMap::<String, NodeView>::new();
    for view in known.into_iter().flatten().flatten() {
        let is_self = *view.node.region == *config.region.name && *view.node.name == *config.cluster.node;
        if !is_self {
            others.insert(format!("{}/{}", view.node.region, view.node.name), view);
        }
    }
    if others.is_empty() {
        return Some(finding("peers", Outcome::Skip, "no other node lives that links could be tried to"));
    }
    let tried = join_all(others.iter().map(|(name, view)| look_at(peer, name, view))).await;
    summed("peers", "other nodes", &tried)
}

async fn look_at(peer: &Peer, name: &str, view: &NodeView) -> Note {
    if view.peer_address.is_empty() {
        let found = "takes no links: sessions cannot be carried to it";
        return Note::bad(Outcome::Warn, name, found, "cluster.peer_listen there");
    }
    match knock(peer, name, &view.peer_address).await {
        Ok(()) => Note::good(name, format!("lets this node in at {}", view.peer_address)),
        Err(reason) => {
            let mend = if reason.contains("secret") || reason.contains("closed") {
                "the same cluster.peer_secret_file, and TLS with all nodes or with none"
            } else {
                "cluster.peer_address there, and a way from this host to it"
            };
            Note::bad(Outcome::Fail, name, format!("is not reached at {}: {reason}", view.peer_address), mend)
        }
    }
}

//! Which node of another region a document's sessions are carried to.
//!
//! One that holds the document; during its grace, when none does, any of the region. Of several it is the same for everybody who asks
//! for the document, so that its sessions meet on one node where they can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use pinwire_protocol::close::Close;
use pinwire_registry::{Answer, DocumentName as RegistryName, Node, NodeView, Pin, Registry, Request};
use pinwire_shard::{Pinned, Route};
use tokio::time::{Instant, timeout};

use super::Find;
use super::dial::link_to;
use super::hub::Hub;
use crate::cluster::AnyRegistry;
use crate::data::Envelope;

/// How long a registry is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// For how long it is remembered which nodes live.
const NODES_KNOWN: Duration = Duration::from_secs(5);
/// Nodes that are tried for one document.
const TRIED_MAX: usize = 3;
/// When a client comes back whose document's region is not reached, in milliseconds; at the latest after twice that.
const RETRY_MS: u64 = 2_000;

/// Nodes by registry, and when they were asked for.
type Known = BTreeMap<u8, (Instant, Rc<[NodeView]>)>;

/// The nodes of all regions, as the registries know them.
pub(super) struct Regions {
    registries: Vec<AnyRegistry>,
    nodes: RefCell<Known>,
}

impl Regions {
    pub(super) fn new(registries: Vec<AnyRegistry>) -> Self {
        Self { registries, nodes: RefCell::default() }
    }

    async fn ask(&self, registry: u8, request: Request) -> Option<Answer> {
        let asked = self.registries.get(usize::from(registry))?.ask(request);
        timeout(PATIENCE, asked).await.ok()?.ok()
    }

    /// Where a document is; `None` if the registry does not answer.
    pub(super) async fn locate(&self, registry: u8, document: RegistryName) -> Option<Option<Pin>> {
        match self.ask(registry, Request::Locate { document }).await? {
            Answer::Located(pin) => Some(pin),
            _ => None,
        }
    }

    /// Nodes of a region that others can reach, those that are named first.
    pub(super) async fn nodes_of(&self, registry: u8, region: &str, first: &[Node]) -> Vec<NodeView> {
        let nodes = self.nodes(registry).await.unwrap_or_default();
        let mut nodes = reachable(&nodes, region);
        nodes.sort_by_key(|node| !is_one_of(first, node));
        nodes
    }

    async fn nodes(&self, registry: u8) -> Option<Rc<[NodeView]>> {
        let known = self.nodes.borrow().get(&registry).cloned();
        if let Some((_, nodes)) = known.filter(|(since, _)| since.elapsed() < NODES_KNOWN) {
            return Some(nodes);
        }
        let Answer::Nodes(nodes) = self.ask(registry, Request::Nodes).await? else { return None };
        let nodes: Rc<[NodeView]> = nodes.into();
        self.nodes.borrow_mut().insert(registry, (Instant::now(), Rc::clone(&nodes)));
        Some(nodes)
    }

    /// Nodes to try, the best first, and the claim they have the document under; nothing if the registry is out of reach or
    /// says that no other region has it.
    async fn candidates(&self, me: &str, find: &Find) -> Option<(Pinned, Vec<NodeView>)> {
        let request = Request::Locate { document: find.name.clone() };
        let Answer::Located(pin) = self.ask(find.registry, request).await? else { return None };
        // If it is this region's by now, or nobody's, whoever comes again claims it.
        let pin =
            pin.filter(|pin| me.split_once('/').is_none_or(|(region, _)| *pin.owner.region != *region))?;
        let nodes = self.nodes(find.registry).await?;
        let claim = pin.owner.claim;
        Some((Pinned { epoch: claim.epoch, nonce: claim.nonce }, best_first(&nodes, &pin, &find.name)))
    }
}

/// Nodes of a region that others can reach.
fn reachable(nodes: &[NodeView], region: &str) -> Vec<NodeView> {
    let is_there = |node: &&NodeView| *node.node.region == *region && !node.peer_address.is_empty();
    nodes.iter().filter(is_there).cloned().collect()
}

/// Nodes of the region that has a document, those that hold it before the others.
fn best_first(nodes: &[NodeView], pin: &Pin, document: &RegistryName) -> Vec<NodeView> {
    let mut nodes = reachable(nodes, &pin.owner.region);
    nodes.sort_by_cached_key(|node| (!is_one_of(&pin.nodes, node), rank(node, document)));
    nodes
}

/// Whether a node is named there, in whatever life: one that lost its lease has begun another since the nodes were asked for, and is
/// reached where it was.
pub(super) fn is_one_of(nodes: &[Node], node: &NodeView) -> bool {
    nodes.iter().any(|named| named.region == node.node.region && named.name == node.node.name)
}

/// The same on every node for the same node and document.
fn rank(node: &NodeView, document: &RegistryName) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&*node.node.name, document.app.0.as_ref(), &*document.name).hash(&mut hasher);
    hasher.finish()
}

/// Looks for a way and tells the data thread.
pub(super) async fn answer(hub: Rc<Hub>, find: Find) {
    let route = look(&hub, &find).await.ok_or_else(|| Close::try_again(retry_ms(&find.name)));
    hub.post(find.thread, Envelope::Found { document: find.document, route }).await;
}

async fn look(hub: &Rc<Hub>, find: &Find) -> Option<Route> {
    let (claim, nodes) = hub.regions.candidates(&hub.name, find).await?;
    if nodes.is_empty() {
        tracing::warn!(region = %find.owner.region, "a region has documents and no node that others can reach");
    }
    let takes_more =
        |node: &&NodeView| !hub.is_left_alone(&format!("{}/{}", node.node.region, node.node.name));
    for node in nodes.iter().filter(takes_more).take(TRIED_MAX) {
        if let Ok(link) = link_to(hub, node).await {
            return Some(Route { link, claim });
        }
    }
    None
}

/// Spread over documents, so that the clients of many do not come back together.
fn retry_ms(document: &RegistryName) -> u64 {
    let mut hasher = DefaultHasher::new();
    (document.app.0.as_ref(), &*document.name).hash(&mut hasher);
    RETRY_MS + hasher.finish() % RETRY_MS
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pinwire_registry::{AppName, Claim, Owner};

    use super::*;

    fn node(region: &str, name: &str, life: u64) -> Node {
        Node { region: region.into(), name: name.into(), life }
    }

    fn view(node: Node) -> NodeView {
        let text = |text: &str| text.into();
        NodeView {
            node,
            ws_url: text("wss://eu.example"),
            peer_address: text("peer.example:7000"),
            version: text("1.0.0"),
            admin_url: text(""),
        }
    }

    #[test]
    fn a_holder_comes_first_also_when_it_began_another_life_since_nodes_were_asked_for() {
        let known = [view(node("eu", "one", 1)), view(node("eu", "two", 1)), view(node("us", "one", 1))];
        for (holder, number) in [("one", 0), ("two", 0), ("one", 7), ("two", 8)] {
            let document =
                RegistryName { app: AppName("acme".into()), name: format!("notes-{number}").into() };
            let owner =
                Owner { region: "eu".into(), ws_url: "wss://eu.example".into(), claim: Claim::default() };
            let nodes = vec![node("eu", holder, 2)];
            let pin = Pin { document: document.clone(), owner, nodes, grace: None };
            let names = best_first(&known, &pin, &document).into_iter().map(|view| view.node.name);
            let other = if holder == "one" { "two" } else { "one" };
            assert_eq!(names.collect::<Vec<_>>(), [holder, other].map(Arc::from));
        }
    }
}

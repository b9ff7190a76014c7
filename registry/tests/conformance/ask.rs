//! Short ways to ask.

use pinwire_registry::{
    Answer, AppName, AppUse, Asserted, Claim, Claimed, DocumentName, Node, NodeView, Owner, Pin, Registry,
    Renewed, Request, Used,
};

pub const MILLISECOND: u64 = 1000;
pub const LEASE: u64 = 20_000 * MILLISECOND;
/// A hold of a node that has no other, and one above all.
pub const HOLD: u64 = 1;
pub const ANY_HOLD: u64 = 1 << 40;
pub const GRACE: u64 = 10_000 * MILLISECOND;

pub async fn ask(registry: &dyn Registry, request: Request) -> Answer {
    registry.ask(request).await.unwrap_or_else(|error| panic!("{}", error.reason))
}

pub fn document(app: &str, name: &str) -> DocumentName {
    DocumentName { app: AppName(app.into()), name: name.into() }
}

pub fn node(region: &str, name: &str) -> Node {
    Node { region: region.into(), name: name.into(), life: fastrand::u64(..) }
}

pub fn view(node: &Node) -> NodeView {
    let ws_url = format!("wss://{}.example.net", node.region).into();
    let peer_address = format!("{}:9000", node.name).into();
    let admin_url = format!("https://{}:9180", node.name).into();
    NodeView { node: node.clone(), ws_url, peer_address, version: "1".into(), admin_url }
}

pub async fn register(registry: &dyn Registry, node: &Node, lease_us: u64) -> Renewed {
    match ask(registry, Request::Register { node: view(node), lease_us }).await {
        Answer::Renewed(renewed) => renewed,
        other => panic!("{other:?}"),
    }
}

/// A node that lives.
pub async fn new_node(registry: &dyn Registry, region: &str, name: &str) -> Node {
    let node = node(region, name);
    register(registry, &node, LEASE).await;
    node
}

pub async fn renew_with(
    registry: &dyn Registry,
    node: &Node,
    lease_us: u64,
    apps: &[AppUse],
) -> Option<Renewed> {
    let request = Request::Renew { node: node.clone(), lease_us, apps: apps.to_vec(), versions: Vec::new() };
    match ask(registry, request).await {
        Answer::Renewed(renewed) => Some(renewed),
        Answer::Unknown => None,
        other => panic!("{other:?}"),
    }
}

pub async fn renew(registry: &dyn Registry, node: &Node) -> Renewed {
    renew_with(registry, node, LEASE, &[]).await.expect("a node that lives")
}

pub async fn claim_at_most(
    registry: &dyn Registry,
    node: &Node,
    document: &DocumentName,
    most: u32,
) -> Claimed {
    let request = Request::Claim {
        document: document.clone(),
        node: node.clone(),
        nonce: fastrand::u64(..),
        hold: HOLD,
        max_documents: most,
        grace_us: GRACE,
    };
    match ask(registry, request).await {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

pub async fn claim(registry: &dyn Registry, node: &Node, document: &DocumentName) -> Claimed {
    claim_at_most(registry, node, document, u32::MAX).await
}

/// Claims what is idle.
pub async fn pin(registry: &dyn Registry, node: &Node, document: &DocumentName) -> Claim {
    match claim(registry, node, document).await {
        Claimed::Held { claim, is_new: true } => claim,
        other => panic!("{document} is not idle: {other:?}"),
    }
}

/// Claims what another region has.
pub async fn refused(registry: &dyn Registry, node: &Node, document: &DocumentName) -> Owner {
    match claim(registry, node, document).await {
        Claimed::Elsewhere(owner) => owner,
        other => panic!("{document} is not elsewhere: {other:?}"),
    }
}

pub async fn release(
    registry: &dyn Registry,
    node: &Node,
    document: &DocumentName,
    hold: u64,
    grace_us: u64,
) {
    let request = Request::Release { document: document.clone(), node: node.clone(), hold, grace_us };
    assert_eq!(ask(registry, request).await, Answer::Done);
}

pub async fn retire(registry: &dyn Registry, node: &Node, grace_us: u64) {
    assert_eq!(ask(registry, Request::Retire { node: node.clone(), grace_us }).await, Answer::Done);
}

pub async fn assert_pins(
    registry: &dyn Registry,
    node: &Node,
    pins: &[(DocumentName, Claim)],
) -> Option<Vec<Asserted>> {
    let pins = pins.iter().map(|(document, claim)| (document.clone(), *claim, HOLD)).collect();
    let request = Request::Assert { node: node.clone(), pins, grace_us: GRACE };
    match ask(registry, request).await {
        Answer::Asserted(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

pub async fn locate(registry: &dyn Registry, document: &DocumentName) -> Option<Pin> {
    match ask(registry, Request::Locate { document: document.clone() }).await {
        Answer::Located(pin) => pin,
        other => panic!("{other:?}"),
    }
}

pub async fn unpin(registry: &dyn Registry, document: &DocumentName) -> Option<Pin> {
    match ask(registry, Request::Unpin { document: document.clone() }).await {
        Answer::Located(pin) => pin,
        other => panic!("{other:?}"),
    }
}

pub async fn usage(registry: &dyn Registry, app: &str) -> Used {
    match ask(registry, Request::Usage { app: AppName(app.into()) }).await {
        Answer::Used(used) => used,
        other => panic!("{other:?}"),
    }
}

pub fn uses(app: &str, connections: u32, wanted: u32, max_connections: u32) -> AppUse {
    AppUse { app: AppName(app.into()), connections, wanted, max_connections }
}

/// Microseconds of real time, by an event of the clock.
pub async fn pass(microseconds: u64) {
    let until = tokio::time::Instant::now() + std::time::Duration::from_micros(microseconds);
    tokio::time::sleep_until(until).await;
}

/// Lets a node's lease run out.
pub async fn die(registry: &dyn Registry, node: &Node) {
    renew_with(registry, node, MILLISECOND, &[]).await.expect("a node that lives");
    pass(5 * MILLISECOND).await;
}

//! Documents that are moved to this region: driven here ([`Mover`]), or passed on to a node of the region it concerns.
//!
//! Each is a task of its own, a few at a time. What another region hands over comes in pieces, so many under way at once, and is
//! bounded as a document is.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pinwire_admin_api::events::What;
use pinwire_cluster::{Came, Decision, Mover, Outcome, Step, Unmoved};
use pinwire_peer::{
    GIVES_BACK_SINCE, HOLDERS_SINCE, LinkError, MESSAGE_MAX, Message, Moving, Named, PIECES_UNDER_WAY,
    Unpacked, encode, unpack,
};
use pinwire_registry::{Claim, DocumentName as RegistryName, Node, Region};
use pinwire_session::{Reply, Request};
use pinwire_shard::{DocumentName, Pinned};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::dial::link_to;
use super::find::is_one_of;
use super::give::{self, Give};
use super::hub::{Hub, Link};
use crate::cluster::{PinsRequest, registry_name};

/// Documents that are moved here at once, and as many that are handed over.
pub(super) const AT_ONCE: usize = 4;
/// Moves that operators want at once, here or elsewhere; more are refused.
pub(super) const WANTED_MAX: usize = 64;
/// Nodes of a region that are tried.
const TRIED_MAX: usize = 3;
/// How long another region has to hand a document over: less than its nodes wait.
const HANDING: Duration = Duration::from_secs(6);
/// How long a node of another region has to move a document there.
const PASSED_ON: Duration = Duration::from_secs(20);
/// What is said of moves has a stream of its own on each link.
const STREAM: u32 = u32::MAX;
/// What is waited for of one move: pieces, and what ends them.
const HEARD: usize = PIECES_UNDER_WAY as usize + 2;

/// A document that an operator wants to have moved.
#[derive(Debug)]
pub(crate) struct WantedMove {
    /// The number of the registry that knows of it.
    pub(super) registry: u8,
    pub(super) document: DocumentName,
    /// Where to.
    pub(super) region: Region,
    pub(super) reply: oneshot::Sender<Result<Outcome, NoWay>>,
}

/// No node of the region that a document is to be moved to could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// None is known that others can reach.
    NoNode,
    /// None could be reached.
    Unreached,
    /// It did not say what came of it.
    Silent,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Moves {
    last: Cell<u32>,
    /// What this node asked over links that it dialled.
    asked: RefCell<HashMap<(u16, u32), mpsc::Sender<Moving>>>,
    /// What is handed over.
    pub(super) gives: RefCell<HashMap<(u16, u32), Rc<Give>>>,
    wanted: Rc<Cell<usize>>,
    taking: Rc<Cell<usize>>,
    pub(super) giving: Rc<Cell<usize>>,
}

/// A place among those that are under way.
pub(super) struct Place(Rc<Cell<usize>>);

impl Place {
    pub(super) fn among(count: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(Rc::clone(count))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Moves {
    /// A link is gone, and whatever was asked over it.
    pub(super) fn link_lost(&self, link: u16) {
        self.asked.borrow_mut().retain(|(of, _), _| *of != link);
        self.gives.borrow().iter().filter(|((of, _), _)| *of == link).for_each(|(_, give)| give.settle());
    }
}

/// Something that is asked over a link, until it is dropped.
struct Asked {
    hub: Rc<Hub>,
    link: Rc<Link>,
    number: u32,
    heard: mpsc::Receiver<Moving>,
}

impl Asked {
    fn new(hub: &Rc<Hub>, link: Rc<Link>) -> Self {
        let moves = &hub.moves;
        let number = moves.last.get().wrapping_add(1);
        moves.last.set(number);
        let (told, heard) = mpsc::channel(HEARD);
        moves.asked.borrow_mut().insert((link.number, number), told);
        Self { hub: Rc::clone(hub), link, number, heard }
    }

    fn tell(&self, moving: Moving) {
        tell(&self.link, moving);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.hub.moves.asked.borrow_mut().remove(&(self.link.number, self.number));
    }
}

/// Says something over a link.
pub(super) fn tell(link: &Link, moving: Moving) {
    let mut bytes = Vec::new();
    encode(&Message::Moving(Box::new(moving)), &mut bytes);
    link.out.borrow_mut().push(STREAM, bytes);
    link.wake.notify_one();
}

pub(super) fn claim_of(Pinned { epoch, nonce }: Pinned) -> Claim {
    Claim { epoch, nonce }
}

fn pinned(Claim { epoch, nonce }: Claim) -> Pinned {
    Pinned { epoch, nonce }
}

fn named(document: &DocumentName) -> Named {
    let DocumentName { tenant, app, name } = document;
    Named { tenant: Box::from(&**tenant), app: Box::from(&**app), document: Box::from(&**name) }
}

pub(super) fn unnamed(named: Named) -> DocumentName {
    DocumentName { tenant: named.tenant.into(), app: named.app.into(), name: named.document }
}

/// Something came over a link.
///
/// # Errors
/// It was not for the other end to say.
pub(super) fn receive(hub: &Rc<Hub>, link: &Rc<Link>, moving: Moving) -> Result<(), LinkError> {
    if moving.is_of_dialler() == link.is_home() {
        return Err(LinkError::Role);
    }
    let at = (link.number, moving.number());
    match moving {
        Moving::Move(number, named, license) => {
            spawn_local(moved_for(Rc::clone(hub), Rc::clone(link), number, unnamed(named), license));
        }
        Moving::HandOver(_, named, claim, fence) => return give::begin(hub, link, at, named, claim, fence),
        Moving::GiveBack(_, named, license) => give_back(hub, &unnamed(named), &license),
        Moving::More(_) => hub.moves.gives.borrow().get(&at).into_iter().for_each(|give| give.more()),
        Moving::Settle(_) => hub.moves.gives.borrow().get(&at).into_iter().for_each(|give| give.settle()),
        told => {
            // Nobody waits for it any more, or it says more than was asked for.
            let asked = hub.moves.asked.borrow().get(&at).cloned();
            if asked
                .is_some_and(|asked| matches!(asked.try_send(told), Err(mpsc::error::TrySendError::Full(_))))
            {
                return Err(LinkError::TooMuch("pieces"));
            }
        }
    }
    Ok(())
}

/// A document that another region takes: whoever left it here may come back, and finds it there then.
fn give_back(hub: &Hub, document: &DocumentName, license: &str) {
    let Some(registry) = hub.registry_of(license) else { return };
    // A full queue: it is given back in its own time.
    let _ = hub.movable.pins.send(PinsRequest::GiveBack { registry, document: registry_name(document) });
}

/// Does what an operator wants.
pub(super) async fn answer(hub: Rc<Hub>, wanted: WantedMove) {
    let WantedMove { registry, document, region, reply } = wanted;
    let Some(_place) = Place::among(&hub.moves.wanted, WANTED_MAX) else {
        let _ = reply.send(Ok(Outcome::Unmoved(Unmoved::Busy)));
        return;
    };
    let outcome = if *region == *hub.region() {
        Ok(drive(&hub, registry, &document).await)
    } else {
        pass_on(&hub, registry, &document, &region).await
    };
    // Whoever asked may be gone.
    let _ = reply.send(outcome);
}

/// Asks a node of the region that a document is to be moved to.
async fn pass_on(
    hub: &Rc<Hub>,
    registry: u8,
    document: &DocumentName,
    region: &str,
) -> Result<Outcome, NoWay> {
    let nodes = hub.regions.nodes_of(registry, region, &[]).await;
    if nodes.is_empty() {
        return Err(NoWay::NoNode);
    }
    for node in nodes.iter().take(TRIED_MAX) {
        let Some(link) = link_to(hub, node).await.ok().and_then(|number| hub.link(number)) else { continue };
        let mut asked = Asked::new(hub, link);
        asked.tell(Moving::Move(asked.number, named(document), hub.license_code(registry).into()));
        return match timeout(PASSED_ON, asked.heard.recv()).await {
            Ok(Some(Moving::Moved(_, code, region, claim))) => Ok(outcome_of(code, &region, claim)),
            _ => Err(NoWay::Silent),
        };
    }
    Err(NoWay::Unreached)
}

/// Moves a document here for another node, whom an operator asked.
async fn moved_for(hub: Rc<Hub>, link: Rc<Link>, number: u32, document: DocumentName, license: Box<str>) {
    let outcome = match hub.registry_of(&license) {
        Some(registry) => drive(&hub, registry, &document).await,
        None => Outcome::Unmoved(Unmoved::OutOfReach),
    };
    let (code, region, claim) = code_of(&outcome);
    tell(&link, Moving::Moved(number, code, region.into(), claim));
}

/// Where there is nothing to tell.
const NOT_PINNED: Pinned = Pinned { epoch: 0, nonce: 0 };
const MOVED: u8 = 0;
const HERE: u8 = 1;
/// How reasons are told; [`Moving::Handed`] says 0 where there is none.
const REASONS: [(Unmoved, u8); 11] = [
    (Unmoved::Idle, 16),
    (Unmoved::OutOfReach, 17),
    (Unmoved::Unsure, 18),
    (Unmoved::Unreached, 19),
    (Unmoved::NoSession, 20),
    (Unmoved::NotReady, 21),
    (Unmoved::Stale, 22),
    (Unmoved::Busy, 23),
    (Unmoved::Full, 24),
    (Unmoved::StoreAway, 25),
    (Unmoved::Older, 26),
];

pub(super) fn reason_code(why: Unmoved) -> u8 {
    REASONS.iter().find(|(known, _)| *known == why).map_or(u8::MAX, |(_, code)| *code)
}

/// Of a newer node's reasons nothing is known but that it stays where it is.
fn reason_of(code: u8) -> Unmoved {
    REASONS.iter().find(|(_, known)| *known == code).map_or(Unmoved::Stale, |(why, _)| *why)
}

fn code_of(outcome: &Outcome) -> (u8, &str, Pinned) {
    match outcome {
        Outcome::Moved { from, claim } => (MOVED, from, pinned(*claim)),
        Outcome::Here(claim) => (HERE, "", pinned(*claim)),
        Outcome::Unmoved(why) => (reason_code(*why), "", NOT_PINNED),
    }
}

fn outcome_of(code: u8, region: &str, claim: Pinned) -> Outcome {
    match code {
        MOVED => Outcome::Moved { from: region.into(), claim: claim_of(claim) },
        HERE => Outcome::Here(claim_of(claim)),
        code => Outcome::Unmoved(reason_of(code)),
    }
}

/// Moves a document here.
async fn drive(hub: &Rc<Hub>, registry: u8, document: &DocumentName) -> Outcome {
    let Some(_place) = Place::among(&hub.moves.taking, AT_ONCE) else {
        return Outcome::Unmoved(Unmoved::Busy);
    };
    let nonces = (getrandom::u64(), getrandom::u64());
    let (Ok(one), Ok(two)) = nonces else { return Outcome::Unmoved(Unmoved::Busy) };
    let mut mover = Mover::new(hub.region().into(), [one, two]);
    let mut take = Take { hub, registry, document, name: registry_name(document), asked: None, state: None };
    let (mut step, mut began) = (mover.begin(), Instant::now());
    let outcome = loop {
        if matches!(step, Step::HandOver { .. }) {
            began = Instant::now();
        }
        match step {
            Step::Done(outcome) => break outcome,
            other => step = mover.next(take.step(other, two).await),
        }
    };
    note(hub, document, &outcome, began.elapsed());
    outcome
}

fn note(hub: &Hub, document: &DocumentName, outcome: &Outcome, took: Duration) {
    let stats = &hub.movable.stats;
    let Outcome::Moved { from, .. } = outcome else {
        stats.moves_failed.one();
        return tracing::warn!(%document, ?outcome, "a document is not moved here");
    };
    stats.moves.one();
    stats.move_times.note(took);
    tracing::info!(%document, %from, ?took, "a document is moved here");
    if let Some(events) = &hub.movable.events {
        events.note(What::DocumentMoved {
            tenant: document.tenant.to_string(),
            app: document.app.to_string(),
            name: document.name.to_string(),
            from: from.to_string(),
        });
    }
}

/// Tells nodes that hold a document that it is being moved. Those that cannot be told find out when it is closed there.
async fn press(hub: Rc<Hub>, registry: u8, document: DocumentName, nodes: Vec<Node>) {
    let Some(holder) = nodes.first() else { return };
    let known = hub.regions.nodes_of(registry, &holder.region, &nodes).await;
    for node in known.iter().filter(|known| is_one_of(&nodes, known)) {
        let Some(link) = link_to(&hub, node).await.ok().and_then(|number| hub.link(number)) else { continue };
        if link.version >= GIVES_BACK_SINCE {
            tell(&link, Moving::GiveBack(0, named(&document), hub.license_code(registry).into()));
        }
    }
}

/// A document on its way here.
struct Take<'a> {
    hub: &'a Rc<Hub>,
    registry: u8,
    document: &'a DocumentName,
    name: RegistryName,
    asked: Option<Asked>,
    state: Option<Unpacked>,
}

impl Take<'_> {
    async fn step(&mut self, step: Step, nonce: u64) -> Came {
        match step {
            Step::Locate => Came::Located(self.hub.regions.locate(self.registry, self.name.clone()).await),
            Step::HandOver { from, holders, claim, fence } => {
                Came::Handed(self.hand_over(&from, &holders, claim, fence).await)
            }
            Step::Wait(wait_ms) => {
                sleep(Duration::from_millis(wait_ms)).await;
                Came::Through
            }
            Step::Press(nodes, wait_ms) => {
                // Beside the wait, and not cut off by it: others may wait for the same dial.
                spawn_local(press(Rc::clone(self.hub), self.registry, self.document.clone(), nodes));
                sleep(Duration::from_millis(wait_ms)).await;
                Came::Through
            }
            Step::Import(claim) => Came::Imported(self.import(claim, nonce).await),
            Step::Move { claim, to } => {
                let moved = self.hub.movable.pins.move_here(self.registry, self.name.clone(), claim, to);
                Came::Decided(moved.await.unwrap_or(Decision::TryAgain))
            }
            Step::Remove(claim) => {
                let document = self.name.clone();
                self.ask(Request::End { document, claim }, 0).await;
                Came::Through
            }
            Step::Settle => {
                if let Some(asked) = &self.asked {
                    asked.tell(Moving::Settle(asked.number));
                }
                Came::Through
            }
            Step::Done(_) => Came::Through,
        }
    }

    async fn ask(&self, request: Request, licenses: u64) -> Option<Reply> {
        self.hub.movable.session.as_ref()?.ask(request, licenses).await
    }

    async fn hand_over(
        &mut self,
        from: &str,
        holders: &[Node],
        claim: Claim,
        fence: Claim,
    ) -> Result<Vec<Arc<str>>, Unmoved> {
        let hub = self.hub;
        let nodes = hub.regions.nodes_of(self.registry, from, holders).await;
        let mut why = Unmoved::Unreached;
        for node in nodes.iter().take(TRIED_MAX) {
            let Some(link) = link_to(hub, node).await.ok().and_then(|number| hub.link(number)) else {
                continue;
            };
            if link.version < HOLDERS_SINCE && !holders.is_empty() {
                // It would be frozen for nothing: who has stopped would not be known.
                why = Unmoved::Older;
                continue;
            }
            let asked = self.asked.insert(Asked::new(hub, link));
            asked.tell(Moving::HandOver(asked.number, named(self.document), pinned(claim), pinned(fence)));
            let taken = timeout(HANDING, take(asked)).await.unwrap_or(Err(Unmoved::Unreached))?;
            self.state = Some(taken.0);
            return Ok(taken.1);
        }
        Err(why)
    }

    async fn import(&mut self, claim: Claim, nonce: u64) -> Result<(), Unmoved> {
        let (base, updates) = self.state.take().unwrap_or_default();
        let document = self.name.clone();
        let request = Request::Import { document, claim, base, updates: updates.into(), nonce };
        // What begins here is claimed next.
        match self.ask(request, 1 << (self.registry & 63)).await {
            Some(Reply::Done) => Ok(()),
            Some(Reply::Full) => Err(Unmoved::Full),
            Some(_) => Err(Unmoved::Stale),
            None => Err(Unmoved::StoreAway),
        }
    }
}

/// What another region hands over, and the nodes that held it and have stopped.
async fn take(asked: &mut Asked) -> Result<(Unpacked, Vec<Arc<str>>), Unmoved> {
    let mut bytes = Vec::new();
    loop {
        match asked.heard.recv().await {
            Some(Moving::Piece(number, piece)) => {
                if bytes.len() + piece.len() > MESSAGE_MAX {
                    return Err(Unmoved::Full);
                }
                bytes.extend_from_slice(&piece);
                asked.tell(Moving::More(number));
            }
            Some(Moving::Handed(_, 0, nodes)) => {
                let state = unpack(&bytes).map_err(|_| Unmoved::NoSession)?;
                return Ok((state, nodes.into_iter().flatten().map(Arc::from).collect()));
            }
            Some(Moving::Handed(_, code, _)) => return Err(reason_of(code)),
            _ => return Err(Unmoved::Unreached),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_move_is_told_as_it_was() {
        let claim = Claim { epoch: 3, nonce: 4 };
        let reasons = REASONS.iter().map(|(why, _)| Outcome::Unmoved(*why));
        let moved = Outcome::Moved { from: "eu-central-1".into(), claim };
        for outcome in reasons.chain([moved, Outcome::Here(claim)]) {
            let (code, region, claim) = code_of(&outcome);
            assert_eq!(outcome_of(code, region, claim), outcome);
        }
        assert_eq!(outcome_of(200, "", NOT_PINNED), Outcome::Unmoved(Unmoved::Stale));
    }

    #[test]
    fn so_many_are_moved_at_once() {
        let count = Rc::new(Cell::new(0));
        let places: Vec<_> = (0..AT_ONCE).map(|_| Place::among(&count, AT_ONCE)).collect();
        assert!(places.iter().all(Option::is_some) && Place::among(&count, AT_ONCE).is_none());
        drop(places);
        assert!(Place::among(&count, AT_ONCE).is_some());
    }
}

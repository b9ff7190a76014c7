//! A data thread's side of the pins: a document is claimed before its session is opened, and left after its session has ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pinwire_cluster::{Decision, Ticket};
use pinwire_protocol::close::{Close, CloseCode};
use pinwire_registry::{AppName, Claim, DocumentName as RegistryName, Owner};
use pinwire_shard::document::log::Position;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentName, DocumentRef, PutBack};

use super::pins::{PinsWay, Request, ticket};
use super::{PinEvent, Trays};
use crate::peer::{Find, Relay};
use crate::store::{SessionStore, StoreEvent};

/// Under which claim a session begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The claim.
    pub claim: Claim,
    /// The document was idle: there is no session to go on with.
    pub is_new: bool,
    /// The number of its license region.
    pub license: u8,
}

/// When a client comes back at the earliest whose document could not be claimed; at the latest after twice that.
const RETRY_MS: u64 = 2_000;
/// Requests for which a data thread keeps room.
const KEPT: usize = 64;

/// A session store behind the pins. What the queue has no room for is kept, in order: a request or two for each document.
#[derive(Debug)]
pub(crate) struct Claimed {
    thread: u16,
    way: PinsWay,
    trays: Trays,
    /// Carries sessions to other regions, where that is wanted.
    relay: Option<Relay>,
    inner: Box<dyn SessionStore>,
    kept: VecDeque<Request>,
    documents: HashMap<DocumentRef, Hold>,
    by_ticket: HashMap<Ticket, DocumentRef>,
    tickets: u64,
    events: VecDeque<StoreEvent>,
    random: u32,
}

/// A document that is being claimed, or held.
#[derive(Debug)]
struct Hold {
    name: DocumentName,
    registry: u8,
    ticket: Ticket,
    max_documents: u32,
    /// Its session was opened, or is being opened.
    is_begun: bool,
    /// It could not be opened since it is being moved to another region.
    is_moving: bool,
}

impl Claimed {
    pub(crate) fn new(
        thread: u16,
        way: PinsWay,
        trays: Trays,
        relay: Option<Relay>,
        inner: Box<dyn SessionStore>,
        random: u32,
    ) -> Self {
        Self {
            thread,
            way,
            trays,
            relay,
            inner,
            kept: VecDeque::new(),
            documents: HashMap::new(),
            by_ticket: HashMap::new(),
            tickets: 0,
            events: VecDeque::new(),
            random: random | 1,
        }
    }

    /// Claims a document of an app that may have so many, and opens its session; answered by [`StoreEvent::Opened`].
    pub(crate) fn open(
        &mut self,
        document: DocumentRef,
        name: &DocumentName,
        registry: u8,
        max_documents: u32,
    ) {
        self.tickets += 1;
        let ticket = ticket(self.thread, self.tickets);
        self.by_ticket.insert(ticket, document);
        let hold =
            Hold { name: name.clone(), registry, ticket, max_documents, is_begun: false, is_moving: false };
        self.documents.insert(document, hold);
        self.send(Request::Hold { registry, document: registry_name(name), ticket, max_documents });
    }

    /// See [`SessionStore::append`].
    pub(crate) fn append(
        &mut self,
        document: DocumentRef,
        position: Position,
        updates: &mut dyn Iterator<Item = &[u8]>,
    ) {
        self.inner.append(document, position, updates);
    }

    /// See [`SessionStore::rebase`].
    pub(crate) fn rebase(&mut self, document: DocumentRef, compacted: &Compacted) {
        self.inner.rebase(document, compacted);
    }

    /// See [`SessionStore::absorbed`].
    pub(crate) fn absorbed(&mut self, document: DocumentRef, mark: u64, position: Position) {
        self.inner.absorbed(document, mark, position);
    }

    /// See [`SessionStore::unreadable`].
    pub(crate) fn unreadable(&mut self, document: DocumentRef, mark: u64) {
        self.inner.unreadable(document, mark);
    }

    /// See [`SessionStore::is_settled`].
    pub(crate) fn is_settled(&mut self) -> bool {
        self.inner.is_settled()
    }

    /// See [`SessionStore::put_back`].
    pub(crate) fn put_back(&mut self, document: DocumentRef, lacking: PutBack) {
        self.inner.put_back(document, lacking);
    }

    /// See [`SessionStore::say`].
    pub(crate) fn say(&mut self, document: DocumentRef, message: Arc<[u8]>) {
        self.inner.say(document, message);
    }

    /// The session belongs to a newer claim: the registry decides under which one the document is held. Told before the document
    /// is left, if that could not be opened for it.
    pub(crate) fn fenced(&mut self, document: DocumentRef, claim: Claim) {
        let Some(hold) = self.documents.get(&document) else { return };
        let (registry, document) = (hold.registry, registry_name(&hold.name));
        self.send(Request::Fenced { registry, document, claim });
    }

    /// It is being moved, and could not be opened: told before the document is left.
    pub(crate) fn moving(&mut self, document: DocumentRef) {
        if let Some(hold) = self.documents.get_mut(&document) {
            hold.is_moving = true;
        }
    }

    /// The document is gone from this thread: its session has ended here, and it is left.
    pub(crate) fn end(&mut self, document: DocumentRef) {
        let Some(hold) = self.forget(document) else { return };
        if hold.is_begun {
            self.inner.end(document);
        }
        let Hold { registry, ticket, name, is_moving, .. } = hold;
        self.send(Request::Leave { registry, document: registry_name(&name), ticket, is_moving });
    }

    /// The next answer.
    pub(crate) fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front().or_else(|| self.inner.next_event())
    }

    /// An answer of the session store that came through the thread's mailbox.
    pub(crate) fn receive(&mut self, event: StoreEvent) {
        self.inner.receive(event);
    }

    /// Whether there is news of pins.
    pub(crate) fn has_news(&self) -> bool {
        self.trays.has_any(usize::from(self.thread))
    }

    /// Takes in the news of pins.
    pub(crate) fn read_news(&mut self) {
        for event in self.trays.take(usize::from(self.thread)) {
            match event {
                PinEvent::Decided(ticket, decision) => self.decided(ticket, decision),
                PinEvent::Lost(ticket, owner) => self.lost(ticket, &owner),
                PinEvent::Reclaimed(ticket, claim) => {
                    if let Some(&document) = self.by_ticket.get(&ticket) {
                        self.events.push_back(StoreEvent::Pinned(document, claim));
                        self.inner.reclaimed(document, claim);
                    }
                }
            }
        }
    }

    /// Hands over what could not be handed over at once; true if something is left.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(request) = self.kept.pop_front() {
            if let Err(request) = self.way.send(request) {
                self.kept.push_front(request);
                return self.inner.flush() | true;
            }
        }
        self.kept.shrink_to(KEPT);
        self.inner.flush()
    }

    /// A decision on a hold that is over already is of no interest: it was left.
    fn decided(&mut self, ticket: Ticket, decision: Decision) {
        let Some(&document) = self.by_ticket.get(&ticket) else { return };
        let Some(hold) = self.documents.get_mut(&document) else { return };
        let refusal = match decision {
            Decision::Held { claim, is_new } => {
                hold.is_begun = true;
                self.events.push_back(StoreEvent::Pinned(document, claim));
                return self.inner.open(
                    document,
                    &hold.name,
                    Begun { claim, is_new, license: hold.registry },
                );
            }
            // It was taken away a moment ago.
            Decision::Elsewhere(owner) if owner.is_nobody() => Close::try_again(self.retry_ms()),
            Decision::Elsewhere(owner) => match &self.relay {
                None => redirect(&owner, &hold.name),
                Some(relay) => {
                    let (name, registry) = (registry_name(&hold.name), hold.registry);
                    relay.find(Find { thread: self.thread, document, name, registry, owner });
                    self.forget(document);
                    return;
                }
            },
            Decision::Limit { active } => Close::document_limit(hold.max_documents.into(), active.into()),
            Decision::TryAgain | Decision::Stale => Close::try_again(self.retry_ms()),
        };
        self.forget(document);
        self.events.push_back(StoreEvent::Opened(document, Err(refusal)));
    }

    /// What is not left to be left: the hold is over.
    fn lost(&mut self, ticket: Ticket, owner: &Owner) {
        let Some(&document) = self.by_ticket.get(&ticket) else { return };
        let Some(hold) = self.forget(document) else { return };
        let close = if owner.is_nobody() {
            Close::new(CloseCode::ServiceRestart, "the document was unpinned")
        } else if self.relay.is_some() {
            // Clients that cannot follow a redirect come back and are carried.
            Close::new(CloseCode::ServiceRestart, "the document has moved to another region")
        } else {
            redirect(owner, &hold.name)
        };
        self.events.push_back(StoreEvent::Lost(document, close));
        if hold.is_begun {
            self.inner.lost(document);
        }
    }

    fn forget(&mut self, document: DocumentRef) -> Option<Hold> {
        let hold = self.documents.remove(&document)?;
        self.by_ticket.remove(&hold.ticket);
        Some(hold)
    }

    fn send(&mut self, request: Request) {
        self.kept.push_back(request);
        self.flush();
    }

    fn retry_ms(&mut self) -> u64 {
        // xorshift32: jitter needs no more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        RETRY_MS + u64::from(self.random) % RETRY_MS
    }
}

/// How the clients of a document learn where it is.
fn redirect(owner: &Owner, name: &DocumentName) -> Close {
    Close::redirect(&format!("{}/{}", owner.ws_url, name.name))
}

/// A document, as registries and session stores name it.
pub(crate) fn registry_name(name: &DocumentName) -> RegistryName {
    let app = AppName(format!("{}::{}", name.tenant, name.app).into());
    RegistryName { app, name: name.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use tokio::sync::mpsc;

    const DOCUMENT: DocumentRef = DocumentRef { index: 3, serial: 1 };
    const REGISTRY: u8 = 2;

    fn claim(epoch: u64) -> Claim {
        Claim { epoch, nonce: 1 }
    }

    fn name() -> DocumentName {
        DocumentName { tenant: "t".into(), app: "a".into(), name: "doc".into() }
    }

    /// A thread's side with one document that is held, what it asks for, and the hold's ticket.
    fn holding() -> (Claimed, mpsc::Receiver<Request>, Ticket) {
        let (way, mut requests) = PinsWay::to_a_test();
        let trays = Trays::new(1);
        let mut claimed = Claimed::new(0, way, trays.clone(), None, Box::<MemoryStore>::default(), 1);
        claimed.open(DOCUMENT, &name(), REGISTRY, 10);
        let Ok(Request::Hold { ticket, .. }) = requests.try_recv() else { panic!("nothing was claimed") };
        let decision = Decision::Held { claim: claim(4), is_new: false };
        trays.put(0, &mut vec![PinEvent::Decided(ticket, decision)]);
        claimed.read_news();
        (claimed, requests, ticket)
    }

    #[test]
    fn a_document_that_is_moving_and_was_not_opened_is_left_as_such() {
        for is_told in [false, true] {
            let (mut claimed, mut requests, ticket) = holding();
            if is_told {
                claimed.moving(DOCUMENT);
            }
            claimed.end(DOCUMENT);
            let Ok(Request::Leave { ticket: left, is_moving, .. }) = requests.try_recv() else {
                panic!("it is not left")
            };
            assert_eq!((left, is_moving), (ticket, is_told));
        }
    }

    #[test]
    fn that_a_session_has_a_newer_claim_is_told_before_its_document_is_left() {
        let (mut claimed, mut requests, ticket) = holding();
        claimed.fenced(DOCUMENT, claim(9));
        claimed.end(DOCUMENT);
        // It is not held any more.
        claimed.fenced(DOCUMENT, claim(10));
        let told = std::iter::from_fn(|| requests.try_recv().ok()).collect::<Vec<_>>();
        let [Request::Fenced { registry, document, claim: newer }, Request::Leave { ticket: left, .. }] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((*registry, document, *newer), (REGISTRY, &registry_name(&name()), claim(9)));
        assert_eq!(*left, ticket);
    }
}

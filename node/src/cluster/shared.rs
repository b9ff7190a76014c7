//! A data thread's side of the sessions in the region's Redis: requests go to the thread that keeps them, answers come through
//! the mailbox.
//!
//! When the queue is full the data thread keeps what does not fit, in order. Edits in it are bounded by the shard's bounds on
//! what is not stored yet. Beyond [`KEPT_MAX`] requests no document is opened (its clients come again), nothing is told to other nodes
//! (everything is told anew after that), and no compaction's result is kept (the next one stands for it); of a document only
//! the last result is kept in any case.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use pinwire_protocol::close::Close;
use pinwire_registry::{Claim, DocumentName as RegistryName};
use pinwire_session::Marks;
use pinwire_shard::document::log::Position;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentName, DocumentRef, PutBack};

use super::claimed::registry_name;
use super::session::{Request, SessionWay};
use crate::store::{Begun, SessionStore, StoreEvent};

/// Requests for which a data thread keeps room.
const KEPT: usize = 64;
/// Requests that do not fit into the queue: see the module's documentation.
const KEPT_MAX: usize = 4_096;
/// When a client comes back at the earliest whose document could not be opened; at the latest after twice that.
const RETRY_MS: u64 = 2_000;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SharedStore {
    thread: u16,
    way: SessionWay,
    kept: VecDeque<Request>,
    documents: HashMap<DocumentRef, Session>,
    events: VecDeque<StoreEvent>,
    /// Of these something was not told.
    untold: HashSet<DocumentRef>,
    settled: Settled,
}

/// How far the end of this thread has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Settled {
    #[default]
    NotAsked,
    Asked,
    Yes,
}

#[derive(Debug)]
struct Session {
    name: Arc<RegistryName>,
    marks: Marks,
    /// The document is held under this claim, and the thread that keeps the sessions has not said yet that it knows: what it says
    /// meanwhile is of the session of an older one.
    reclaimed: Option<Claim>,
}

impl SharedStore {
    pub(crate) fn new(thread: u16, way: SessionWay) -> Self {
        Self {
            thread,
            way,
            kept: VecDeque::new(),
            documents: HashMap::new(),
            events: VecDeque::new(),
            untold: HashSet::new(),
            settled: Settled::NotAsked,
        }
    }

    fn send(&mut self, request: Request) {
        self.kept.push_back(request);
        self.flush();
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= KEPT_MAX
    }

    fn name(&self, document: DocumentRef) -> Option<Arc<RegistryName>> {
        self.documents.get(&document).map(|session| Arc::clone(&session.name))
    }

    /// What the thread that keeps the sessions says of the document, it says of the session of an older claim.
    fn is_of_older_claim(&self, document: DocumentRef) -> bool {
        self.documents.get(&document).is_some_and(|session| session.reclaimed.is_some())
    }

    fn close(&mut self, document: DocumentRef) {
        if let Some(Session { name, .. }) = self.documents.remove(&document) {
            self.send(Request::Close { name });
        }
    }
}

impl SessionStore for SharedStore {
    fn open(&mut self, document: DocumentRef, name: &DocumentName, begun: Begun) {
        if self.is_full() {
            // Apart by what tells them apart: nothing random is at hand.
            let apart = u64::from(document.index) * 37 % RETRY_MS;
            let refusal = Close::try_again(RETRY_MS + apart);
            return self.events.push_back(StoreEvent::Opened(document, Err(refusal)));
        }
        let name = Arc::new(registry_name(name));
        let session = Session { name: Arc::clone(&name), marks: Marks::default(), reclaimed: None };
        self.documents.insert(document, session);
        let Begun { claim, license, .. } = begun;
        self.send(Request::Open { thread: self.thread, document, name, claim, license });
    }

    fn append(
        &mut self,
        document: DocumentRef,
        position: Position,
        updates: &mut dyn Iterator<Item = &[u8]>,
    ) {
        let Some(name) = self.name(document) else { return };
        let updates = updates.map(Box::from).collect();
        self.send(Request::Append { name, position, updates });
    }

    fn rebase(&mut self, document: DocumentRef, compacted: &Compacted) {
        let Some(base) = compacted.base.as_ref().map(Arc::clone) else { return };
        let Some(Session { name, marks, .. }) = self.documents.get(&document) else { return };
        let (name, upto) = (Arc::clone(name), compacted.upto);
        let mark = marks.before(upto);
        let is_of_it = |kept: &Request| matches!(kept, Request::Rebase { name: kept, .. } if *kept == name);
        self.kept.retain(|kept| !is_of_it(kept));
        if self.is_full() {
            return;
        }
        self.send(Request::Rebase { name, upto, mark, base, left: compacted.left.clone() });
    }

    fn reclaimed(&mut self, document: DocumentRef, claim: Claim) {
        let Some(session) = self.documents.get_mut(&document) else { return };
        session.reclaimed = Some(claim);
        let name = Arc::clone(&session.name);
        // What is stored is stored under the claim of before.
        self.events.push_back(StoreEvent::Reloading(document));
        self.send(Request::Reclaimed { name, claim });
    }

    fn absorbed(&mut self, document: DocumentRef, mark: u64, position: Position) {
        if let Some(session) = self.documents.get_mut(&document) {
            session.marks.note(mark, position);
        }
    }

    fn unreadable(&mut self, document: DocumentRef, mark: u64) {
        if let Some(name) = self.name(document) {
            self.send(Request::Unreadable { name, mark });
        }
    }

    fn put_back(&mut self, document: DocumentRef, PutBack { upto, updates, .. }: PutBack) {
        if let Some(name) = self.name(document) {
            self.send(Request::PutBack { name, position: upto, updates });
        }
    }

    fn say(&mut self, document: DocumentRef, message: Arc<[u8]>) {
        let Some(name) = self.name(document) else { return };
        if self.is_full() || self.untold.contains(&document) {
            self.untold.insert(document);
            return;
        }
        self.send(Request::Say { name, message });
    }

    fn end(&mut self, document: DocumentRef) {
        self.close(document);
    }

    fn lost(&mut self, document: DocumentRef) {
        // What is left keeps others of the region, who do not know yet, from beginning anew under the old claim.
        self.close(document);
    }

    fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn receive(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Settled => self.settled = Settled::Yes,
            StoreEvent::Reclaimed(document, claim) => {
                let session = self.documents.get_mut(&document);
                if let Some(session) = session.filter(|session| session.reclaimed == Some(claim)) {
                    session.reclaimed = None;
                }
            }
            StoreEvent::Stored(document, _) if self.is_of_older_claim(document) => {}
            StoreEvent::Opened(document, Ok(_)) | StoreEvent::Reload(document, ..)
                if self.is_of_older_claim(document) =>
            {
                self.events.extend([event, StoreEvent::Reloading(document)]);
            }
            event => self.events.push_back(event),
        }
    }

    fn is_settled(&mut self) -> bool {
        if self.settled == Settled::NotAsked {
            self.settled = Settled::Asked;
            self.send(Request::Settle { thread: self.thread });
        }
        self.settled == Settled::Yes
    }

    fn flush(&mut self) -> bool {
        while let Some(request) = self.kept.pop_front() {
            if let Err(request) = self.way.send(request) {
                self.kept.push_front(request);
                return true;
            }
        }
        self.kept.shrink_to(KEPT);
        let untold = self.untold.drain().filter(|document| self.documents.contains_key(document));
        self.events.extend(untold.map(StoreEvent::SayAnew));
        // These are looked at in a turn.
        !self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pinwire_shard::Kept;
    use tokio::sync::mpsc::Receiver;

    use super::*;

    const ONE: DocumentRef = DocumentRef { index: 3, serial: 1 };
    const TWO: DocumentRef = DocumentRef { index: 4, serial: 1 };

    fn open(store: &mut SharedStore, document: DocumentRef) {
        let name =
            DocumentName { tenant: "t".into(), app: "a".into(), name: document.index.to_string().into() };
        let claim = Claim { epoch: 1, nonce: 1 };
        store.open(document, &name, Begun { claim, is_new: true, license: 0 });
    }

    /// With two documents open, the thread beyond it asleep, and no room left.
    fn full() -> (SharedStore, Receiver<Request>) {
        let (way, requests) = SessionWay::to_a_test(2);
        let mut store = SharedStore::new(0, way);
        open(&mut store, ONE);
        open(&mut store, TWO);
        for position in 0..KEPT_MAX as u32 {
            assert!(!store.is_full());
            store.append(ONE, position, &mut [b"update".as_slice()].into_iter());
        }
        assert!(store.is_full());
        (store, requests)
    }

    fn take_all(store: &mut SharedStore, requests: &mut Receiver<Request>) -> Vec<Request> {
        let mut taken = Vec::new();
        loop {
            // True as well while there are events to be looked at.
            store.flush();
            taken.extend(std::iter::from_fn(|| requests.try_recv().ok()));
            if store.kept.is_empty() {
                return taken;
            }
        }
    }

    fn compacted(upto: Position, base: u8) -> Compacted {
        let (lacking, left) = (Vec::new(), Vec::new());
        Compacted { upto, base: Some(Arc::from([base])), lacking, left, dropped: 0 }
    }

    #[test]
    fn without_room_other_nodes_are_told_nothing_and_everything_after_that() {
        let (mut store, mut requests) = full();
        for _ in 0..10 {
            store.say(TWO, Arc::from(*b"here"));
        }
        assert_eq!(store.kept.len(), KEPT_MAX);
        let taken = take_all(&mut store, &mut requests);
        assert!(!taken.iter().any(|request| matches!(request, Request::Say { .. })), "{taken:?}");
        assert!(matches!(store.next_event(), Some(StoreEvent::SayAnew(TWO))));
        assert!(store.next_event().is_none());
        store.say(TWO, Arc::from(*b"here"));
        assert!(matches!(requests.try_recv(), Ok(Request::Say { .. })));
    }

    #[test]
    fn without_room_no_document_is_opened() {
        let (mut store, mut requests) = full();
        let three = DocumentRef { index: 5, serial: 1 };
        open(&mut store, three);
        assert!(
            matches!(store.next_event(), Some(StoreEvent::Opened(document, Err(_))) if document == three)
        );
        store.end(three);
        assert_eq!(take_all(&mut store, &mut requests).len(), KEPT_MAX + 2);
    }

    #[test]
    fn of_compactions_that_wait_the_last_is_kept_if_any() {
        let (way, mut requests) = SessionWay::to_a_test(1);
        let mut store = SharedStore::new(0, way);
        open(&mut store, ONE);
        for base in 0..10 {
            store.rebase(ONE, &compacted(8, base));
        }
        assert_eq!(store.kept.len(), 1);
        let taken = take_all(&mut store, &mut requests);
        assert!(matches!(&taken[..], [_, Request::Rebase { base, .. }] if **base == [9]));
        let (mut store, _requests) = full();
        store.rebase(TWO, &compacted(8, 1));
        assert_eq!(store.kept.len(), KEPT_MAX);
    }

    #[test]
    fn what_is_stored_under_an_older_claim_counts_no_more() {
        let (way, _requests) = SessionWay::to_a_test(8);
        let mut store = SharedStore::new(0, way);
        open(&mut store, ONE);
        let [first, second] = [2, 3].map(|epoch| Claim { epoch, nonce: 1 });
        store.reclaimed(ONE, first);
        store.reclaimed(ONE, second);
        store.receive(StoreEvent::Opened(ONE, Ok(Kept::default())));
        store.receive(StoreEvent::Stored(ONE, 8));
        store.receive(StoreEvent::Reclaimed(ONE, first));
        store.receive(StoreEvent::Reload(ONE, 1, Kept::default()));
        let events: Vec<_> = std::iter::from_fn(|| store.next_event()).collect();
        let is_expected = matches!(
            events[..],
            [
                StoreEvent::Reloading(ONE),
                StoreEvent::Reloading(ONE),
                StoreEvent::Opened(ONE, Ok(_)),
                StoreEvent::Reloading(ONE),
                StoreEvent::Reload(ONE, 1, _),
                StoreEvent::Reloading(ONE)
            ]
        );
        assert!(is_expected, "in doubt after each: {events:?}");
        store.receive(StoreEvent::Reclaimed(ONE, second));
        store.receive(StoreEvent::Reload(ONE, 2, Kept::default()));
        store.receive(StoreEvent::Stored(ONE, 8));
        assert!(matches!(store.next_event(), Some(StoreEvent::Reload(ONE, 2, _))));
        assert!(matches!(store.next_event(), Some(StoreEvent::Stored(ONE, 8))));
        assert!(store.next_event().is_none());
    }

    #[test]
    fn the_end_waits_for_an_answer_that_comes_after_what_was_sent() {
        let (way, mut requests) = SessionWay::to_a_test(8);
        let mut store = SharedStore::new(3, way);
        open(&mut store, ONE);
        store.append(ONE, 8, &mut [b"update".as_slice()].into_iter());
        assert!(!store.is_settled() && !store.is_settled());
        let taken = take_all(&mut store, &mut requests);
        assert!(matches!(taken[..], [_, Request::Append { .. }, Request::Settle { thread: 3 }]), "{taken:?}");
        store.receive(StoreEvent::Settled);
        assert!(store.is_settled() && store.next_event().is_none());
    }
}

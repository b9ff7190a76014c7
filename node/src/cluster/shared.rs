//! A data thread's side of the sessions in the region's Redis: requests go to the thread that keeps them, answers come through
//! the mailbox.
//!
//! When the queue is full the data thread keeps what does not fit, in order; the shard's bounds on what is not stored yet
//! bound that too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

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

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SharedStore {
    thread: u16,
    way: SessionWay,
    kept: VecDeque<Request>,
    documents: HashMap<DocumentRef, Session>,
    events: VecDeque<StoreEvent>,
}

#[derive(Debug)]
struct Session {
    name: Arc<RegistryName>,
    marks: Marks,
}

impl SharedStore {
    pub(crate) fn new(thread: u16, way: SessionWay) -> Self {
        let (kept, documents, events) = (VecDeque::new(), HashMap::new(), VecDeque::new());
        Self { thread, way, kept, documents, events }
    }

    fn send(&mut self, request: Request) {
        self.kept.push_back(request);
        self.flush();
    }

    fn name(&self, document: DocumentRef) -> Option<Arc<RegistryName>> {
        self.documents.get(&document).map(|session| Arc::clone(&session.name))
    }

    fn close(&mut self, document: DocumentRef, keep: bool) {
        if let Some(Session { name, .. }) = self.documents.remove(&document) {
            self.send(Request::Close { name, keep });
        }
    }
}

impl SessionStore for SharedStore {
    fn open(&mut self, document: DocumentRef, name: &DocumentName, begun: Begun) {
        let name = Arc::new(registry_name(name));
        self.documents.insert(document, Session { name: Arc::clone(&name), marks: Marks::default() });
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
        let Some(Session { name, marks }) = self.documents.get(&document) else { return };
        let (name, upto) = (Arc::clone(name), compacted.upto);
        let mark = marks.before(upto);
        self.send(Request::Rebase { name, upto, mark, base, left: compacted.left.clone() });
    }

    fn reclaimed(&mut self, document: DocumentRef, claim: Claim) {
        if let Some(name) = self.name(document) {
            self.send(Request::Reclaimed { name, claim });
        }
    }

    fn absorbed(&mut self, document: DocumentRef, mark: u64, position: Position) {
        if let Some(session) = self.documents.get_mut(&document) {
            session.marks.note(mark, position);
        }
    }

    fn put_back(&mut self, document: DocumentRef, PutBack { upto, updates }: PutBack) {
        if let Some(name) = self.name(document) {
            self.send(Request::PutBack { name, position: upto, updates });
        }
    }

    fn say(&mut self, document: DocumentRef, message: Arc<[u8]>) {
        if let Some(name) = self.name(document) {
            self.send(Request::Say { name, message });
        }
    }

    fn end(&mut self, document: DocumentRef) {
        self.close(document, true);
    }

    fn lost(&mut self, document: DocumentRef) {
        self.close(document, false);
    }

    fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn receive(&mut self, event: StoreEvent) {
        self.events.push_back(event);
    }

    fn flush(&mut self) -> bool {
        while let Some(request) = self.kept.pop_front() {
            if let Err(request) = self.way.send(request) {
                self.kept.push_front(request);
                return true;
            }
        }
        self.kept.shrink_to(KEPT);
        false
    }
}

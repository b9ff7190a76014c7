//! The store that is none.

use std::collections::VecDeque;

use pinwire_shard::document::log::Position;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentName, DocumentRef, Kept};

use super::{Begun, SessionStore, StoreEvent};

/// Keeps nothing beside the shard's own log: an acknowledged update lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    events: VecDeque<StoreEvent>,
}

impl SessionStore for MemoryStore {
    fn open(&mut self, document: DocumentRef, _name: &DocumentName, _begun: Begun) {
        self.events.push_back(StoreEvent::Opened(document, Ok(Kept::default())));
    }

    fn append(
        &mut self,
        document: DocumentRef,
        position: Position,
        _updates: &mut dyn Iterator<Item = &[u8]>,
    ) {
        self.events.push_back(StoreEvent::Stored(document, position));
    }

    fn rebase(&mut self, _document: DocumentRef, _compacted: &Compacted) {}

    fn end(&mut self, _document: DocumentRef) {}

    fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn receive(&mut self, event: StoreEvent) {
        self.events.push_back(event);
    }
}

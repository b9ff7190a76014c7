//! The session store: where a document's updates are safe, and with them their acknowledgements.
//!
//! An implementation answers with positions, at once or later; the shard acknowledges to writers what is stored and keeps
//! everybody else's fan-out independent of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use pinwire_protocol::close::Close;
use pinwire_shard::document::log::Position;
use pinwire_shard::{DocumentName, DocumentRef};

/// What a store has to say.
#[derive(Debug)]
pub enum StoreEvent {
    /// A session was opened: everything it held, as one update, or how its clients are refused.
    Opened(DocumentRef, Result<Option<Arc<[u8]>>, Close>),
    /// Everything before this position is safe.
    Stored(DocumentRef, Position),
}

/// Where sessions are kept. Called from one data thread, which it must not block.
pub trait SessionStore: fmt::Debug {
    /// Opens the session of a document; answered by [`StoreEvent::Opened`].
    fn open(&mut self, document: DocumentRef, name: &DocumentName);
    /// Keeps updates; answered by [`StoreEvent::Stored`] for `position`, or a later one, once they are safe.
    fn append(&mut self, document: DocumentRef, position: Position, updates: &mut dyn Iterator<Item = &[u8]>);
    /// The session ended: nothing of it is kept.
    fn end(&mut self, name: &DocumentName);
    /// The next answer.
    fn next_event(&mut self) -> Option<StoreEvent>;
}

/// Keeps nothing beside the shard's own log: an acknowledged update lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    events: VecDeque<StoreEvent>,
}

impl SessionStore for MemoryStore {
    fn open(&mut self, document: DocumentRef, _name: &DocumentName) {
        self.events.push_back(StoreEvent::Opened(document, Ok(None)));
    }

    fn append(
        &mut self,
        document: DocumentRef,
        position: Position,
        _updates: &mut dyn Iterator<Item = &[u8]>,
    ) {
        self.events.push_back(StoreEvent::Stored(document, position));
    }

    fn end(&mut self, _name: &DocumentName) {}

    fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }
}

//! A data thread's side of the store on disk: requests go to the journal's thread, answers come through the mailbox.
//!
//! When the queue is full the data thread keeps what does not fit, in order; the shard's bounds on what is not stored yet
//! bound that too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use pinwire_shard::document::log::Position;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentName, DocumentRef};
use pinwire_store::Updates;
use tokio::sync::oneshot;

use super::{Begun, SessionStore, StoreEvent};
use crate::data::Mailbox;

/// Something to be done by the journal's thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// A session begins; the answer goes to this thread.
    Open { document: DocumentRef, name: Arc<str>, reply: Mailbox },
    /// Updates came.
    Append { thread: u16, document: DocumentRef, name: Arc<str>, position: Position, updates: Updates },
    /// Compaction made one update of everything before a position.
    Rebase { name: Arc<str>, upto: Position, base: Arc<[u8]>, left: Updates },
    /// The session ended.
    End { name: Arc<str> },
    /// It never began: the document could not be loaded.
    Abandon { name: Arc<str> },
    /// A data thread, to be answered this way.
    Answer { thread: u16, reply: Mailbox },
    /// Remove documents for good.
    Erase { which: Which, reply: oneshot::Sender<Result<usize, EraseError>> },
    /// Nobody will ask for anything any more.
    Stop,
}

/// Which documents are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one of this whole name.
    Document(String),
    /// All of a tenant's app.
    App { tenant: String, app: String },
}

/// Why nothing was removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EraseError {
    /// A document that is meant is open.
    #[error("`{0}` is open; end it first")]
    Open(String),
    /// The store cannot do it now.
    #[error("{0}; nothing was removed")]
    Away(String),
}

/// The way to the journal's thread.
#[derive(Clone, Debug)]
pub(crate) struct Way(pub(super) SyncSender<Request>);

impl Way {
    /// Removes documents for good and says how many. One that is open has to be ended before.
    pub(crate) async fn erase(&self, which: Which) -> Result<usize, EraseError> {
        let away = |what: &str| EraseError::Away(what.to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Request::Erase { which, reply }).map_err(|_| away("the store is behind"))?;
        answer.await.map_err(|_| away("the store has stopped"))?
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FileStore {
    thread: u16,
    reply: Mailbox,
    way: Way,
    /// What did not fit into the queue.
    kept: VecDeque<Request>,
    /// Documents of this thread that have a session, or are about to.
    names: HashMap<DocumentRef, Arc<str>>,
    events: VecDeque<StoreEvent>,
}

impl FileStore {
    pub(crate) fn new(thread: u16, reply: Mailbox, way: Way) -> Self {
        let (kept, names, events) = (VecDeque::new(), HashMap::new(), VecDeque::new());
        let mut store = Self { thread, reply: reply.clone(), way, kept, names, events };
        store.send(Request::Answer { thread, reply });
        store
    }

    fn send(&mut self, request: Request) {
        self.kept.push_back(request);
        self.flush();
    }
}

impl SessionStore for FileStore {
    fn open(&mut self, document: DocumentRef, name: &DocumentName, _begun: Begun) {
        let name: Arc<str> = name.to_string().into();
        self.names.insert(document, Arc::clone(&name));
        let reply = self.reply.clone();
        self.send(Request::Open { document, name, reply });
    }

    fn append(
        &mut self,
        document: DocumentRef,
        position: Position,
        updates: &mut dyn Iterator<Item = &[u8]>,
    ) {
        let Some(name) = self.names.get(&document).map(Arc::clone) else { return };
        let (thread, updates) = (self.thread, updates.collect());
        self.send(Request::Append { thread, document, name, position, updates });
    }

    fn rebase(&mut self, document: DocumentRef, compacted: &Compacted) {
        let Some(base) = compacted.base.as_ref().map(Arc::clone) else { return };
        let Some(name) = self.names.get(&document).map(Arc::clone) else { return };
        let left = compacted.left.iter().map(|update| &**update).collect();
        self.send(Request::Rebase { name, upto: compacted.upto, base, left });
    }

    fn end(&mut self, document: DocumentRef) {
        if let Some(name) = self.names.remove(&document) {
            self.send(Request::End { name });
        }
    }

    fn next_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn receive(&mut self, event: StoreEvent) {
        if let StoreEvent::Opened(document, Err(_)) = &event
            && let Some(name) = self.names.remove(document)
        {
            // What is there stays: it could only not be read.
            self.send(Request::Abandon { name });
        }
        self.events.push_back(event);
    }

    fn flush(&mut self) -> bool {
        while let Some(request) = self.kept.pop_front() {
            match self.way.0.try_send(request) {
                Ok(()) => {}
                Err(TrySendError::Full(request)) => {
                    self.kept.push_front(request);
                    return true;
                }
                // The thread has ended: nothing is acknowledged any more.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        self.kept.shrink_to(KEPT);
        false
    }
}

/// Requests for which a data thread keeps room.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use pinwire_engine::{Config, Driver};
    use pinwire_protocol::close::Close;
    use pinwire_registry::Claim;
    use pinwire_shard::Kept;

    use super::*;

    const DOCUMENT: DocumentRef = DocumentRef { index: 3, serial: 1 };

    /// Calls `test` with a data thread's side whose queue holds two requests, and the other end of it.
    fn with_store(test: impl FnOnce(FileStore, Receiver<Request>) + 'static) {
        let config = Config { driver: Driver::Epoll, ..Config::default() };
        pinwire_engine::run(config, move |engine| async move {
            let (way, requests) = sync_channel(2);
            let mailbox = Mailbox::new(engine.waker(), engine.door());
            let mut store = FileStore::new(0, mailbox, Way(way));
            assert!(matches!(requests.try_recv(), Ok(Request::Answer { .. })));
            let name = DocumentName { tenant: "t".into(), app: "a".into(), name: "doc".into() };
            let claim = Claim { epoch: 1, nonce: 1 };
            store.open(DOCUMENT, &name, Begun { claim, is_new: true, license: 0 });
            assert!(matches!(requests.try_recv(), Ok(Request::Open { name, .. }) if &*name == "t::a::doc"));
            test(store, requests);
        })
        .unwrap();
    }

    #[test]
    fn a_document_that_cannot_be_loaded_is_kept() {
        with_store(|mut store, requests| {
            store.receive(StoreEvent::Opened(DOCUMENT, Err(Close::try_again(1))));
            assert!(matches!(store.next_event(), Some(StoreEvent::Opened(DOCUMENT, Err(_)))));
            // The shard drops it then.
            store.end(DOCUMENT);
            assert!(matches!(requests.try_recv(), Ok(Request::Abandon { .. })));
            assert!(requests.try_recv().is_err());
        });
    }

    #[test]
    fn what_does_not_fit_into_the_queue_follows_in_order() {
        with_store(|mut store, requests| {
            store.receive(StoreEvent::Opened(DOCUMENT, Ok(Kept::default())));
            for position in 1..=5 {
                store.append(DOCUMENT, position, &mut [b"update".as_slice()].into_iter());
            }
            store.end(DOCUMENT);
            let mut positions = Vec::new();
            while store.flush() {
                positions.extend(requests.try_iter());
            }
            positions.extend(requests.try_iter());
            let positions: Vec<u32> = positions
                .iter()
                .map(|request| match request {
                    Request::Append { position, .. } => *position,
                    Request::End { .. } => 0,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(positions, [1, 2, 3, 4, 5, 0]);
        });
    }
}

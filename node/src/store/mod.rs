//! The session store: where a document's updates are safe, and with them their acknowledgements.
//!
//! A data thread calls a [`SessionStore`], which answers with positions, at once or later; the shard acknowledges to writers
//! what is stored and keeps everybody else's fan-out independent of it.
//!
//! | module | concern |
//! | --- | --- |
//! | `memory` | keeps nothing beside the shard's own log |
//! | `file` | a data thread's side of the store on disk |
//! | `journal` | the thread that writes the journal, and answers what is safe |
//! | `table` | the thread that has the table: loads, checkpoints, what is over |
//! | `stats` | numbers about both |

mod file;
mod journal;
mod memory;
mod stats;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pinwire_protocol::close::Close;
use pinwire_registry::Claim;
use pinwire_shard::document::log::Position;
use pinwire_shard::document::yjs::Compacted;
use pinwire_shard::{DocumentName, DocumentRef, Kept, NodeTag, PutBack};
use pinwire_store::{Fsync, Options};

pub use crate::cluster::Begun;
pub use memory::MemoryStore;

pub(crate) use file::{EraseError, FileStore, Way, Which};
pub(crate) use journal::{StoreThreads, start};
pub(crate) use stats::{Snapshot, StoreStats};

/// What a store has to say.
#[derive(Debug)]
pub enum StoreEvent {
    /// A session was opened: everything it held, or how its clients are refused.
    Opened(DocumentRef, Result<Kept, Close>),
    /// Everything before this position is safe.
    Stored(DocumentRef, Position),
    /// The document is held under this claim.
    Pinned(DocumentRef, Claim),
    /// The session belongs to a newer claim than the document is held under: nothing is stored before it is held under that or a
    /// newer one.
    Fenced(DocumentRef, Claim),
    /// It is being moved to another region, and was not opened for that.
    Moving(DocumentRef),
    /// Answers [`SessionStore::reclaimed`]: what comes from here on is about the session of this claim.
    Reclaimed(DocumentRef, Claim),
    /// Another region has the document: how its clients are sent there.
    Lost(DocumentRef, Close),
    /// Edits of another node, which are stored; once they are absorbed the store is told ([`SessionStore::absorbed`]), with this
    /// mark.
    Foreign(DocumentRef, u64, Arc<[Box<[u8]>]>),
    /// What is stored of the document is in doubt: [`Self::Reload`] follows.
    Reloading(DocumentRef),
    /// What is stored, under a mark: to be absorbed, and answered with what it lacks ([`SessionStore::put_back`]).
    Reload(DocumentRef, u64, Kept),
    /// Another node said something.
    Said(DocumentRef, NodeTag, Arc<[u8]>),
    /// Another node has the document, too.
    Joined(DocumentRef, NodeTag),
    /// It has it no more.
    Left(DocumentRef, NodeTag),
    /// The store is out of reach, or (false) it is back.
    Away(bool),
    /// The store has no room for the document: it takes no more edits; or (false) it has.
    Full(DocumentRef, bool),
    /// It had none for too long: the document ends here.
    GivenUp(DocumentRef),
    /// This number stands for no node any more: who was present there is gone, from all documents.
    Forgotten(NodeTag),
    /// What was to be told to other nodes may have been dropped: everything is to be said anew.
    SayAnew(DocumentRef),
    /// See [`SessionStore::is_settled`].
    Settled,
}

/// Where sessions are kept. Called from one data thread, which it must not block.
pub trait SessionStore: fmt::Debug {
    /// Opens the session of a document that is held under a claim; answered by [`StoreEvent::Opened`].
    fn open(&mut self, document: DocumentRef, name: &DocumentName, begun: Begun);
    /// The document is held under another claim from now on.
    fn reclaimed(&mut self, _document: DocumentRef, _claim: Claim) {}
    /// Keeps updates; answered by [`StoreEvent::Stored`] for `position`, or a later one, once they are safe.
    fn append(&mut self, document: DocumentRef, position: Position, updates: &mut dyn Iterator<Item = &[u8]>);
    /// Compaction made one update of everything before a position.
    fn rebase(&mut self, document: DocumentRef, compacted: &Compacted);
    /// What came with a mark is in the document's log, which ends at `position` now.
    fn absorbed(&mut self, _document: DocumentRef, _mark: u64, _position: Position) {}
    /// Something that came with a mark is no update (0: that the document was opened with): the store keeps it.
    fn unreadable(&mut self, _document: DocumentRef, _mark: u64) {}
    /// What the store lacks, in answer to [`StoreEvent::Reload`]; answered by [`StoreEvent::Stored`] unless that is nothing.
    fn put_back(&mut self, _document: DocumentRef, _lacking: PutBack) {}
    /// Tells the other nodes that have the document.
    fn say(&mut self, _document: DocumentRef, _message: Arc<[u8]>) {}
    /// The document is gone from this thread: its session ended, or never began.
    fn end(&mut self, document: DocumentRef);
    /// The same, and another region has it now: there is nothing to come back to.
    fn lost(&mut self, document: DocumentRef) {
        self.end(document);
    }
    /// The next answer.
    fn next_event(&mut self) -> Option<StoreEvent>;
    /// An answer that came through the thread's mailbox.
    fn receive(&mut self, event: StoreEvent);
    /// Whether everything is stored that can be, and nothing that was is in doubt; asked before the thread ends, when nothing is
    /// to come any more.
    fn is_settled(&mut self) -> bool {
        true
    }
    /// Hands over what could not be handed over at once; true if something is left.
    fn flush(&mut self) -> bool {
        false
    }
}

/// Which store a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreConfig {
    /// An acknowledged update lasts as long as the process.
    #[default]
    Memory,
    /// It lasts as long as the disk.
    File(FileStoreConfig),
}

/// A store on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStoreConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// When what was written is also on the disk.
    pub fsync: Fsync,
    /// How long a document is kept after its session ended; zero: not at all.
    pub retention: Duration,
    /// How long documents that were open when a process ended wait for their clients.
    pub unclaimed: Duration,
    /// Bytes of the journal from which on they are moved into the table.
    pub checkpoint_bytes: u64,
}

impl FileStoreConfig {
    /// In this folder; on the disk once a second; a document ends with its session.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        let Options { fsync, checkpoint_bytes, .. } = Options::default();
        let unclaimed = Duration::from_secs(3600);
        Self { folder, fsync, retention: Duration::ZERO, unclaimed, checkpoint_bytes }
    }
}

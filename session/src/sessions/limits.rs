//! Every bound of a node's side, with its meaning.

/// Bytes of updates that are sent in one append; a larger update goes alone.
pub(super) const BATCH_BYTES_MAX: usize = 256 << 10;
/// Updates that are sent in one append.
pub(super) const BATCH_UPDATES_MAX: usize = 4_096;
/// Requests about documents that wait for the store's answer; beyond it documents wait in line.
pub(super) const ASKS_MAX: usize = 512;
/// Bytes of updates in them; beyond it documents wait in line.
pub(super) const ASKED_BYTES_MAX: usize = 32 << 20;
/// Sessions that are being loaded again; beyond it they wait in line. One that is opened counts as a request alone.
pub(super) const LOADS_MAX: usize = 8;
/// Compacted pasts under way to the store; beyond it they wait in line.
pub(super) const REBASES_MAX: usize = 4;
/// Documents whose heads are compared by one request.
pub(super) const HEADS_PER_ASK: usize = 256;
/// Such requests that wait for the store's answer.
pub(super) const HEADS_ASKS_MAX: usize = 4;
/// Notices of a document that do not follow what is known yet; beyond it they are dropped and the session is loaded.
pub(super) const LINKS_MAX: usize = 1_024;
/// The same in bytes of updates.
pub(super) const LINK_BYTES_MAX: usize = 4 << 20;
/// What is heard about other nodes while a session is being loaded, to be taken up after it; beyond it the session is loaded
/// again.
pub(super) const EARLY_MAX: usize = 256;
/// Messages of a document to other nodes that wait; beyond it they are dropped, and the data thread is asked to say everything
/// anew.
pub(super) const SAYINGS_MAX: usize = 16;
/// The same in bytes.
pub(super) const SAYING_BYTES_MAX: usize = 256 << 10;
/// Notices about documents that this node does not hold, answered by giving up the hold, that wait for the store's answer;
/// beyond it they are ignored: the next one comes.
pub(super) const STRAYS_MAX: usize = 64;

//! Partitions: what the scripts of one document touch lies in one slot of a cluster, and how many slots there are is fixed.

use pinwire_registry::DocumentName;

/// Parts into which documents are divided, so that a cluster can share them out: more than it has masters, and few
/// enough that a node can go through all of them with each beat.
pub const PARTITIONS: usize = 64;

/// The part to which a document belongs.
#[must_use]
pub fn partition(document: &DocumentName) -> usize {
    let mut hash = crc32fast::Hasher::new();
    hash.update(document.app.0.as_bytes());
    hash.update(b"::");
    hash.update(document.name.as_bytes());
    hash.finalize() as usize % PARTITIONS
}

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
    hash.update(b"/");
    hash.update(document.name.as_bytes());
    hash.finalize() as usize % PARTITIONS
}

/// `app/name`, as keys and notices spell a document: a name has no slash, so that no two documents are spelled alike.
#[cfg(feature = "redis")]
pub(crate) fn spelled(document: &DocumentName) -> String {
    format!("{}/{}", document.app, document.name)
}

/// The reverse.
#[cfg(feature = "redis")]
pub(crate) fn unspelled(text: &str) -> Option<DocumentName> {
    let (app, name) = text.rsplit_once('/')?;
    Some(DocumentName { app: pinwire_registry::AppName(app.into()), name: name.into() })
}

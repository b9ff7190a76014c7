//! Documents on disk: what an acknowledgement promises is here before it is sent.
//!
//! ```text
//!  append, end ──► Store ──► journal-N.log        every batch, one write: safe from then on
//!                    │
//!                    └─ every some MiB or seconds: Checkpoint ──► Table (documents.db), then the journal's old part goes
//! ```
//!
//! A *document* is known by its whole name. While it is open its updates are appended to the journal and gathered in memory;
//! a checkpoint moves what was gathered into the table, a row a document. A crash loses what was not in the journal yet: at
//! the next start [`recover`] puts the journal into the table and begins a new one. What compaction made of a document
//! takes the place of its rows with the next checkpoint.
//!
//! Everything is checksummed. A damaged record or row is told ([`Damage`]) and costs what it held; what Yjs clients still
//! have of it comes back with them.
//!
//! | module | concern |
//! | --- | --- |
//! | `updates` | updates one behind the other, as both files hold them |
//! | `change` | what happened to documents since the last checkpoint |
//! | `record`, `segment`, `replay` | the journal: its format, how it is written, how it is read |
//! | `table`, `salvage` | the table, and what is left of a damaged one |
//! | `store` | what is asked for while a node runs |
//! | `recovery` | how it starts: one process at a time, whatever the last one left |
//!
//! Nothing here has threads or a clock; calls block on files. See the decision record on durability for why the journal is
//! our own and the table is SQLite.

mod change;
mod record;
mod recovery;
mod replay;
mod salvage;
mod segment;
mod store;
mod table;
mod updates;

pub use change::{Base, Change, Changes};
pub use recovery::{Lock, RecoverError, Recovered, recover};
pub use segment::{Disk, DiskFile, Files};
pub use store::{Checkpoint, Fsync, Options, Store};
pub use table::{Entry, Loaded, Table, TableError, Which};
pub use updates::Updates;

use std::fmt;

/// Something on disk that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes of the journal that are no record. At the end of its last file that is what a power failure leaves.
    Journal {
        /// Name of the file.
        file: String,
        /// Where they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
        /// Nothing follows them, and no later file does.
        is_tail: bool,
    },
    /// A row of the table whose checksum is wrong.
    Row {
        /// The document that it belongs to, as far as that can be told.
        document: String,
        /// The checkpoint that wrote it.
        checkpoint: u64,
    },
    /// The table's file could not be read as a whole: rows were carried over one by one.
    Table {
        /// Where the damaged file lies now.
        set_aside: String,
        /// Rows that could be read.
        kept: u64,
        /// Rows that could not, as far as that can be told.
        lost: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal { file, offset, bytes, is_tail: true } => {
                write!(out, "{file} ends in {bytes} bytes at {offset} that were not written whole")
            }
            Self::Journal { file, offset, bytes, is_tail: false } => {
                write!(out, "{file} has {bytes} damaged bytes at {offset}")
            }
            Self::Row { document, checkpoint } => {
                write!(out, "what checkpoint {checkpoint} wrote of `{document}` is damaged")
            }
            Self::Table { set_aside, kept, lost } => {
                write!(
                    out,
                    "the table was damaged: {kept} rows carried over, {lost} lost; it lies in {set_aside}"
                )
            }
        }
    }
}

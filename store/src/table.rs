//! The table: what checkpoints moved out of the journal, in one SQLite file.
//!
//! A document is a row in `documents` and rows in `content`, one for each checkpoint that changed it, each complete in itself
//! with its document's name and a checksum over all of it. Every change is one transaction that is on the disk when it
//! returns. Erased content is overwritten with zeros.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use crate::salvage::{self, Salvaged};
use crate::{Change, Changes, Damage, Updates};

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    connection: Connection,
}

/// What the table cannot do.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There is no room on the disk.
    #[error("the disk is full")]
    Full,
    /// The file is damaged: [`Table::open`] carries over what can be read.
    #[error("the table is damaged: {0}")]
    Damaged(#[source] rusqlite::Error),
    /// A newer program wrote it.
    #[error("the table has format {0}, this program knows {FORMAT}: it was written by a newer version")]
    Newer(i64),
    /// The system refused something about the file, or about carrying over what can be read of it.
    #[error("the table's file: {0}")]
    Files(#[source] std::io::Error),
    /// The system or SQLite refused.
    #[error(transparent)]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            // Values of other types than were written.
            None if is_of_values(&error) => Self::Damaged(error),
            _ => Self::Other(error),
        }
    }
}

fn is_of_values(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    )
}

/// `user_version` of the file.
const FORMAT: i64 = 1;
/// Pages of 4 KiB up to which every one is looked at when a table is opened: a second or so. Damage in a larger one is found
/// when it is read.
const CHECKED_PAGES: u64 = 64 << 10;
/// Kibibytes of pages that are kept in memory.
const CACHE_KIB: i64 = 8 << 10;

/// What a new file has. `salvage` knows the columns too.
const SCHEMA: &str = "
    CREATE TABLE content (
        name TEXT NOT NULL,
        checkpoint INTEGER NOT NULL,
        is_base INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        updates BLOB NOT NULL,
        PRIMARY KEY (name, checkpoint)
    ) STRICT;
    CREATE TABLE documents (name TEXT PRIMARY KEY NOT NULL, ended_at INTEGER) STRICT;
    CREATE INDEX ended ON documents (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE last_checkpoint (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL) STRICT;
    INSERT INTO last_checkpoint VALUES (1, 0);
";

/// What was kept of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The document as it was compacted, if it ever was.
    pub base: Option<Vec<u8>>,
    /// What came since, in order.
    pub updates: Updates,
    /// Rows that could not be read.
    pub damages: Vec<Damage>,
}

/// A document that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its whole name.
    pub name: String,
    /// Second of the Unix time at which its session ended, if it has.
    pub ended_at: Option<u64>,
    /// Bytes of its updates.
    pub bytes: u64,
}

/// Which documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one of this name.
    Named(&'a str),
    /// Those whose names begin so.
    Prefixed(&'a str),
}

impl Table {
    /// Opens the table in a folder, or makes one. What of a damaged one can be read is carried over to a new one.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn open(folder: &Path) -> Result<(Self, Option<Damage>), TableError> {
        let path = folder.join(FILE);
        match Self::open_sound(&path) {
            Ok(table) => Ok((table, None)),
            Err(TableError::Damaged(_)) => Self::salvage(folder).map(|(table, damage)| (table, Some(damage))),
            Err(error) => Err(error),
        }
    }

    /// After [`TableError::Damaged`], which a large table tells only when it is read: carries over what can be read.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn salvage(folder: &Path) -> Result<(Self, Damage), TableError> {
        let path = folder.join(FILE);
        let Salvaged { set_aside, kept, lost } = salvage::salvage(&path)?;
        Ok((Self::open_sound(&path)?, Damage::Table { set_aside, kept, lost }))
    }

    fn open_sound(path: &Path) -> Result<Self, TableError> {
        let connection = connect(path)?;
        let pages: u64 =
            connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?.unsigned_abs();
        if pages <= CHECKED_PAGES {
            check(&connection)?;
        }
        Ok(Self { connection })
    }

    /// The last checkpoint that is in it; 0 for none.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn last_checkpoint(&self) -> Result<u64, TableError> {
        let number: i64 =
            self.connection.query_row("SELECT number FROM last_checkpoint", [], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    /// Puts a checkpoint into it. Everything of it is on the disk when this returns; nothing if it fails.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn apply(&mut self, number: u64, changes: &Changes) -> Result<(), TableError> {
        let transaction = self.connection.transaction()?;
        for (name, change) in changes.iter() {
            apply(&transaction, number, name, change)?;
        }
        transaction.execute("UPDATE last_checkpoint SET number = ?1", [signed(number)])?;
        Ok(transaction.commit()?)
    }

    /// What was kept of a document, with what happened to it since on top, oldest first.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn load(&self, name: &str, since: &[&Change]) -> Result<Loaded, TableError> {
        let mut rows = self.rows(name)?;
        let mut damages = Vec::new();
        rows.retain(|row| {
            if row.updates.is_none() {
                let document = name.to_owned();
                damages.push(Damage::Row { document, checkpoint: row.checkpoint });
            }
            row.updates.is_some()
        });
        for change in since {
            if change.is_dropped {
                rows.clear();
            }
            if let (Some(base), Some(updates)) = (&change.base, change.base_updates()) {
                rows.retain(|row| row.checkpoint > base.covers);
                let row = Row { checkpoint: base.covers, is_base: true, updates: Some(updates) };
                rows.insert(0, row);
            }
            let updates = Some(change.updates.clone());
            rows.push(Row { checkpoint: u64::MAX, is_base: false, updates });
        }
        let mut loaded = Loaded { damages, ..Loaded::default() };
        for (place, row) in rows.into_iter().enumerate() {
            let Some(updates) = row.updates else { continue };
            let mut updates = updates.iter();
            if place == 0 && row.is_base {
                loaded.base = updates.next().map(<[u8]>::to_vec);
            }
            updates.for_each(|update| loaded.updates.push(update));
        }
        Ok(loaded)
    }

    fn rows(&self, name: &str) -> Result<Vec<Row>, TableError> {
        let mut query = self.connection.prepare_cached(
            "SELECT checkpoint, is_base, crc, updates FROM content WHERE name = ?1 ORDER BY checkpoint",
        )?;
        let rows = query.query_map([name], |row| {
            let (checkpoint, is_base): (i64, bool) = (row.get(0)?, row.get(1)?);
            let crc: i64 = row.get(2)?;
            let updates: Vec<u8> = row.get(3)?;
            let checkpoint = checkpoint.unsigned_abs();
            let is_sound = i64::from(checksum(name, checkpoint, is_base, &updates)) == crc;
            let updates = is_sound.then(|| Updates::from_bytes(updates)).flatten();
            Ok(Row { checkpoint, is_base, updates })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A node begins: whatever was open in the one before counts as ended at this second, until somebody comes.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn end_all(&self, at: u64) -> Result<(), TableError> {
        self.connection.execute("UPDATE documents SET ended_at = ?1 WHERE ended_at IS NULL", [signed(at)])?;
        Ok(())
    }

    /// Removes documents whose sessions ended before this second, except those that are open; says how many.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_ended(&mut self, before: u64, is_open: impl Fn(&str) -> bool) -> Result<usize, TableError> {
        let transaction = self.connection.transaction()?;
        let names = {
            let mut query = transaction.prepare_cached(
                "SELECT name FROM documents WHERE ended_at IS NOT NULL AND ended_at < ?1 ORDER BY ended_at",
            )?;
            let mut rows = query.query([signed(before)])?;
            let mut names: Vec<String> = Vec::new();
            while let Some(row) = rows.next()?.filter(|_| names.len() < REMOVED_AT_ONCE) {
                let name: String = row.get(0)?;
                if !is_open(&name) {
                    names.push(name);
                }
            }
            names
        };
        for name in &names {
            drop_document(&transaction, name)?;
        }
        transaction.commit()?;
        Ok(names.len())
    }

    /// Removes documents for good and says how many; their bytes are overwritten.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn erase(&mut self, which: Which<'_>) -> Result<usize, TableError> {
        let names: Vec<String> = self.entries(which)?.into_iter().map(|entry| entry.name).collect();
        let transaction = self.connection.transaction()?;
        for name in &names {
            drop_document(&transaction, name)?;
        }
        // Content without a document, too: damage may have left some.
        match which {
            Which::Named(name) => drop_document(&transaction, name)?,
            Which::Prefixed(prefix) => {
                transaction.execute(
                    "DELETE FROM content NOT INDEXED WHERE substr(name, 1, length(?1)) = ?1",
                    [prefix],
                )?;
            }
        }
        transaction.commit()?;
        Ok(names.len())
    }

    /// Documents that are kept, by name.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn entries(&self, which: Which<'_>) -> Result<Vec<Entry>, TableError> {
        let (from, is_prefix) = match which {
            Which::Named(name) => (name, false),
            Which::Prefixed(prefix) => (prefix, true),
        };
        let mut query = self.connection.prepare_cached(
            "SELECT name, ended_at, (SELECT coalesce(sum(length(updates)), 0) FROM content WHERE content.name = documents.name)
             FROM documents WHERE name >= ?1 AND (?2 OR name = ?1) ORDER BY name",
        )?;
        let mut rows = query.query(params![from, is_prefix])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if !name.starts_with(from) {
                break;
            }
            let (ended_at, bytes): (Option<i64>, i64) = (row.get(1)?, row.get(2)?);
            let ended_at = ended_at.map(i64::unsigned_abs);
            entries.push(Entry { name, ended_at, bytes: bytes.unsigned_abs() });
        }
        Ok(entries)
    }

    /// How many documents are kept.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn len(&self) -> Result<u64, TableError> {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM documents", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// True if none is.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn is_empty(&self) -> Result<bool, TableError> {
        Ok(self.len()? == 0)
    }
}

/// Name of the file in its folder.
pub(crate) const FILE: &str = "documents.db";
/// Documents removed in one transaction: how long others may wait for it.
const REMOVED_AT_ONCE: usize = 1000;

/// What one checkpoint said of a document; `None` if it cannot be read.
struct Row {
    checkpoint: u64,
    is_base: bool,
    updates: Option<Updates>,
}

/// Opens the file and makes what is not there.
pub(crate) fn connect(path: &Path) -> Result<Connection, TableError> {
    let connection = Connection::open(path)?;
    // Documents are nobody else's business, whatever the process's mask says.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(TableError::Files)?;
    // A rollback journal and not a write-ahead log: damage in a log costs everything behind it, and is not told.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "TRUNCATE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match format {
        FORMAT => {}
        0 => {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;"
            ))?;
        }
        other => return Err(TableError::Newer(other)),
    }
    Ok(connection)
}

/// Looks at every page's structure, and at whether indexes have what tables have. Reads the whole file; checksums of rows are looked at when they are read.
fn check(connection: &Connection) -> Result<(), TableError> {
    let answer: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(TableError::Damaged(rusqlite::Error::SqliteFailure(corrupt, Some(answer))))
}

fn apply(transaction: &Transaction<'_>, number: u64, name: &str, change: &Change) -> Result<(), TableError> {
    if change.is_dropped {
        drop_document(transaction, name)?;
    }
    if let (Some(base), Some(updates)) = (&change.base, change.base_updates()) {
        transaction
            .prepare_cached("DELETE FROM content WHERE name = ?1 AND checkpoint <= ?2")?
            .execute(params![name, signed(base.covers)])?;
        insert(transaction, name, base.covers, true, &updates)?;
    }
    if !change.updates.is_empty() {
        insert(transaction, name, number, false, &change.updates)?;
    }
    let ended_at = change.ended_at.map(signed);
    let is_known = transaction
        .prepare_cached("SELECT 1 FROM documents WHERE name = ?1")?
        .query_row([name], |_| Ok(()))
        .optional()?
        .is_some();
    if is_known {
        transaction
            .prepare_cached("UPDATE documents SET ended_at = ?2 WHERE name = ?1 AND ended_at IS NOT ?2")?
            .execute(params![name, ended_at])?;
    } else if change.base.is_some() || !change.updates.is_empty() {
        transaction
            .prepare_cached("INSERT INTO documents (name, ended_at) VALUES (?1, ?2)")?
            .execute(params![name, ended_at])?;
    }
    Ok(())
}

pub(crate) fn insert(
    connection: &Connection,
    name: &str,
    checkpoint: u64,
    is_base: bool,
    updates: &Updates,
) -> rusqlite::Result<()> {
    let crc = checksum(name, checkpoint, is_base, updates.as_bytes());
    connection
        .prepare_cached("INSERT OR REPLACE INTO content VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![name, signed(checkpoint), is_base, i64::from(crc), updates.as_bytes()])?;
    Ok(())
}

fn drop_document(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM content WHERE name = ?1")?.execute([name])?;
    transaction.prepare_cached("DELETE FROM documents WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Over all of a row, so that no row can pass for another document's.
pub(crate) fn checksum(name: &str, checkpoint: u64, is_base: bool, updates: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(name.as_bytes());
    crc.update(&[0, u8::from(is_base)]);
    crc.update(&checkpoint.to_le_bytes());
    crc.update(updates);
    crc.finalize()
}

/// SQLite has no unsigned integers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

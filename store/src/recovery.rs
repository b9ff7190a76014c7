//! How a store starts, whatever the last process left.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::replay::{replay, segments};
use crate::segment::HIDDEN;
use crate::{Damage, Disk, Options, Store, Table, TableError};

/// A store that can be used.
#[derive(Debug)]
pub struct Recovered {
    /// The writing side.
    pub store: Store,
    /// The table, which has everything that the journal said.
    pub table: Table,
    /// Keeps other processes away as long as it is there.
    pub lock: Lock,
    /// Records of the journal that were put into the table.
    pub records: u64,
    /// What was damaged.
    pub damages: Vec<Damage>,
}

/// Why a store does not start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The folder cannot be made.
    #[error("{0} cannot be made: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// Another process has it.
    #[error("{0} is in use by process {1}: a store belongs to one node at a time")]
    InUse(PathBuf, String),
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// A file cannot be written.
    #[error("{0} cannot be written: {1}")]
    Write(PathBuf, #[source] io::Error),
    /// The table does not open, or does not take the journal.
    #[error("{0}: {1}")]
    Table(PathBuf, #[source] TableError),
}

/// A lock on a folder, as long as it is held.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the lock goes with the file")] File);

/// Opens the store in a folder, or makes one: takes the lock, puts what the journal says into the table, begins a new journal.
///
/// # Errors
/// [`RecoverError`]; nothing that was kept is lost, and the next attempt goes on from there.
pub fn recover(folder: &Path, disk: Box<dyn Disk>, options: Options) -> Result<Recovered, RecoverError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| RecoverError::Folder(folder.to_owned(), error))?;
    let lock = lock(folder)?;
    let of_table = |error| RecoverError::Table(folder.to_owned(), error);
    let (mut table, damage) = Table::open(folder).map_err(of_table)?;
    let mut late_damage = None;
    remove_unfinished(folder).map_err(|error| RecoverError::Write(folder.to_owned(), error))?;
    let unreadable = |error| RecoverError::Read(folder.to_owned(), error);
    let found = segments(folder).map_err(unreadable)?;
    let applied = table.last_checkpoint().map_err(of_table)?;
    let (mut old, mut new): (Vec<_>, Vec<_>) = found.into_iter().partition(|(id, _)| id.number <= applied);
    if new.is_empty() {
        // There is a next file before a checkpoint is taken: where there is none, the number is not to be trusted. Reading
        // what the table has already does no harm.
        std::mem::swap(&mut old, &mut new);
    }
    let replayed = replay(&new).map_err(unreadable)?;
    let last = new.last().map_or(applied, |(id, _)| id.number.max(applied));
    if !new.is_empty() {
        let mut outcome = table.apply(last, &replayed.changes);
        if let Err(TableError::Damaged(_)) = outcome {
            drop(table);
            let (salvaged, damage) = Table::salvage(folder).map_err(of_table)?;
            (table, late_damage) = (salvaged, Some(damage));
            outcome = table.apply(last, &replayed.changes);
        }
        outcome.map_err(of_table)?;
    }
    let unwritable = |error| RecoverError::Write(folder.to_owned(), error);
    for (_, path) in &old {
        fs::remove_file(path).map_err(unwritable)?;
    }
    for (id, path) in &new {
        let is_damaged = |damage: &Damage| matches!(damage, Damage::Journal { file, is_tail: false, .. } if *file == id.file_name());
        if replayed.damages.iter().any(is_damaged) {
            // For whoever wants to look at it.
            fs::rename(path, path.with_extension("damaged")).map_err(unwritable)?;
        } else {
            fs::remove_file(path).map_err(unwritable)?;
        }
    }
    let store = Store::begin(folder.to_owned(), disk, options, last).map_err(unwritable)?;
    let damages = damage.into_iter().chain(late_damage).chain(replayed.damages).collect();
    Ok(Recovered { store, table, lock, records: replayed.records, damages })
}

/// What a process did not write whole.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(HIDDEN) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The file tells who has the lock; the lock itself ends with the process, however that ends.
fn lock(folder: &Path) -> Result<Lock, RecoverError> {
    let path = folder.join("lock");
    let unwritable = |error| RecoverError::Write(path.clone(), error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            return Err(RecoverError::InUse(folder.to_owned(), owner.trim().to_owned()));
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(error)),
    }
    // Who reads it wants to know; nothing depends on it, not even on a full disk.
    let _ = file.set_len(0).and_then(|()| file.rewind());
    let _ = writeln!(file, "{}", std::process::id());
    Ok(Lock(file))
}

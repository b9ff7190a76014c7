//! A file of the journal, as it is written.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the journal needs of a disk. Tests bring one that fails.
pub trait Disk: fmt::Debug + Send {
    /// A new, empty file.
    ///
    /// # Errors
    /// As the system says; a file that is there already is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes the names in a folder last as long as the disk.
    ///
    /// # Errors
    /// As the system says.
    fn sync_names(&self, folder: &Path) -> io::Result<()>;
    /// Gives a file another name.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that grows.
pub trait DiskFile: fmt::Debug + Send {
    /// Writes behind what is there.
    ///
    /// # Errors
    /// As the system says; some of it may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off what is behind `len`.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Returns once what was written is on the disk.
    ///
    /// # Errors
    /// As the system says; what of it is on the disk is not known then, and asking again does not tell.
    fn sync(&mut self) -> io::Result<()>;
}

/// The system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Disk for Files {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Appending: after a cut the next write is where the file ends.
        Ok(Box::new(OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Which file of the journal it is: its place in the order, and the salt of its records' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    pub(crate) number: u64,
    pub(crate) salt: u64,
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        format!("journal-{:016}-{:016x}.log", self.number, self.salt)
    }

    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let (number, salt) = file_name.strip_prefix("journal-")?.strip_suffix(".log")?.split_once('-')?;
        Some(Self { number: number.parse().ok()?, salt: u64::from_str_radix(salt, 16).ok()? })
    }
}

/// What the name of a file ends in that is not whole yet.
pub(crate) const HIDDEN: &str = ".part";

/// The file that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Bytes that were written whole.
    len: u64,
    /// More than these may be in the file: a write failed.
    is_torn: bool,
    is_synced: bool,
}

impl Segment {
    pub(crate) fn create(disk: &dyn Disk, folder: &Path, id: SegmentId) -> io::Result<Self> {
        Self::create_as(disk, folder.join(id.file_name()), id)
    }

    /// Under a name that no start reads: see [`Self::publish`].
    pub(crate) fn create_hidden(disk: &dyn Disk, folder: &Path, id: SegmentId) -> io::Result<Self> {
        Self::create_as(disk, folder.join(id.file_name() + HIDDEN), id)
    }

    /// It is whole: starts read it from now on.
    pub(crate) fn publish(&mut self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        let path = folder.join(self.id.file_name());
        disk.rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    fn create_as(disk: &dyn Disk, path: PathBuf, id: SegmentId) -> io::Result<Self> {
        let file = disk.create(&path)?;
        Ok(Self { id, path, file, len: 0, is_torn: false, is_synced: true })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Writes all of it, or leaves the file as if nothing had been.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.truncate(self.len)?;
            self.is_torn = false;
        }
        self.is_torn = true;
        self.file.append(bytes)?;
        self.is_torn = false;
        self.len += bytes.len() as u64;
        self.is_synced = false;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.file.sync()?;
            self.is_synced = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_read_as_they_were_made() {
        let id = SegmentId { number: 42, salt: u64::MAX - 1 };
        assert_eq!(SegmentId::parse(&id.file_name()), Some(id));
        for other in ["documents.db", "journal-1.log", "journal-x-00.log", "journal-1-zz.log"] {
            assert_eq!(SegmentId::parse(other), None, "{other}");
        }
    }
}

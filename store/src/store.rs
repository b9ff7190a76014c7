//! What is asked for while a node runs: the writing side.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Updates;
use crate::change::{Base, Change, Changes, is_at_or_before};
use crate::record::Record;
use crate::segment::{Disk, Segment, SegmentId};

/// When what was written is also on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// When the system likes. Survives the process, not the power.
    Never,
    /// So often at least: a power failure costs no more than this much time.
    Interval(Duration),
    /// Before it counts as safe.
    Always,
}

/// How a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When it is on the disk.
    pub fsync: Fsync,
    /// Bytes of the journal after which a checkpoint is due.
    pub checkpoint_bytes: u64,
    /// Time after which a checkpoint of anything is due.
    pub checkpoint_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: Fsync::Interval(Duration::from_secs(1)),
            checkpoint_bytes: 16 << 20,
            checkpoint_after: Duration::from_secs(60),
        }
    }
}

/// What is to go into the table.
#[derive(Debug)]
pub struct Checkpoint {
    /// Counts checkpoints of a folder, whatever process made them.
    pub number: u64,
    /// What happened since the last.
    pub changes: Changes,
}

/// What a store knows about an open document, besides what happened since the last checkpoint.
#[derive(Debug)]
struct Open {
    /// The last checkpoint that had been handed over when the session began: its log begins with all of that.
    began_after: u64,
    /// Where in the session's log what was handed over with a checkpoint ended.
    handed_over: Vec<(u32, u64)>,
}

/// Writes the journal and gathers what a checkpoint moves into the table. Whoever drives it calls [`Self::commit`] after some
/// calls, and tells nobody before that anything is safe.
///
/// `now` is time since any fixed moment.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    disk: Box<dyn Disk>,
    options: Options,
    segment: Segment,
    /// The highest number that a file ever had.
    last_number: u64,
    /// Files that only hold what was handed over: they go when that is in the table.
    retired: Vec<(u64, PathBuf)>,
    /// Records to be written by the next commit.
    batch: Vec<u8>,
    /// Documents of which updates are among them.
    uncommitted: HashSet<Box<str>>,
    changes: Changes,
    /// When the first of these happened.
    changed_at: Option<Duration>,
    open: HashMap<Box<str>, Open>,
    /// Since when something is not on the disk.
    unsynced_since: Option<Duration>,
    /// The file's state on the disk is not known: everything gathered is written anew, to another.
    is_doubtful: bool,
}

impl Store {
    /// Begins a journal behind the last checkpoint.
    ///
    /// # Errors
    /// The first file cannot be made.
    pub(crate) fn begin(
        folder: PathBuf,
        disk: Box<dyn Disk>,
        options: Options,
        last_checkpoint: u64,
    ) -> io::Result<Self> {
        let id = SegmentId { number: last_checkpoint + 1, salt: salt()? };
        let segment = Segment::create(&*disk, &folder, id)?;
        disk.sync_names(&folder)?;
        Ok(Self {
            folder,
            disk,
            options,
            segment,
            last_number: id.number,
            retired: Vec::new(),
            batch: Vec::new(),
            uncommitted: HashSet::new(),
            changes: Changes::default(),
            changed_at: None,
            open: HashMap::new(),
            unsynced_since: None,
            is_doubtful: false,
        })
    }

    /// A session begins. What this returns happened since the last checkpoint: it goes on top of what the table has.
    pub fn open(&mut self, name: &str, now: Duration) -> Change {
        // A start after a crash is to know that somebody had it open.
        self.write(&Record::Append { name, updates: &[] });
        let began_after = self.segment.id.number - 1;
        self.open.insert(name.into(), Open { began_after, handed_over: Vec::new() });
        self.note_change(now);
        let mut before = Change::default();
        self.changes.change(name, |change| {
            change.begin();
            before = change.clone();
        });
        before
    }

    /// Updates came; `position` is where they end in the session's log.
    pub fn append(&mut self, name: &str, position: u32, updates: &Updates, now: Duration) {
        self.write(&Record::Append { name, updates: updates.as_bytes() });
        if !self.uncommitted.contains(name) {
            self.uncommitted.insert(name.into());
        }
        self.note_change(now);
        self.changes.change(name, |change| change.append(position, updates));
    }

    /// True if updates of this document came that are not safe yet.
    #[must_use]
    pub fn has_uncommitted(&self, name: &str) -> bool {
        self.uncommitted.contains(name)
    }

    fn write(&mut self, record: &Record<'_>) {
        record.write(self.segment.id.salt, &mut self.batch);
    }

    /// Compaction made this of everything before `upto` in the session's log.
    pub fn rebase(&mut self, name: &str, upto: u32, update: Arc<[u8]>, left: Updates, now: Duration) {
        let Some(open) = self.open.get_mut(name) else { return };
        let covered = open.handed_over.iter().take_while(|(end, _)| is_at_or_before(*end, upto)).count();
        if let Some((_, number)) = open.handed_over.drain(..covered).next_back() {
            open.began_after = number;
        }
        let base = Base { covers: open.began_after, update, left };
        self.note_change(now);
        self.changes.change(name, |change| change.rebase(upto, base));
    }

    /// The session ended at this second; nothing of the document is kept, or all of it.
    pub fn end(&mut self, name: &str, at: u64, is_kept: bool, now: Duration) {
        if self.open.remove(name).is_none() {
            return;
        }
        self.write(&Record::End { name, at, is_kept });
        self.note_change(now);
        self.changes.end(name, at, is_kept);
    }

    /// The session never began: whoever opened the document could not load it. What is there stays, and counts as ended at
    /// this second.
    pub fn abandon(&mut self, name: &str, at: u64, now: Duration) {
        if self.open.remove(name).is_some() {
            self.note_change(now);
            self.changes.change(name, |change| change.ended_at = Some(at));
        }
    }

    fn note_change(&mut self, now: Duration) {
        self.changed_at.get_or_insert(now);
    }

    /// Writes what came since the last time; all of it is safe when this returns.
    ///
    /// # Errors
    /// The disk's. Nothing is lost: the next call tries again.
    pub fn commit(&mut self, now: Duration) -> io::Result<()> {
        if self.is_doubtful {
            self.start_over()?;
        }
        if !self.batch.is_empty() {
            self.segment.append(&self.batch)?;
            self.batch.clear();
            self.batch.shrink_to(BATCH_KEPT);
            self.unsynced_since.get_or_insert(now);
        }
        match self.options.fsync {
            Fsync::Always => self.sync()?,
            Fsync::Interval(interval) if self.unsynced_since.is_some_and(|since| now >= since + interval) => {
                self.sync()?;
            }
            Fsync::Interval(_) | Fsync::Never => {}
        }
        self.uncommitted.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let outcome = self.segment.sync();
        // The system forgets what it could not write once it has said so: asking again would answer that all is well.
        self.is_doubtful |= outcome.is_err();
        if outcome.is_ok() {
            self.unsynced_since = None;
        }
        outcome
    }

    /// Writes all that is gathered to a new file.
    fn start_over(&mut self) -> io::Result<()> {
        let id = self.next_id()?;
        let mut segment = Segment::create_hidden(&*self.disk, &self.folder, id)?;
        let mut records = Vec::new();
        for (name, change) in self.changes.iter() {
            write_anew(name, change, id.salt, &mut records);
        }
        let written = segment
            .append(&records)
            .and_then(|()| segment.sync())
            .and_then(|()| segment.publish(&*self.disk, &self.folder))
            .and_then(|()| self.disk.sync_names(&self.folder));
        if let Err(error) = written {
            if self.disk.remove(&segment.path).is_err() {
                self.retired.push((segment.id.number, segment.path));
            }
            return Err(error);
        }
        let doubtful = std::mem::replace(&mut self.segment, segment);
        // Until it is gone a start reads it first, and then all of it again.
        if self.disk.remove(&doubtful.path).is_err() {
            self.retired.push((doubtful.id.number, doubtful.path));
        }
        self.batch.clear();
        self.is_doubtful = false;
        self.unsynced_since = None;
        Ok(())
    }

    /// For the next file. No number is used twice, whatever became of its file: a start reads files in their order.
    fn next_id(&mut self) -> io::Result<SegmentId> {
        self.last_number += 1;
        Ok(SegmentId { number: self.last_number, salt: salt()? })
    }

    /// When [`Self::commit`] should be called though nothing comes.
    #[must_use]
    pub fn sync_due(&self) -> Option<Duration> {
        match self.options.fsync {
            Fsync::Interval(interval) => self.unsynced_since.map(|since| since + interval),
            Fsync::Never | Fsync::Always => None,
        }
    }

    /// When [`Self::checkpoint`] should be called though nothing comes.
    #[must_use]
    pub fn checkpoint_due(&self) -> Option<Duration> {
        self.changed_at.map(|at| at + self.options.checkpoint_after)
    }

    /// True if so much was gathered, or so long ago, that a checkpoint should be made of it.
    #[must_use]
    pub fn wants_checkpoint(&self, now: Duration) -> bool {
        self.segment.len() >= self.options.checkpoint_bytes
            || self.changed_at.is_some_and(|at| now >= at + self.options.checkpoint_after)
    }

    /// Bytes gathered for the next checkpoint, and those that wait to be written.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.changes.held() + self.batch.len()
    }

    /// Bytes of the journal since the last checkpoint.
    #[must_use]
    pub fn journal_len(&self) -> u64 {
        self.segment.len()
    }

    /// Takes what was gathered; the journal goes on in a new file. To be called when everything is committed.
    ///
    /// # Errors
    /// There is no new file; nothing has changed then.
    pub fn checkpoint(&mut self) -> io::Result<Checkpoint> {
        if !self.batch.is_empty() || self.is_doubtful {
            return Err(io::Error::other("something is not committed"));
        }
        if self.options.fsync != Fsync::Never {
            self.sync()?;
        }
        let number = self.segment.id.number;
        let id = self.next_id()?;
        let segment = Segment::create(&*self.disk, &self.folder, id)?;
        if let Err(error) = self.disk.sync_names(&self.folder) {
            let _ = self.disk.remove(&segment.path);
            return Err(error);
        }
        let full = std::mem::replace(&mut self.segment, segment);
        self.retired.push((number, full.path));
        let changes = std::mem::take(&mut self.changes);
        self.changed_at = None;
        self.unsynced_since = None;
        for (name, change) in changes.iter() {
            if let (Some(open), Some(end)) = (self.open.get_mut(name), change.end()) {
                open.handed_over.push((end, number));
            }
        }
        Ok(Checkpoint { number, changes })
    }

    /// The table has everything up to this checkpoint.
    pub fn checkpointed(&mut self, number: u64) {
        let disk = &*self.disk;
        self.retired.retain(|(retired, path)| {
            // What cannot be removed is not read again: the table knows what it has.
            *retired > number || disk.remove(path).is_err() && path.exists()
        });
    }
}

/// Room for records that is kept between commits.
const BATCH_KEPT: usize = 1 << 20;

fn write_anew(name: &str, change: &Change, salt: u64, out: &mut Vec<u8>) {
    if change.is_dropped {
        Record::End { name, at: 0, is_kept: false }.write(salt, out);
    }
    if let Some(base) = change.base_updates() {
        Record::Append { name, updates: base.as_bytes() }.write(salt, out);
    }
    if !change.updates.is_empty() || change.ended_at.is_none() {
        // Without updates: somebody has it open.
        Record::Append { name, updates: change.updates.as_bytes() }.write(salt, out);
    }
    let is_gone = change.is_dropped && change.updates.is_empty();
    if let Some(at) = change.ended_at.filter(|_| !is_gone) {
        Record::End { name, at, is_kept: true }.write(salt, out);
    }
}

fn salt() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_ne_bytes(bytes))
}

//! What is left after a crash at any moment, whatever the disk refused before: everything that was committed, nothing that was
//! dropped, and of damage its own bytes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pinwire_store::{
    Checkpoint, Damage, Disk, DiskFile, Files, Fsync, Options, Recovered, Store, Table, Updates, Which,
    recover,
};
use proptest::prelude::*;

/// What a disk refuses for now.
#[derive(Debug, Default)]
struct Refusals {
    writes: AtomicBool,
    syncs: AtomicBool,
    /// And removals.
    renames: AtomicBool,
    /// Something that was written is not there any more.
    has_lost: AtomicBool,
}

/// The system's files, until told to refuse. A refused write leaves half of what it should have written; a refused sync loses
/// what was written since the last.
#[derive(Clone, Debug, Default)]
struct Fickle(Arc<Refusals>);

#[derive(Debug)]
struct FickleFile {
    file: Box<dyn DiskFile>,
    refusals: Arc<Refusals>,
    len: u64,
    synced: u64,
}

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Disk for Fickle {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (file, refusals) = (Files.create(path)?, Arc::clone(&self.0));
        Ok(Box::new(FickleFile { file, refusals, len: 0, synced: 0 }))
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        if self.0.syncs.load(Ordering::Relaxed) { Err(refused()) } else { Files.sync_names(folder) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.0.renames.load(Ordering::Relaxed) { Err(refused()) } else { Files.rename(from, to) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.0.renames.load(Ordering::Relaxed) { Err(refused()) } else { Files.remove(path) }
    }
}

impl DiskFile for FickleFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_refused = self.refusals.writes.load(Ordering::Relaxed);
        let written = if is_refused { &bytes[..bytes.len() / 2] } else { bytes };
        self.file.append(written)?;
        self.len += written.len() as u64;
        if is_refused { Err(refused()) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        self.file.truncate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.refusals.syncs.load(Ordering::Relaxed) {
            self.refusals.has_lost.store(true, Ordering::Relaxed);
            self.truncate(self.synced)?;
            return Err(refused());
        }
        self.synced = self.len;
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u8),
    Append(u8),
    Rebase(u8),
    End(u8, bool),
    Commit,
    Checkpoint { is_taken: bool },
    RefuseWrites(bool),
    RefuseSyncs(bool),
    RefuseRenames(bool),
    Crash { torn: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let document = 0..3u8;
    let step = prop_oneof![
        2 => document.clone().prop_map(Step::Open),
        8 => document.clone().prop_map(Step::Append),
        2 => document.clone().prop_map(Step::Rebase),
        2 => (document, any::<bool>()).prop_map(|(document, is_kept)| Step::End(document, is_kept)),
        6 => Just(Step::Commit),
        2 => any::<bool>().prop_map(|is_taken| Step::Checkpoint { is_taken }),
        1 => any::<bool>().prop_map(Step::RefuseWrites),
        1 => any::<bool>().prop_map(Step::RefuseSyncs),
        1 => any::<bool>().prop_map(Step::RefuseRenames),
        2 => any::<u8>().prop_map(|torn| Step::Crash { torn }),
    ];
    prop::collection::vec(step, 1..60)
}

/// A document as the test knows it: numbers stand for updates.
#[derive(Clone, Debug, Default)]
struct Document {
    /// What has to be there.
    kept: BTreeSet<u32>,
    /// What may be there besides.
    possible: BTreeSet<u32>,
    is_open: bool,
    /// The session's log: where each update ends.
    log: Vec<(u32, u32)>,
    position: u32,
}

struct World {
    folder: tempfile::TempDir,
    disk: Fickle,
    fsync: Fsync,
    running: Option<Recovered>,
    /// A checkpoint that the table has not taken yet.
    waiting: Option<Checkpoint>,
    documents: BTreeMap<u8, Document>,
    /// The same, as of the last commit that succeeded.
    committed: BTreeMap<u8, Document>,
    /// What came since then, whatever became of it.
    uncommitted: Vec<(u8, u32)>,
    /// Removing files was refused.
    may_be_left: bool,
    /// Everything that ever came.
    ever: Vec<(u8, u32)>,
    next: u32,
    now: Duration,
}

fn name(document: u8) -> String {
    format!("tenant::app::document-{document}")
}

/// An update is its number; a base is all numbers in it.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap()))
}

impl World {
    fn new(fsync: Fsync) -> Self {
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            disk: Fickle::default(),
            fsync,
            running: None,
            waiting: None,
            documents: BTreeMap::new(),
            committed: BTreeMap::new(),
            uncommitted: Vec::new(),
            may_be_left: false,
            ever: Vec::new(),
            next: 0,
            now: Duration::ZERO,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let options = Options { fsync: self.fsync, ..Options::default() };
        let recovered = recover(self.folder.path(), Box::new(self.disk.clone()), options).unwrap();
        // A file that was given up, and could not be removed, may end in a write that was refused.
        let is_left = std::mem::take(&mut self.may_be_left);
        let torn = |damage: &Damage| matches!(damage, Damage::Journal { is_tail, .. } if *is_tail || is_left);
        assert!(recovered.damages.iter().all(torn), "{:?}", recovered.damages);
        self.running = Some(recovered);
    }

    fn store(&mut self) -> &mut Store {
        &mut self.running.as_mut().unwrap().store
    }

    fn run(&mut self, step: &Step) {
        self.now += Duration::from_millis(300);
        let now = self.now;
        match *step {
            Step::Open(document) => self.open(document),
            Step::Append(document) => {
                self.open(document);
                self.next += 1;
                let number = self.next;
                let known = self.documents.get_mut(&document).unwrap();
                known.position += 12;
                let position = known.position;
                known.log.push((position, number));
                known.kept.insert(number);
                self.uncommitted.push((document, number));
                self.ever.push((document, number));
                let updates = Updates::from_iter([&number.to_le_bytes()[..]]);
                self.store().append(&name(document), position, &updates, now);
            }
            Step::Rebase(document) => self.rebase(document),
            Step::End(document, is_kept) => {
                let Some(known) = self.documents.get_mut(&document).filter(|known| known.is_open) else {
                    return;
                };
                known.is_open = false;
                if !is_kept {
                    *known = Document::default();
                }
                self.store().end(&name(document), 2000, is_kept, now);
            }
            Step::Commit => self.commit(),
            Step::Checkpoint { is_taken } => self.checkpoint(is_taken),
            Step::RefuseWrites(are_refused) => self.disk.0.writes.store(are_refused, Ordering::Relaxed),
            Step::RefuseSyncs(are_refused) => self.disk.0.syncs.store(are_refused, Ordering::Relaxed),
            Step::RefuseRenames(are_refused) => {
                self.may_be_left |= are_refused;
                self.disk.0.renames.store(are_refused, Ordering::Relaxed);
            }
            Step::Crash { torn } => self.crash(torn),
        }
    }

    fn open(&mut self, document: u8) {
        let known = self.documents.entry(document).or_default();
        if known.is_open {
            return;
        }
        known.is_open = true;
        known.log.clear();
        known.position = 0;
        let expected = known.clone();
        let now = self.now;
        let change = self.store().open(&name(document), now);
        let found = self.load(document, &change);
        check(&expected, &found);
    }

    fn load(&self, document: u8, change: &pinwire_store::Change) -> BTreeSet<u32> {
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.changes.get(&name(document)));
        let since: Vec<_> = waiting.into_iter().chain([change]).collect();
        let loaded = self.running.as_ref().unwrap().table.load(&name(document), &since).unwrap();
        assert!(loaded.damages.is_empty());
        loaded
            .base
            .iter()
            .flat_map(|base| numbers(base))
            .chain(loaded.updates.iter().flat_map(numbers))
            .collect()
    }

    /// Compaction took in some of the log, and all that was there before it.
    fn rebase(&mut self, document: u8) {
        let Some(known) = self.documents.get(&document).filter(|known| known.is_open) else { return };
        let upto = known.log.get(known.log.len() / 2).map_or(0, |(end, _)| *end);
        let behind: BTreeSet<u32> =
            known.log.iter().filter(|(end, _)| *end > upto).map(|(_, number)| *number).collect();
        let base: Vec<u8> = known.kept.difference(&behind).flat_map(|number| number.to_le_bytes()).collect();
        let (now, updates) = (self.now, Updates::new());
        self.store().rebase(&name(document), upto, base.into(), updates, now);
    }

    fn commit(&mut self) {
        let now = self.now;
        if self.store().commit(now).is_ok() {
            self.committed = self.documents.clone();
            self.uncommitted.clear();
            self.disk.0.has_lost.store(false, Ordering::Relaxed);
        }
    }

    fn checkpoint(&mut self, is_taken: bool) {
        self.commit();
        if self.waiting.is_none() {
            self.waiting = self.store().checkpoint().ok();
        }
        if is_taken && let Some(checkpoint) = self.waiting.take() {
            let running = self.running.as_mut().unwrap();
            running.table.apply(checkpoint.number, &checkpoint.changes).unwrap();
            running.store.checkpointed(checkpoint.number);
        }
    }

    /// The process is gone; of what it did not commit some may be there. The file that it wrote to may end anywhere behind
    /// what was.
    fn crash(&mut self, torn: u8) {
        self.running = None;
        self.waiting = None;
        self.disk.0.writes.store(false, Ordering::Relaxed);
        self.disk.0.syncs.store(false, Ordering::Relaxed);
        self.disk.0.renames.store(false, Ordering::Relaxed);
        if torn > 0 {
            let mut files = journals(self.folder.path());
            let last = files.pop().unwrap();
            let mut bytes = fs::read(&last).unwrap();
            bytes.extend(std::iter::repeat_n(torn, torn.into()));
            fs::write(last, bytes).unwrap();
        }
        self.start();
        let before = std::mem::take(&mut self.documents);
        self.documents = std::mem::take(&mut self.committed);
        for (document, known) in &mut self.documents {
            known.is_open = false;
            // What was not committed when the process ended may have been written all the same.
            if let Some(later) = before.get(document) {
                let was_dropped = known.kept.difference(&later.kept).copied().collect::<Vec<_>>();
                for number in was_dropped {
                    known.kept.remove(&number);
                    known.possible.insert(number);
                }
            }
        }
        // As if the power had failed as well: without `always` that may cost what was not on the disk yet.
        if self.disk.0.has_lost.swap(false, Ordering::Relaxed) {
            for (document, number) in &self.ever {
                let known = self.documents.entry(*document).or_default();
                known.kept.clear();
                known.possible.insert(*number);
            }
        }
        for (document, number) in self.uncommitted.drain(..) {
            self.documents.entry(document).or_default().possible.insert(number);
        }
        let names: Vec<u8> = self.documents.keys().copied().collect();
        for document in names {
            self.settle(document);
        }
        self.committed = self.documents.clone();
    }

    /// After a start: what may have been there is there or not.
    fn settle(&mut self, document: u8) {
        let found = self.load(document, &pinwire_store::Change::default());
        let known = self.documents.get_mut(&document).unwrap();
        check(known, &found);
        known.kept = found;
        known.possible.clear();
    }
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

fn check(known: &Document, found: &BTreeSet<u32>) {
    assert!(known.kept.is_subset(found), "lost {:?}", known.kept.difference(found));
    let allowed: BTreeSet<u32> = known.kept.union(&known.possible).copied().collect();
    assert!(found.is_subset(&allowed), "came back: {:?}", found.difference(&allowed));
}

fn fsync() -> impl Strategy<Value = Fsync> {
    prop_oneof![Just(Fsync::Never), Just(Fsync::Always), Just(Fsync::Interval(Duration::from_secs(1)))]
}

proptest! {
    #[test]
    fn committed_updates_survive_whatever_happens((fsync, steps) in (fsync(), steps())) {
        let mut world = World::new(fsync);
        for step in &steps {
            world.run(step);
        }
        world.crash(0);
    }
}

/// A folder in which a process left these documents, some of them in the table, some in the journal.
fn left_behind(documents: u32, in_table: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    for number in 0..documents {
        let document = format!("tenant::app::document-{number}");
        recovered.store.open(&document, Duration::ZERO);
        let updates = Updates::from_iter([vec![number as u8; 600].as_slice()]);
        recovered.store.append(&document, 612, &updates, Duration::ZERO);
    }
    recovered.store.commit(Duration::ZERO).unwrap();
    if in_table {
        let checkpoint = recovered.store.checkpoint().unwrap();
        recovered.table.apply(checkpoint.number, &checkpoint.changes).unwrap();
        recovered.store.checkpointed(checkpoint.number);
    }
    folder
}

/// How many of the documents are whole; none may hold anything else.
fn whole(table: &Table, documents: u32) -> u32 {
    (0..documents)
        .filter(|number| {
            let loaded = table.load(&format!("tenant::app::document-{number}"), &[]).unwrap();
            let updates: Vec<&[u8]> = loaded.updates.iter().collect();
            assert!(updates.is_empty() || updates == [vec![*number as u8; 600]]);
            !updates.is_empty()
        })
        .count() as u32
}

#[test]
fn a_damaged_record_of_the_journal_costs_itself_and_is_told_where() {
    let folder = left_behind(20, false);
    let journal = journals(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    let middle = bytes.windows(600).position(|window| window == [10; 600]).unwrap() + 300;
    bytes[middle] ^= 0x40;
    fs::write(&journal, bytes).unwrap();
    let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    assert_eq!(whole(&recovered.table, 20), 19);
    let file = journal.file_name().unwrap().to_str().unwrap();
    assert!(
        matches!(&recovered.damages[..], [Damage::Journal { file: told, offset, bytes, is_tail: false }]
        if told == file && (*offset..offset + bytes).contains(&(middle as u64))),
        "{:?}",
        recovered.damages
    );
    assert!(journal.with_extension("damaged").exists(), "it is kept to be looked at");
}

#[test]
fn a_damaged_page_of_the_table_costs_what_was_in_it() {
    let pages = {
        let folder = left_behind(64, true);
        fs::metadata(folder.path().join("documents.db")).unwrap().len() / 4096
    };
    let mut worst = 64;
    for page in 0..pages {
        let folder = left_behind(64, true);
        let path = folder.path().join("documents.db");
        let mut bytes = fs::read(&path).unwrap();
        let start = page as usize * 4096;
        bytes[start..start + 4096].iter_mut().for_each(|byte| *byte ^= 0x5A);
        fs::write(&path, bytes).unwrap();
        let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
        assert!(
            matches!(recovered.damages[..], [Damage::Table { .. }]),
            "page {page}: {:?}",
            recovered.damages
        );
        worst = worst.min(whole(&recovered.table, 64));
    }
    assert!((57..64).contains(&worst), "a page holds six documents, the worst page cost {}", 64 - worst);
}

#[test]
fn a_damaged_byte_within_a_row_is_found_when_it_is_read() {
    let folder = left_behind(3, true);
    let path = folder.path().join("documents.db");
    let mut bytes = fs::read(&path).unwrap();
    let update = [1u8; 600];
    let at = bytes.windows(600).position(|window| window == update).unwrap();
    bytes[at + 300] ^= 1;
    fs::write(&path, bytes).unwrap();
    let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    let loaded = recovered.table.load("tenant::app::document-1", &[]).unwrap();
    assert!(loaded.updates.is_empty());
    assert!(
        matches!(&loaded.damages[..], [Damage::Row { document, .. }] if document.ends_with("document-1"))
    );
    assert_eq!(whole(&recovered.table, 3), 2);
}

#[test]
fn one_process_has_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    let second = recover(folder.path(), Box::new(Files), Options::default()).unwrap_err().to_string();
    assert!(second.contains(&format!("in use by process {}", std::process::id())), "{second}");
    drop(first);
    recover(folder.path(), Box::new(Files), Options::default()).unwrap();
}

#[test]
fn what_is_erased_is_in_no_file_any_more() {
    let folder = left_behind(5, true);
    let mut recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    assert_eq!(recovered.table.erase(Which::Named("tenant::app::document-3")).unwrap(), 1);
    assert_eq!(whole(&recovered.table, 5), 4);
    let holds = |byte: u8| {
        fs::read_dir(folder.path()).unwrap().any(|entry| {
            fs::read(entry.unwrap().path()).unwrap().windows(64).any(|window| window == [byte; 64])
        })
    };
    assert!(holds(2) && !holds(3));
    assert_eq!(recovered.table.erase(Which::Prefixed("tenant::app::")).unwrap(), 4);
    assert!(!holds(2));
}

#[test]
fn ended_documents_go_when_their_time_is_over_unless_somebody_has_come_back() {
    let folder = left_behind(3, true);
    let mut recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    recovered.table.end_all(500).unwrap();
    let is_open = |name: &str| name == "tenant::app::document-1";
    assert_eq!(recovered.table.remove_ended(500, is_open).unwrap(), 0);
    assert_eq!(recovered.table.remove_ended(501, is_open).unwrap(), 2);
    assert_eq!(whole(&recovered.table, 3), 1);
}

#[test]
fn a_newer_table_is_left_alone() {
    let folder = left_behind(1, true);
    let path = folder.path().join("documents.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = recover(folder.path(), Box::new(Files), Options::default()).unwrap_err().to_string();
    assert!(refused.contains("format 99") && refused.contains("newer"), "{refused}");
}

#[test]
fn a_document_that_was_open_when_the_process_ended_does_not_count_as_ended_before() {
    let folder = left_behind(1, true);
    let mut recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    recovered.table.end_all(100).unwrap();
    recovered.store.open("tenant::app::document-0", Duration::ZERO);
    recovered.store.commit(Duration::ZERO).unwrap();
    drop(recovered);
    let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    let entries = recovered.table.entries(Which::Prefixed("")).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.ended_at).collect::<Vec<_>>(), [None]);
}

#[test]
fn a_number_of_the_last_checkpoint_that_is_not_what_was_written_costs_nothing() {
    let folder = left_behind(3, false);
    let table = folder.path().join("documents.db");
    rusqlite::Connection::open(table).unwrap().execute("UPDATE last_checkpoint SET number = 99", []).unwrap();
    let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    assert_eq!(whole(&recovered.table, 3), 3);
}

#[test]
fn what_damage_makes_of_indexes_and_types_is_found_and_carried_over() {
    for damage in [
        // An index that says something else than its table.
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema
            WHERE name = 'sqlite_autoindex_documents_1') WHERE name = 'sqlite_autoindex_content_1';",
        // A name that is no text.
        "PRAGMA ignore_check_constraints = ON; UPDATE documents SET name = CAST(x'ff' AS TEXT) WHERE name LIKE '%-1';",
    ] {
        let folder = left_behind(3, true);
        let connection = rusqlite::Connection::open(folder.path().join("documents.db")).unwrap();
        connection.execute_batch(damage).unwrap();
        drop(connection);
        let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
        let is_read = recovered.table.entries(Which::Prefixed("")).is_ok();
        let table = if is_read { recovered.table } else { Table::salvage(folder.path()).unwrap().0 };
        assert_eq!(whole(&table, 3), 3, "{damage}");
        assert_eq!(table.entries(Which::Prefixed("")).unwrap().len(), 3, "{damage}");
    }
}

#[test]
fn a_file_that_was_not_written_whole_is_never_read() {
    let folder = left_behind(2, false);
    let journal = journals(folder.path()).pop().unwrap();
    let part = format!("{}.part", journal.display()).replace("0000000000000001", "0000000000000002");
    fs::copy(&journal, &part).unwrap();
    let recovered = recover(folder.path(), Box::new(Files), Options::default()).unwrap();
    assert_eq!(recovered.records, 4, "two documents opened and written");
    assert!(!Path::new(&part).exists());
}

#[test]
fn updates_count_as_safe_when_they_are_on_the_disk_and_not_before() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Fickle::default());
    let options = Options { fsync: Fsync::Always, ..Options::default() };
    let mut store = recover(folder.path(), Box::new(disk.clone()), options).unwrap().store;
    store.open("t::a::doc", Duration::ZERO);
    store.append("t::a::doc", 12, &Updates::from_iter([&b"update"[..]]), Duration::ZERO);
    disk.0.syncs.store(true, Ordering::Relaxed);
    assert!(store.commit(Duration::ZERO).is_err());
    assert!(store.has_uncommitted("t::a::doc"), "it was written, and the sync failed");
    disk.0.syncs.store(false, Ordering::Relaxed);
    store.commit(Duration::ZERO).unwrap();
    assert!(!store.has_uncommitted("t::a::doc"));
}

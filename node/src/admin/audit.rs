//! Records of what operators had done: the last in memory, all in a file if there is one.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use pinwire_admin_api::actions::{Action, AuditPage, AuditRecord, Outcome, Who};
use time::OffsetDateTime;

use super::rfc3339;

/// Records kept in memory.
const KEPT: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Opened anew for each record, so that whoever rotates it need tell nobody.
    file: ArcSwapOption<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    records: VecDeque<AuditRecord>,
}

/// An action about to be done, with its record opened: what cannot be recorded is not done.
#[derive(Debug)]
pub(crate) struct Begun<'a> {
    audit: &'a Audit,
    file: Option<File>,
    who: Who,
    what: Action,
}

impl Audit {
    pub(crate) fn new(file: Option<&Path>) -> Self {
        let audit = Self::default();
        audit.write_to(file);
        audit
    }

    /// Writes to another file from now on, or to none.
    pub(crate) fn write_to(&self, file: Option<&Path>) {
        self.file.store(file.map(|file| file.to_owned().into()));
    }

    /// Begins the record of an action.
    ///
    /// # Errors
    /// The file cannot be opened: then the action must not be done.
    pub(crate) fn begin(&self, who: Who, what: Action) -> io::Result<Begun<'_>> {
        let file = self.file.load().as_ref().map(|file| open(file)).transpose()?;
        Ok(Begun { audit: self, file, who, what })
    }

    /// At most `limit` records after the record number `since`. A number that is still to come is one from before a restart:
    /// then these are all since the start.
    pub(crate) fn since(&self, since: u64, limit: usize) -> AuditPage {
        let kept = self.lock();
        let since = if since > kept.last { 0 } else { since };
        let from = kept.records.partition_point(|record| record.sequence <= since);
        let records: Vec<AuditRecord> = kept.records.range(from..).take(limit).cloned().collect();
        let next = records.last().map_or(since, |record| record.sequence);
        let first = records.first().map_or(since, |record| record.sequence - 1);
        AuditPage { records, next, lost: first - since }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(file)
}

impl Begun<'_> {
    /// Completes the record.
    pub(crate) fn end(self, outcome: Outcome) {
        let Self { audit, file, who, what } = self;
        let mut kept = audit.lock();
        kept.last += 1;
        let at = rfc3339(OffsetDateTime::now_utc());
        let record = AuditRecord { sequence: kept.last, at, who, what, outcome };
        if kept.records.len() == KEPT {
            kept.records.pop_front();
        }
        kept.records.push_back(record.clone());
        drop(kept);
        if let Some(file) = file
            && let Err(error) = append(file, &record)
        {
            tracing::error!(%error, ?record, "a record is missing in the audit log");
        }
        tracing::info!(what = ?record.what, who = ?record.who, outcome = ?record.outcome, "by an operator");
    }
}

/// One line, in one write: records of several processes do not mix.
fn append(mut file: File, record: &AuditRecord) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn who() -> Who {
        Who { address: None, token: None, uid: Some(7), certificate: None }
    }

    fn act(audit: &Audit) {
        let what = Action::SetLog { filter: None, for_seconds: None };
        audit.begin(who(), what).unwrap().end(Outcome::Done);
    }

    #[test]
    fn records_are_lines_of_a_file_that_only_its_owner_reads() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("audit.jsonl");
        let audit = Audit::new(Some(&file));
        act(&audit);
        // Rotated.
        std::fs::rename(&file, home.path().join("old")).unwrap();
        act(&audit);
        act(&audit);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let lines = std::fs::read_to_string(&file).unwrap();
        let records: Vec<AuditRecord> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records, audit.since(1, 10).records);
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn what_cannot_be_recorded_is_not_begun() {
        let audit = Audit::new(Some(Path::new("/nowhere/audit.jsonl")));
        let what = Action::SetLog { filter: None, for_seconds: None };
        assert!(audit.begin(who(), what).is_err());
        audit.write_to(None);
        act(&audit);
    }

    #[test]
    fn the_last_records_are_kept_and_the_others_counted() {
        let audit = Audit::default();
        (0..KEPT + 5).for_each(|_| act(&audit));
        let page = audit.since(0, 10);
        assert_eq!((page.records.len(), page.lost, page.next), (10, 5, 15));
        assert_eq!(audit.since(page.next, 5000).records.len(), KEPT - 10);
        assert_eq!(audit.since(9999, 5), audit.since(0, 5), "a number from before a restart");
        let last = KEPT as u64 + 5;
        assert_eq!(audit.since(last, 5), AuditPage { records: Vec::new(), next: last, lost: 0 });
    }
}

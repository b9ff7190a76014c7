//! The journal, as it is read: what happened since the last checkpoint, and what of it is damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::change::Changes;
use crate::record::{self, Found, Reader, Record};
use crate::segment::SegmentId;
use crate::{Damage, Updates};

/// The journal's files, oldest first.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<(SegmentId, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(SegmentId::parse) {
            found.push((id, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// What the journal's files say.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) changes: Changes,
    pub(crate) records: u64,
    pub(crate) damages: Vec<Damage>,
}

/// Reads files in order.
pub(crate) fn replay(segments: &[(SegmentId, PathBuf)]) -> io::Result<Replayed> {
    let mut replayed = Replayed::default();
    for (place, (id, path)) in segments.iter().enumerate() {
        let bytes = fs::read(path)?;
        let is_last = place + 1 == segments.len();
        read_segment(&mut replayed, *id, &bytes, is_last);
    }
    Ok(replayed)
}

fn read_segment(replayed: &mut Replayed, id: SegmentId, bytes: &[u8], is_last: bool) {
    let mut reader = Reader::new(bytes, id.salt);
    loop {
        let offset = reader.offset();
        let damaged = match reader.next() {
            None => return,
            Some(Found::Record(record)) => {
                replayed.records += 1;
                if apply(&mut replayed.changes, &record) {
                    continue;
                }
                reader.offset() - offset
            }
            Some(Found::Damage(bytes)) => bytes,
        };
        let is_tail = is_last && reader.offset() == bytes.len();
        let (offset, damaged) = (offset as u64, damaged as u64);
        replayed.damages.push(Damage::Journal { file: id.file_name(), offset, bytes: damaged, is_tail });
    }
}

/// False if the record says nothing that could have been written.
fn apply(changes: &mut Changes, record: &Record<'_>) -> bool {
    match *record {
        Record::Append { name, updates } => {
            let Some(updates) = record::updates(updates) else { return false };
            add(changes, name, &updates);
        }
        Record::End { name, at, is_kept } => changes.end(name, at, is_kept),
    }
    true
}

fn add(changes: &mut Changes, name: &str, updates: &Updates) {
    changes.change(name, |change| {
        change.ended_at = None;
        // No session goes on: there is no log whose positions these could be.
        change.append(0, updates);
    });
}

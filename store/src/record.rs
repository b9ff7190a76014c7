//! The journal's format: records one behind the other, each complete in itself.
//!
//! ```text
//! marker 4 | length of payload u32 | CRC-32 of salt, length and payload u32 | payload
//! payload: kind u8 | length of name u16 | name | kind 1: updates, kind 2: when u64
//! ```
//!
//! Integers are little endian. A record names its document: none depends on another, so a damaged one costs itself alone. The
//! marker lets a reader find the next. The salt is the file's, from its name: clients do not know it, so that no update holds
//! bytes which a reader behind damage would take for a record.

use memchr::memmem;

use crate::Updates;

/// What a file's records begin with. Clients do not know it, so that they cannot make a reader look in many places.
fn marker(salt: u64) -> [u8; 4] {
    ((salt >> 32) as u32 ^ 0xB550_571A).to_le_bytes()
}

const HEADER: usize = 12;

/// Something that happened to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// These updates came.
    Append { name: &'a str, updates: &'a [u8] },
    /// Its session ended at this second, and it was kept or not.
    End { name: &'a str, at: u64, is_kept: bool },
}

const APPEND: u8 = 1;
const END: u8 = 2;
const END_KEPT: u8 = 3;

impl Record<'_> {
    pub(crate) fn write(&self, salt: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&marker(salt));
        out.extend_from_slice(&[0; 8]);
        match self {
            Self::Append { name, updates } => {
                write_name(APPEND, name, out);
                out.extend_from_slice(updates);
            }
            Self::End { name, at, is_kept } => {
                write_name(if *is_kept { END_KEPT } else { END }, name, out);
                out.extend_from_slice(&at.to_le_bytes());
            }
        }
        let len = u32::try_from(out.len() - start - HEADER).expect("a turn's updates are below 4 GiB");
        out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        let crc = checksum(salt, len, &out[start + HEADER..]);
        out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn write_name(kind: u8, name: &str, out: &mut Vec<u8>) {
    out.push(kind);
    let len = u16::try_from(name.len()).expect("a document's name is below 64 KiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn checksum(salt: u64, len: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&len.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

/// What stands at some place of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Record(Record<'a>),
    /// So many bytes that are no record, and another record or the end behind them.
    Damage(usize),
}

/// Reads a file's bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    salt: u64,
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], salt: u64) -> Self {
        Self { bytes, salt, offset: 0 }
    }

    /// Where the next begins.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn next(&mut self) -> Option<Found<'a>> {
        let rest = self.bytes.get(self.offset..).filter(|rest| !rest.is_empty())?;
        if let Some((record, len)) = read(rest, self.salt) {
            self.offset += len;
            return Some(Found::Record(record));
        }
        let damaged = self.damaged(rest);
        self.offset += damaged;
        Some(Found::Damage(damaged))
    }

    /// Bytes to the next record, or to the end.
    fn damaged(&self, rest: &[u8]) -> usize {
        memmem::find_iter(&rest[1..], &marker(self.salt))
            .map(|at| at + 1)
            .find(|at| read(&rest[*at..], self.salt).is_some())
            .unwrap_or(rest.len())
    }
}

/// A record at the beginning of `bytes`, and its length.
fn read(bytes: &[u8], salt: u64) -> Option<(Record<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let field = |at: usize| header[at..].first_chunk::<4>().map(|four| u32::from_le_bytes(*four));
    let (len, crc) = (field(4)?, field(8)?);
    let payload = rest.get(..len as usize).filter(|_| header.starts_with(&marker(salt)))?;
    if checksum(salt, len, payload) != crc {
        return None;
    }
    Some((parse(payload)?, HEADER + payload.len()))
}

fn parse(payload: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = payload.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    let name = std::str::from_utf8(name).ok()?;
    match *kind {
        APPEND => Some(Record::Append { name, updates: rest }),
        END | END_KEPT => {
            let at = u64::from_le_bytes(*rest.first_chunk::<8>()?);
            Some(Record::End { name, at, is_kept: *kind == END_KEPT })
        }
        _ => None,
    }
}

/// The updates of a record, if they are a run of updates.
pub(crate) fn updates(bytes: &[u8]) -> Option<Updates> {
    Updates::from_bytes(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 0x0123_4567_89AB_CDEF;

    fn written(updates: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, update) in updates.iter().enumerate() {
            let run = Updates::from_iter([update.as_slice()]);
            Record::Append { name: &format!("doc{number}"), updates: run.as_bytes() }.write(SALT, &mut out);
        }
        out
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(bytes, SALT);
        std::iter::from_fn(|| reader.next())
            .filter_map(|found| match found {
                Found::Record(Record::Append { name, .. } | Record::End { name, .. }) => {
                    Some(name.to_owned())
                }
                Found::Damage(_) => None,
            })
            .collect()
    }

    #[test]
    fn an_end_is_read_as_it_was_written() {
        let mut out = Vec::new();
        let end = Record::End { name: "t::a::doc", at: 1_700_000_000, is_kept: true };
        end.write(SALT, &mut out);
        assert_eq!(Reader::new(&out, SALT).next(), Some(Found::Record(end)));
    }

    #[test]
    fn a_record_that_a_client_made_up_is_not_found_behind_damage() {
        let mut made_up = Vec::new();
        Record::Append { name: "other::app::doc", updates: &[] }.write(0, &mut made_up);
        let mut bytes = written(&[made_up]);
        bytes[0] ^= 1;
        assert!(names(&bytes).is_empty());
    }

    proptest! {
        #[test]
        fn a_damaged_byte_costs_its_record_alone(
            updates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            at: prop::sample::Index,
            flip in 1..=255u8,
        ) {
            let mut bytes = written(&updates);
            let at = at.index(bytes.len());
            let mut ends = 0;
            let hit = updates.iter().enumerate().position(|(number, _)| {
                ends = written(&updates[..=number]).len();
                at < ends
            }).unwrap();
            bytes[at] ^= flip;
            let left: Vec<String> =
                (0..updates.len()).filter(|number| *number != hit).map(|number| format!("doc{number}")).collect();
            prop_assert_eq!(names(&bytes), left);
        }

        #[test]
        fn a_torn_file_keeps_every_whole_record(
            updates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            at: prop::sample::Index,
        ) {
            let bytes = written(&updates);
            let cut = at.index(bytes.len() + 1);
            let whole = (0..=updates.len()).filter(|count| written(&updates[..*count]).len() <= cut).max().unwrap();
            prop_assert_eq!(names(&bytes[..cut]).len(), whole);
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes, SALT);
            while reader.next().is_some() {}
            prop_assert_eq!(reader.offset(), bytes.len());
        }
    }
}

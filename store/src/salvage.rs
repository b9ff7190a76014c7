//! What is left of a damaged table: every row that can still be read, carried over to a new file.
//!
//! A damaged page near the root of a tree would hide everything below it from SQLite. So the trees are not asked: each page is
//! looked at for itself (<https://www.sqlite.org/fileformat2.html>), and a row counts if its checksum is right. What was
//! deleted is not found again, since it was overwritten.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::params;

use crate::Updates;
use crate::table::{self, TableError, checksum};

/// What became of a damaged file.
#[derive(Debug)]
pub(crate) struct Salvaged {
    /// Where it lies now.
    pub(crate) set_aside: String,
    /// Rows of content that were carried over.
    pub(crate) kept: u64,
    /// Rows of content that were found and could not be read.
    pub(crate) lost: u64,
}

/// Sets the file aside and makes a new one of what can be read of it.
pub(crate) fn salvage(path: &Path) -> Result<Salvaged, TableError> {
    let (aside, new) = (free_name(path), path.with_extension("db-new"));
    let bytes = std::fs::read(path).map_err(system)?;
    let _ = std::fs::remove_file(&new);
    let mut target = table::connect(&new)?;
    let mut salvaged = Salvaged { set_aside: aside.display().to_string(), kept: 0, lost: 0 };
    let transaction = target.transaction()?;
    let mut ended = Vec::new();
    let mut last_checkpoint = 0;
    for row in Pages(&bytes).rows() {
        match row {
            Row::Content(Some(Content { name, checkpoint, is_base, updates })) => {
                table::insert(&transaction, &name, checkpoint, is_base, &updates)?;
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO documents (name, ended_at) VALUES (?1, NULL)")?
                    .execute([&name])?;
                last_checkpoint = last_checkpoint.max(checkpoint);
                salvaged.kept += 1;
            }
            Row::Content(None) => salvaged.lost += 1,
            Row::Document(name, at) => ended.push((name, at)),
            Row::LastCheckpoint(number) => last_checkpoint = last_checkpoint.max(number),
        }
    }
    for (name, at) in ended {
        // Only of documents that have content: a name here has no checksum of its own.
        transaction
            .prepare_cached("UPDATE documents SET ended_at = ?2 WHERE name = ?1")?
            .execute(params![name, at])?;
    }
    let last_checkpoint = i64::try_from(last_checkpoint).unwrap_or(i64::MAX);
    transaction.execute("UPDATE last_checkpoint SET number = ?1", [last_checkpoint])?;
    transaction.commit()?;
    drop(target);
    // There is a table under this name at every moment: an empty one would be made in place of none.
    std::fs::hard_link(path, &aside).map_err(system)?;
    let journal = with_suffix(path, "-journal");
    if journal.exists() {
        std::fs::rename(&journal, with_suffix(&aside, "-journal")).map_err(system)?;
    }
    std::fs::rename(&new, path).map_err(system)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(system)?;
    }
    Ok(salvaged)
}

/// Bytes of a page: SQLite's default, which every file of ours has.
const PAGE: usize = 4096;
/// First byte of a page with rows of a table.
const LEAF: u8 = 13;
/// Bytes at the file's beginning that are not of the first page's tree.
const FILE_HEADER: usize = 100;
/// Bytes of a page's header before the places of its rows.
const PAGE_HEADER: usize = 8;

/// What a row says.
enum Row {
    /// `None`: it is not what was written.
    Content(Option<Content>),
    Document(String, Option<i64>),
    LastCheckpoint(u64),
}

struct Content {
    name: String,
    checkpoint: u64,
    is_base: bool,
    updates: Updates,
}

/// A file's pages.
struct Pages<'a>(&'a [u8]);

impl<'a> Pages<'a> {
    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let start = number.checked_sub(1)?.checked_mul(PAGE)?;
        self.0.get(start..start.checked_add(PAGE)?)
    }

    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (1..=self.0.len() / PAGE).flat_map(|number| self.rows_of(number))
    }

    fn rows_of(&self, number: usize) -> Vec<Row> {
        let Some(page) = self.page(number) else { return Vec::new() };
        let header = if number == 1 { FILE_HEADER } else { 0 };
        if page[header] != LEAF {
            return Vec::new();
        }
        let count = usize::from(u16::from_be_bytes([page[header + 3], page[header + 4]]));
        let places = page[header + PAGE_HEADER..].chunks_exact(2).take(count);
        places.filter_map(|place| self.row(page, u16::from_be_bytes([place[0], place[1]]).into())).collect()
    }

    fn row(&self, page: &[u8], place: usize) -> Option<Row> {
        let cell = page.get(place..)?;
        let (len, cell) = varint(cell)?;
        let (_row_number, cell) = varint(cell)?;
        let payload = self.payload(usize::try_from(len).ok()?, cell)?;
        read_row(&payload)
    }

    /// A row's bytes: those in its page, and those in the chain of pages behind it.
    fn payload(&self, len: usize, cell: &[u8]) -> Option<Vec<u8>> {
        const MOST_IN_PAGE: usize = PAGE - 35;
        const LEAST_IN_PAGE: usize = (PAGE - 12) * 32 / 255 - 23;
        if len <= MOST_IN_PAGE {
            return cell.get(..len).map(<[u8]>::to_vec);
        }
        if len > self.0.len() {
            return None;
        }
        let with_rest = LEAST_IN_PAGE + (len - LEAST_IN_PAGE) % (PAGE - 4);
        let in_page = if with_rest <= MOST_IN_PAGE { with_rest } else { LEAST_IN_PAGE };
        let mut payload = cell.get(..in_page)?.to_vec();
        let mut next = number(cell.get(in_page..)?)?;
        while payload.len() < len {
            let (link, rest) = self.page(next)?.split_at(4);
            payload.extend_from_slice(&rest[..rest.len().min(len - payload.len())]);
            next = number(link)?;
        }
        Some(payload)
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<4>().map(|four| u32::from_be_bytes(*four) as usize)
}

/// SQLite's integers: seven bits a byte, the most significant first, nine bytes at most.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(9) {
        if place == 8 {
            return Some((value << 8 | u64::from(*byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

/// A value of a row.
#[derive(Debug, PartialEq)]
enum Value<'a> {
    Null,
    Integer(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
}

/// The value of a serial type at the beginning of `bytes`, and what is behind it.
fn value(serial: u64, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let integer = |len: usize| {
        let (digits, rest) = bytes.split_at_checked(len)?;
        let sign = if digits.first()? & 0x80 == 0 { 0 } else { -1i64 };
        let integer = digits.iter().fold(sign, |value, digit| value << 8 | i64::from(*digit));
        Some((Value::Integer(integer), rest))
    };
    match serial {
        0 => Some((Value::Null, bytes)),
        1..=4 => integer(serial as usize),
        5 => integer(6),
        6 => integer(8),
        8 | 9 => Some((Value::Integer(serial as i64 - 8), bytes)),
        12.. => {
            let (held, rest) = bytes.split_at_checked(usize::try_from((serial - 12) / 2).ok()?)?;
            if serial.is_multiple_of(2) {
                return Some((Value::Bytes(held), rest));
            }
            Some((Value::Text(std::str::from_utf8(held).ok()?), rest))
        }
        _ => None,
    }
}

fn values(payload: &[u8]) -> Option<Vec<Value<'_>>> {
    let (header_len, behind) = varint(payload)?;
    let header_len = usize::try_from(header_len).ok()?;
    let (_, mut body) = payload.split_at_checked(header_len)?;
    let mut serials = behind.get(..header_len.checked_sub(payload.len() - behind.len())?)?;
    let mut values = Vec::new();
    while !serials.is_empty() {
        let (serial, rest) = varint(serials)?;
        serials = rest;
        let (value, rest) = value(serial, body)?;
        body = rest;
        values.push(value);
    }
    Some(values)
}

/// Which table a row is of shows in its values.
fn read_row(payload: &[u8]) -> Option<Row> {
    match values(payload)?.as_slice() {
        [
            Value::Text(name),
            Value::Integer(checkpoint),
            Value::Integer(is_base),
            Value::Integer(crc),
            Value::Bytes(updates),
        ] => {
            let (checkpoint, is_base) = (checkpoint.unsigned_abs(), *is_base != 0);
            let is_sound = i64::from(checksum(name, checkpoint, is_base, updates)) == *crc;
            let updates = Updates::from_bytes(updates.to_vec()).filter(|_| is_sound);
            let name = (*name).to_owned();
            Some(Row::Content(updates.map(|updates| Content { name, checkpoint, is_base, updates })))
        }
        [Value::Text(name), Value::Integer(at)] => Some(Row::Document((*name).to_owned(), Some(*at))),
        [Value::Text(name), Value::Null] => Some(Row::Document((*name).to_owned(), None)),
        // The first is the row's own number, and is not kept twice.
        [Value::Null, Value::Integer(number)] => Some(Row::LastCheckpoint(number.unsigned_abs())),
        _ => None,
    }
}

fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| with_suffix(path, &format!(".damaged-{number}"));
    (1..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn system(error: io::Error) -> TableError {
    TableError::Files(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_read_with_their_sign_and_length() {
        assert_eq!(varint(&[0x81, 0x00, 7]), Some((128, &[7u8][..])));
        assert_eq!(varint(&[0xFF; 9]), Some((u64::MAX, &[][..])));
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(value(2, &[0xFF, 0xFE]), Some((Value::Integer(-2), &[][..])));
        assert_eq!(value(9, &[]), Some((Value::Integer(1), &[][..])));
    }

    #[test]
    fn every_row_that_sqlite_wrote_is_found_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(table::FILE);
        let connection = table::connect(&path).unwrap();
        // Some in a page, some in chains of pages, some deleted again.
        for number in 0..400u32 {
            let update = vec![number as u8; (number as usize * 37) % 20_000];
            let updates = Updates::from_iter([update.as_slice()]);
            table::insert(&connection, &format!("t::a::{number}"), number.into(), number % 7 == 0, &updates)
                .unwrap();
        }
        connection.execute("DELETE FROM content WHERE checkpoint % 3 = 0", []).unwrap();
        drop(connection);
        let bytes = std::fs::read(&path).unwrap();
        let mut found: Vec<u64> = Pages(&bytes)
            .rows()
            .filter_map(|row| match row {
                Row::Content(content) => Some(content.expect("nothing is damaged").checkpoint),
                Row::Document(..) | Row::LastCheckpoint(_) => None,
            })
            .collect();
        found.sort_unstable();
        assert!(found.into_iter().eq((0..400).filter(|number| number % 3 != 0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(mut bytes in prop::collection::vec(any::<u8>(), PAGE..3 * PAGE)) {
            bytes[0] = LEAF;
            bytes[FILE_HEADER] = LEAF;
            let _ = Pages(&bytes).rows().count();
        }
    }
}

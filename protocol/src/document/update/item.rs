//! Structs: gc, skip, and items with their references and content.

use super::super::json;
use super::super::varint::Reader;
use super::{Bounds, Defect, MAX_DEPTH, Struct, any, clock};

const GC: u8 = 0;
const SKIP: u8 = 10;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
/// The item is a map entry; its key is written only where no origin is.
const HAS_KEY: u8 = 0x20;
const CONTENT_MASK: u8 = 0x1f;

const DELETED: u8 = 1;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const SUBDOCUMENT: u8 = 9;

const TYPE_ARRAY: u8 = 0;
const TYPE_MAP: u8 = 1;
const TYPE_TEXT: u8 = 2;
const TYPE_XML_ELEMENT: u8 = 3;
const TYPE_XML_FRAGMENT: u8 = 4;
const TYPE_XML_TEXT: u8 = 6;

/// Reads structs one after the other.
pub(super) struct Items<'a> {
    pub(super) reader: Reader<'a>,
    max_depth: u32,
    subdocuments_left: u32,
}

impl<'a> Items<'a> {
    pub(super) fn new(update: &'a [u8], bounds: &Bounds) -> Self {
        Self {
            reader: Reader::new(update),
            max_depth: bounds.max_depth.min(MAX_DEPTH),
            subdocuments_left: bounds.max_subdocuments,
        }
    }

    /// Reads the struct at (`client`, `at`).
    pub(super) fn read(&mut self, client: u64, at: u32) -> Result<Struct, Defect> {
        let info = self.reader.u8()?;
        match info {
            GC => Ok(Struct { len: self.length()?, is_skip: false }),
            SKIP => Ok(Struct { len: self.length()?, is_skip: true }),
            _ => {
                self.references(info, client, at)?;
                Ok(Struct { len: self.content(info & CONTENT_MASK)?, is_skip: false })
            }
        }
    }

    fn references(&mut self, info: u8, client: u64, at: u32) -> Result<(), Defect> {
        if info & HAS_ORIGIN != 0 {
            self.reference(client, at)?;
        }
        if info & HAS_RIGHT_ORIGIN != 0 {
            self.reference(client, at)?;
        }
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
            match self.reader.u8()? {
                0 => self.reference(client, at)?,
                1 => _ = self.reader.var_string()?,
                _ => return Err(Defect::Kind),
            }
            if info & HAS_KEY != 0 {
                self.reader.var_string()?;
            }
        }
        Ok(())
    }

    /// Reads the id of another item, which has to be older where it is of the same client.
    fn reference(&mut self, client: u64, at: u32) -> Result<(), Defect> {
        let other = self.reader.var_uint()?;
        let other_clock = clock(&mut self.reader)?;
        if other == client && other_clock >= at { Err(Defect::FutureReference) } else { Ok(()) }
    }

    /// Reads the content of an item and returns its length in clocks.
    fn content(&mut self, kind: u8) -> Result<u32, Defect> {
        match kind {
            DELETED => return self.length(),
            STRING => return self.string(),
            ANY => return self.values(),
            BINARY => _ = self.reader.var_bytes()?,
            EMBED => self.json()?,
            FORMAT => {
                self.reader.var_string()?;
                self.json()?;
            }
            TYPE => self.shared_type()?,
            SUBDOCUMENT => self.subdocument()?,
            _ => return Err(Defect::Kind),
        }
        Ok(1)
    }

    /// Reads text, which counts in UTF-16 units.
    fn string(&mut self) -> Result<u32, Defect> {
        let text = self.reader.var_string()?;
        u32::try_from(utf16_len(text)).ok().filter(|&len| len > 0).ok_or(Defect::Empty)
    }

    fn values(&mut self) -> Result<u32, Defect> {
        let count = self.count(1)?;
        for _ in 0..count {
            any::skip_value(&mut self.reader, self.max_depth)?;
        }
        u32::try_from(count).ok().filter(|&len| len > 0).ok_or(Defect::Empty)
    }

    fn json(&mut self) -> Result<(), Defect> {
        let text = self.reader.var_string()?;
        let valid = json::is_valid(text, self.max_depth, json::Reader::ScriptAndSerde);
        if valid { Ok(()) } else { Err(Defect::Json) }
    }

    fn shared_type(&mut self) -> Result<(), Defect> {
        match self.reader.u8()? {
            TYPE_ARRAY | TYPE_MAP | TYPE_TEXT | TYPE_XML_FRAGMENT | TYPE_XML_TEXT => {}
            TYPE_XML_ELEMENT => _ = self.reader.var_string()?,
            _ => return Err(Defect::Kind),
        }
        Ok(())
    }

    fn subdocument(&mut self) -> Result<(), Defect> {
        self.subdocuments_left = self.subdocuments_left.checked_sub(1).ok_or(Defect::Count)?;
        self.reader.var_string()?;
        any::skip_options(&mut self.reader, self.max_depth)
    }

    /// Reads a length in clocks, which is not 0.
    pub(super) fn length(&mut self) -> Result<u32, Defect> {
        match clock(&mut self.reader)? {
            0 => Err(Defect::Empty),
            len => Ok(len),
        }
    }

    /// Reads a count of things of at least `min_bytes` each, all of which have to be there.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<u64, Defect> {
        any::count(&mut self.reader, min_bytes)
    }
}

/// UTF-16 units of `text`: one for each byte that starts a character, one more where it starts four bytes.
fn utf16_len(text: &str) -> usize {
    text.bytes().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_counts_in_utf16_units(text in "\\PC{0,60}") {
            prop_assert_eq!(super::utf16_len(&text), text.encode_utf16().count());
        }
    }
}

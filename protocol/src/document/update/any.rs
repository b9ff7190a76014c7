//! Values as lib0 encodes them (`writeAny`): one tag byte, then what it says.

use super::super::varint::Reader;
use super::super::{MAX_SAFE_INTEGER, Malformed};
use super::{Defect, MAX_DEPTH};

const UNDEFINED: u8 = 127;
const NULL: u8 = 126;
const INTEGER: u8 = 125;
const FLOAT32: u8 = 124;
const FLOAT64: u8 = 123;
const BIGINT: u8 = 122;
const FALSE: u8 = 121;
const TRUE: u8 = 120;
const STRING: u8 = 119;
const OBJECT: u8 = 118;
const ARRAY: u8 = 117;
const BUFFER: u8 = 116;

/// Least bytes of an object's entry: an empty key, a tag.
const MIN_ENTRY_BYTES: usize = 2;

/// Reads over one value of any kind. `max_depth` is at most [`MAX_DEPTH`].
pub(super) fn skip_value(reader: &mut Reader<'_>, max_depth: u32) -> Result<(), Defect> {
    match reader.u8()? {
        UNDEFINED | NULL | FALSE | TRUE => {}
        INTEGER => skip_var_int(reader)?,
        FLOAT32 => _ = reader.bytes(4)?,
        FLOAT64 | BIGINT => _ = reader.bytes(8)?,
        STRING => _ = reader.var_string()?,
        BUFFER => _ = reader.var_bytes()?,
        OBJECT => skip_entries(reader, max_depth)?,
        ARRAY => skip_elements(reader, max_depth)?,
        _ => return Err(Defect::Kind),
    }
    Ok(())
}

/// Reads over the options of a subdocument. yjs spreads them over its own arguments, so they are held to the names and
/// types that yjs and yrs write: another `guid` would throw in whoever encodes the document.
pub(super) fn skip_options(reader: &mut Reader<'_>, max_depth: u32) -> Result<(), Defect> {
    if reader.u8()? != OBJECT {
        return Err(Defect::Kind);
    }
    let max_depth = deeper(max_depth)?;
    for _ in 0..count(reader, MIN_ENTRY_BYTES)? {
        let name = reader.var_string()?;
        let tag = reader.rest().first();
        match (name, tag) {
            ("gc" | "autoLoad" | "shouldLoad", Some(&(TRUE | FALSE))) => {}
            ("collectionId" | "collectionid", Some(&(STRING | NULL))) => {}
            ("encoding", Some(&INTEGER)) | ("meta", _) => {}
            _ => return Err(Defect::Key),
        }
        skip_value(reader, max_depth)?;
    }
    Ok(())
}

fn skip_entries(reader: &mut Reader<'_>, max_depth: u32) -> Result<(), Defect> {
    let max_depth = deeper(max_depth)?;
    for _ in 0..count(reader, MIN_ENTRY_BYTES)? {
        // A script that assigns to this key replaces the object's prototype, and throws when it encodes the result.
        if reader.var_string()? == "__proto__" {
            return Err(Defect::Key);
        }
        skip_value(reader, max_depth)?;
    }
    Ok(())
}

fn skip_elements(reader: &mut Reader<'_>, max_depth: u32) -> Result<(), Defect> {
    let max_depth = deeper(max_depth)?;
    for _ in 0..count(reader, 1)? {
        skip_value(reader, max_depth)?;
    }
    Ok(())
}

/// What is left of `max_depth` within a container. The recursion above ends here.
fn deeper(max_depth: u32) -> Result<u32, Defect> {
    debug_assert!(max_depth <= MAX_DEPTH);
    max_depth.checked_sub(1).ok_or(Defect::Depth)
}

/// Reads a signed integer: six bits and a sign in the first byte, seven bits in each that follows.
fn skip_var_int(reader: &mut Reader<'_>) -> Result<(), Defect> {
    let first = reader.u8()?;
    let mut magnitude = u64::from(first & 0x3f);
    let mut shift = 6;
    let mut more = first & 0x80 != 0;
    while more {
        if shift > 53 {
            return Err(Malformed::Integer.into());
        }
        let byte = reader.u8()?;
        magnitude |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        more = byte & 0x80 != 0;
    }
    if magnitude <= MAX_SAFE_INTEGER { Ok(()) } else { Err(Malformed::Integer.into()) }
}

/// Reads a count of things of at least `min_bytes` each, all of which have to be there.
pub(super) fn count(reader: &mut Reader<'_>, min_bytes: usize) -> Result<u64, Defect> {
    let count = reader.var_uint()?;
    if count > (reader.remaining() / min_bytes) as u64 { Err(Defect::Count) } else { Ok(count) }
}

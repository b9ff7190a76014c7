//! The structural walk of a Yjs update (format V1): the gate between a client's bytes and everything that trusts them.
//!
//! [`scan`] reads an update once, from end to end, without allocating and without recursing deeper than
//! [`MAX_DEPTH`]. What it accepts, `yrs` and `yjs` 13.6 decode without an error, a panic or a stack that overflows; what
//! it refuses is stored and forwarded by nobody, because a single update that throws in a client is thrown again in
//! every client that joins. It is stricter than either decoder: only forms that one of the two libraries writes, and
//! both read alike, pass.
//!
//! It looks at one update at a time, so two things stay with whoever builds a document from several. Updates that
//! contradict each other about the same clocks, one of them beyond a gap, make yrs panic and then touch freed memory: a
//! client's runs go into a document only where they leave no gap. And nested types, each a level deeper, recurse in
//! yrs when the outermost is deleted: that thread needs a stack in proportion to the document.
//!
//! ```text
//! update    = varUint sections, section*, deletes
//! section   = varUint structs, varUint client, varUint clock, struct*
//! struct    = 00 varUint len                                        gc
//!           | 0a varUint len                                        skip
//!           | info [origin] [right origin] [parent] [key] content   item
//! deletes   = varUint clients, (varUint client, varUint ranges, (varUint clock, varUint len)*)*
//! ```
//!
//! What is refused on purpose, beyond bytes that do not parse:
//!
//! - Numbers: clients above 53 bits, clocks above [`MAX_CLOCK`] (yrs subtracts them as `i32`), empty structs, sections
//!   and ranges, counts that what remains cannot hold.
//! - Order: a client with two sections (yjs forgets the first; yrs forgets the first deletes), delete ranges that overlap
//!   or fall (yjs writes a negative difference), an item that refers to its own client's future (yjs throws), skips side
//!   by side (yrs recurses once for each).
//! - Content only one side reads: legacy JSON content (yrs reads one string too many), hooks (yrs does not read their
//!   name), weak links, moves, type references above 6; JSON that `serde_json` does not take.
//! - Content that is read and then throws: the key `__proto__`, which replaces an object's prototype in a script, and
//!   subdocument options other than those the libraries write, which yjs spreads over its own arguments.
//! - Nesting deeper than [`MAX_DEPTH`]: yrs recurses, and an overflowing stack ends the process.

mod any;
mod item;

use super::varint::Reader;
use super::{MAX_SAFE_INTEGER, Malformed};
use item::Items;

/// Deepest nesting of arrays and objects within one value.
pub const MAX_DEPTH: u32 = 127;

/// Largest first clock after a struct or a deleted range.
pub const MAX_CLOCK: u32 = i32::MAX as u32;

/// The update that changes nothing.
pub const EMPTY: [u8; 2] = [0, 0];

/// What an update from a peer may hold, beyond what its length allows anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Deepest nesting within one value; at most [`MAX_DEPTH`] whatever stands here.
    pub max_depth: u32,
    /// Most clients with structs, and most with deletes.
    pub max_clients: u64,
    /// Most subdocuments: each costs a reader about a kilobyte for its five bytes.
    pub max_subdocuments: u32,
}

impl Bounds {
    /// Of a whole document: many updates, each within the bounds of one, come to more than those.
    #[must_use]
    pub fn of_documents() -> Self {
        Self { max_clients: u64::MAX, max_subdocuments: u32::MAX, ..Self::default() }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_depth: MAX_DEPTH, max_clients: 100_000, max_subdocuments: 16_384 }
    }
}

/// Receives the ranges an update covers, in the order they stand in it.
///
/// Calls come while the walk goes on: after an error, what was received is to be thrown away.
pub trait Visitor {
    /// The update holds the content of `client` from `clock` on, for `len` clocks. One call per contiguous run, which a
    /// skip ends.
    fn structs(&mut self, client: u64, clock: u32, len: u32);
    /// The update deletes `len` clocks of `client` from `clock` on.
    fn deletes(&mut self, client: u64, clock: u32, len: u32);
}

/// For walks that ask only whether an update passes.
impl Visitor for () {
    fn structs(&mut self, _client: u64, _clock: u32, _len: u32) {}
    fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {}
}

/// What an update turned out to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Clients with structs.
    pub clients: u64,
    /// Whether there is content: an item or a gc, not only skips.
    pub has_structs: bool,
    /// Whether anything is deleted.
    pub has_deletes: bool,
    /// Whether a section has a hole.
    pub has_skips: bool,
}

impl Summary {
    /// Whether the update changes no document.
    pub fn is_empty(&self) -> bool {
        !self.has_structs && !self.has_deletes
    }
}

/// Why and where an update was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("update refused at byte {offset}: {what}")]
pub struct ScanError {
    /// Bytes read before the offending field ended.
    pub offset: usize,
    /// What is wrong with it.
    pub what: Defect,
}

/// A reason to refuse an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The bytes are not the encoding they should be.
    #[error(transparent)]
    Encoding(#[from] Malformed),
    /// A count that exceeds its bound, or what the remaining bytes can hold.
    #[error("a count is above its bound")]
    Count,
    /// A clock beyond [`MAX_CLOCK`].
    #[error("a clock is out of range")]
    Clock,
    /// A struct, section or range of length zero.
    #[error("something has length zero")]
    Empty,
    /// A client listed twice, or out of order among too many to remember.
    #[error("clients are repeated or out of order")]
    ClientOrder,
    /// Delete ranges that overlap or fall.
    #[error("delete ranges are out of order")]
    RangeOrder,
    /// Two skips side by side.
    #[error("two skips follow each other")]
    RepeatedSkip,
    /// An item that refers to a clock its own client has not reached.
    #[error("an item refers to what comes after it")]
    FutureReference,
    /// A struct kind, content kind, value tag, type or parent marker that not both libraries read.
    #[error("an unknown or unsupported kind")]
    Kind,
    /// An object key that does harm: `__proto__`, or a subdocument option that is unknown or of the wrong type.
    #[error("an object key that is not allowed")]
    Key,
    /// Nesting beyond the bound.
    #[error("a value is nested too deep")]
    Depth,
    /// Embedded JSON that is not well-formed, nests too deep, or that `serde_json` does not take.
    #[error("embedded JSON is invalid")]
    Json,
}

/// Walks `update`. Every error is the sender's fault.
pub fn scan(update: &[u8], bounds: &Bounds, visitor: &mut impl Visitor) -> Result<Summary, ScanError> {
    let mut scanner =
        Scanner { items: Items::new(update, bounds), bounds, visitor, summary: Summary::default() };
    match scanner.update() {
        Ok(()) => Ok(scanner.summary),
        Err(what) => Err(ScanError { offset: scanner.items.reader.position(), what }),
    }
}

struct Scanner<'a, V> {
    items: Items<'a>,
    bounds: &'a Bounds,
    visitor: &'a mut V,
    summary: Summary,
}

/// Least bytes of a section: three integers, and one struct of two.
const MIN_SECTION_BYTES: usize = 5;
/// Least bytes of a struct: a gc or a skip.
const MIN_STRUCT_BYTES: usize = 2;
/// Least bytes of a client's deletes: client, count, one range.
const MIN_DELETES_BYTES: usize = 4;
/// Least bytes of a delete range.
const MIN_RANGE_BYTES: usize = 2;

impl<V: Visitor> Scanner<'_, V> {
    fn update(&mut self) -> Result<(), Defect> {
        let sections = self.count(MIN_SECTION_BYTES)?;
        self.check_clients(sections)?;
        self.summary.clients = sections;
        let mut seen = Distinct::default();
        for _ in 0..sections {
            self.section(&mut seen)?;
        }
        self.deletes()?;
        Ok(self.items.reader.finish()?)
    }

    fn section(&mut self, seen: &mut Distinct) -> Result<(), Defect> {
        let structs = self.count(MIN_STRUCT_BYTES)?;
        if structs == 0 {
            return Err(Defect::Empty);
        }
        let client = self.items.reader.var_uint()?;
        seen.insert(client)?;
        let mut clock = self.clock()?;
        let mut run_start = clock;
        let mut after_skip = false;
        for _ in 0..structs {
            let Struct { len, is_skip } = self.items.read(client, clock)?;
            let end = advance(clock, len)?;
            if is_skip {
                if after_skip {
                    return Err(Defect::RepeatedSkip);
                }
                self.run(client, run_start, clock);
                run_start = end;
                self.summary.has_skips = true;
            }
            after_skip = is_skip;
            clock = end;
        }
        self.run(client, run_start, clock);
        Ok(())
    }

    fn run(&mut self, client: u64, start: u32, end: u32) {
        if end > start {
            self.summary.has_structs = true;
            self.visitor.structs(client, start, end - start);
        }
    }

    fn deletes(&mut self) -> Result<(), Defect> {
        let clients = self.count(MIN_DELETES_BYTES)?;
        self.check_clients(clients)?;
        let mut seen = Distinct::default();
        for _ in 0..clients {
            let client = self.items.reader.var_uint()?;
            seen.insert(client)?;
            self.delete_ranges(client)?;
        }
        Ok(())
    }

    fn delete_ranges(&mut self, client: u64) -> Result<(), Defect> {
        let ranges = self.count(MIN_RANGE_BYTES)?;
        if ranges == 0 {
            return Err(Defect::Empty);
        }
        let mut last_end = 0;
        for _ in 0..ranges {
            let clock = self.clock()?;
            if clock < last_end {
                return Err(Defect::RangeOrder);
            }
            let len = self.items.length()?;
            last_end = advance(clock, len)?;
            self.visitor.deletes(client, clock, len);
        }
        self.summary.has_deletes = true;
        Ok(())
    }

    /// Reads a count of things of at least `min_bytes` each.
    fn count(&mut self, min_bytes: usize) -> Result<u64, Defect> {
        self.items.count(min_bytes)
    }

    fn clock(&mut self) -> Result<u32, Defect> {
        clock(&mut self.items.reader)
    }

    fn check_clients(&self, count: u64) -> Result<(), Defect> {
        if count > self.bounds.max_clients { Err(Defect::Count) } else { Ok(()) }
    }
}

/// One struct, as far as the ranges go.
struct Struct {
    /// In clocks, never 0.
    len: u32,
    is_skip: bool,
}

fn clock(reader: &mut Reader<'_>) -> Result<u32, Defect> {
    match u32::try_from(reader.var_uint()?) {
        Ok(clock) if clock <= MAX_CLOCK => Ok(clock),
        _ => Err(Defect::Clock),
    }
}

fn advance(clock: u32, len: u32) -> Result<u32, Defect> {
    clock.checked_add(len).filter(|&end| end <= MAX_CLOCK).ok_or(Defect::Clock)
}

/// How many clients may stand in neither rising nor falling order and still be told apart.
const MAX_UNORDERED: usize = 64;

/// Notices a client that is listed twice. Falling order is what yjs writes and rising what yrs writes for deletes;
/// either needs one comparison. Any other order is remembered, up to a bound.
struct Distinct {
    first: [u64; MAX_UNORDERED],
    len: usize,
    rising: bool,
    falling: bool,
    last: u64,
}

impl Default for Distinct {
    fn default() -> Self {
        Self { first: [0; MAX_UNORDERED], len: 0, rising: true, falling: true, last: 0 }
    }
}

impl Distinct {
    fn insert(&mut self, client: u64) -> Result<(), Defect> {
        if self.len > 0 {
            self.rising &= client > self.last;
            self.falling &= client < self.last;
            if !self.rising && !self.falling && self.is_repeated(client) {
                return Err(Defect::ClientOrder);
            }
        }
        self.last = client;
        if let Some(slot) = self.first.get_mut(self.len) {
            *slot = client;
        }
        self.len += 1;
        Ok(())
    }

    /// Whether `client` was there before, or was too long ago to tell.
    fn is_repeated(&self, client: u64) -> bool {
        self.first.get(..self.len).is_none_or(|seen| seen.contains(&client))
    }
}

const _: () = assert!(MAX_SAFE_INTEGER >> 53 == 0, "yrs asserts that a client has no bit above 53");

#[cfg(test)]
mod tests;

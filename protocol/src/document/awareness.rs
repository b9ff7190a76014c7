//! Awareness bodies: who is here, as `varUint n`, then n times `varUint client, varUint clock, varString JSON`.

use super::Malformed;
use super::json;
use super::varint::{Reader, var_bytes_len, var_uint_len, write_var_string, write_var_uint};

/// A body that speaks of nobody.
pub const EMPTY: [u8; 1] = [0];

/// The state of a client that is gone.
pub const NULL: &str = "null";

/// What a body from a peer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most entries.
    pub max_entries: usize,
    /// Longest state, in bytes of JSON.
    pub max_json_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_entries: 10_000, max_json_bytes: 64 * 1024 }
    }
}

/// What one client says of itself, or another of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The client's Yjs id.
    pub client: u64,
    /// Raised with every change and renewal. Clients count in doubles from zero; 32 bits last one that counts every
    /// millisecond for seven weeks, and are all that is accepted.
    pub clock: u32,
    /// Well-formed JSON.
    pub json: &'a str,
}

impl Entry<'_> {
    /// Whether the client is gone.
    pub fn is_null(&self) -> bool {
        self.json.trim_matches([' ', '\t', '\n', '\r']) == NULL
    }

    /// Bytes [`append_entry`] appends.
    pub fn encoded_len(&self) -> usize {
        var_uint_len(self.client) + var_uint_len(u64::from(self.clock)) + var_bytes_len(self.json.len())
    }
}

/// A body that has been checked from end to end: bounds, UTF-8, JSON, nothing behind the last entry.
///
/// The same client may stand in it more than once; clients then take the highest clock.
#[derive(Clone, Copy, Debug)]
pub struct Awareness<'a> {
    entries: &'a [u8],
    count: usize,
}

impl<'a> Awareness<'a> {
    /// Checks `body`.
    pub fn parse(body: &'a [u8], bounds: &Bounds) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let count = usize::try_from(reader.var_uint()?).map_err(|_| Malformed::TooLarge)?;
        if count > bounds.max_entries {
            return Err(Malformed::TooLarge);
        }
        let entries = reader.rest();
        for _ in 0..count {
            let entry = read_entry(&mut reader)?;
            if entry.json.len() > bounds.max_json_bytes {
                return Err(Malformed::TooLarge);
            }
            if !json::is_valid(entry.json, json::MAX_DEPTH, json::Reader::Script) {
                return Err(Malformed::Json);
            }
        }
        reader.finish()?;
        Ok(Self { entries, count })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries, in order.
    pub fn iter(&self) -> Entries<'a> {
        Entries { reader: Reader::new(self.entries) }
    }
}

impl<'a> IntoIterator for &Awareness<'a> {
    type Item = Entry<'a>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// Iterates over the entries of an [`Awareness`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        // The bytes were checked; that they read again needs no second error path.
        if self.reader.is_empty() { None } else { read_entry(&mut self.reader).ok() }
    }
}

fn read_entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, Malformed> {
    let client = reader.var_uint()?;
    let clock = u32::try_from(reader.var_uint()?).map_err(|_| Malformed::Integer)?;
    Ok(Entry { client, clock, json: reader.var_string()? })
}

/// Appends the number of entries that follow.
pub fn append_count(out: &mut Vec<u8>, count: usize) {
    write_var_uint(out, count as u64);
}

/// Appends one entry.
pub fn append_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    write_var_uint(out, entry.client);
    write_var_uint(out, u64::from(entry.clock));
    write_var_string(out, entry.json);
}

/// Appends a whole body.
pub fn append_body(out: &mut Vec<u8>, entries: &[Entry<'_>]) {
    append_count(out, entries.len());
    for entry in entries {
        append_entry(out, entry);
    }
}

/// Bytes [`append_body`] appends.
pub fn body_len(entries: &[Entry<'_>]) -> usize {
    var_uint_len(entries.len() as u64) + entries.iter().map(Entry::encoded_len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MAX_SAFE_INTEGER;
    use super::*;

    fn parse(body: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
        Awareness::parse(body, &Bounds::default()).map(|body| body.iter().collect())
    }

    fn body(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        append_body(&mut out, entries);
        assert_eq!(out.len(), body_len(entries));
        out
    }

    #[test]
    fn nobody_is_one_byte() {
        assert_eq!(parse(&EMPTY), Ok(vec![]));
        assert_eq!(body(&[]), EMPTY);
    }

    #[test]
    fn states_must_be_json() {
        assert_eq!(parse(&body(&[Entry { client: 1, clock: 1, json: "{\"a\":" }])), Err(Malformed::Json));
        assert_eq!(parse(&body(&[Entry { client: 1, clock: 1, json: "" }])), Err(Malformed::Json));
        let half_an_emoji = Entry { client: 1, clock: 1, json: "\"\\ud83d\"" };
        assert_eq!(parse(&body(&[half_an_emoji])), Ok(vec![half_an_emoji]));
    }

    #[test]
    fn null_means_gone() {
        assert!(Entry { client: 1, clock: 1, json: "null" }.is_null());
        assert!(Entry { client: 1, clock: 1, json: " null\n" }.is_null());
        assert!(!Entry { client: 1, clock: 1, json: "{}" }.is_null());
        assert!(!Entry { client: 1, clock: 1, json: "\"null\"" }.is_null());
    }

    #[test]
    fn counts_sizes_and_clocks_are_bounded() {
        let bounds = Bounds { max_entries: 1, max_json_bytes: 4 };
        let long = body(&[Entry { client: 1, clock: 1, json: "12345" }]);
        assert_eq!(Awareness::parse(&long, &bounds).map(|_| ()), Err(Malformed::TooLarge));
        let entry = Entry { client: 1, clock: 1, json: "null" };
        assert_eq!(Awareness::parse(&body(&[entry, entry]), &bounds).map(|_| ()), Err(Malformed::TooLarge));
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Malformed::TooLarge));
        assert_eq!(parse(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f, 1, b'0']), Err(Malformed::Integer));
    }

    #[test]
    fn a_body_is_read_to_its_end() {
        assert_eq!(parse(&[0, 0]), Err(Malformed::Trailing));
        assert_eq!(parse(&[2, 1, 1, 1, b'0']), Err(Malformed::Truncated));
        assert_eq!(parse(&[]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            states in prop::collection::vec((0..=MAX_SAFE_INTEGER, any::<u32>(), "\"[a-zé ]{0,20}\"|null|[1-9][0-9]{0,5}"), 0..20)
        ) {
            let entries: Vec<_> =
                states.iter().map(|(client, clock, json)| Entry { client: *client, clock: *clock, json }).collect();
            let bytes = body(&entries);
            prop_assert_eq!(parse(&bytes), Ok(entries));
        }
    }
}

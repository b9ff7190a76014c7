//! State vectors: for each client, how many of its clocks a replica has.

use super::Malformed;
use super::varint::{Reader, var_uint_len, write_var_uint};

/// The state vector of an empty document, encoded.
pub const EMPTY: [u8; 1] = [0];

/// For each client the first clock that is missing. Sorted by client, each at most once, no clock of zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateVector {
    clocks: Vec<(u64, u32)>,
}

impl StateVector {
    /// Decodes a peer's state vector of at most `max_clients` clients.
    pub fn parse(bytes: &[u8], max_clients: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = usize::try_from(reader.var_uint()?).map_err(|_| Malformed::TooLarge)?;
        if count > max_clients {
            return Err(Malformed::TooLarge);
        }
        // An entry is at least two bytes: what is reserved stays in proportion to what was received.
        if count > reader.remaining() / 2 {
            return Err(Malformed::Truncated);
        }
        let mut clocks = Vec::with_capacity(count);
        for _ in 0..count {
            let client = reader.var_uint()?;
            let clock = u32::try_from(reader.var_uint()?).map_err(|_| Malformed::Integer)?;
            clocks.push((client, clock));
        }
        reader.finish()?;
        clocks.sort_unstable_by_key(|&(client, _)| client);
        if clocks.is_sorted_by(|a, b| a.0 < b.0) {
            clocks.retain(|&(_, clock)| clock > 0);
            Ok(Self { clocks })
        } else {
            Err(Malformed::Duplicate)
        }
    }

    /// The first clock of `client` that is missing; 0 where nothing of it is known.
    pub fn get(&self, client: u64) -> u32 {
        self.index(client).map_or(0, |index| self.clocks[index].1)
    }

    /// Raises the clock of `client` to `clock`, if it is lower.
    pub fn set_max(&mut self, client: u64, clock: u32) {
        match self.index(client) {
            Ok(index) => self.clocks[index].1 = self.clocks[index].1.max(clock),
            Err(_) if clock == 0 => {}
            Err(index) => self.clocks.insert(index, (client, clock)),
        }
    }

    /// Whether nothing `other` has is missing here.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(client, clock)| self.get(client) >= clock)
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.clocks.is_empty()
    }

    /// Clients and clocks, by rising client.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u32)> + '_ {
        self.clocks.iter().copied()
    }

    /// Appends the encoding, higher clients first as Yjs writes it.
    pub fn append(&self, out: &mut Vec<u8>) {
        write_var_uint(out, self.clocks.len() as u64);
        for &(client, clock) in self.clocks.iter().rev() {
            write_var_uint(out, client);
            write_var_uint(out, u64::from(clock));
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.append(&mut out);
        out
    }

    /// Bytes [`append`](Self::append) appends.
    pub fn encoded_len(&self) -> usize {
        let entries =
            self.clocks.iter().map(|&(client, clock)| var_uint_len(client) + var_uint_len(u64::from(clock)));
        var_uint_len(self.clocks.len() as u64) + entries.sum::<usize>()
    }

    fn index(&self, client: u64) -> Result<usize, usize> {
        self.clocks.binary_search_by_key(&client, |&(known, _)| known)
    }
}

impl FromIterator<(u64, u32)> for StateVector {
    fn from_iter<I: IntoIterator<Item = (u64, u32)>>(clocks: I) -> Self {
        let mut state_vector = Self::default();
        for (client, clock) in clocks {
            state_vector.set_max(client, clock);
        }
        state_vector
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MAX_SAFE_INTEGER;
    use super::*;

    #[test]
    fn an_unknown_client_is_at_zero() {
        let mut state_vector = StateVector::default();
        assert_eq!(state_vector.encode(), EMPTY);
        state_vector.set_max(7, 0);
        assert!(state_vector.is_empty());
        state_vector.set_max(7, 5);
        state_vector.set_max(7, 3);
        assert_eq!((state_vector.get(7), state_vector.get(8)), (5, 0));
    }

    #[test]
    fn counts_clocks_and_ends_are_checked() {
        assert_eq!(StateVector::parse(&[2, 1, 1, 2, 1], 1), Err(Malformed::TooLarge));
        assert_eq!(StateVector::parse(&[0xff, 0xff, 0x7f, 1, 1], usize::MAX), Err(Malformed::Truncated));
        assert_eq!(StateVector::parse(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f], 9), Err(Malformed::Integer));
        assert_eq!(StateVector::parse(&[1, 1, 1, 0], 9), Err(Malformed::Trailing));
        assert_eq!(StateVector::parse(&[2, 1, 1, 1, 2], 9), Err(Malformed::Duplicate));
        assert_eq!(StateVector::parse(&[1, 1, 0], 9), Ok(StateVector::default()));
    }

    #[test]
    fn covering_is_per_client() {
        let ours: StateVector = [(1, 5), (2, 3)].into_iter().collect();
        let theirs: StateVector = [(1, 4)].into_iter().collect();
        assert!(ours.covers(&theirs) && !theirs.covers(&ours));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(clocks in prop::collection::vec((0..=MAX_SAFE_INTEGER, any::<u32>()), 0..40)) {
            let state_vector: StateVector = clocks.into_iter().collect();
            let bytes = state_vector.encode();
            prop_assert_eq!(bytes.len(), state_vector.encoded_len());
            prop_assert_eq!(StateVector::parse(&bytes, 40), Ok(state_vector));
        }
    }
}

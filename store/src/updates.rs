//! Updates one behind the other, each behind its length in four bytes, little endian.

use std::fmt;

/// A run of updates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Updates(Vec<u8>);

/// Bytes of a length.
const HEADER: usize = 4;

impl Updates {
    /// No updates.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What [`Self::as_bytes`] gave; `None` if it is no run of updates.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        Some(Self(bytes))
    }

    /// Adds one. Updates are far below 4 GiB: a message is.
    pub fn push(&mut self, update: &[u8]) {
        let len = u32::try_from(update.len()).expect("an update is smaller than a message may be");
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(update);
    }

    /// Adds a whole run.
    pub fn append(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (update, behind) = split(rest)?;
            rest = behind;
            Some(update)
        })
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes, lengths included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// As files hold it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Drops the first `bytes`, at whose end an update ends.
    pub(crate) fn drop_front(&mut self, bytes: usize) {
        self.0.drain(..bytes);
        self.0.shrink_to(2 * self.0.len());
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<HEADER>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

impl<'a> FromIterator<&'a [u8]> for Updates {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(updates: I) -> Self {
        let mut run = Self::new();
        updates.into_iter().for_each(|update| run.push(update));
        run
    }
}

/// Documents are nobody's business in a log: only how much there is.
impl fmt::Debug for Updates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Updates({} in {} bytes)", self.iter().count(), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_is_what_was_pushed(updates: Vec<Vec<u8>>) {
            let run: Updates = updates.iter().map(Vec::as_slice).collect();
            let back = Updates::from_bytes(run.as_bytes().to_vec()).unwrap();
            prop_assert!(back.iter().eq(updates.iter().map(Vec::as_slice)));
        }

        #[test]
        fn any_bytes_are_a_run_or_refused(bytes: Vec<u8>) {
            if let Some(run) = Updates::from_bytes(bytes.clone()) {
                let again: Updates = run.iter().collect();
                prop_assert_eq!(again.as_bytes(), bytes);
            }
        }
    }
}

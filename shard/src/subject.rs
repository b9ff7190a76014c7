//! A token's `sub` as every connection keeps it: in 24 bytes without a heap block of its own where it is short or a UUID,
//! as most user ids are.

use std::fmt;
use std::str;

/// Bytes of the longest `sub` that is kept in place as it is.
const SHORT: usize = 22;
/// Characters of a UUID in its usual form (RFC 9562, 4).
const UUID: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// See the module's documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject(Kept);

#[derive(Clone, PartialEq, Eq)]
enum Kept {
    /// Up to [`SHORT`] bytes of UTF-8.
    Short {
        len: u8,
        bytes: [u8; SHORT],
    },
    /// A UUID in lower case with its hyphens: written again, it is the same text.
    Uuid([u8; UUID / 2 - 2]),
    Long(Box<str>),
}

// Every connection of a node has one.
const _: () = assert!(size_of::<Subject>() == 24);

impl Default for Subject {
    fn default() -> Self {
        Self(Kept::Short { len: 0, bytes: [0; SHORT] })
    }
}

impl From<&str> for Subject {
    fn from(text: &str) -> Self {
        if text.len() <= SHORT {
            let mut bytes = [0; SHORT];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            return Self(Kept::Short { len: text.len() as u8, bytes });
        }
        Self(parse_uuid(text).map_or_else(|| Kept::Long(text.into()), Kept::Uuid))
    }
}

impl Subject {
    /// Whether the token has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Kept::Short { len: 0, .. })
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // What was put in was a `str`.
            Kept::Short { len, bytes } => {
                f.write_str(str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default())
            }
            Kept::Long(text) => f.write_str(text),
            Kept::Uuid(bytes) => {
                for (number, byte) in bytes.iter().enumerate() {
                    if matches!(number, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// Only the form that [`Subject`]'s `Display` writes.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; UUID] = text.as_bytes().try_into().ok()?;
    let mut digits = [0; 32];
    let mut count = 0;
    for (at, character) in text.iter().enumerate() {
        if HYPHENS.contains(&at) {
            if *character != b'-' {
                return None;
            }
            continue;
        }
        digits[count] = DIGITS.iter().position(|digit| digit == character)? as u8;
        count += 1;
    }
    Some(std::array::from_fn(|byte| digits[2 * byte] << 4 | digits[2 * byte + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_takes_no_heap_and_other_spellings_stay_what_they_are() {
        let uuid = "0192f3a4-5b6c-7d8e-9f00-a1b2c3d4e5f6";
        assert!(matches!(Subject::from(uuid).0, Kept::Uuid(_)));
        for other in ["0192F3A4-5b6c-7d8e-9f00-a1b2c3d4e5f6", "0192f3a45b6c-7d8e-9f00-a1b2c3d4e5f60-"] {
            assert!(matches!(Subject::from(other).0, Kept::Long(_)), "{other}");
            assert_eq!(Subject::from(other).to_string(), other);
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(text in prop_oneof![".{0,40}", "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[-0-9a-f]{36}"]) {
            prop_assert_eq!(Subject::from(text.as_str()).to_string(), text);
        }
    }
}

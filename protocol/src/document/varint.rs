//! The variable-length encodings of lib0: `varUint`, `varBytes`, `varString`.

use super::{MAX_SAFE_INTEGER, Malformed};

/// Longest encoding of a `varUint` that is read: 8 × 7 bits cover 53. Longer, zero-padded forms are refused, since
/// decoders disagree on them.
const MAX_VAR_UINT_BYTES: usize = 8;

/// A cursor over a frame. Every read is checked against what remains; none allocates.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads an unsigned integer of at most 53 bits.
    #[inline]
    pub fn var_uint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_var_uint(),
            None => Err(Malformed::Truncated),
        }
    }

    fn long_var_uint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest().iter().take(MAX_VAR_UINT_BYTES).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return if value <= MAX_SAFE_INTEGER { Ok(value) } else { Err(Malformed::Integer) };
            }
        }
        Err(if self.remaining() < MAX_VAR_UINT_BYTES { Malformed::Truncated } else { Malformed::Integer })
    }

    /// Reads exactly `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed::Truncated)?;
        let taken = self.rest().get(..len).ok_or(Malformed::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    /// Reads a length and that many bytes.
    #[inline]
    pub fn var_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.var_uint()?;
        self.bytes(len)
    }

    /// Reads a length and that many bytes of UTF-8.
    #[inline]
    pub fn var_string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.var_bytes()?;
        simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed::Utf8)
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Bytes not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether everything has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Bytes read so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Ends a message: an error if bytes remain.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// Appends `value` in its shortest form.
#[inline]
pub fn write_var_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes`, then `bytes`.
#[inline]
pub fn write_var_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the UTF-8 length of `text`, then its bytes.
#[inline]
pub fn write_var_string(out: &mut Vec<u8>, text: &str) {
    write_var_bytes(out, text.as_bytes());
}

/// Bytes [`write_var_uint`] appends for `value`.
#[inline]
pub fn var_uint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes [`write_var_bytes`] appends for `len` bytes.
#[inline]
pub fn var_bytes_len(len: usize) -> usize {
    var_uint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn largest_safe_integer_is_read_and_one_more_is_not() {
        let mut out = Vec::new();
        write_var_uint(&mut out, MAX_SAFE_INTEGER);
        assert_eq!(Reader::new(&out).var_uint(), Ok(MAX_SAFE_INTEGER));
        out.clear();
        write_var_uint(&mut out, MAX_SAFE_INTEGER + 1);
        assert_eq!(Reader::new(&out).var_uint(), Err(Malformed::Integer));
    }

    #[test]
    fn padding_is_read_up_to_eight_bytes() {
        assert_eq!(Reader::new(&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).var_uint(), Ok(1));
        assert_eq!(
            Reader::new(&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).var_uint(),
            Err(Malformed::Integer)
        );
        assert_eq!(Reader::new(&[0x80; 64]).var_uint(), Err(Malformed::Integer));
    }

    #[test]
    fn an_integer_cut_short_is_truncated() {
        assert_eq!(Reader::new(&[]).var_uint(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0x80; 7]).var_uint(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_length_beyond_the_frame_is_truncated() {
        assert_eq!(Reader::new(&[3, 1, 2]).var_bytes(), Err(Malformed::Truncated));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]).var_bytes(),
            Err(Malformed::Truncated)
        );
        assert_eq!(Reader::new(&[1, 0xff]).var_string(), Err(Malformed::Utf8));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=MAX_SAFE_INTEGER, shift in 0u32..53, text in ".{0,40}") {
            let value = value >> shift;
            let mut out = Vec::new();
            write_var_uint(&mut out, value);
            prop_assert_eq!(out.len(), var_uint_len(value));
            write_var_string(&mut out, &text);
            prop_assert_eq!(out.len(), var_uint_len(value) + var_bytes_len(text.len()));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.var_uint(), Ok(value));
            prop_assert_eq!(reader.position(), var_uint_len(value));
            prop_assert_eq!(reader.var_string(), Ok(text.as_str()));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}

//! UTF-8 of a text message, checked while it arrives (RFC 6455 8.1).

/// Checks `bytes[checked..]`, where `bytes[..checked]` is known to be whole characters. Returns how far whole
/// characters reach now: all but at most 3 bytes of a character whose end is still to come. Fails at the
/// first byte that no continuation could make valid.
pub(super) fn check_prefix(bytes: &[u8], checked: usize) -> Option<usize> {
    let pending = bytes.get(checked..)?;
    let (whole, tail) = pending.split_at(pending.len() - incomplete_suffix(pending));
    if !is_valid_start(tail) {
        return None;
    }
    simdutf8::basic::from_utf8(whole).ok()?;
    Some(checked + whole.len())
}

/// Length of the character at the end of `bytes` whose last bytes are missing; 0 if there is none.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    for (back, &byte) in bytes.iter().rev().take(3).enumerate() {
        if !is_continuation(byte) {
            let have = back + 1;
            return if char_len(byte) > have { have } else { 0 };
        }
    }
    0
}

/// Whether some continuation makes the unfinished character `tail` valid: its second byte must not make it
/// overlong, a surrogate or larger than U+10FFFF (Unicode, table 3-7).
fn is_valid_start(tail: &[u8]) -> bool {
    let &[first, second, ..] = tail else { return true };
    match first {
        0xe0 => second >= 0xa0,
        0xed => second <= 0x9f,
        0xf0 => second >= 0x90,
        0xf4 => second <= 0x8f,
        _ => true,
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Bytes of the character that starts with `first`; 0 for a byte that starts none.
fn char_len(first: u8) -> usize {
    match first {
        0x00..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The position after which the standard library knows that the text is broken, if it is.
    fn std_is_hopeless(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some())
    }

    /// Bytes that meet the edges of table 3-7 often.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let edge = prop::sample::select(
            &[
                0x00u8, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed,
                0xef, 0xf0, 0xf1, 0xf4, 0xf5,
            ][..],
        );
        prop::collection::vec(edge, 0..12)
    }

    proptest! {
        #[test]
        fn fails_exactly_where_the_standard_library_knows_it(bytes in bytes()) {
            let mut checked = Some(0);
            for end in 1..=bytes.len() {
                checked = checked.and_then(|checked| check_prefix(&bytes[..end], checked));
                prop_assert_eq!(checked.is_none(), std_is_hopeless(&bytes[..end]), "at byte {}", end);
            }
            let whole = check_prefix(&bytes, 0);
            prop_assert_eq!(whole, checked);
            if let Some(whole) = whole {
                prop_assert_eq!(whole == bytes.len(), std::str::from_utf8(&bytes).is_ok());
            }
        }
    }

    #[test]
    fn every_character_passes_byte_by_byte() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32).step_by(7) {
            let mut buf = [0; 4];
            let encoded = character.encode_utf8(&mut buf).as_bytes();
            let mut checked = 0;
            for end in 1..=encoded.len() {
                checked = check_prefix(&encoded[..end], checked).expect("valid so far");
            }
            assert_eq!(checked, encoded.len());
        }
    }
}

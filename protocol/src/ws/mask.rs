//! Masking (RFC 6455 5.3).

/// XORs `buf` with the masking key, in place. `offset` is the position of `buf[0]` in the frame's payload, so
/// that a payload that arrives in pieces is unmasked piece by piece. Masking and unmasking are the same
/// operation.
pub fn apply_mask(buf: &mut [u8], key: [u8; 4], offset: u64) {
    let mut rotated = key;
    // offset % 4 fits.
    rotated.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = rotated;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);

    let (chunks, rest) = buf.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_at_any_offset_equals_the_byte_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..67).collect();
        // transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)
        let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        for split in 0..=plain.len() {
            let mut buf = plain.clone();
            let (head, tail) = buf.split_at_mut(split);
            apply_mask(head, key, 0);
            apply_mask(tail, key, split as u64);
            assert_eq!(buf, expected, "split at {split}");
        }
    }

    #[test]
    fn the_masked_hello_of_rfc_6455_5_7() {
        let mut buf = *b"Hello";
        apply_mask(&mut buf, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(buf, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}

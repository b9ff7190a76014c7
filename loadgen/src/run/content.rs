//! What messages and edits look like, so that whoever receives one can tell whose it is, which, and whether it is whole.
//!
//! A raw message is `sender u32, number u32, check u32` and filler that follows from the first two; `check` covers all of
//! it. As text the twelve bytes are hexadecimal. An edit is a valid Yjs update: client `FIRST_CLIENT + sender` types
//! `edit_bytes` characters behind its own last ones, so that its clock counts its edits, and every character follows from
//! client and clock. Servers may merge, split and encode such edits anew; what arrives can be checked all the same.

use std::ops::Range;

use pinwire_protocol::document::varint::{Reader, write_var_string, write_var_uint};

/// Bytes of a raw message's head, binary; twice as many as text.
pub(crate) const HEAD: usize = 12;

/// Client numbers of writers begin here: five bytes as a varint, as the random numbers of real clients.
pub(crate) const FIRST_CLIENT: u64 = 0x8000_0000;

/// The type that writers type into.
const ROOT: &str = "text";

const CONTENT_STRING: u8 = 4;
const HAS_ORIGIN: u8 = 1 << 7;
const HAS_RIGHT_ORIGIN: u8 = 1 << 6;
const CONTENT_BITS: u8 = 0x1f;
const PARENT_IS_ROOT: u64 = 1;

/// A message's head as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Who sent it.
    pub(crate) sender: u32,
    /// Which of the sender's messages, from 0.
    pub(crate) number: u32,
}

/// Appends a raw message of `bytes` bytes.
pub(crate) fn append_raw(out: &mut Vec<u8>, head: Head, bytes: usize, text: bool) {
    let start = out.len();
    let unit = if text { 2 } else { 1 };
    let filler = bytes.saturating_sub(HEAD * unit);
    let seed = seed(head);
    let check = check(seed, filler);
    let mut raw = [0; HEAD];
    raw[..4].copy_from_slice(&head.sender.to_be_bytes());
    raw[4..8].copy_from_slice(&head.number.to_be_bytes());
    raw[8..].copy_from_slice(&check.to_be_bytes());
    if text {
        out.extend(raw.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]));
    } else {
        out.extend_from_slice(&raw);
    }
    out.reserve(filler);
    let mut block = seed;
    while out.len() - start < bytes {
        block = mix(block);
        let room = bytes - (out.len() - start);
        out.extend_from_slice(&letters(block)[..room.min(8)]);
    }
}

/// Reads a raw message; none if it is not as its sender made it.
pub(crate) fn read_raw(message: &[u8], text: bool) -> Option<Head> {
    let mut raw = [0; HEAD];
    let filler = if text {
        let (head, filler) = message.split_at_checked(2 * HEAD)?;
        for (byte, pair) in raw.iter_mut().zip(head.chunks_exact(2)) {
            *byte = unhex(pair[0])? << 4 | unhex(pair[1])?;
        }
        filler
    } else {
        let (head, filler) = message.split_at_checked(HEAD)?;
        raw.copy_from_slice(head);
        filler
    };
    let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let head = Head { sender: word(0), number: word(4) };
    let mut block = seed(head);
    if word(8) != check(block, filler.len()) {
        return None;
    }
    for chunk in filler.chunks(8) {
        block = mix(block);
        if *chunk != letters(block)[..chunk.len()] {
            return None;
        }
    }
    Some(head)
}

/// Appends the update by which `client` types edits number `numbers`, of `bytes` characters each.
pub(crate) fn append_edits(out: &mut Vec<u8>, client: u64, numbers: Range<u32>, bytes: u32) {
    let clock = numbers.start * bytes;
    let bytes = (numbers.end - numbers.start) * bytes;
    write_var_uint(out, 1);
    write_var_uint(out, 1);
    write_var_uint(out, client);
    write_var_uint(out, clock.into());
    match clock.checked_sub(1) {
        Some(left) => {
            out.push(CONTENT_STRING | HAS_ORIGIN);
            write_var_uint(out, client);
            write_var_uint(out, left.into());
        }
        None => {
            out.push(CONTENT_STRING);
            write_var_uint(out, PARENT_IS_ROOT);
            write_var_string(out, ROOT);
        }
    }
    write_var_uint(out, bytes.into());
    out.extend((clock..clock + bytes).map(|clock| character(client, clock)));
    write_var_uint(out, 0);
}

/// Reads an update made of such edits, in whatever way a server put them together: calls `run(client, clock, len)` for each
/// stretch of characters. None if anything in it is not as a writer made it.
pub(crate) fn read_edits(update: &[u8], mut run: impl FnMut(u64, u32, u32)) -> Option<()> {
    let mut reader = Reader::new(update);
    let sections = reader.var_uint().ok()?;
    for _ in 0..sections {
        let structs = reader.var_uint().ok()?;
        let client = reader.var_uint().ok()?;
        let mut clock = u32::try_from(reader.var_uint().ok()?).ok()?;
        for _ in 0..structs {
            let text = read_item(&mut reader, client, clock)?;
            let mut expected = clock;
            for &byte in text {
                if byte != character(client, expected) {
                    return None;
                }
                expected = expected.checked_add(1)?;
            }
            run(client, clock, expected - clock);
            clock = expected;
        }
    }
    // Nobody deletes.
    (reader.var_uint().ok()? == 0 && reader.is_empty()).then_some(())
}

/// The text of one item, which must stand right behind its writer's last character.
fn read_item<'a>(reader: &mut Reader<'a>, client: u64, clock: u32) -> Option<&'a [u8]> {
    let info = reader.u8().ok()?;
    if info & CONTENT_BITS != CONTENT_STRING {
        return None;
    }
    if info & HAS_ORIGIN != 0 {
        let origin = (reader.var_uint().ok()?, reader.var_uint().ok()?);
        if origin != (client, u64::from(clock.checked_sub(1)?)) {
            return None;
        }
    }
    if info & HAS_RIGHT_ORIGIN != 0 {
        return None;
    }
    if info & HAS_ORIGIN == 0
        && (reader.var_uint().ok()? != PARENT_IS_ROOT || reader.var_string().ok()? != ROOT)
    {
        return None;
    }
    reader.var_bytes().ok()
}

/// The character at a clock of a client.
#[inline]
fn character(client: u64, clock: u32) -> u8 {
    let mixed = (u64::from(clock) ^ client << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    b'a' + ((mixed >> 59) as u8 % 26)
}

fn seed(head: Head) -> u64 {
    mix(u64::from(head.sender) << 32 | u64::from(head.number))
}

fn check(seed: u64, filler: usize) -> u32 {
    (mix(seed ^ filler as u64) >> 16) as u32
}

/// The finalizer of SplitMix64.
#[inline]
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Eight bytes that are letters, so that they may stand in text frames.
#[inline]
fn letters(block: u64) -> [u8; 8] {
    ((block & 0x0f0f_0f0f_0f0f_0f0f) + 0x6161_6161_6161_6161).to_le_bytes()
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn unhex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_protocol::document::update::{Bounds, scan};
    use proptest::prelude::*;

    fn runs(update: &[u8]) -> Option<Vec<(u64, u32, u32)>> {
        let mut runs = Vec::new();
        read_edits(update, |client, clock, len| runs.push((client, clock, len)))?;
        Some(runs)
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(sender: u32, number: u32, bytes in 24_usize..3000, text: bool) {
            let mut out = Vec::new();
            let head = Head { sender, number };
            append_raw(&mut out, head, bytes, text);
            prop_assert_eq!(out.len(), bytes);
            prop_assert_eq!(read_raw(&out, text), Some(head));
            prop_assert!(!text || out.is_ascii());
        }

        #[test]
        fn a_flipped_bit_anywhere_is_noticed(number: u32, bytes in 12_usize..200, at: prop::sample::Index, bit in 0_u32..8) {
            let mut out = Vec::new();
            append_raw(&mut out, Head { sender: 7, number }, bytes, false);
            let at = at.index(out.len());
            out[at] ^= 1_u8 << bit;
            prop_assert_eq!(read_raw(&out, false), None);
        }

        #[test]
        fn a_shortened_message_is_noticed(bytes in 13_usize..200, cut in 1_usize..12) {
            let mut out = Vec::new();
            append_raw(&mut out, Head { sender: 7, number: 1 }, bytes, false);
            prop_assert_eq!(read_raw(&out[..bytes - cut.min(bytes)], false), None);
        }

        #[test]
        fn an_edit_is_a_valid_update_of_its_own_clocks(number in 0_u32..100_000, bytes in 1_u32..300) {
            let mut update = Vec::new();
            append_edits(&mut update, FIRST_CLIENT + 3, number..number + 1, bytes);
            prop_assert!(scan(&update, &Bounds::default(), &mut ()).is_ok());
            prop_assert_eq!(runs(&update), Some(vec![(FIRST_CLIENT + 3, number * bytes, bytes)]));
        }
    }

    #[test]
    fn merged_and_reencoded_edits_are_read_one_by_one() {
        use yrs::updates::decoder::Decode;
        use yrs::{Doc, ReadTxn, StateVector, Transact, Update};
        let mut updates = Vec::new();
        for (client, number) in [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)] {
            let mut update = Vec::new();
            append_edits(&mut update, FIRST_CLIENT + client, number..number + 1, 5);
            updates.push(update);
        }
        let merged = yrs::merge_updates_v1(&updates).unwrap();
        let total = |update: &[u8]| runs(update).unwrap().iter().map(|run| run.2).sum::<u32>();
        assert_eq!(total(&merged), 25);
        let doc = Doc::new();
        for update in &updates {
            doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
        }
        assert_eq!(total(&doc.transact().encode_state_as_update_v1(&StateVector::default())), 25);
    }

    #[test]
    fn another_letter_in_an_edit_is_noticed() {
        let mut update = Vec::new();
        append_edits(&mut update, FIRST_CLIENT, 9..9 + 1, 30);
        let last = update.len() - 2;
        update[last] = if update[last] == b'a' { b'b' } else { b'a' };
        assert_eq!(runs(&update), None);
    }
}

//! The smallest edits that Yjs knows: a client types one character into a shared text.

use pinwire_protocol::document::varint::{write_var_string, write_var_uint};

/// Reference number of string content.
const CONTENT_STRING: u8 = 4;
/// The item says what stands to its left, and to its right.
const HAS_ORIGIN: u8 = 1 << 7;
const HAS_RIGHT_ORIGIN: u8 = 1 << 6;
/// The parent is a named type of the document.
const PARENT_IS_ROOT: u64 = 1;

/// Where a client inserts, among characters of its own: the clocks of those to the left and to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// None at the beginning.
    pub left: Option<u32>,
    /// None at the end.
    pub right: Option<u32>,
}

/// Appends the update (format V1) by which `client` types its character number `clock` behind the one before, about 21
/// bytes from the second one on for a client number of 32 bits.
pub fn append_edit(out: &mut Vec<u8>, client: u64, clock: u32) {
    append_insert(out, client, clock, Place { left: clock.checked_sub(1), right: None }, b'x');
}

/// Appends the update by which `client` inserts its character number `clock` somewhere.
pub fn append_insert(out: &mut Vec<u8>, client: u64, clock: u32, place: Place, character: u8) {
    // One client with one struct, which begins at the clock.
    write_var_uint(out, 1);
    write_var_uint(out, 1);
    write_var_uint(out, client);
    write_var_uint(out, clock.into());
    let flag = |neighbour: Option<u32>, flag: u8| if neighbour.is_some() { flag } else { 0 };
    out.push(CONTENT_STRING | flag(place.left, HAS_ORIGIN) | flag(place.right, HAS_RIGHT_ORIGIN));
    for neighbour in [place.left, place.right].into_iter().flatten() {
        write_var_uint(out, client);
        write_var_uint(out, neighbour.into());
    }
    if place == (Place { left: None, right: None }) {
        write_var_uint(out, PARENT_IS_ROOT);
        write_var_string(out, "text");
    }
    write_var_uint(out, 1);
    out.push(character);
    // Nothing is deleted.
    write_var_uint(out, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_protocol::document::update::{Bounds, Visitor, scan};
    use yrs::updates::decoder::Decode;
    use yrs::{Doc, GetString, ReadTxn, Transact, Update};

    #[derive(Default)]
    struct Runs(Vec<(u64, u32, u32)>);

    impl Visitor for Runs {
        fn structs(&mut self, client: u64, clock: u32, len: u32) {
            self.0.push((client, clock, len));
        }

        fn deletes(&mut self, _client: u64, _clock: u32, _len: u32) {
            panic!("an edit deletes nothing");
        }
    }

    #[test]
    fn an_edit_passes_the_walk_and_covers_its_own_clock_alone() {
        for clock in [0, 1, 127, 128, 70_000] {
            let mut update = Vec::new();
            append_edit(&mut update, 0xdead_beef, clock);
            let mut runs = Runs::default();
            assert!(scan(&update, &Bounds::default(), &mut runs).is_ok());
            assert_eq!(runs.0, [(0xdead_beef, clock, 1)]);
        }
    }

    #[test]
    fn edits_build_a_text_in_yrs() {
        let doc = Doc::new();
        for clock in 0..200 {
            let mut update = Vec::new();
            append_edit(&mut update, 0xdead_beef, clock);
            doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
        }
        let txn = doc.transact();
        assert_eq!(txn.get_text("text").unwrap().get_string(&txn), "x".repeat(200));
    }

    #[test]
    fn a_later_edit_takes_about_21_bytes() {
        let mut update = Vec::new();
        append_edit(&mut update, 0xdead_beef, 1_000);
        assert_eq!(update.len(), 20);
        update.clear();
        append_edit(&mut update, 0xdead_beef, 20_000);
        assert_eq!(update.len(), 22);
    }
}

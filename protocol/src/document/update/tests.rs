use super::*;

#[derive(Default, Debug, PartialEq)]
struct Ranges {
    structs: Vec<(u64, u32, u32)>,
    deletes: Vec<(u64, u32, u32)>,
}

impl Visitor for Ranges {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.structs.push((client, clock, len));
    }
    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        self.deletes.push((client, clock, len));
    }
}

fn ranges(update: &[u8]) -> Result<(Summary, Ranges), Defect> {
    let mut ranges = Ranges::default();
    let summary = scan(update, &Bounds::default(), &mut ranges).map_err(|error| error.what)?;
    Ok((summary, ranges))
}

fn defect(update: &[u8]) -> Defect {
    ranges(update).expect_err("accepted")
}

/// An update of one section of client 5 from clock 0, with `count` structs given as bytes, and no deletes.
fn section(count: u8, structs: &[u8]) -> Vec<u8> {
    let mut update = vec![1, count, 5, 0];
    update.extend_from_slice(structs);
    update.push(0);
    update
}

/// One item in the root type `t` with the given content.
fn item(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 1, 1, b't'];
    bytes.extend_from_slice(content);
    section(1, &bytes)
}

#[test]
fn an_empty_update_changes_nothing() {
    let (summary, ranges) = ranges(&EMPTY).unwrap();
    assert!(summary.is_empty());
    assert_eq!(ranges, Ranges::default());
}

#[test]
fn ranges_of_structs_and_deletes_are_reported() {
    // Two letters, one of them an astral character, then a hole, then a gc; and two deleted ranges.
    let update =
        [1, 3, 5, 2, 4, 1, 1, b't', 5, b'a', 0xf0, 0x9f, 0x98, 0x80, 10, 4, 0, 7, 1, 5, 2, 2, 1, 9, 6];
    let (summary, ranges) = ranges(&update).unwrap();
    assert_eq!(ranges.structs, [(5, 2, 3), (5, 9, 7)]);
    assert_eq!(ranges.deletes, [(5, 2, 1), (5, 9, 6)]);
    assert_eq!(summary, Summary { clients: 1, has_structs: true, has_deletes: true, has_skips: true });
}

#[test]
fn a_section_that_is_all_hole_has_no_structs() {
    let (summary, ranges) = ranges(&section(1, &[10, 4])).unwrap();
    assert!(summary.is_empty() && summary.has_skips);
    assert_eq!(ranges, Ranges::default());
}

#[test]
fn every_content_kind_both_libraries_read_is_accepted() {
    let cases: [(u8, &[u8]); 12] = [
        (1, &[3]),
        (3, &[2, 0xff, 0]),
        (4, &[1, b'a']),
        (5, b"\x02{}"),
        (6, b"\x04bold\x04true"),
        (7, &[0]),
        (7, &[1]),
        (7, &[2]),
        (7, &[3, 1, b'p']),
        (7, &[4]),
        (7, &[6]),
        (9, &[1, b'g', 118, 1, 2, b'g', b'c', 121]),
    ];
    for (kind, content) in cases {
        ranges(&item(kind, content)).unwrap_or_else(|defect| panic!("kind {kind} {content:?}: {defect}"));
    }
}

#[test]
fn every_value_tag_is_accepted() {
    let mut values = vec![127, 126, 125, 0x7f, 125, 0xff, 0x0f, 124, 0, 0, 0, 0, 123, 0, 0, 0, 0, 0, 0, 0, 0];
    values.extend_from_slice(&[122, 0, 0, 0, 0, 0, 0, 0, 1, 121, 120, 119, 1, b'x', 116, 1, 0xff]);
    values.extend_from_slice(&[118, 1, 1, b'k', 117, 2, 126, 117, 0]);
    let mut content = vec![12];
    content.extend_from_slice(&values);
    let (_, ranges) = ranges(&item(8, &content)).unwrap();
    assert_eq!(ranges.structs, [(5, 0, 12)]);
}

#[test]
fn content_only_one_library_reads_is_refused() {
    for (kind, content) in [
        (2u8, &b"\x01\x041234"[..]), // legacy JSON
        (7, &[5, 1, b'h']),          // hook
        (7, &[7, 0, 1, 1]),          // weak link
        (7, &[9]),                   // yrs's subdocument type
        (7, &[15]),                  // yrs's undefined type
        (11, &[0, 1, 1]),            // move
        (16 + 4, &[1, b'a']),        // the fifth bit, which yrs ignores
        (9, &[1, b'g', 126]),        // subdocument without options
        (8, &[1, 115]),
        (8, &[1, 0]),
    ] {
        assert_eq!(defect(&item(kind, content)), Defect::Kind, "kind {kind} {content:?}");
    }
    // Flags on a gc or a skip.
    assert_eq!(defect(&section(1, &[0x20, 1, 1, b't', 1, b'k', 1])), Defect::Kind);
    assert_eq!(defect(&section(1, &[0x2a, 1, 1, b't', 1, b'k', 1])), Defect::Kind);
    // A parent marker that is neither 0 nor 1.
    assert_eq!(defect(&section(1, &[4, 2, 1, b't', 1, b'a'])), Defect::Kind);
}

#[test]
fn nothing_may_have_length_zero() {
    assert_eq!(defect(&section(0, &[0, 1])), Defect::Empty);
    assert_eq!(defect(&section(1, &[0, 0])), Defect::Empty);
    assert_eq!(defect(&section(1, &[10, 0])), Defect::Empty);
    assert_eq!(defect(&item(1, &[0])), Defect::Empty);
    assert_eq!(defect(&item(4, &[0])), Defect::Empty);
    assert_eq!(defect(&item(8, &[0])), Defect::Empty);
    assert_eq!(defect(&[0, 1, 5, 0, 0, 0]), Defect::Empty);
    assert_eq!(defect(&[0, 1, 5, 1, 3, 0]), Defect::Empty);
}

#[test]
fn clocks_stay_below_two_to_the_31() {
    assert!(ranges(&section(1, &[0, 0xff, 0xff, 0xff, 0xff, 0x07])).is_ok());
    assert_eq!(defect(&section(1, &[0, 0x80, 0x80, 0x80, 0x80, 0x08])), Defect::Clock);
    assert_eq!(defect(&section(2, &[0, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 1])), Defect::Clock);
    assert_eq!(defect(&[0, 1, 5, 1, 2, 0xff, 0xff, 0xff, 0xff, 0x07]), Defect::Clock);
    // The clock of an origin.
    assert_eq!(defect(&section(1, &[0x84, 6, 0x80, 0x80, 0x80, 0x80, 0x08, 1, b'a'])), Defect::Clock);
}

#[test]
fn an_item_may_not_refer_to_its_own_future() {
    for info in [0x84, 0x44] {
        assert_eq!(defect(&section(1, &[info, 5, 0, 1, b'a'])), Defect::FutureReference);
        assert!(ranges(&section(2, &[0, 1, info, 5, 0, 1, b'a'])).is_ok());
        assert!(ranges(&section(1, &[info, 6, 9, 1, b'a'])).is_ok());
    }
    assert_eq!(defect(&section(1, &[4, 0, 5, 3, 1, b'a'])), Defect::FutureReference);
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_they_are_followed() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(defect(&huge), Defect::Count);
    assert_eq!(defect(&[&[1][..], &huge, &[5, 0, 0, 1, 0]].concat()), Defect::Count);
    assert_eq!(defect(&item(8, &huge)), Defect::Count);
    assert_eq!(defect(&item(8, &[&[1, 117][..], &huge].concat())), Defect::Count);
    assert_eq!(defect(&item(8, &[&[1, 118][..], &huge].concat())), Defect::Count);
    assert_eq!(defect(&[&[0][..], &huge].concat()), Defect::Count);
    assert_eq!(defect(&[&[0, 1, 5][..], &huge, &[0, 1]].concat()), Defect::Count);
}

#[test]
fn a_client_stands_once_among_structs_and_once_among_deletes() {
    let sections = |clients: &[u8]| {
        let mut update = vec![clients.len() as u8];
        update.extend(clients.iter().flat_map(|&client| [1, client, 0, 0, 1]));
        update.push(0);
        update
    };
    for order in [&[9, 5, 1][..], &[1, 5, 9], &[5, 9, 1]] {
        assert!(ranges(&sections(order)).is_ok(), "{order:?}");
    }
    for order in [&[5, 5][..], &[1, 9, 1], &[9, 1, 9], &[3, 2, 1, 2]] {
        assert_eq!(defect(&sections(order)), Defect::ClientOrder, "{order:?}");
    }
    assert_eq!(defect(&[0, 2, 5, 1, 0, 1, 5, 1, 4, 1]), Defect::ClientOrder);
    let falling: Vec<u8> = (0..120).rev().collect();
    assert!(ranges(&sections(&falling)).is_ok());
    let zigzag: Vec<u8> = (0..100).map(|index| index ^ 1).collect();
    assert_eq!(defect(&sections(&zigzag)), Defect::ClientOrder);
    assert!(ranges(&sections(&zigzag[..60])).is_ok());
}

#[test]
fn delete_ranges_rise() {
    assert!(ranges(&[0, 1, 5, 2, 0, 2, 2, 1]).is_ok());
    assert_eq!(defect(&[0, 1, 5, 2, 0, 2, 1, 1]), Defect::RangeOrder);
    assert_eq!(defect(&[0, 1, 5, 2, 4, 1, 0, 1]), Defect::RangeOrder);
}

#[test]
fn two_skips_do_not_follow_each_other() {
    assert_eq!(defect(&section(2, &[10, 1, 10, 1])), Defect::RepeatedSkip);
    assert!(ranges(&section(3, &[10, 1, 0, 1, 10, 1])).is_ok());
}

#[test]
fn nesting_is_bounded_in_values_and_in_json() {
    let arrays = |depth: usize| item(8, &[&[1][..], &[117, 1].repeat(depth), &[126]].concat());
    assert!(ranges(&arrays(127)).is_ok());
    assert_eq!(defect(&arrays(128)), Defect::Depth);
    assert_eq!(defect(&arrays(10_000)), Defect::Depth);
    let objects = |depth: usize| item(8, &[&[1][..], &[118, 1, 0].repeat(depth), &[126]].concat());
    assert!(ranges(&objects(127)).is_ok());
    assert_eq!(defect(&objects(128)), Defect::Depth);
    let json = |depth: usize| {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut content = Vec::new();
        super::super::varint::write_var_string(&mut content, &text);
        item(5, &content)
    };
    assert!(ranges(&json(127)).is_ok());
    assert_eq!(defect(&json(128)), Defect::Json);
    let generous = Bounds { max_depth: u32::MAX, ..Bounds::default() };
    assert!(scan(&arrays(128), &generous, &mut ()).is_err());
}

#[test]
fn embedded_json_is_checked() {
    for json in [&b"\x00"[..], b"\x01{", b"\x09undefined", b"\x08\"\\ud83d\"", b"\x051e999"] {
        assert_eq!(defect(&item(5, json)), Defect::Json, "{json:?}");
    }
}

#[test]
fn text_is_utf8() {
    assert_eq!(defect(&item(4, &[2, 0xc3, 0x28])), Defect::Encoding(Malformed::Utf8));
    assert_eq!(defect(&item(8, &[1, 119, 1, 0xff])), Defect::Encoding(Malformed::Utf8));
}

#[test]
fn integers_have_53_bits() {
    assert!(ranges(&item(8, &[1, 125, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f])).is_ok());
    assert_eq!(
        defect(&item(8, &[1, 125, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        Defect::Encoding(Malformed::Integer)
    );
    assert_eq!(
        defect(&item(8, &[&[1, 125][..], &[0x80; 20]].concat())),
        Defect::Encoding(Malformed::Integer)
    );
}

#[test]
fn keys_that_throw_in_scripts_are_refused() {
    let proto = [&[1u8, 118, 1, 9][..], b"__proto__", &[116, 0]].concat();
    assert_eq!(defect(&item(8, &proto)), Defect::Key);
    for options in [&b"\x04guid\x7e"[..], b"\x02gc\x7e", b"\x05other\x7f", b"\x08autoLoad\x77\x00"] {
        let content = [&[1, b'g', 118, 1][..], options].concat();
        assert_eq!(defect(&item(9, &content)), Defect::Key, "{options:?}");
    }
    let meta = [&[1, b'g', 118, 1, 4][..], b"meta", &[118, 1, 1, b'k', 117, 0]].concat();
    assert!(ranges(&item(9, &meta)).is_ok());
}

#[test]
fn subdocuments_are_counted() {
    let bounds = Bounds { max_subdocuments: 1, ..Bounds::default() };
    let one = [9, 1, 1, b't', 1, b'g', 118, 0];
    assert!(scan(&section(1, &one), &bounds, &mut ()).is_ok());
    assert_eq!(
        scan(&section(2, &[one, one].concat()), &bounds, &mut ()).map_err(|error| error.what),
        Err(Defect::Count)
    );
}

#[test]
fn nothing_follows_the_deletes() {
    assert_eq!(defect(&[0, 0, 0]), Defect::Encoding(Malformed::Trailing));
    assert_eq!(defect(&[0]), Defect::Encoding(Malformed::Truncated));
    assert_eq!(defect(&[]), Defect::Encoding(Malformed::Truncated));
}

#[test]
fn an_error_says_where() {
    let error = scan(&[0, 1, 5, 1, 3, 0], &Bounds::default(), &mut ()).unwrap_err();
    assert_eq!(error, ScanError { offset: 6, what: Defect::Empty });
    assert_eq!(error.to_string(), "update refused at byte 6: something has length zero");
}

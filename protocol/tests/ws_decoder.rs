//! The rules of RFC 6455 that a decoder enforces, one test each.

use pinwire_protocol::close::CloseCode;
use pinwire_protocol::ws::{
    Decoder, Event, Frame, Kind, Limits, Opcode, ProtocolError, Role, Scratch, WindowBits, append_close,
    append_frame, append_message, append_ping, append_pong,
};

/// An [`Event`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload } => Self::Message(kind, payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A client-role decoder (unmasked input is easier to write down) with its scratch.
struct Peer {
    decoder: Decoder,
    scratch: Scratch,
    limits: Limits,
}

impl Peer {
    fn new(deflate: bool) -> Self {
        let decoder = Decoder::new(Role::Client, deflate);
        Self { decoder, scratch: Scratch::new(), limits: Limits::DEFAULT }
    }

    fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::new(true) }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Owned>, ProtocolError> {
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        let mut events = Vec::new();
        loop {
            let given = rest.len();
            let decoded = self.decoder.decode(rest, &self.limits, &mut self.scratch)?;
            let consumed = decoded.consumed;
            let Some(event) = decoded.event else {
                assert_eq!(consumed, given, "without an event everything is consumed");
                return Ok(events);
            };
            events.push(event.into());
            rest = &mut rest[consumed..];
        }
    }
}

fn error(bytes: &[u8]) -> ProtocolError {
    Peer::new(false).feed(bytes).expect_err("must be refused")
}

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(&mut out, Frame { fin, ..Frame::new(opcode) }, payload);
    out
}

fn text(message: &str) -> Owned {
    Owned::Message(Kind::Text, message.as_bytes().to_vec())
}

#[test]
fn whole_messages_and_control_frames_come_in_order() {
    let mut bytes = Vec::new();
    append_message(&mut bytes, Kind::Text, "ä".as_bytes());
    append_ping(&mut bytes, b"p", None);
    append_message(&mut bytes, Kind::Binary, &[]);
    append_pong(&mut bytes, b"q", None);
    let expected = [
        text("ä"),
        Owned::Ping(b"p".to_vec()),
        Owned::Message(Kind::Binary, Vec::new()),
        Owned::Pong(b"q".to_vec()),
    ];
    assert_eq!(Peer::new(false).feed(&bytes).unwrap(), expected);
}

#[test]
fn control_frames_may_come_between_fragments() {
    // RFC 6455 5.4.
    let bytes = [
        frame(Opcode::Text, false, b"a"),
        frame(Opcode::Ping, true, b"1"),
        frame(Opcode::Continuation, false, b""),
        frame(Opcode::Pong, true, b"2"),
        frame(Opcode::Continuation, true, b"b"),
    ]
    .concat();
    let expected = [Owned::Ping(b"1".to_vec()), Owned::Pong(b"2".to_vec()), text("ab")];
    assert_eq!(Peer::new(false).feed(&bytes).unwrap(), expected);
}

#[test]
fn a_new_message_inside_a_fragmented_one_is_refused() {
    let bytes = [frame(Opcode::Text, false, b"a"), frame(Opcode::Binary, true, b"b")].concat();
    assert_eq!(error(&bytes), ProtocolError::ExpectedContinuation);
}

#[test]
fn a_continuation_without_a_message_is_refused() {
    assert_eq!(error(&frame(Opcode::Continuation, true, b"a")), ProtocolError::UnexpectedContinuation);
    let after = [frame(Opcode::Text, true, b"a"), frame(Opcode::Continuation, true, b"b")].concat();
    assert_eq!(error(&after), ProtocolError::UnexpectedContinuation);
}

#[test]
fn broken_text_is_refused_at_the_first_impossible_byte_of_an_unfinished_frame() {
    // RFC 6455 8.1. A frame of 100 bytes of which few have arrived.
    for (good, bad) in [
        (&b"abc"[..], &b"\xff"[..]),
        (b"\xce\xba\xe1\xbd\xb9", b"\xc0"),
        (b"\xed", b"\xa0"),
        (b"\xf4", b"\x90"),
        (b"\xe0", b"\x9f"),
        (b"\xc3", b"("),
    ] {
        let mut peer = Peer::new(false);
        assert_eq!(peer.feed(&[0x81, 100]), Ok(vec![]));
        assert_eq!(peer.feed(good), Ok(vec![]));
        assert_eq!(peer.feed(bad), Err(ProtocolError::TextUtf8));
    }
}

#[test]
fn a_character_may_be_split_over_fragments_but_must_end_with_the_message() {
    let euro = "€".as_bytes();
    let split =
        [frame(Opcode::Text, false, &euro[..1]), frame(Opcode::Continuation, true, &euro[1..])].concat();
    assert_eq!(Peer::new(false).feed(&split).unwrap(), [text("€")]);
    let cut =
        [frame(Opcode::Text, false, &euro[..1]), frame(Opcode::Continuation, true, &euro[1..2])].concat();
    assert_eq!(error(&cut), ProtocolError::TextUtf8);
    assert_eq!(error(&frame(Opcode::Text, true, &euro[..2])), ProtocolError::TextUtf8);
}

#[test]
fn binary_may_hold_anything() {
    let bytes = frame(Opcode::Binary, true, &[0xff, 0xc0]);
    assert_eq!(Peer::new(false).feed(&bytes).unwrap(), [Owned::Message(Kind::Binary, vec![0xff, 0xc0])]);
}

#[test]
fn a_close_frame_is_empty_or_has_a_valid_code_and_a_text() {
    // RFC 6455 5.5.1 and 7.4.
    let close = |payload: &[u8]| Peer::new(false).feed(&frame(Opcode::Close, true, payload));
    assert_eq!(close(b"").unwrap(), [Owned::Close(None, String::new())]);
    assert_eq!(close(b"\x03\xe8").unwrap(), [Owned::Close(Some(1000), String::new())]);
    assert_eq!(close(b"\x0f\xa9bye").unwrap(), [Owned::Close(Some(4009), "bye".into())]);
    assert_eq!(close(b"\x03"), Err(ProtocolError::CloseTooShort));
    assert_eq!(close(b"\x03\xe8\xff"), Err(ProtocolError::CloseReasonUtf8));
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(close(&code.to_be_bytes()), Err(ProtocolError::CloseCode), "{code}");
    }
}

#[test]
fn what_follows_a_close_frame_is_discarded() {
    let mut peer = Peer::new(false);
    let mut bytes = frame(Opcode::Text, false, b"unfinished");
    append_close(&mut bytes, CloseCode::Normal, "", None);
    bytes.extend_from_slice(&[0xff; 40]);
    assert_eq!(peer.feed(&bytes).unwrap(), [Owned::Close(Some(1000), String::new())]);
    assert_eq!(peer.feed(&[0xff; 40]), Ok(vec![]));
    assert!(peer.decoder.is_idle());
}

#[test]
fn an_error_is_final_and_releases_what_was_held() {
    let mut peer = Peer::new(false);
    peer.feed(&frame(Opcode::Text, false, b"held")).unwrap();
    assert_eq!(peer.decoder.buffered(), 4);
    assert_eq!(peer.feed(&[0x83]), Err(ProtocolError::ReservedOpcode));
    assert_eq!((peer.decoder.buffered(), peer.decoder.is_idle()), (0, true));
    assert_eq!(peer.feed(&frame(Opcode::Text, true, b"good")), Err(ProtocolError::ReservedOpcode));
    assert_eq!(peer.feed(&[]), Err(ProtocolError::ReservedOpcode));
}

#[test]
fn limits_hold_for_frames_messages_and_fragments() {
    let limits = Limits { max_frame: 10, max_message: 15, max_fragments: 3 };
    let feed = |frames: &[Vec<u8>]| Peer::with_limits(limits).feed(&frames.concat());
    let first = |len| frame(Opcode::Binary, false, &vec![0; len]);
    let next = |fin, len| frame(Opcode::Continuation, fin, &vec![0; len]);

    assert_eq!(feed(&[first(10), next(true, 5)]).unwrap().len(), 1);
    assert_eq!(feed(&[first(11)]), Err(ProtocolError::FrameTooBig));
    assert_eq!(feed(&[first(10), next(true, 6)]), Err(ProtocolError::MessageTooBig));
    assert_eq!(feed(&[first(0), next(false, 0), next(true, 0)]).unwrap().len(), 1);
    assert_eq!(
        feed(&[first(0), next(false, 0), next(false, 0), next(true, 0)]),
        Err(ProtocolError::TooManyFragments)
    );
    // The count starts anew with each message.
    let whole = [first(1), next(false, 1), next(true, 1)];
    assert_eq!(feed(&[whole.concat(), whole.concat()]).unwrap().len(), 2);
}

#[test]
fn a_limit_of_zero_allows_nothing() {
    let none = Limits { max_frame: 0, max_message: 0, max_fragments: 0 };
    assert_eq!(
        Peer::with_limits(none).feed(&frame(Opcode::Binary, true, b"")),
        Err(ProtocolError::TooManyFragments)
    );
    let empty_only = Limits { max_fragments: 1, ..none };
    assert_eq!(Peer::with_limits(empty_only).feed(&frame(Opcode::Binary, true, b"")).unwrap().len(), 1);
    assert_eq!(
        Peer::with_limits(empty_only).feed(&frame(Opcode::Binary, true, b"a")),
        Err(ProtocolError::FrameTooBig)
    );
}

#[test]
fn a_frame_over_a_limit_is_refused_by_its_header_alone() {
    let mut peer = Peer::with_limits(Limits { max_message: 1000, ..Limits::DEFAULT });
    assert_eq!(peer.feed(&[0x82, 126, 0x03, 0xe9]), Err(ProtocolError::MessageTooBig));
    let mut peer = Peer::new(false);
    let huge = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(peer.feed(&huge), Err(ProtocolError::FrameTooBig));
}

#[test]
fn control_frames_are_not_bound_by_message_limits() {
    let mut peer = Peer::with_limits(Limits { max_frame: 1, max_message: 1, max_fragments: 1 });
    assert_eq!(peer.feed(&frame(Opcode::Ping, true, &[7; 125])).unwrap(), [Owned::Ping(vec![7; 125])]);
}

/// `message` compressed and cut into a frame per part.
fn compressed_frames(kind: Opcode, message: &[u8], parts: usize) -> Vec<u8> {
    let mut body = Vec::new();
    Scratch::new().deflate_body(message, WindowBits::MAX, &mut body);
    let mut out = Vec::new();
    let size = body.len().div_ceil(parts).max(1);
    let count = body.len().div_ceil(size);
    for (index, part) in body.chunks(size).enumerate() {
        let opcode = if index == 0 { kind } else { Opcode::Continuation };
        let frame = Frame { fin: index + 1 == count, rsv1: index == 0, ..Frame::new(opcode) };
        append_frame(&mut out, frame, part);
    }
    out
}

#[test]
fn compressed_messages_arrive_whole_or_in_fragments() {
    let message = "compress me, compress me ".repeat(50);
    for parts in [1, 2, 7] {
        let bytes = compressed_frames(Opcode::Text, message.as_bytes(), parts);
        assert_eq!(Peer::new(true).feed(&bytes).unwrap(), [text(&message)], "{parts} parts");
    }
    assert_eq!(Peer::new(true).feed(&[0xc1, 1, 0x00]).unwrap(), [text("")]);
    assert_eq!(Peer::new(true).feed(&[0xc1, 0]).unwrap(), [text("")]);
}

#[test]
fn with_deflate_negotiated_messages_may_still_be_uncompressed() {
    // RFC 7692 6.
    assert_eq!(Peer::new(true).feed(&frame(Opcode::Text, true, b"plain")).unwrap(), [text("plain")]);
}

#[test]
fn inflated_text_must_be_utf8() {
    for parts in [1, 2] {
        let bytes = compressed_frames(Opcode::Text, b"abc\xff", parts);
        assert_eq!(Peer::new(true).feed(&bytes), Err(ProtocolError::TextUtf8));
        let bytes = compressed_frames(Opcode::Binary, b"abc\xff", parts);
        assert_eq!(Peer::new(true).feed(&bytes).unwrap().len(), 1);
    }
}

#[test]
fn the_message_limit_counts_inflated_bytes() {
    let limits = Limits { max_message: 5000, ..Limits::DEFAULT };
    for parts in [1, 3] {
        let fits = compressed_frames(Opcode::Binary, &[0; 5000], parts);
        assert_eq!(Peer::with_limits(limits).feed(&fits).unwrap().len(), 1);
        let bomb = compressed_frames(Opcode::Binary, &[0; 5001], parts);
        assert_eq!(Peer::with_limits(limits).feed(&bomb), Err(ProtocolError::MessageTooBig));
    }
}

#[test]
fn a_compressed_message_may_be_somewhat_longer_than_the_limit() {
    // Incompressible data grows: a message of the largest size must still pass.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(5000)
    .collect();
    let bytes = compressed_frames(Opcode::Binary, &noise, 1);
    assert!(bytes.len() > 5000);
    let limits = Limits { max_message: 5000, ..Limits::DEFAULT };
    assert_eq!(Peer::with_limits(limits).feed(&bytes).unwrap(), [Owned::Message(Kind::Binary, noise)]);
}

#[test]
fn each_violation_has_its_close_code() {
    let codes = [
        (ProtocolError::ReservedOpcode, 1002),
        (ProtocolError::NotMasked, 1002),
        (ProtocolError::CloseCode, 1002),
        (ProtocolError::TextUtf8, 1007),
        (ProtocolError::CloseReasonUtf8, 1007),
        (ProtocolError::Deflate, 1007),
        (ProtocolError::MessageTooBig, 1009),
        (ProtocolError::FrameTooBig, 1009),
        (ProtocolError::TooManyFragments, 1008),
    ];
    for (error, code) in codes {
        assert_eq!(error.close_code().code(), code, "{error}");
    }
}

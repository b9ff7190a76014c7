//! Properties of the decoder: any split of a stream means the same, what one role encodes the other decodes,
//! and what is held is bounded by what was received.

use pinwire_protocol::ws::{
    Decoder, Event, Frame, Kind, Limits, Opcode, ProtocolError, Role, Scratch, WindowBits, append_close,
    append_frame,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_frame: 2000, max_message: 3000, max_fragments: 6 };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
}

fn outcome(event: Event<'_>) -> Outcome {
    match event {
        Event::Message { kind, payload } => Outcome::Message(kind, payload.to_vec()),
        Event::Ping(payload) => Outcome::Ping(payload.to_vec()),
        Event::Pong(payload) => Outcome::Pong(payload.to_vec()),
        Event::Close { code, reason } => Outcome::Close(code, reason.to_owned()),
    }
}

/// Decodes `bytes` in reads of the given sizes (repeated), checking what holds after every call.
fn decode(role: Role, bytes: &[u8], sizes: &[usize]) -> Vec<Outcome> {
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let mut sizes = sizes.iter().copied().cycle();
    let mut decoder = Decoder::new(role, true);
    let mut scratch = Scratch::new();
    let mut outcomes = Vec::new();
    let mut received = 0;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (mut read, tail) = rest.split_at_mut(size);
        rest = tail;
        received += size;
        while !read.is_empty() {
            let given = read.len();
            let decoded = match decoder.decode(read, &LIMITS, &mut scratch) {
                Ok(decoded) => decoded,
                Err(error) => {
                    outcomes.push(Outcome::Error(error));
                    return outcomes;
                }
            };
            let consumed = decoded.consumed;
            assert!(consumed > 0 && consumed <= given);
            assert!(decoded.event.is_some() || consumed == given);
            outcomes.extend(decoded.event.map(outcome));
            assert!(decoder.buffered() <= received, "held more than was received");
            assert!(decoder.buffered() <= 4000, "held more than the limits allow");
            read = &mut read[consumed..];
        }
    }
    outcomes
}

/// A message or control frame as a sender means it.
#[derive(Clone, Debug)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

impl Sent {
    fn expected(&self) -> Outcome {
        match self.clone() {
            Self::Text(text) => Outcome::Message(Kind::Text, text.into_bytes()),
            Self::Binary(bytes) => Outcome::Message(Kind::Binary, bytes),
            Self::Ping(payload) => Outcome::Ping(payload),
            Self::Pong(payload) => Outcome::Pong(payload),
            Self::Close(code, reason) => Outcome::Close(Some(code), reason),
        }
    }
}

/// How a message is put on the wire.
#[derive(Clone, Debug)]
struct Shape {
    mask: [u8; 4],
    compress: bool,
    fragments: usize,
    /// A ping between the fragments.
    interleave: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        4 => "\\PC{0,300}".prop_map(Sent::Text),
        4 => prop::collection::vec(any::<u8>(), 0..1900).prop_map(Sent::Binary),
        1 => payload().prop_map(Sent::Ping),
        1 => payload().prop_map(Sent::Pong),
        1 => (3000u16..5000, "\\PC{0,30}").prop_map(|(code, reason)| Sent::Close(code, reason)),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<[u8; 4]>(), any::<bool>(), 1usize..=6, any::<bool>())
        .prop_map(|(mask, compress, fragments, interleave)| Shape { mask, compress, fragments, interleave })
}

/// Puts messages on the wire as the peer of `receiver` would, and says what must come out.
fn encode(receiver: Role, messages: &[(Sent, Shape)]) -> (Vec<u8>, Vec<Outcome>) {
    let mut out = Vec::new();
    let mut expected = Vec::new();
    for (message, shape) in messages {
        let mask = (receiver == Role::Server).then_some(shape.mask);
        match message {
            Sent::Text(text) => {
                append_data(&mut out, &mut expected, Opcode::Text, text.as_bytes(), shape, mask);
            }
            Sent::Binary(bytes) => append_data(&mut out, &mut expected, Opcode::Binary, bytes, shape, mask),
            Sent::Ping(payload) => {
                append_frame(&mut out, Frame { mask, ..Frame::new(Opcode::Ping) }, payload);
            }
            Sent::Pong(payload) => {
                append_frame(&mut out, Frame { mask, ..Frame::new(Opcode::Pong) }, payload);
            }
            Sent::Close(code, reason) => append_close(&mut out, *code, reason, mask),
        }
        expected.push(message.expected());
        if matches!(message, Sent::Close(..)) {
            break;
        }
    }
    (out, expected)
}

fn append_data(
    out: &mut Vec<u8>,
    expected: &mut Vec<Outcome>,
    opcode: Opcode,
    payload: &[u8],
    shape: &Shape,
    mask: Option<[u8; 4]>,
) {
    let mut body = Vec::new();
    let rsv1 = shape.compress && Scratch::new().deflate(payload, WindowBits::MAX, &mut body);
    let body = if rsv1 { &body[..] } else { payload };
    for index in 0..shape.fragments {
        let (start, end) = (body.len() * index / shape.fragments, body.len() * (index + 1) / shape.fragments);
        let fin = index + 1 == shape.fragments;
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        append_frame(out, Frame { opcode, fin, rsv1: rsv1 && index == 0, mask }, &body[start..end]);
        if shape.interleave && !fin {
            append_frame(out, Frame { mask, ..Frame::new(Opcode::Ping) }, b"between");
            expected.push(Outcome::Ping(b"between".to_vec()));
        }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 1usize..12, 1 => 1usize..2000], 1..20)
}

proptest! {
    #[test]
    fn what_one_role_encodes_the_other_decodes_in_any_split(
        role in role(),
        messages in prop::collection::vec((sent(), shape()), 0..8),
        sizes in sizes(),
    ) {
        let (bytes, expected) = encode(role, &messages);
        prop_assert_eq!(&decode(role, &bytes, &[usize::MAX]), &expected);
        prop_assert_eq!(&decode(role, &bytes, &[1]), &expected);
        prop_assert_eq!(&decode(role, &bytes, &sizes), &expected);
    }

    /// Damage makes most streams invalid: the error, and the events before it, must not depend on the split
    /// either.
    #[test]
    fn a_damaged_stream_ends_the_same_way_in_any_split(
        role in role(),
        messages in prop::collection::vec((sent(), shape()), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        sizes in sizes(),
    ) {
        let (mut bytes, _) = encode(role, &messages);
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let whole = decode(role, &bytes, &[usize::MAX]);
        prop_assert_eq!(&decode(role, &bytes, &[1]), &whole);
        prop_assert_eq!(&decode(role, &bytes, &sizes), &whole);
    }

    #[test]
    fn arbitrary_bytes_mean_the_same_in_any_split(
        role in role(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sizes in sizes(),
    ) {
        let whole = decode(role, &bytes, &[usize::MAX]);
        prop_assert_eq!(&decode(role, &bytes, &[1]), &whole);
        prop_assert_eq!(&decode(role, &bytes, &sizes), &whole);
    }
}

//! Any stream, in any split, gives the same events and the same error as in one piece; held bytes stay bounded.
//!
//! Input: one byte of options, one byte of read size, the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::ws::{Decoder, Event, Kind, Limits, ProtocolError, Role, Scratch};

const LIMITS: Limits =
    Limits { max_frame: 1 << 16, max_message: 1 << 16, max_fragments: 8 };

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
}

fn outcome(event: Event<'_>) -> Outcome {
    match event {
        Event::Message { kind, payload } => {
            assert!(kind == Kind::Binary || std::str::from_utf8(payload).is_ok());
            assert!(payload.len() <= LIMITS.max_message);
            Outcome::Message(kind, payload.to_vec())
        }
        Event::Ping(payload) => Outcome::Ping(payload.to_vec()),
        Event::Pong(payload) => Outcome::Pong(payload.to_vec()),
        Event::Close { code, reason } => Outcome::Close(code, reason.to_owned()),
    }
}

fn decode(mut decoder: Decoder, stream: &[u8], size: usize) -> Vec<Outcome> {
    let mut scratch = Scratch::new();
    let mut outcomes = Vec::new();
    let mut received = 0;
    for read in stream.to_vec().chunks_mut(size) {
        received += read.len();
        let mut rest = read;
        while !rest.is_empty() {
            let decoded = match decoder.decode(rest, &LIMITS, &mut scratch) {
                Ok(decoded) => decoded,
                Err(error) => {
                    outcomes.push(Outcome::Error(error));
                    assert!(decoder.is_idle());
                    return outcomes;
                }
            };
            let consumed = decoded.consumed;
            assert!(consumed > 0);
            outcomes.extend(decoded.event.map(outcome));
            assert!(decoder.buffered() <= received);
            rest = &mut rest[consumed..];
        }
    }
    outcomes
}

fuzz_target!(|data: &[u8]| {
    let [options, size, stream @ ..] = data else { return };
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let decoder = || Decoder::new(role, options & 2 != 0);
    let whole = decode(decoder(), stream, stream.len().max(1));
    assert_eq!(decode(decoder(), stream, 1), whole);
    assert_eq!(decode(decoder(), stream, usize::from(*size).max(1)), whole);
});

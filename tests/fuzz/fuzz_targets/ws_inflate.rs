//! A compressed message inflates within its limits or is refused, alike in one frame and in two, and what it inflates to
//! survives our own compressor.
//!
//! Input: one byte for the window and the cut, the compressed message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwire_protocol::ws::{
    Decoder, Event, Frame, Limits, Opcode, ProtocolError, Role, Scratch, WindowBits, append_frame,
    append_stored_block,
};

const LIMITS: Limits =
    Limits { max_frame: 1 << 20, max_message: 1 << 16, max_fragments: 2, ..Limits::DEFAULT };

fn inflate(wire: &mut [u8], scratch: &mut Scratch) -> Result<Vec<u8>, ProtocolError> {
    let mut decoder = Decoder::new(Role::Client, true);
    let decoded = decoder.decode(wire, &LIMITS, scratch)?;
    match decoded.event {
        Some(Event::Message { payload, .. }) => Ok(payload.to_vec()),
        other => panic!("unexpected {other:?}"),
    }
}

fn one_frame(compressed: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    append_frame(&mut wire, Frame::new(Opcode::Binary).compressed(), compressed);
    wire
}

fuzz_target!(|data: &[u8]| {
    let [option, compressed @ ..] = data else { return };
    // One state for all: what a message left behind must not matter to the next.
    let mut scratch = Scratch::new();
    let whole = inflate(&mut one_frame(compressed), &mut scratch);

    let (head, tail) = compressed.split_at(usize::from(*option).min(compressed.len()));
    let mut wire = Vec::new();
    append_frame(&mut wire, Frame::new(Opcode::Binary).compressed().unfinished(), head);
    append_frame(&mut wire, Frame::new(Opcode::Continuation), tail);
    assert_eq!(inflate(&mut wire, &mut scratch), whole);

    if let Ok(message) = whole {
        assert!(message.len() <= LIMITS.max_message);
        let window = WindowBits::new(9 + option % 7).expect("9 to 15");
        let (prefix, body) = message.split_at(usize::from(*option).min(message.len()));
        let mut again = Vec::new();
        append_stored_block(&mut again, prefix);
        scratch.deflate_body(body, window, &mut again);
        assert_eq!(inflate(&mut one_frame(&again), &mut scratch), Ok(message));
    }
});

//! The client's end of the WebSocket framing: real frames, masked, sometimes fragmented or compressed, with control frames
//! in between.

use fastrand::Rng;
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Kind, Limits, Opcode, Role, Scratch, WindowBits};

/// What a received stream of bytes said.
#[derive(Debug)]
pub(super) enum Received {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>, String),
    Broken(String),
}

/// Decodes what a server sent.
pub(super) struct Reader {
    decoder: Decoder,
    scratch: Scratch,
}

impl Reader {
    pub(super) fn new(deflate: bool) -> Self {
        Self { decoder: Decoder::new(Role::Client, deflate), scratch: Scratch::new() }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Received> {
        let mut bytes = bytes.to_vec();
        let mut received = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match self.decoder.decode(&mut bytes[at..], &Limits::DEFAULT, &mut self.scratch) {
                Ok(decoded) => {
                    at += decoded.consumed;
                    received.extend(decoded.event.and_then(|event| translate(&event)));
                }
                Err(error) => {
                    received.push(Received::Broken(error.to_string()));
                    break;
                }
            }
        }
        received
    }
}

fn translate(event: &Event<'_>) -> Option<Received> {
    match *event {
        Event::Message { kind: Kind::Binary, payload } => Some(Received::Message(payload.to_vec())),
        Event::Message { kind: Kind::Text, .. } => Some(Received::Broken("a text message".to_owned())),
        Event::Ping(payload) => Some(Received::Ping(payload.to_vec())),
        Event::Pong(_) => None,
        Event::Close { code, reason } => Some(Received::Close(code, reason.to_owned())),
    }
}

/// Encodes what a client sends.
pub(super) struct Writer {
    deflate: bool,
    scratch: Scratch,
}

impl Writer {
    pub(super) fn new(deflate: bool) -> Self {
        Self { deflate, scratch: Scratch::new() }
    }

    /// One binary message, in one frame or several.
    pub(super) fn message(&mut self, rng: &mut Rng, payload: &[u8], out: &mut Vec<u8>) {
        let mut compressed = Vec::new();
        let is_compressed = self.deflate
            && payload.len() > 16
            && self.scratch.deflate(payload, WindowBits::MAX, &mut compressed);
        let mut rest = if is_compressed { compressed.as_slice() } else { payload };
        let mut opcode = Opcode::Binary;
        loop {
            let is_last = rest.len() < 2 || rng.u8(0..10) > 0;
            let (part, others) =
                if is_last { (rest, &[][..]) } else { rest.split_at(rng.usize(0..rest.len())) };
            let mut frame = Frame::new(opcode).masked(mask(rng));
            if opcode == Opcode::Binary && is_compressed {
                frame = frame.compressed();
            }
            ws::append_frame(out, if is_last { frame } else { frame.unfinished() }, part);
            if is_last {
                return;
            }
            if rng.u8(0..4) == 0 {
                ws::append_pong(out, b"unsolicited", Some(mask(rng)));
            }
            (rest, opcode) = (others, Opcode::Continuation);
        }
    }

    pub(super) fn pong(rng: &mut Rng, payload: &[u8], out: &mut Vec<u8>) {
        ws::append_pong(out, payload, Some(mask(rng)));
    }

    pub(super) fn ping(rng: &mut Rng, out: &mut Vec<u8>) {
        ws::append_ping(out, b"are you there", Some(mask(rng)));
    }

    pub(super) fn close(rng: &mut Rng, code: Option<u16>, out: &mut Vec<u8>) {
        ws::append_close_reply(out, code, Some(mask(rng)));
    }
}

fn mask(rng: &mut Rng) -> [u8; 4] {
    rng.u32(..).to_le_bytes()
}

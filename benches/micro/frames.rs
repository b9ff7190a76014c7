//! WebSocket frames: header, mask, UTF-8, and the decoder as a connection uses it.

use std::hint::black_box;

use pinwire_benches::instructions::Case;
use pinwire_protocol::ws::{
    Decoder, Event, Frame, Kind, Limits, Opcode, Role, Scratch, append_frame, append_message, apply_mask,
    header,
};

/// Bytes of a typed character's update with its message around it, about.
const SMALL: usize = 24;
const LARGE: usize = 64 << 10;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const CASES: &[Case] = &[
    Case { name: "header/emit 24 B", rounds: 10_000, run: |rounds| emit_header(rounds, SMALL) },
    Case { name: "header/emit 64 KiB", rounds: 10_000, run: |rounds| emit_header(rounds, LARGE) },
    Case { name: "header/parse empty ping", rounds: 10_000, run: parse_header },
    Case { name: "mask/24 B", rounds: 10_000, run: |rounds| mask(rounds, SMALL) },
    Case { name: "mask/64 KiB", rounds: 50, run: |rounds| mask(rounds, LARGE) },
    Case { name: "utf8/text of 24 B", rounds: 5_000, run: |rounds| text(rounds, SMALL) },
    Case { name: "utf8/text of 64 KiB", rounds: 50, run: |rounds| text(rounds, LARGE) },
    Case { name: "decoder/small frame of 40", rounds: 200, run: small_frames },
    Case { name: "decoder/one of 64 KiB", rounds: 50, run: |rounds| one_frame(rounds, LARGE) },
    Case { name: "decoder/64 KiB in 4 KiB reads", rounds: 50, run: |rounds| in_reads(rounds, 4 << 10) },
    Case { name: "decoder/24 B byte by byte", rounds: 200, run: byte_by_byte },
    Case { name: "encode/message of 24 B", rounds: 10_000, run: encode },
];

fn emit_header(rounds: u32, len: usize) {
    for _ in 0..rounds {
        black_box(header(Frame::new(black_box(Opcode::Binary)), black_box(len)));
    }
}

/// An empty ping is a header and nothing else.
fn parse_header(rounds: u32) {
    let mut stream = Stream::new(Opcode::Ping, &[], KEY, 1);
    for _ in 0..rounds {
        stream.decode_all();
    }
}

fn mask(rounds: u32, len: usize) {
    let mut payload = bytes(len);
    for _ in 0..rounds {
        apply_mask(black_box(&mut payload), black_box(KEY), 0);
    }
}

/// A frame of text, of one, two and three byte characters. The key is zero, so that the frame stays text however often it is
/// unmasked in place.
fn text(rounds: u32, len: usize) {
    let text: Vec<u8> = "naïve — ".bytes().cycle().take(len - len % "naïve — ".len()).collect();
    let mut stream = Stream::new(Opcode::Text, &text, [0; 4], 1);
    for _ in 0..rounds {
        stream.decode_all();
    }
}

/// A read that brought many frames.
fn small_frames(rounds: u32) {
    let mut stream = Stream::new(Opcode::Binary, &bytes(SMALL), KEY, 40);
    for _ in 0..rounds {
        stream.decode_all();
    }
}

fn one_frame(rounds: u32, len: usize) {
    let mut stream = Stream::new(Opcode::Binary, &bytes(len), KEY, 1);
    for _ in 0..rounds {
        stream.decode_all();
    }
}

/// A message larger than a read buffer: assembled.
fn in_reads(rounds: u32, read: usize) {
    let mut stream = Stream::new(Opcode::Binary, &bytes(LARGE), KEY, 1);
    for _ in 0..rounds {
        stream.decode_in(read);
    }
}

fn byte_by_byte(rounds: u32) {
    let mut stream = Stream::new(Opcode::Binary, &bytes(SMALL), KEY, 1);
    for _ in 0..rounds {
        stream.decode_in(1);
    }
}

fn encode(rounds: u32) {
    let payload = bytes(SMALL);
    let mut out = Vec::with_capacity(SMALL + 16);
    for _ in 0..rounds {
        out.clear();
        append_message(black_box(&mut out), Kind::Binary, black_box(&payload));
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31) as u8).collect()
}

/// A connection's input that is decoded again and again; unmasking in place leaves the headers.
struct Stream {
    decoder: Decoder,
    scratch: Scratch,
    input: Vec<u8>,
    frames: usize,
}

impl Stream {
    fn new(opcode: Opcode, payload: &[u8], key: [u8; 4], frames: usize) -> Self {
        let mut input = Vec::new();
        for _ in 0..frames {
            append_frame(&mut input, Frame::new(opcode).masked(key), payload);
        }
        Self { decoder: Decoder::new(Role::Server, false), scratch: Scratch::new(), input, frames }
    }

    fn decode_all(&mut self) {
        self.decode_in(self.input.len());
    }

    fn decode_in(&mut self, read: usize) {
        let mut events = 0;
        for piece in self.input.chunks_mut(read) {
            let mut at = 0;
            while at < piece.len() {
                let decoded = self
                    .decoder
                    .decode(&mut piece[at..], &Limits::DEFAULT, &mut self.scratch)
                    .expect("the frames are sound");
                at += decoded.consumed;
                events += usize::from(decoded.event.is_some());
                if let Some(Event::Message { payload, .. }) = decoded.event {
                    black_box(payload);
                }
            }
        }
        assert_eq!(events, self.frames);
    }
}

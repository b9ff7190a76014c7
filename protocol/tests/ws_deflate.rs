//! permessage-deflate against a plain inflater written from RFC 1951 (which also sees how far back a message
//! refers), and against streams that `flate2` makes with other settings than ours.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use pinwire_protocol::ws::{
    Decoder, Event, Frame, Kind, Limits, Opcode, Role, Scratch, WindowBits, append_frame, append_stored_block,
};
use proptest::prelude::*;

const SYNC_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// RFC 1951, bit by bit.
struct Reference<'a> {
    input: &'a [u8],
    bit: usize,
    output: Vec<u8>,
    /// The largest distance of a reference.
    farthest: usize,
}

/// Symbols by code length, and how many codes have each length.
struct Huffman {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Huffman {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let symbols = (1..16)
            .flat_map(|length| (0..lengths.len()).filter(move |&symbol| lengths[symbol] == length))
            .collect();
        Self { counts, symbols }
    }
}

impl<'a> Reference<'a> {
    /// Inflates blocks until the input is used up.
    fn inflate(input: &'a [u8]) -> Self {
        let mut this = Self { input, bit: 0, output: Vec::new(), farthest: 0 };
        while this.bit.div_ceil(8) < input.len() {
            this.block();
        }
        this
    }

    fn bits(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, index| {
            let bit = self.input[self.bit / 8] >> (self.bit % 8) & 1;
            self.bit += 1;
            value | usize::from(bit) << index
        })
    }

    fn symbol(&mut self, huffman: &Huffman) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for length in 1..16 {
            code |= self.bits(1);
            let count = huffman.counts[length];
            if code < first + count {
                return huffman.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }

    fn block(&mut self) {
        let _last = self.bits(1);
        match self.bits(2) {
            0 => self.stored(),
            1 => {
                let lengths: Vec<usize> = (0..288)
                    .map(|symbol| match symbol {
                        0..=143 => 8,
                        144..=255 => 9,
                        256..=279 => 7,
                        _ => 8,
                    })
                    .collect();
                self.compressed(&Huffman::new(&lengths), &Huffman::new(&[5; 30]));
            }
            2 => {
                let (literals, distances) = self.tables();
                self.compressed(&literals, &distances);
            }
            _ => panic!("no such block type"),
        }
    }

    fn stored(&mut self) {
        self.bit = self.bit.next_multiple_of(8);
        let (len, complement) = (self.bits(16), self.bits(16));
        assert_eq!(len, !complement & 0xffff);
        let at = self.bit / 8;
        self.output.extend_from_slice(&self.input[at..at + len]);
        self.bit += len * 8;
    }

    fn tables(&mut self) -> (Huffman, Huffman) {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances, codes) = (self.bits(5) + 257, self.bits(5) + 1, self.bits(4) + 4);
        let mut lengths = [0; 19];
        for &position in &ORDER[..codes] {
            lengths[position] = self.bits(3);
        }
        let code = Huffman::new(&lengths);
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (value, times) = match self.symbol(&code) {
                16 => (*lengths.last().unwrap(), 3 + self.bits(2)),
                17 => (0, 3 + self.bits(3)),
                18 => (0, 11 + self.bits(7)),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(value, times));
        }
        (Huffman::new(&lengths[..literals]), Huffman::new(&lengths[literals..]))
    }

    fn compressed(&mut self, literals: &Huffman, distances: &Huffman) {
        loop {
            match self.symbol(literals) {
                literal @ 0..=255 => self.output.push(literal as u8),
                256 => return,
                code => {
                    let length = self.length(code - 257);
                    let code = self.symbol(distances);
                    let distance = self.distance(code);
                    self.farthest = self.farthest.max(distance);
                    for _ in 0..length {
                        self.output.push(self.output[self.output.len() - distance]);
                    }
                }
            }
        }
    }

    /// RFC 1951 3.2.5: bases grow by powers of two, four codes to each number of extra bits.
    fn length(&mut self, code: usize) -> usize {
        match code {
            0..=7 => 3 + code,
            28 => 258,
            _ => {
                let extra = code / 4 - 1;
                3 + ((4 + code % 4) << extra) + self.bits(extra)
            }
        }
    }

    fn distance(&mut self, code: usize) -> usize {
        match code {
            0..=3 => 1 + code,
            _ => {
                let extra = code / 2 - 1;
                1 + ((2 + code % 2) << extra) + self.bits(extra)
            }
        }
    }
}

/// Data with repetitions near and far.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::collection::vec(any::<u8>(), 1..40);
    let words = prop::collection::vec(word, 1..40);
    (words, prop::collection::vec(any::<prop::sample::Index>(), 0..300))
        .prop_map(|(words, picks)| picks.iter().flat_map(|pick| pick.get(&words).clone()).collect())
}

fn window() -> impl Strategy<Value = WindowBits> {
    (9u8..=15).prop_map(|bits| WindowBits::new(bits).unwrap())
}

/// Decodes one compressed message, in one frame or two.
fn decode(compressed: &[u8], cut: Option<usize>) -> Vec<u8> {
    let mut wire = Vec::new();
    let first = Frame::new(Opcode::Binary).compressed();
    match cut {
        None => append_frame(&mut wire, first, compressed),
        Some(at) => {
            append_frame(&mut wire, first.unfinished(), &compressed[..at]);
            append_frame(&mut wire, Frame::new(Opcode::Continuation), &compressed[at..]);
        }
    }
    let mut scratch = Scratch::new();
    let mut decoder = Decoder::new(Role::Client, true);
    let decoded = decoder.decode(&mut wire, &Limits::DEFAULT, &mut scratch).expect("a valid message");
    match decoded.event {
        Some(Event::Message { kind: Kind::Binary, payload }) => payload.to_vec(),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn small_windows_are_kept_and_a_large_one_is_used() {
    // The same 2,000 random bytes again and again: the only references worth making go 2,000 bytes back.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(2000)
    .collect();
    let text = noise.repeat(10);
    let farthest = |bits| {
        let mut out = Vec::new();
        Scratch::new().deflate_body(&text, WindowBits::new(bits).unwrap(), &mut out);
        out.extend_from_slice(&SYNC_TAIL);
        let reference = Reference::inflate(&out);
        assert_eq!(reference.output, text);
        reference.farthest
    };
    assert!((9..=15).all(|bits| farthest(bits) <= 1 << bits));
    assert!(farthest(9) < 2000 && farthest(15) >= 2000);
}

proptest! {
    #[test]
    fn a_plain_inflater_reads_what_we_deflate_and_the_window_is_kept(data in data(), window in window()) {
        let mut out = Vec::new();
        Scratch::new().deflate_body(&data, window, &mut out);
        out.extend_from_slice(&SYNC_TAIL);
        let reference = Reference::inflate(&out);
        prop_assert_eq!(reference.output, data);
        prop_assert!(reference.farthest <= 1 << window.get());
    }

    #[test]
    fn a_stock_inflater_reads_a_private_prefix_and_a_shared_body(
        prefix in prop::collection::vec(any::<u8>(), 0..100),
        body in data(),
        window in window(),
    ) {
        let mut message = Vec::new();
        append_stored_block(&mut message, &prefix);
        Scratch::new().deflate_body(&body, window, &mut message);
        prop_assert_eq!(&decode(&message, None), &[&prefix[..], &body].concat());

        message.extend_from_slice(&SYNC_TAIL);
        let mut stock = Vec::with_capacity(prefix.len() + body.len() + 1);
        Decompress::new(false).decompress_vec(&message, &mut stock, FlushDecompress::Sync).unwrap();
        prop_assert_eq!(&stock, &[&prefix[..], &body].concat());
        prop_assert_eq!(Reference::inflate(&message).output, stock);
    }

    #[test]
    fn we_inflate_any_level_window_and_number_of_blocks(
        parts in prop::collection::vec(data(), 1..4),
        level in 0u32..=9,
        window in window(),
        full_flush in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut compress = Compress::new_with_window_bits(Compression::new(level), false, window.get());
        let mut out = Vec::new();
        for part in &parts {
            out.reserve(part.len() * 2 + 100);
            let flush = if full_flush { FlushCompress::Full } else { FlushCompress::Sync };
            compress.compress_vec(part, &mut out, flush).unwrap();
        }
        prop_assert!(out.ends_with(&SYNC_TAIL));
        out.truncate(out.len() - SYNC_TAIL.len());
        let expected = parts.concat();
        prop_assert_eq!(&decode(&out, None), &expected);
        prop_assert_eq!(&decode(&out, Some(cut.index(out.len()))), &expected);
    }

    #[test]
    fn we_inflate_a_finished_stream_with_the_byte_after_it(data in data(), level in 0u32..=9) {
        // RFC 7692 7.2.3.4.
        let mut out = Vec::with_capacity(data.len() * 2 + 100);
        Compress::new(Compression::new(level), false).compress_vec(&data, &mut out, FlushCompress::Finish).unwrap();
        out.push(0x00);
        prop_assert_eq!(decode(&out, None), data);
    }
}

//! permessage-deflate (RFC 7692), always without context takeover: every message starts from a fresh state,
//! so one state serves all connections of a thread.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Limits, ProtocolError};

/// What a sync flush ends with, and a message is sent without (RFC 7692 7.2.1).
const SYNC_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The tail put back, and a final empty block behind it: a message that ended inside a block swallows these
/// bytes, and the stream then does not end exactly here.
const CLOSING: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];
/// Streams that end (BFINAL) inside one message. RFC 7692 7.2.3.4 allows them; each costs a reset.
const MAX_STREAMS: usize = 16;
/// Buffers larger than this are given back after the message they were grown for.
const RETAINED_BYTES: usize = 64 << 10;
/// Output space for the first call, and at least for each further one.
const INFLATE_STEP: usize = 4 << 10;
/// zlib level of what we send: on JSON of 1 to 10 kB within 4 % of the size of level 6 in 60 to 80 % of its
/// time; level 1 is a third to a half larger.
const LEVEL: u32 = 2;
/// Bytes of one stored block at most (RFC 1951 3.2.4).
const MAX_STORED: usize = 0xffff;

/// Base-2 logarithm of the LZ77 window that our compressor may use: 9 to 15. A peer may ask for a small one
/// (`server_max_window_bits`, RFC 7692 7.1.2.1). 8 is not offered: raw deflate with it is not implemented by
/// zlib.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowBits(u8);

impl WindowBits {
    /// The window that every inflater has unless it said otherwise.
    pub const MAX: Self = Self(15);
    const MIN: Self = Self(9);
    const COUNT: usize = (Self::MAX.0 - Self::MIN.0 + 1) as usize;

    /// `None` outside 9 to 15.
    pub fn new(bits: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&bits).then_some(Self(bits))
    }

    /// 9 to 15.
    pub fn get(self) -> u8 {
        self.0
    }

    fn index(self) -> usize {
        usize::from(self.0 - Self::MIN.0)
    }
}

/// State that connections of one thread share: the inflater and compressors (made at first use, some hundred
/// KiB each), and the message that the last [`Event`](super::Event) borrows if it could not stay where it was
/// received.
#[derive(Default)]
pub struct Scratch {
    pub(super) message: Vec<u8>,
    inflater: Option<Decompress>,
    compressors: [Option<Compress>; WindowBits::COUNT],
}

impl Scratch {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives back a buffer that a large message left behind. Decoding the next message does so too; call this
    /// when none may follow for long.
    pub fn trim(&mut self) {
        if self.message.capacity() > RETAINED_BYTES {
            self.message = Vec::new();
        }
    }

    /// Appends the compressed `payload` to `out`, for a frame with RSV1, if that makes it smaller. Otherwise
    /// leaves `out` as it was and returns false: send it uncompressed. Which messages are worth trying is the
    /// caller's to decide.
    pub fn deflate(&mut self, payload: &[u8], window: WindowBits, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.deflate_body(payload, window, out);
        let smaller = out.len() - start < payload.len();
        if !smaller {
            out.truncate(start);
        }
        smaller
    }

    /// Appends the compressed `body` to `out`, smaller or not. It refers to nothing before itself, so a
    /// message may be stored blocks (see [`append_stored_block`]) followed by it: frames of a broadcast that
    /// differ in a short prefix share one compressed body.
    pub fn deflate_body(&mut self, body: &[u8], window: WindowBits, out: &mut Vec<u8>) {
        let start = out.len();
        let compressor = self.compressor(window);
        compressor.reset();
        if sync_flush(compressor, body, out).is_some() && out[start..].ends_with(&SYNC_TAIL) {
            out.truncate(out.len() - SYNC_TAIL.len());
            return;
        }
        // No input makes the compressor fail; should it all the same, stored blocks are as valid.
        out.truncate(start);
        append_stored_block(out, body);
        out.push(0x00);
    }

    /// Inflates a whole message into [`Scratch::message`], never beyond the limits.
    pub(super) fn inflate(&mut self, compressed: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
        let bound = Bound::new(limits);
        let out = &mut self.message;
        out.clear();
        // Strictly, an empty message is one byte (RFC 7692 7.2.3.6); a second flush of zlib yields none.
        if compressed.is_empty() {
            return Ok(());
        }
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        let mut rest = compressed;
        for _ in 0..MAX_STREAMS {
            inflater.reset(false);
            let fed = feed(inflater, rest, out, &bound)?;
            rest = rest.get(fed.consumed..).unwrap_or_default();
            if !fed.stream_ended {
                return finish(inflater, out, &bound);
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
        Err(ProtocolError::Deflate)
    }

    fn compressor(&mut self, window: WindowBits) -> &mut Compress {
        let slot = &mut self.compressors[window.index()];
        slot.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, window.get())
        })
    }
}

/// Appends `data` as stored (uncompressed, not final) deflate blocks: 5 bytes each, of up to 65,535. Nothing
/// for empty data. What follows starts at a byte boundary.
pub fn append_stored_block(out: &mut Vec<u8>, data: &[u8]) {
    for chunk in data.chunks(MAX_STORED) {
        // At most MAX_STORED.
        let len = chunk.len() as u16;
        out.push(0x00);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(chunk);
    }
}

/// The most a message within `max_message` can have when compressed: deflate falls back to stored blocks,
/// which zlib makes as short as its buffers are small.
pub(super) fn compressed_bound(max_message: usize) -> usize {
    max_message.saturating_add(max_message >> 3).saturating_add(max_message >> 6).saturating_add(16)
}

fn sync_flush(compressor: &mut Compress, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = body;
    loop {
        out.reserve(compressed_bound(rest.len()));
        let before = compressor.total_in();
        compressor.compress_vec(rest, out, FlushCompress::Sync).ok()?;
        // No more than rest.len().
        rest = rest.get((compressor.total_in() - before) as usize..)?;
        // zlib: the flush is complete when output space is left over.
        if rest.is_empty() && out.len() < out.capacity() {
            return Some(());
        }
    }
}

/// How large a message may inflate.
struct Bound {
    max_message: usize,
}

impl Bound {
    fn new(limits: &Limits) -> Self {
        Self { max_message: limits.max_message }
    }

    fn check(&self, inflated: usize) -> Result<(), ProtocolError> {
        if inflated > self.max_message {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    /// Makes room for more output: doubling, but never room for more than one byte over the bound.
    fn reserve(&self, out: &mut Vec<u8>) {
        let most = self.max_message.saturating_add(1);
        let target = out.len().saturating_mul(2).max(INFLATE_STEP).min(most);
        out.reserve_exact(target.saturating_sub(out.len()).max(1));
    }
}

struct Fed {
    consumed: usize,
    stream_ended: bool,
}

/// Inflates `input` until it is used up or its deflate stream ends.
fn feed(
    inflater: &mut Decompress,
    input: &[u8],
    out: &mut Vec<u8>,
    bound: &Bound,
) -> Result<Fed, ProtocolError> {
    let mut consumed = 0;
    loop {
        if out.len() == out.capacity() {
            bound.reserve(out);
        }
        let (in_before, out_before) = (inflater.total_in(), out.len());
        let rest = input.get(consumed..).unwrap_or_default();
        let status =
            inflater.decompress_vec(rest, out, FlushDecompress::None).map_err(|_| ProtocolError::Deflate)?;
        // No more than rest.len().
        let taken = (inflater.total_in() - in_before) as usize;
        consumed += taken;
        bound.check(out.len())?;
        if status == Status::StreamEnd {
            return Ok(Fed { consumed, stream_ended: true });
        }
        if consumed == input.len() && out.len() < out.capacity() {
            return Ok(Fed { consumed, stream_ended: false });
        }
        if taken == 0 && out.len() == out_before && out.len() < out.capacity() {
            return Err(ProtocolError::Deflate);
        }
    }
}

/// Checks that the message ended between two blocks.
fn finish(inflater: &mut Decompress, out: &mut Vec<u8>, bound: &Bound) -> Result<(), ProtocolError> {
    let len = out.len();
    let fed = feed(inflater, &CLOSING, out, bound)?;
    if fed.stream_ended && fed.consumed == CLOSING.len() && out.len() == len {
        Ok(())
    } else {
        Err(ProtocolError::Deflate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits::DEFAULT;

    fn inflate(compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, ProtocolError> {
        let mut scratch = Scratch::new();
        scratch.inflate(compressed, limits).map(|()| scratch.message)
    }

    #[test]
    fn the_examples_of_rfc_7692_7_2_3() {
        // 7.2.3.1: one fixed block.
        assert_eq!(inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &LIMITS).unwrap(), b"Hello");
        // 7.2.3.3: a stored block.
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(inflate(&stored, &LIMITS).unwrap(), b"Hello");
        // 7.2.3.4: BFINAL set, and a byte that opens the empty block.
        assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], &LIMITS).unwrap(), b"Hello");
        // 7.2.3.5: two blocks.
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflate(&two, &LIMITS).unwrap(), b"Hello");
        // 7.2.3.6: an empty message.
        assert_eq!(inflate(&[0x00], &LIMITS).unwrap(), b"");
    }

    #[test]
    fn a_message_without_any_byte_is_empty() {
        assert_eq!(inflate(&[], &LIMITS).unwrap(), b"");
    }

    #[test]
    fn a_final_block_without_the_byte_after_it_is_accepted() {
        assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &LIMITS).unwrap(), b"Hello");
    }

    #[test]
    fn endless_final_blocks_are_refused() {
        let streams = [0x03, 0x00].repeat(MAX_STREAMS + 1);
        assert_eq!(inflate(&streams, &LIMITS), Err(ProtocolError::Deflate));
    }

    #[test]
    fn a_message_cut_inside_a_block_is_refused() {
        // A stored block that claims 9 bytes more than there are would swallow what we put behind it.
        let cut = [0x00, 0x0e, 0x00, 0xf1, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(inflate(&cut, &LIMITS), Err(ProtocolError::Deflate));
        let mut scratch = Scratch::new();
        let mut out = Vec::new();
        let text: Vec<u8> = (0..2000u32).flat_map(|i| (i * i).to_string().into_bytes()).collect();
        assert!(scratch.deflate(&text, WindowBits::MAX, &mut out));
        for cut in 1..out.len() {
            assert_ne!(inflate(&out[..cut], &LIMITS).as_ref(), Ok(&text), "cut at {cut}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(inflate(&[0xff; 16], &LIMITS), Err(ProtocolError::Deflate));
    }

    #[test]
    fn what_we_deflate_inflates_at_every_window() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|i| (i % 977).to_le_bytes()).collect();
        let mut scratch = Scratch::new();
        for bits in 9..=15 {
            let window = WindowBits::new(bits).unwrap();
            let mut out = b"before".to_vec();
            assert!(scratch.deflate(&text, window, &mut out));
            assert_eq!(inflate(&out[6..], &LIMITS).unwrap(), text);
        }
    }

    #[test]
    fn messages_know_nothing_of_each_other() {
        // RFC 7692 7.1.1: no context takeover. One state compresses and inflates them all.
        let text = b"said twice, said twice";
        let mut scratch = Scratch::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        scratch.deflate_body(text, WindowBits::MAX, &mut first);
        scratch.deflate_body(text, WindowBits::MAX, &mut second);
        assert_eq!(first, second);
        assert_eq!(inflate(&second, &LIMITS).unwrap(), text);
        assert_eq!(scratch.inflate(&[0xff; 16], &LIMITS), Err(ProtocolError::Deflate));
        assert_eq!(scratch.inflate(&second, &LIMITS), Ok(()));
        assert_eq!(scratch.message, text);
    }

    #[test]
    fn incompressible_data_is_left_alone() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        let mut out = vec![9];
        assert!(!Scratch::new().deflate(&noise, WindowBits::MAX, &mut out));
        assert_eq!(out, [9]);
    }

    #[test]
    fn incompressible_data_stays_within_the_bound_for_compressed_messages() {
        let mut state = 7u64;
        for len in [0, 1, 100, 70_000, 300_000] {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .take(len)
            .collect();
            let mut out = Vec::new();
            Scratch::new().deflate_body(&noise, WindowBits::MAX, &mut out);
            assert!(out.len() <= compressed_bound(len));
            assert_eq!(inflate(&out, &LIMITS).unwrap(), noise);
        }
    }

    #[test]
    fn an_empty_message_deflates_to_one_byte() {
        let mut out = Vec::new();
        Scratch::new().deflate_body(b"", WindowBits::MAX, &mut out);
        assert_eq!(out, [0x00]);
    }

    #[test]
    fn a_private_prefix_and_a_shared_body_make_one_message() {
        let body = b"the same for everyone, the same for everyone".repeat(20);
        let mut shared = Vec::new();
        let mut scratch = Scratch::new();
        scratch.deflate_body(&body, WindowBits::MAX, &mut shared);
        for prefix in [&b""[..], b"a", b"session-0123456789", &[5; 70_000]] {
            let mut message = Vec::new();
            append_stored_block(&mut message, prefix);
            message.extend_from_slice(&shared);
            assert_eq!(inflate(&message, &LIMITS).unwrap(), [prefix, &body].concat());
        }
    }

    #[test]
    fn a_bomb_is_stopped_while_it_inflates() {
        let mut bomb = Vec::new();
        Scratch::new().deflate_body(&vec![0; 32 << 20], WindowBits::MAX, &mut bomb);
        let limits = Limits { max_message: 1 << 20, ..LIMITS };
        let mut scratch = Scratch::new();
        assert_eq!(scratch.inflate(&bomb, &limits), Err(ProtocolError::MessageTooBig));
        assert!(scratch.message.capacity() <= limits.max_message + 1);

        scratch.trim();
        assert_eq!(scratch.message.capacity(), 0);
    }

    #[test]
    fn a_message_of_exactly_the_limit_passes() {
        let text = vec![b'a'; 10_000];
        let mut out = Vec::new();
        Scratch::new().deflate_body(&text, WindowBits::MAX, &mut out);
        let at = Limits { max_message: 10_000, ..LIMITS };
        assert_eq!(inflate(&out, &at).unwrap(), text);
        let below = Limits { max_message: 9_999, ..LIMITS };
        assert_eq!(inflate(&out, &below), Err(ProtocolError::MessageTooBig));
    }
}

//! Messages cut into fragments, so that streams take turns on a link.
//!
//! A fragment is a header of eight bytes and its payload: the payload's length (32 bits, big-endian, of which the highest is set
//! in the last fragment of a message), and the stream (32 bits, big-endian). Stream 0 is the link's own and goes first.

use crate::{LinkError, MESSAGE_MAX};
use std::collections::{BTreeMap, VecDeque};

/// Bytes before each payload.
pub const HEADER_LEN: usize = 8;
/// Bytes of one fragment's payload at most, and what a stream sends in one turn.
pub const PAYLOAD_MAX: usize = 32 << 10;
const LAST: u32 = 1 << 31;
/// Bytes of unfinished messages that are kept, of all streams of a link.
const UNFINISHED_MAX: usize = 512 << 20;

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Fragments {
    streams: BTreeMap<u32, VecDeque<Queued>>,
    /// Streams with something to send, in the order of their turns.
    turns: VecDeque<u32>,
    own: VecDeque<Vec<u8>>,
    bytes: usize,
}

#[derive(Debug)]
struct Queued {
    message: Vec<u8>,
    sent: usize,
}

impl Fragments {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues a message; one of stream 0 goes before all others and must fit one fragment.
    pub fn push(&mut self, stream: u32, message: Vec<u8>) {
        self.bytes += message.len();
        if stream == 0 {
            debug_assert!(message.len() <= PAYLOAD_MAX, "the link's own messages are short");
            return self.own.push_back(message);
        }
        let queue = self.streams.entry(stream).or_default();
        if queue.is_empty() {
            self.turns.push_back(stream);
        }
        queue.push_back(Queued { message, sent: 0 });
    }

    /// Appends fragments to `out` until it holds `room` bytes or nothing waits.
    pub fn fill(&mut self, out: &mut Vec<u8>, room: usize) {
        while out.len() < room {
            if let Some(message) = self.own.pop_front() {
                self.bytes -= message.len();
                append(out, 0, &message, true);
            } else if let Some(stream) = self.turns.pop_front() {
                self.turn(stream, out);
            } else {
                return;
            }
        }
    }

    /// One stream's turn: messages, or a piece of one, up to a fragment's length.
    fn turn(&mut self, stream: u32, out: &mut Vec<u8>) {
        let Some(queue) = self.streams.get_mut(&stream) else { return };
        let mut left = PAYLOAD_MAX;
        while let Some(next) = queue.front_mut() {
            let rest = next.message.get(next.sent..).unwrap_or_default();
            let piece = &rest[..rest.len().min(left)];
            let is_last = piece.len() == rest.len();
            append(out, stream, piece, is_last);
            let len = piece.len();
            self.bytes -= len;
            left -= len;
            if !is_last {
                next.sent += len;
                break;
            }
            queue.pop_front();
            if left == 0 {
                break;
            }
        }
        if queue.is_empty() {
            self.streams.remove(&stream);
        } else {
            self.turns.push_back(stream);
        }
    }
}

fn append(out: &mut Vec<u8>, stream: u32, payload: &[u8], is_last: bool) {
    let len = payload.len() as u32 | if is_last { LAST } else { 0 };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Puts messages together from what a link brings, however it is cut.
#[derive(Debug, Default)]
pub struct Assembler {
    input: Vec<u8>,
    read: usize,
    unfinished: BTreeMap<u32, Vec<u8>>,
    kept: usize,
}

impl Assembler {
    /// Bytes came.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.input.drain(..self.read);
            self.read = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more bytes come.
    ///
    /// # Errors
    /// A bound is passed: the link is of no more use.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        while let Some((stream, payload, is_last)) = self.next_fragment()? {
            if let Some(message) = self.add(stream, payload, is_last)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn next_fragment(&mut self) -> Result<Option<(u32, std::ops::Range<usize>, bool)>, LinkError> {
        let Some((header, _)) = self.input[self.read..].split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3] = *header;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let (is_last, len) = (len & LAST != 0, (len & !LAST) as usize);
        if len > PAYLOAD_MAX {
            return Err(LinkError::TooMuch("a fragment"));
        }
        let start = self.read + HEADER_LEN;
        if self.input.len() < start + len {
            return Ok(None);
        }
        self.read = start + len;
        Ok(Some((stream, start..start + len, is_last)))
    }

    fn add(
        &mut self,
        stream: u32,
        payload: std::ops::Range<usize>,
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let payload = &self.input[payload];
        let mut message = self.unfinished.remove(&stream).unwrap_or_default();
        self.kept -= message.len();
        if message.len() + payload.len() > MESSAGE_MAX {
            return Err(LinkError::TooMuch("a message"));
        }
        message.extend_from_slice(payload);
        if is_last {
            return Ok(Some(message));
        }
        if payload.is_empty() {
            // A message grows with each of its fragments: else any number of streams would be kept for nothing.
            return Err(LinkError::TooMuch("an empty fragment"));
        }
        self.kept += message.len();
        if self.kept > UNFINISHED_MAX {
            return Err(LinkError::TooMuch("unfinished messages"));
        }
        self.unfinished.insert(stream, message);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(assembler: &mut Assembler) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| assembler.next_message().expect("within the bounds")).collect()
    }

    proptest! {
        #[test]
        fn messages_of_a_stream_arrive_whole_and_in_order_however_they_are_cut(
            messages in prop::collection::vec((1u32..4, 0usize..100_000), 1..20),
            cut in 1usize..70_000,
        ) {
            let mut out = Fragments::default();
            let mut sent: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
            for (index, (stream, len)) in messages.into_iter().enumerate() {
                let mut message = vec![index as u8; len + 5];
                message[..4].copy_from_slice(&stream.to_be_bytes());
                sent.entry(stream).or_default().push(message.clone());
                out.push(stream, message);
            }
            let (mut assembler, mut got) = (Assembler::default(), BTreeMap::new());
            let mut bytes = Vec::new();
            out.fill(&mut bytes, usize::MAX);
            prop_assert!(out.is_empty());
            for piece in bytes.chunks(cut) {
                assembler.feed(piece);
                for message in all(&mut assembler) {
                    let stream = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
                    got.entry(stream).or_insert_with(Vec::new).push(message);
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn hostile_bytes_are_refused_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut assembler = Assembler::default();
            assembler.feed(&bytes);
            while let Ok(Some(message)) = assembler.next_message() {
                prop_assert!(message.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_large_message_lets_small_ones_of_other_streams_pass() {
        let mut out = Fragments::default();
        out.push(1, vec![1; 10 * PAYLOAD_MAX]);
        out.push(2, vec![2; 100]);
        out.push(0, vec![0; 9]);
        let mut bytes = Vec::new();
        out.fill(&mut bytes, 2 * PAYLOAD_MAX);
        let mut assembler = Assembler::default();
        assembler.feed(&bytes);
        assert_eq!(all(&mut assembler), [vec![0; 9], vec![2; 100]], "the large one is not complete yet");
    }

    #[test]
    fn unfinished_messages_without_a_byte_are_not_kept() {
        let mut assembler = Assembler::default();
        assembler.feed(&[0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(assembler.next_message(), Err(LinkError::TooMuch("an empty fragment")));
    }

    #[test]
    fn a_fragment_above_the_bound_is_refused_by_its_header() {
        let mut assembler = Assembler::default();
        assembler.feed(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
        assert_eq!(assembler.next_message(), Err(LinkError::TooMuch("a fragment")));
    }
}
